#include "inc/network.h"

#include <cstring>
#include <filesystem>
#include <memory>
#include <utility>

#include "inc/failure.h"
#include "include/api/context.h"
#include "include/api/status.h"
#include "include/api/types.h"

using mindspore::MSTensor;
using mindspore::Status;

namespace {

// Throws Failure with the file, what was tried on it, and the reason that the API gives.
void Require(const Status &status, const std::string &file, const std::string &what) {
  if (status.IsOk()) {
    return;
  }
  std::string reason = status.GetErrDescription();
  if (reason.empty()) {
    reason = status.ToString();
  }
  for (char &character : reason) {
    character = character == '\n' ? ' ' : character;
  }
  throw Failure(file + ": " + what + ": " + reason);
}

std::shared_ptr<mindspore::Context> MakeContext(const std::string &device_type, uint32_t device_id,
                                                const LiteConfig &config) {
  auto context = std::make_shared<mindspore::Context>();
  auto &devices = context->MutableDeviceInfo();
  if (device_type == "CPU") {
    devices.push_back(std::make_shared<mindspore::CPUDeviceInfo>());
  } else if (device_type == "GPU") {
    auto gpu = std::make_shared<mindspore::GPUDeviceInfo>();
    gpu->SetDeviceID(device_id);
    devices.push_back(gpu);
  } else {
    auto ascend = std::make_shared<mindspore::AscendDeviceInfo>();
    ascend->SetDeviceID(device_id);
    if (!config.batch_sizes.empty()) {  // from the configuration itself Lite takes those of images only
      ascend->SetInputShape(config.input_shape);
      ascend->SetDynamicBatchSize(config.batch_sizes);
    }
    devices.push_back(ascend);
  }
  return context;
}

}  // namespace

Network::Network(const std::string &model_path, const std::string &device_type, uint32_t device_id)
    : model_path_(model_path) {
  if (!std::filesystem::is_regular_file(model_path)) {
    throw Failure("--model_path: there is no file " + model_path + "; make it with export.py --file_format MINDIR");
  }
  config_ = ReadLiteConfig(model_path);
  if (!config_.path.empty()) {
    Require(model_.LoadConfig(config_.path), config_.path, "cannot load this configuration");
  }
  Require(model_.Build(model_path, mindspore::kMindIR, MakeContext(device_type, device_id, config_)), model_path,
          "cannot load this model for " + device_type);
  tensors_ = model_.GetInputs();
  for (const auto &tensor : tensors_) {
    inputs_.push_back(Describe(tensor, model_path));
  }
  if (inputs_.empty()) {
    throw Failure(model_path + ": this model has no input; export it anew");
  }
}

Network::Input Network::Describe(const MSTensor &tensor, const std::string &model_path) {
  Input input{tensor.Name(), tensor.Shape(), sizeof(int32_t)};
  bool fits = tensor.DataType() == mindspore::DataType::kNumberTypeInt32 && !input.shape.empty();
  for (size_t i = 1; i < input.shape.size(); ++i) {
    fits = fits && input.shape[i] > 0;
    input.row_bytes *= input.shape[i];
  }
  if (!fits) {
    throw Failure(model_path + ": its input " + input.name +
                  " is not of int32 numbers whose shape is free in the batch size alone; export it with export.py");
  }
  return input;
}

int64_t Network::RowsIn(const std::vector<char> &bytes, const Input &input, const std::string &file) const {
  const int64_t wanted = input.shape[0];
  const int64_t rows = wanted > 0 ? wanted : static_cast<int64_t>(bytes.size() / input.row_bytes);
  if (rows == 0 || bytes.size() != rows * input.row_bytes) {
    throw Failure(file + ": has " + std::to_string(bytes.size()) + " bytes, expected " +
                  (wanted > 0 ? std::to_string(wanted) + " rows" : "rows") + " of " + std::to_string(input.row_bytes) +
                  " bytes for the input " + input.name + " of " + model_path_ +
                  "; make it with preprocess.py for this model");
  }
  return rows;
}

void Network::Load(const BatchFiles &batch) {
  std::vector<std::vector<char>> contents;
  int64_t rows = 0;
  for (size_t i = 0; i < inputs_.size(); ++i) {
    const std::string file = batch.files[i].string();
    contents.push_back(ReadFile(file));
    const int64_t rows_here = RowsIn(contents.back(), inputs_[i], file);
    if (i > 0 && rows_here != rows) {
      throw Failure(file + ": has " + std::to_string(rows_here) + " rows, but " + batch.files[0].string() + " has " +
                    std::to_string(rows) + "; run preprocess.py again");
    }
    rows = rows_here;
  }
  config_.RequireBatchSize(rows, batch.files[0].string());
  Resize(rows);
  for (size_t i = 0; i < inputs_.size(); ++i) {
    void *target = tensors_[i].MutableData();
    if (target == nullptr || tensors_[i].DataSize() != contents[i].size()) {
      throw Failure(batch.files[i].string() + ": the device gives no memory of " + std::to_string(contents[i].size()) +
                    " bytes for the input " + inputs_[i].name);
    }
    std::memcpy(target, contents[i].data(), contents[i].size());
  }
}

void Network::Resize(int64_t rows) {
  std::vector<std::vector<int64_t>> shapes;
  bool changes = false;
  for (size_t i = 0; i < inputs_.size(); ++i) {
    shapes.push_back(inputs_[i].shape);
    shapes.back()[0] = rows;
    changes = changes || shapes.back() != tensors_[i].Shape();
  }
  if (changes) {
    Require(model_.Resize(tensors_, shapes), model_path_, "cannot take a batch of " + std::to_string(rows));
    tensors_ = model_.GetInputs();
  }
}

std::vector<MSTensor> Network::Run(const BatchFiles &batch) {
  std::vector<MSTensor> outputs;
  Require(model_.Predict(tensors_, &outputs), batch.files[0].string(), "cannot compute this batch");
  return outputs;
}
