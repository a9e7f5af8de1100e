// What ends each half of a transformer block: normalize(dropout(y) + residual).
#pragma once

#include <cmath>

#include "dropout.h"
#include "rows.h"

namespace cpu_kernels {

constexpr float kEpsilon = 1e-12f;  // BERT's

struct NormSizes {
  int64_t rows, width;
};

// The operation on one row; returns one over the standard deviation. The number of its first element is that for dropout.
template <typename T>
float normalize_row(int64_t width, const T *y, const float *residual, const float *gamma, const float *beta,
                    Dropout dropout, uint32_t first_element, float *out, float *normal) {
  float sum = 0.0f, squares = 0.0f;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < width; ++i) {
    normal[i] = float(y[i]) * dropout.factor(first_element + static_cast<uint32_t>(i)) + residual[i];
    sum += normal[i];
  }
  const float mean = sum / width;
#pragma omp simd reduction(+ : squares)
  for (int64_t i = 0; i < width; ++i) {
    normal[i] -= mean;
    squares += normal[i] * normal[i];
  }
  const float inverse = 1.0f / std::sqrt(squares / width + kEpsilon);
#pragma omp simd
  for (int64_t i = 0; i < width; ++i) {
    normal[i] *= inverse;
    out[i] = normal[i] * gamma[i] + beta[i];
  }
  return inverse;
}

// out = normal * gamma + beta, where `normal` [R,H] has rows of zero mean and unit variance. It and `inverse` [R], one
// over the standard deviations, are kept for the gradient.
template <typename T>
void residual_norm(const NormSizes &n, const T *y, const float *residual, const float *gamma, const float *beta,
                   Dropout dropout, float *out, float *normal, float *inverse) {
  parallel_ranges(n.rows, rows_at_a_time(n.width), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t start = row * n.width;
      inverse[row] = normalize_row(n.width, y + start, residual + start, gamma, beta, dropout,
                                   static_cast<uint32_t>(start), out + start, normal + start);
    }
  });
}

struct NormGradients {
  float *dgamma, *dbeta, *dbias;  // [H]; dbias is that of y, the column sums of dy
};

// The gradients of y and of the residual on one row; adds to the sums.
template <typename T>
void normalize_row_gradient(int64_t width, const float *dout, const float *normal, float inverse, const float *gamma,
                            Dropout dropout, uint32_t first_element, T *dy, float *dresidual,
                            const NormGradients &sums) {
  float *dgamma = sums.dgamma, *dbeta = sums.dbeta, *dbias = sums.dbias;
  float sum = 0.0f, tilt = 0.0f;
#pragma omp simd reduction(+ : sum, tilt)
  for (int64_t i = 0; i < width; ++i) {
    const float dnormal = dout[i] * gamma[i];
    sum += dnormal;
    tilt += dnormal * normal[i];
    dgamma[i] += dout[i] * normal[i];
    dbeta[i] += dout[i];
  }
  const float mean = sum / width, slope = tilt / width;
#pragma omp simd
  for (int64_t i = 0; i < width; ++i) {
    const float gradient = (dout[i] * gamma[i] - mean - normal[i] * slope) * inverse;
    const float dropped = gradient * dropout.factor(first_element + static_cast<uint32_t>(i));
    dresidual[i] = gradient;
    put(dy[i], dropped);
    dbias[i] += dropped;
  }
}

template <typename T>
void residual_norm_gradient(const NormSizes &n, const float *dout, const float *normal, const float *inverse,
                            const float *gamma, Dropout dropout, T *dy, float *dresidual,
                            const NormGradients &gradients) {
  ColumnSums sums(n.rows, n.width, 3);
  sums.for_rows([&](int64_t row, float *first) {
    const int64_t start = row * n.width;
    normalize_row_gradient(n.width, dout + start, normal + start, inverse[row], gamma, dropout,
                           static_cast<uint32_t>(start), dy + start, dresidual + start,
                           {first, first + n.width, first + 2 * n.width});
  });
  sums.total(0, gradients.dgamma);
  sums.total(1, gradients.dbeta);
  sums.total(2, gradients.dbias);
}

}  // namespace cpu_kernels
