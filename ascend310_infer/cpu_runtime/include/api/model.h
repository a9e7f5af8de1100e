// A MINDIR model, as far as ascend310_infer uses it.
#ifndef CPU_RUNTIME_INCLUDE_API_MODEL_H_
#define CPU_RUNTIME_INCLUDE_API_MODEL_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "include/api/context.h"
#include "include/api/status.h"
#include "include/api/types.h"

namespace mindspore {

class Model {
 public:
  Model();
  ~Model();
  Model(const Model &) = delete;
  Model &operator=(const Model &) = delete;

  // Only checks that it can be read: its sections are for other devices. To be called before Build.
  Status LoadConfig(const std::string &config_path);
  // Reads and compiles the model; only for a context whose one device is the CPU.
  Status Build(const std::string &model_path, ModelType model_type, const std::shared_ptr<Context> &model_context);
  std::vector<MSTensor> GetInputs();
  // Gives inputs new shapes, where the model's own have -1.
  Status Resize(const std::vector<MSTensor> &inputs, const std::vector<std::vector<int64_t>> &dims);
  Status Predict(const std::vector<MSTensor> &inputs, std::vector<MSTensor> *outputs);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace mindspore

#endif  // CPU_RUNTIME_INCLUDE_API_MODEL_H_
