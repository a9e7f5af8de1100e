// What MindSpore Lite is told about a model for an Ascend, in the file that export.py writes beside it.
#ifndef ASCEND310_INFER_INC_LITE_CONFIG_H_
#define ASCEND310_INFER_INC_LITE_CONFIG_H_

#include <cstddef>
#include <string>
#include <vector>

struct LiteConfig {
  std::string path;                 // empty without a file
  std::string input_shape;          // NAME:-1,LENGTH;...; empty for a model of one batch size
  std::vector<size_t> batch_sizes;  // that the model is compiled for; empty for a model of one batch size

  // Throws Failure when a batch of the file has another size than those.
  void RequireBatchSize(size_t rows, const std::string &file) const;
};

// Reads NAME.lite.ini beside NAME.mindir, if there is one. Throws Failure.
LiteConfig ReadLiteConfig(const std::string &model_path);

#endif  // ASCEND310_INFER_INC_LITE_CONFIG_H_
