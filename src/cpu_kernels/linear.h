// x W^T + b and its gradients, on matrices of one type.
#pragma once

#include "bfloat16.h"
#include "onednn.h"
#include "rows.h"

namespace cpu_kernels {

struct LinearSizes {
  int64_t rows, inputs, outputs;
};

template <typename T, typename Out>
void linear(const LinearSizes &n, const T *x, const T *weight, const float *bias, Out *y) {
  multiply(matrix(x, n.rows, n.inputs), matrix(weight, n.outputs, n.inputs).transposed(), matrix(y, n.rows, n.outputs),
           bias);
}

// dx = dy W, added to what is there if `add`.
template <typename T, typename Out>
void linear_input_gradient(const LinearSizes &n, const T *dy, const T *weight, Out *dx, bool add = false) {
  multiply(matrix(dy, n.rows, n.outputs), matrix(weight, n.outputs, n.inputs), matrix(dx, n.rows, n.inputs), nullptr,
           add);
}

// dW = dy^T x.
template <typename T>
void linear_weight_gradient(const LinearSizes &n, const T *dy, const T *x, float *dweight) {
  multiply(matrix(dy, n.rows, n.outputs).transposed(), matrix(x, n.rows, n.inputs),
           matrix(dweight, n.outputs, n.inputs));
}

}  // namespace cpu_kernels
