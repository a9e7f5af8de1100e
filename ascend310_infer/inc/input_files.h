// The files that batches are read from.
#ifndef ASCEND310_INFER_INC_INPUT_FILES_H_
#define ASCEND310_INFER_INC_INPUT_FILES_H_

#include <filesystem>
#include <string>
#include <vector>

// One batch: a file of the same name for every input of the model.
struct BatchFiles {
  std::string name;                          // without the ending .bin
  std::vector<std::filesystem::path> files;  // in the order of the inputs
};

// Pairs the .bin files of the directories, ordered by name. Throws Failure when one has no partner or there is none.
std::vector<BatchFiles> PairFiles(const std::vector<std::string> &directories);

// All bytes of a file. Throws Failure.
std::vector<char> ReadFile(const std::filesystem::path &path);

#endif  // ASCEND310_INFER_INC_INPUT_FILES_H_
