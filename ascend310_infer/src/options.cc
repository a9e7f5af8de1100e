#include "inc/options.h"

#include <charconv>
#include <iomanip>
#include <optional>
#include <sstream>
#include <system_error>

#include "inc/failure.h"

namespace {

template <class Number>
std::optional<Number> ToNumber(const std::string &text) {
  Number number{};
  const char *end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, number);
  return result.ec == std::errc() && result.ptr == end ? std::optional(number) : std::nullopt;
}

// N of "inputN_path".
std::optional<size_t> InputNumber(const std::string &key) {
  const std::string before = "input", after = "_path";
  if (key.size() <= before.size() + after.size() || key.compare(0, before.size(), before) != 0 ||
      key.compare(key.size() - after.size(), after.size(), after) != 0) {
    return std::nullopt;
  }
  return ToNumber<size_t>(key.substr(before.size(), key.size() - before.size() - after.size()));
}

void SetOption(const std::string &key, const std::string &value, Options *options) {
  if (key == "model_path" || key == "mindir_path") {
    options->model_path = value;
  } else if (const auto input = InputNumber(key)) {
    options->input_paths[*input] = value;
  } else if (key == "input_path") {
    options->input_path = value;
  } else if (key == "result_path") {
    options->result_path = value;
  } else if (key == "time_path") {
    options->time_path = value;
  } else if (key == "device_type") {
    if (value != "Ascend" && value != "GPU" && value != "CPU") {
      throw Failure("--device_type: found '" + value + "', expected Ascend, GPU or CPU");
    }
    options->device_type = value;
  } else if (key == "device_id") {
    const auto device_id = ToNumber<uint32_t>(value);
    if (!device_id) {
      throw Failure("--device_id: found '" + value + "', expected the number of a device, counted from 0");
    }
    options->device_id = *device_id;
  } else {
    throw Failure("the command line: unknown option --" + key + "; --help lists all of them");
  }
}

}  // namespace

std::string Options::InputDirectory(size_t input) const {
  if (const auto found = input_paths.find(input); found != input_paths.end()) {
    return found->second;
  }
  std::ostringstream directory;
  directory << input_path << '/' << std::setw(2) << std::setfill('0') << input << "_data";
  return directory.str();
}

Options ParseOptions(int argc, const char *const *argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--help" || argument == "-h") {
      options.help = true;
      return options;
    }
    if (argument.compare(0, 2, "--") != 0) {
      throw Failure("the command line: unexpected '" + argument + "'; options are written --key value");
    }
    const size_t equals = argument.find('=');
    if (equals == std::string::npos && i + 1 == argc) {
      throw Failure("the command line: " + argument + " needs a value: " + argument + " value");
    }
    const std::string value = equals == std::string::npos ? argv[++i] : argument.substr(equals + 1);
    SetOption(argument.substr(2, equals == std::string::npos ? equals : equals - 2), value, &options);
  }
  if (options.model_path.empty()) {
    throw Failure("--model_path is not set; give the .mindir file that export.py wrote");
  }
  return options;
}

std::string Usage() {
  return R"(usage: main --model_path FILE [--key value ...]

Run a MINDIR model on files that preprocess.py wrote.

  --model_path FILE, --mindir_path FILE   the model
  --input_path DIR    directory with the inputs, in 00_data, 01_data ... (default ./preprocess_Result)
  --input0_path DIR, --input1_path DIR ...   directory of one input, in the order of the model, in place of the above
  --result_path DIR   where the outputs go, as NAME_OUTPUT.bin (default ./result_Files)
  --time_path DIR     where the times go, as test_perform_static.txt (default ./time_Result)
  --device_type Ascend|GPU|CPU   (default Ascend)
  --device_id NUMBER  (default 0)

Files of the same name in the directories are one batch. An input file holds int32 numbers, a row of the batch after
the other.
)";
}
