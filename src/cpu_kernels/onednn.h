// Matrix products by the oneDNN library that MindSpore brings along.
#pragma once

#include <cstdint>

namespace cpu_kernels {

enum class Type { bfloat16 = 2, float32 = 3 };  // numbered as in oneDNN's dnnl_data_type_t

// A matrix somewhere in memory; strides are counted in elements.
struct Matrix {
  void *data;
  Type type;
  int64_t rows, columns, row_stride, column_stride;

  Matrix transposed() const { return {data, type, columns, rows, column_stride, row_stride}; }
};

// target = left * right, plus `bias` (float32, one number for each column) if given, plus target if `add`.
// Inside of `parallel` a product is computed by the calling thread alone.
void multiply(const Matrix &left, const Matrix &right, const Matrix &target, const float *bias = nullptr,
              bool add = false);

// Why oneDNN cannot be used in this process; an empty string if it can.
const char *onednn_misfit();

}  // namespace cpu_kernels
