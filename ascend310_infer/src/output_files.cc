#include "inc/output_files.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <system_error>

#include "inc/failure.h"

namespace fs = std::filesystem;

namespace {

constexpr char kTemporary[] = ".writing-";

// Locks a directory until the descriptor is closed or the process ends; -1 if another process has it.
int Lock(const fs::path &directory) {
  const int descriptor = open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor >= 0 && flock(descriptor, LOCK_EX | LOCK_NB) != 0) {
    close(descriptor);
    return -1;
  }
  return descriptor;
}

// Removes what killed processes left.
void RemoveLeftovers(const fs::path &directory) {
  std::error_code ignored;  // what cannot be removed is left
  for (const auto &entry : fs::directory_iterator(directory, ignored)) {
    if (entry.path().filename().string().rfind(kTemporary, 0) == 0) {
      const int descriptor = Lock(entry.path());
      if (descriptor >= 0) {
        fs::remove_all(entry.path(), ignored);
        close(descriptor);
      }
    }
  }
}

}  // namespace

OutputFiles::OutputFiles(const std::string &directory, const std::string &option)
    : directory_(directory), option_(option) {
  std::error_code error;
  fs::create_directories(directory_, error);
  RemoveLeftovers(directory_);
  std::string pattern = (directory_ / (std::string(kTemporary) + "XXXXXX")).string();
  if (mkdtemp(pattern.data()) == nullptr) {
    throw Failure(option + ": cannot write to the directory " + directory + ": " + std::strerror(errno) +
                  "; give a directory that you may write to");
  }
  temporary_ = pattern;
  lock_ = Lock(temporary_);
}

OutputFiles::~OutputFiles() {
  std::error_code ignored;  // nobody is left to hear of it
  fs::remove_all(temporary_, ignored);
  close(lock_);
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
