// Functions of single numbers, written so that the compiler turns loops over them into vector instructions.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace cpu_kernels {

// e^x with a relative error of 1e-7, for x beyond about 87 that of 87.
inline float exponential(float x) {
  x = x < -87.0f ? -87.0f : (x > 87.0f ? 87.0f : x);
  const float power = std::rint(x * 1.44269504f);  // of two
  // ln 2 in two parts, the first of which is exact in a product with a small whole number.
  const float rest = (x - power * 0.693359375f) + power * 2.12194440e-4f;  // at most half of ln 2
  // Taylor's series: the first term that is left out is 5e-9.
  float series = 1.0f / 5040.0f;
  series = series * rest + 1.0f / 720.0f;
  series = series * rest + 1.0f / 120.0f;
  series = series * rest + 1.0f / 24.0f;
  series = series * rest + 1.0f / 6.0f;
  series = series * rest + 0.5f;
  series = series * rest + 1.0f;
  series = series * rest + 1.0f;
  const int32_t bits = (static_cast<int32_t>(power) + 127) << 23;
  float scale;
  std::memcpy(&scale, &bits, sizeof(scale));
  return series * scale;
}

inline float sigmoid(float x) { return 1.0f / (1.0f + exponential(-x)); }

// The Gaussian error linear unit in the tanh form of BERT: x sigmoid(x (linear + cubic x^2)).
struct Gelu {
  static constexpr float kLinear = 1.5957691216f, kCubic = kLinear * 0.044715f;  // kLinear = 2 sqrt(2 / pi)

  float value, slope;

  explicit Gelu(float x) {
    const float square = x * x;
    const float gate = sigmoid(x * (kLinear + kCubic * square));
    value = x * gate;
    slope = gate + x * (kLinear + 3.0f * kCubic * square) * gate * (1.0f - gate);
  }
};

}  // namespace cpu_kernels
