// Which elements dropout keeps: a function of a key and the element's number, so that nothing has to be stored between
// forward and backward.
#pragma once

#include <cstdint>

namespace cpu_kernels {

class Dropout {
 public:
  // `key` holds three numbers, `probability` one: that an element is dropped.
  Dropout(const int32_t *key, const float *probability)
      : start_(key[0]), stride_(key[1] | 1), twist_(key[2]),
        limit_(static_cast<uint32_t>(static_cast<double>(*probability) * 4294967296.0)),
        scale_(1.0f / (1.0f - *probability)) {}

  // What the element is multiplied by: 0, or one over the probability that it is kept.
  float factor(uint32_t element) const {
    return mixed(mixed(start_ + element * stride_) + twist_) >= limit_ ? scale_ : 0.0f;
  }

 private:
  // A multiplicative hash: every bit of x changes about half of the result's bits.
  static uint32_t mixed(uint32_t x) {
    x = (x ^ (x >> 16)) * 0x21F0AAADu;
    x = (x ^ (x >> 15)) * 0x735A2D97u;
    return x ^ (x >> 15);
  }

  uint32_t start_, stride_, twist_, limit_;
  float scale_;
};

}  // namespace cpu_kernels
