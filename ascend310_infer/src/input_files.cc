#include "inc/input_files.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <set>
#include <system_error>

#include "inc/failure.h"

namespace fs = std::filesystem;

namespace {

std::set<fs::path> BinFiles(const fs::path &directory) {
  std::error_code error;
  std::set<fs::path> names;
  for (fs::directory_iterator entry(directory, error), end; !error && entry != end; entry.increment(error)) {
    if (entry->path().extension() == ".bin") {
      names.insert(entry->path().filename());
    }
  }
  if (error) {
    throw Failure(directory.string() + ": cannot read this directory of inputs: " + error.message() +
                  "; make it with preprocess.py");
  }
  if (names.empty()) {
    throw Failure(directory.string() + ": no .bin file in this directory; make them with preprocess.py");
  }
  return names;
}

void RequirePartners(const std::set<fs::path> &names, const fs::path &directory, const std::set<fs::path> &partners,
                     const fs::path &partner_directory) {
  for (const auto &name : names) {
    if (partners.count(name) == 0) {
      throw Failure((directory / name).string() + ": there is no file of this name in " + partner_directory.string() +
                    "; run preprocess.py again");
    }
  }
}

}  // namespace

std::vector<BatchFiles> PairFiles(const std::vector<std::string> &directories) {
  const auto names = BinFiles(directories.front());
  for (const auto &directory : directories) {
    const auto others = BinFiles(directory);
    RequirePartners(names, directories.front(), others, directory);
    RequirePartners(others, directory, names, directories.front());
  }
  std::vector<BatchFiles> batches;
  for (const auto &name : names) {
    BatchFiles batch{name.stem().string(), {}};
    for (const auto &directory : directories) {
      batch.files.push_back(directory / name);
    }
    batches.push_back(std::move(batch));
  }
  return batches;
}

std::vector<char> ReadFile(const fs::path &path) {
  std::ifstream file(path, std::ios::binary);
  std::vector<char> bytes{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (!file) {
    throw Failure(path.string() + ": cannot read this file: " + std::strerror(errno));
  }
  return bytes;
}
