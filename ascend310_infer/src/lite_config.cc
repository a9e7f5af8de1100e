#include "inc/lite_config.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <system_error>

#include "inc/failure.h"

namespace fs = std::filesystem;

namespace {

constexpr char kSuffix[] = ".lite.ini";
constexpr char kSection[] = "[acl_option_cfg_param]";

std::map<std::string, std::string> ReadSection(const std::string &path) {
  std::ifstream file(path);
  if (!file) {
    throw Failure(path + ": cannot read this file: " + std::strerror(errno));
  }
  std::map<std::string, std::string> values;
  std::string section;
  for (std::string line; std::getline(file, line);) {
    const size_t equals = line.find('=');
    if (!line.empty() && line.front() == '[') {
      section = line;
    } else if (section == kSection && equals != std::string::npos) {
      values[line.substr(0, equals)] = line.substr(equals + 1);
    }
  }
  return values;
}

std::vector<size_t> ToSizes(const std::string &text, const std::string &path) {
  std::vector<size_t> sizes;
  std::istringstream words(text);
  for (std::string word; std::getline(words, word, ',');) {
    size_t size = 0;
    const auto result = std::from_chars(word.data(), word.data() + word.size(), size);
    if (result.ec != std::errc() || result.ptr != word.data() + word.size() || size == 0) {
      throw Failure(path + ": dynamic_batch_size: found '" + text + "', expected sizes such as 1,4,16");
    }
    sizes.push_back(size);
  }
  return sizes;
}

}  // namespace

void LiteConfig::RequireBatchSize(size_t rows, const std::string &file) const {
  if (batch_sizes.empty() || std::find(batch_sizes.begin(), batch_sizes.end(), rows) != batch_sizes.end()) {
    return;
  }
  std::string known;
  for (size_t size : batch_sizes) {
    known += (known.empty() ? "" : ", ") + std::to_string(size);
  }
  throw Failure(file + ": has " + std::to_string(rows) + " rows, expected one of " + known + ", for which " + path +
                " compiles the model; make it with preprocess.py for this model");
}

LiteConfig ReadLiteConfig(const std::string &model_path) {
  const std::string path = fs::path(model_path).replace_extension(kSuffix).string();
  if (!fs::exists(path)) {
    return {};
  }
  auto values = ReadSection(path);
  return {path, values["input_shape"], ToSizes(values["dynamic_batch_size"], path)};
}
