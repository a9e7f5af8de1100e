// What went wrong, in one line for the user.
#ifndef ASCEND310_INFER_INC_FAILURE_H_
#define ASCEND310_INFER_INC_FAILURE_H_

#include <stdexcept>

// The text names the option or file, what was found, and what was expected.
class Failure : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

#endif  // ASCEND310_INFER_INC_FAILURE_H_
