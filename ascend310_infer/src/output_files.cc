#include "inc/output_files.h"

#include <stdlib.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <system_error>

#include "inc/failure.h"

namespace fs = std::filesystem;

OutputFiles::OutputFiles(const std::string &directory, const std::string &option)
    : directory_(directory), option_(option) {
  std::error_code error;
  fs::create_directories(directory_, error);
  std::string pattern = (directory_ / ".writing-XXXXXX").string();
  if (mkdtemp(pattern.data()) == nullptr) {
    throw Failure(option + ": cannot write to the directory " + directory + ": " + std::strerror(errno) +
                  "; give a directory that you may write to");
  }
  temporary_ = pattern;
}

OutputFiles::~OutputFiles() {
  std::error_code ignored;  // nobody is left to hear of it
  fs::remove_all(temporary_, ignored);
}

void OutputFiles::Write(const std::string &name, const void *data, size_t size) const {
  std::ofstream file(temporary_ / name, std::ios::binary);
  file.write(static_cast<const char *>(data), static_cast<std::streamsize>(size));
  file.close();
  if (!file) {
    throw Failure((directory_ / name).string() + ": cannot write this file: " + std::strerror(errno) +
                  "; free space or give another " + option_);
  }
}

void OutputFiles::Publish() const {
  for (const auto &entry : fs::directory_iterator(temporary_)) {
    const auto path = directory_ / entry.path().filename();
    std::error_code error;
    fs::rename(entry.path(), path, error);
    if (error) {
      throw Failure(path.string() + ": cannot write this file: " + error.message() + "; give another " + option_);
    }
  }
}
