// Where a model computes, as far as ascend310_infer uses it.
#ifndef CPU_RUNTIME_INCLUDE_API_CONTEXT_H_
#define CPU_RUNTIME_INCLUDE_API_CONTEXT_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace mindspore {

class DeviceInfoContext {
 public:
  virtual ~DeviceInfoContext() = default;
};

class CPUDeviceInfo : public DeviceInfoContext {};

class GPUDeviceInfo : public DeviceInfoContext {
 public:
  void SetDeviceID(uint32_t) {}  // building a model for it fails anyway
};

class AscendDeviceInfo : public DeviceInfoContext {
 public:
  void SetDeviceID(uint32_t) {}  // building a model for it fails anyway
  void SetInputShape(const std::string &) {}
  void SetDynamicBatchSize(const std::vector<size_t> &) {}
};

class Context {
 public:
  std::vector<std::shared_ptr<DeviceInfoContext>> &MutableDeviceInfo() { return devices_; }

 private:
  std::vector<std::shared_ptr<DeviceInfoContext>> devices_;
};

}  // namespace mindspore

#endif  // CPU_RUNTIME_INCLUDE_API_CONTEXT_H_
