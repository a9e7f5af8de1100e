// Kinds of models and tensors, as far as ascend310_infer uses them.
#ifndef CPU_RUNTIME_INCLUDE_API_TYPES_H_
#define CPU_RUNTIME_INCLUDE_API_TYPES_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "include/utils/data_type.h"

namespace mindspore {

enum ModelType : uint32_t { kMindIR = 0 };

// An input or output of a model; copies share the values.
class MSTensor {
 public:
  class Impl;

  explicit MSTensor(std::shared_ptr<Impl> impl);

  std::string Name() const;
  enum DataType DataType() const;
  const std::vector<int64_t> &Shape() const;  // -1 stands for any number
  int64_t ElementNum() const;                 // 0 while a dimension is free
  size_t DataSize() const;                    // in bytes
  std::shared_ptr<const void> Data() const;
  void *MutableData();

 private:
  friend class Model;
  std::shared_ptr<Impl> impl_;
};

}  // namespace mindspore

#endif  // CPU_RUNTIME_INCLUDE_API_TYPES_H_
