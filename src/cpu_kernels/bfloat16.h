// The 16-bit number format that is the upper half of a float32.
#pragma once

#include <cstdint>
#include <cstring>

#include "onednn.h"

namespace cpu_kernels {

struct bfloat16 {
  uint16_t bits;

  operator float() const {
    const uint32_t whole = static_cast<uint32_t>(bits) << 16;
    float value;
    std::memcpy(&value, &whole, sizeof(value));
    return value;
  }
};

// Functions in place of constructors: the compiler makes no vector instructions of a copy.
inline void put(float &target, float value) { target = value; }

// Rounds to the nearest; of two, to the even one.
inline void put(bfloat16 &target, float value) {
  uint32_t whole;
  std::memcpy(&whole, &value, sizeof(whole));
  target.bits = static_cast<uint16_t>((whole + 0x7FFF + ((whole >> 16) & 1)) >> 16);
}

template <typename T>
constexpr Type type_of();
template <>
constexpr Type type_of<float>() { return Type::float32; }
template <>
constexpr Type type_of<bfloat16>() { return Type::bfloat16; }

// A matrix whose rows follow each other, or with `stride` are parts of longer ones.
template <typename T>
Matrix matrix(const T *data, int64_t rows, int64_t columns, int64_t stride = 0) {
  return {const_cast<T *>(data), type_of<T>(), rows, columns, stride ? stride : columns, 1};
}

}  // namespace cpu_kernels
