// The files that outputs are written to.
#ifndef ASCEND310_INFER_INC_OUTPUT_FILES_H_
#define ASCEND310_INFER_INC_OUTPUT_FILES_H_

#include <cstddef>
#include <filesystem>
#include <string>

// Collects files in a temporary directory inside the one that they are for. Publish moves them all up; without it, as
// after an error, none of them is ever seen. What a killed process left is removed by the next one.
class OutputFiles {
 public:
  // Makes the directory if needed. Throws Failure.
  OutputFiles(const std::string &directory, const std::string &option);
  ~OutputFiles();
  OutputFiles(const OutputFiles &) = delete;
  OutputFiles &operator=(const OutputFiles &) = delete;

  // Throws Failure.
  void Write(const std::string &name, const void *data, size_t size) const;

  // Throws Failure.
  void Publish() const;

 private:
  std::filesystem::path directory_;
  std::filesystem::path temporary_;
  int lock_;  // tells others that this process still writes there
  std::string option_;
};

#endif  // ASCEND310_INFER_INC_OUTPUT_FILES_H_
