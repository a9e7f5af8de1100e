// The part of MindSpore Lite's C++ API that ascend310_infer uses, computed on the CPU by the libraries of an installed
// MindSpore wheel. All calls to MindSpore's internals, which no release promises to keep, are in this file.
#include <algorithm>
#include <cstring>
#include <exception>
#include <fstream>
#include <functional>
#include <sstream>
#include <stdexcept>
#include <tuple>
#include <utility>

#include "include/api/model.h"

#include "include/backend/backend_manager/backend_manager.h"
#include "ir/func_graph.h"
#include "ir/manager.h"
#include "ir/tensor.h"
#include "ir/tensor_new.h"
#include "load_mindir/infer_mindir.h"
#include "load_mindir/load_model.h"
#include "utils/log_adapter.h"
#include "utils/ms_context.h"

namespace mindspore {
namespace {

// 0 while a dimension is free.
int64_t CountValues(const std::vector<int64_t> &shape) {
  int64_t count = 1;
  for (int64_t size : shape) {
    count *= std::max<int64_t>(size, 0);
  }
  return count;
}

std::string ToText(const std::vector<int64_t> &shape) {
  std::string text;
  for (int64_t size : shape) {
    text += (text.empty() ? "" : ", ") + std::to_string(size);
  }
  return "[" + text + "]";
}

// MindSpore's messages have headings between rules, and go on for lines of places in its source.
std::string FirstLine(const std::string &message) {
  std::istringstream lines(message);
  std::string line;
  bool is_heading = false;
  while (std::getline(lines, line)) {
    if (line.compare(0, 4, "----") == 0) {
      is_heading = !is_heading;
    } else if (!line.empty() && !is_heading) {
      return line;
    }
  }
  return "no reason is given";
}

// Does something with MindSpore, whose errors are exceptions.
Status Try(const std::function<Status()> &action) {
  try {
    return action();
  } catch (const std::exception &error) {
    return Status(kMCFailed, FirstLine(error.what()));
  }
}

}  // namespace

// ---------------------------------------------------------------- tensors

class MSTensor::Impl {
 public:
  Impl(std::string name, TypeId type, std::vector<int64_t> shape) : name(std::move(name)), type(type) {
    Reshape(std::move(shape));
  }

  void Reshape(std::vector<int64_t> new_shape) {
    shape = std::move(new_shape);
    bytes.assign(CountValues(shape) * abstract::TypeIdSize(type), 0);
  }

  std::string name;
  TypeId type;
  std::vector<int64_t> shape;
  std::vector<char> bytes;
};

MSTensor::MSTensor(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
std::string MSTensor::Name() const { return impl_->name; }
enum DataType MSTensor::DataType() const { return static_cast<enum DataType>(static_cast<int>(impl_->type)); }
const std::vector<int64_t> &MSTensor::Shape() const { return impl_->shape; }
int64_t MSTensor::ElementNum() const { return CountValues(impl_->shape); }
size_t MSTensor::DataSize() const { return impl_->bytes.size(); }
std::shared_ptr<const void> MSTensor::Data() const { return {impl_, impl_->bytes.data()}; }
void *MSTensor::MutableData() { return impl_->bytes.data(); }

// ---------------------------------------------------------------- the model

// A process has one at a time.
class Model::Impl {
 public:
  // Back ends must be gone before the libraries are unloaded.
  ~Impl() { backend::BackendManager::GetInstance().Clear(); }

  Status Load(const std::string &path) {
    // Without a handler some errors come without their text.
    LogWriter::SetExceptionHandler([](ExceptionType, const std::string &message) { throw std::runtime_error(message); });
    auto context = MsContext::GetInstance();
    context->set_param<int>(MS_CTX_EXECUTION_MODE, kGraphMode);
    context->SetDeviceTargetFromUser(kCPUDevice);
    graph_ = MindIRLoader().LoadMindIR(path);
    if (graph_ == nullptr) {
      return Status(kMCInvalidInput, "it is damaged, cut off, or no MINDIR model");
    }
    manager_ = Manage(graph_, true);
    InferFuncGraphLoaded(graph_);
    for (const auto &node : graph_->parameters()) {
      auto parameter = node->cast<ParameterPtr>();
      if (parameter->has_default()) {
        weights_.push_back(parameter->default_param());
      } else {
        inputs_.push_back(MakeInput(parameter));
        declared_shapes_.push_back(inputs_.back().Shape());
      }
    }
    backend::BackendJitConfig config;
    config.backend = backend::kMSBackendName;
    std::tie(backend_, graph_id_) =
      backend::BackendManager::GetInstance().Build(graph_, config, backend::kMSBackendName);
    return Status::OK();
  }

  Status Resize(const std::vector<std::vector<int64_t>> &shapes) {
    if (shapes.size() != inputs_.size()) {
      return Status(kMCInvalidArgs,
                    std::to_string(shapes.size()) + " shapes for " + std::to_string(inputs_.size()) + " inputs");
    }
    for (size_t i = 0; i < shapes.size(); ++i) {
      if (!Fits(shapes[i], declared_shapes_[i])) {
        return Status(kMCInvalidArgs, "input " + inputs_[i].Name() + " has shape " + ToText(declared_shapes_[i]) +
                                        " and cannot become " + ToText(shapes[i]));
      }
    }
    for (size_t i = 0; i < shapes.size(); ++i) {
      inputs_[i].impl_->Reshape(shapes[i]);
    }
    return Status::OK();
  }

  Status Run(const std::vector<MSTensor> &inputs, std::vector<MSTensor> *outputs) {
    VectorRef arguments;
    for (const auto &input : inputs) {
      auto &impl = *input.impl_;
      if (impl.bytes.empty()) {
        return Status(kMCInvalidArgs, "input " + impl.name + " has shape " + ToText(impl.shape) + "; Resize it first");
      }
      arguments.push_back(tensor::from_buffer(impl.type, impl.shape, impl.bytes.data(), impl.bytes.size()));
    }
    for (const auto &weight : weights_) {
      arguments.push_back(weight);
    }
    VectorRef results;
    if (backend::BackendManager::GetInstance().Run(backend_, graph_id_, arguments, &results) !=
        backend::kRunningSuccess) {
      return Status(kMCFailed, "the computation failed");
    }
    outputs->clear();
    Collect(results, outputs);
    return Status::OK();
  }

  const std::vector<MSTensor> &inputs() const { return inputs_; }

 private:
  static MSTensor MakeInput(const ParameterPtr &parameter) {
    auto abstract = parameter->abstract()->cast<abstract::AbstractTensorPtr>();
    MS_EXCEPTION_IF_NULL(abstract);
    return MSTensor(std::make_shared<MSTensor::Impl>(parameter->name(), abstract->element()->BuildType()->type_id(),
                                                     abstract->GetShape()->GetShapeVector()));
  }

  static bool Fits(const std::vector<int64_t> &shape, const std::vector<int64_t> &declared) {
    return std::equal(shape.begin(), shape.end(), declared.begin(), declared.end(),
                      [](int64_t size, int64_t wanted) { return size > 0 && (wanted < 0 || size == wanted); });
  }

  // Results may be tuples of tensors.
  static void Collect(const VectorRef &results, std::vector<MSTensor> *outputs) {
    for (const auto &result : results) {
      if (utils::isa<VectorRef>(result)) {
        Collect(utils::cast<VectorRef>(result), outputs);
        continue;
      }
      auto values = utils::cast<tensor::TensorPtr>(result)->cpu();
      auto impl = std::make_shared<MSTensor::Impl>("output" + std::to_string(outputs->size()), values->data_type(),
                                                   values->shape());
      std::memcpy(impl->bytes.data(), values->data_c(), impl->bytes.size());
      outputs->emplace_back(std::move(impl));
    }
  }

  FuncGraphPtr graph_;
  FuncGraphManagerPtr manager_;  // the graph itself holds it weakly
  std::vector<ValuePtr> weights_;
  std::vector<MSTensor> inputs_;
  std::vector<std::vector<int64_t>> declared_shapes_;
  backend::BackendType backend_ = backend::kInvalidBackend;
  backend::BackendGraphId graph_id_ = 0;
};

Model::Model() = default;
Model::~Model() = default;

Status Model::LoadConfig(const std::string &config_path) {
  if (impl_) {
    return Status(kMCFailed, "the model was built before");
  }
  std::ifstream file(config_path);
  for (std::string line; std::getline(file, line);) {
    if (!line.empty() && line.front() == '[' && line.back() == ']') {
      return Status::OK();
    }
  }
  return Status(kMCInvalidInput, "it has no [section]");
}

Status Model::Build(const std::string &model_path, ModelType, const std::shared_ptr<Context> &model_context) {
  const auto &devices = model_context->MutableDeviceInfo();
  if (devices.size() != 1 || std::dynamic_pointer_cast<CPUDeviceInfo>(devices[0]) == nullptr) {
    return Status(kMCDeviceError, "this program was built with cpu_runtime, which computes on the CPU only; for other "
                                  "devices build it with LITE_HOME naming the directory of MindSpore Lite");
  }
  impl_ = std::make_unique<Impl>();
  auto status = Try([&] { return impl_->Load(model_path); });
  if (status.IsError()) {
    impl_.reset();
  }
  return status;
}

std::vector<MSTensor> Model::GetInputs() { return impl_ ? impl_->inputs() : std::vector<MSTensor>(); }

Status Model::Resize(const std::vector<MSTensor> &, const std::vector<std::vector<int64_t>> &dims) {
  return impl_ ? impl_->Resize(dims) : Status(kMCFailed, "no model was built");
}

Status Model::Predict(const std::vector<MSTensor> &inputs, std::vector<MSTensor> *outputs) {
  return impl_ ? Try([&] { return impl_->Run(inputs, outputs); }) : Status(kMCFailed, "no model was built");
}

}  // namespace mindspore
