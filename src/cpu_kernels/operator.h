// What MindSpore hands to an operator, and how an operator is made known to it.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <stdexcept>
#include <string>

#include "bfloat16.h"
#include "dropout.h"

namespace cpu_kernels {

// The inputs of an operator followed by its outputs.
class Arguments {
 public:
  Arguments(int count, void **data, const int *dimensions, int64_t **shapes, const char **types)
      : count_(count), data_(data), dimensions_(dimensions), shapes_(shapes), types_(types) {}

  int count() const { return count_; }

  template <typename T>
  T *at(int index) const { return static_cast<T *>(data_[index]); }
  const float *floats(int index) const { return at<const float>(index); }
  const int32_t *integers(int index) const { return at<const int32_t>(index); }

  int64_t length(int index, int axis) const { return shapes_[index][axis]; }
  int64_t last_length(int index) const { return shapes_[index][dimensions_[index] - 1]; }
  int64_t size(int index) const {
    int64_t product = 1;
    for (int axis = 0; axis < dimensions_[index]; ++axis) product *= shapes_[index][axis];
    return product;
  }
  bool is_bfloat16(int index) const { return std::strcmp(types_[index], "bfloat16") == 0; }

 private:
  int count_;
  void **data_;
  const int *dimensions_;
  int64_t **shapes_;
  const char **types_;
};

// Takes an operator's arguments one after the other, in the order in which Python lists them.
class Reader {
 public:
  explicit Reader(const Arguments &arguments) : arguments_(arguments) {}
  template <typename T>
  const T *in() { return arguments_.at<const T>(index_++); }
  template <typename T>
  T *out() { return arguments_.at<T>(index_++); }
  const float *floats() { return in<float>(); }
  bool has_more() const { return index_ < arguments_.count(); }
  Dropout dropout() {  // two inputs
    const int32_t *key = in<int32_t>();
    return Dropout(key, floats());
  }

 private:
  const Arguments &arguments_;
  int index_ = 0;
};

// Make sure that `count` ids, which came from the data, are at least 0 and below `limit`.
inline void check_ids(const int32_t *ids, int64_t count, int64_t limit, const char *what) {
  for (int64_t i = 0; i < count; ++i) {
    if (ids[i] < 0 || ids[i] >= limit) {
      throw std::out_of_range(std::string(what) + " " + std::to_string(ids[i]) + " is not below " +
                              std::to_string(limit));
    }
  }
}

inline int run_operator(const char *name, void (*body)(const Arguments &), const Arguments &arguments) {
  try {
    body(arguments);
    return 0;
  } catch (const std::exception &error) {
    std::fprintf(stderr, "%s: %s\n", name, error.what());
    return 1;
  }
}

}  // namespace cpu_kernels

// OPERATOR(Name) { ... arguments ... } defines the operator that MindSpore finds under this name.
#define OPERATOR(name)                                                                                        \
  static void name##_body(const cpu_kernels::Arguments &arguments);                                           \
  extern "C" int name(int count, void **data, int *dimensions, int64_t **shapes, const char **types, void *,  \
                      void *) {                                                                               \
    return cpu_kernels::run_operator(#name, name##_body, {count, data, dimensions, shapes, types});           \
  }                                                                                                           \
  static void name##_body(const cpu_kernels::Arguments &arguments)
