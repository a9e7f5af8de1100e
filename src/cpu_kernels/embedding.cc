// The gradient of a table whose rows were looked up.
#include "operator.h"
#include "threads.h"

using namespace cpu_kernels;

// ids int32 [R], drows [R,H], dtable [V,H], to which the rows are added in place; output [1], without a meaning.
OPERATOR(AddRows) {
  const int64_t rows = arguments.size(0), width = arguments.last_length(2);
  const int32_t *ids = arguments.integers(0);
  const float *drows = arguments.floats(1);
  float *dtable = arguments.at<float>(2);
  check_ids(ids, rows, arguments.length(2, 0), "id");
  // Each thread has columns of its own, so that rows of the same id are added in their order.
  parallel_ranges(width, 64, [=](int64_t begin, int64_t end) {
    for (int64_t row = 0; row < rows; ++row) {
      float *target = dtable + ids[row] * width;
      for (int64_t i = begin; i < end; ++i) target[i] += drows[row * width + i];
    }
  });
  arguments.at<float>(3)[0] = 0.0f;
}
