// The command line.
#ifndef ASCEND310_INFER_INC_OPTIONS_H_
#define ASCEND310_INFER_INC_OPTIONS_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>

struct Options {
  std::string model_path;
  std::map<size_t, std::string> input_paths;  // of the inputs that have --inputN_path, by N
  std::string input_path = "./preprocess_Result";
  std::string result_path = "./result_Files";
  std::string time_path = "./time_Result";
  std::string device_type = "Ascend";
  uint32_t device_id = 0;
  bool help = false;

  // The directory with the files of input N.
  std::string InputDirectory(size_t input) const;
};

// Reads `--key value` and `--key=value`. Throws Failure.
Options ParseOptions(int argc, const char *const *argv);

// What --help prints.
std::string Usage();

#endif  // ASCEND310_INFER_INC_OPTIONS_H_
