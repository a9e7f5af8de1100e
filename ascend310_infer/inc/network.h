// A MINDIR model on a device.
#ifndef ASCEND310_INFER_INC_NETWORK_H_
#define ASCEND310_INFER_INC_NETWORK_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "inc/input_files.h"
#include "inc/lite_config.h"
#include "include/api/model.h"

class Network {
 public:
  // Loads the model, as its configuration says if there is one, and compiles it for the device. Throws Failure.
  Network(const std::string &model_path, const std::string &device_type, uint32_t device_id);

  size_t InputCount() const { return inputs_.size(); }

  // Fills the inputs from the files of a batch. Throws Failure when one does not fit.
  void Load(const BatchFiles &batch);

  // Computes what was loaded. Throws Failure.
  std::vector<mindspore::MSTensor> Run(const BatchFiles &batch);

 private:
  struct Input {
    std::string name;
    std::vector<int64_t> shape;  // -1 for a free batch size
    size_t row_bytes;
  };

  static Input Describe(const mindspore::MSTensor &tensor, const std::string &model_path);
  int64_t RowsIn(const std::vector<char> &bytes, const Input &input, const std::string &file) const;
  void Resize(int64_t rows);

  std::string model_path_;
  LiteConfig config_;
  mindspore::Model model_;
  std::vector<Input> inputs_;
  std::vector<mindspore::MSTensor> tensors_;  // of the inputs, with the shapes of the batch
};

#endif  // ASCEND310_INFER_INC_NETWORK_H_
