// Passes over the rows of matrices that several operators share.
#pragma once

#include <algorithm>
#include <cstdint>

#include "bfloat16.h"
#include "threads.h"
#include "workspace.h"

namespace cpu_kernels {

constexpr int64_t kGrain = 16384;  // numbers that a thread takes at a time: small enough for its cache

inline int64_t rows_at_a_time(int64_t columns) { return std::max<int64_t>(kGrain / columns, 1); }

// Numbers as type T: where they are, or converted.
template <typename T>
class Converted;

template <>
class Converted<float> {
 public:
  Converted(const float *values, int64_t) : values_(values) {}
  const float *data() const { return values_; }

 private:
  const float *values_;
};

template <typename From, typename To>
void convert(const From *from, To *to, int64_t size) {
  parallel_ranges(size, kGrain, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) put(to[i], from[i]);
  });
}

template <>
class Converted<bfloat16> {
 public:
  Converted(const float *values, int64_t size) : values_(size) { convert(values, values_.data(), size); }
  const bfloat16 *data() const { return values_.data(); }

 private:
  Buffer<bfloat16> values_;
};

// Sums over rows for a few matrices at once. The rows are taken in pieces of which each has its own sums, so that the
// result does not depend on the number of threads or on who came first.
class ColumnSums {
 public:
  // A piece has at least `least` rows, 0 for as many as are worth a thread's while if they are only summed.
  ColumnSums(int64_t rows, int64_t columns, int matrices, int64_t least = 0)
      : columns_(columns * matrices), width_(columns),
        grain_(std::max<int64_t>(least ? least : rows_at_a_time(columns), (rows + 63) / 64)),
        pieces_((rows + grain_ - 1) / grain_), rows_(rows), sums_(pieces_ * columns_) {}

  // Call work(row, sums) for every row, in order within a piece; `sums` points to those of the first matrix and adds up.
  template <typename Work>
  void for_rows(const Work &work) {
    parallel(pieces_, [&](int64_t piece) {
      float *sums = sums_.data() + piece * columns_;
      std::fill(sums, sums + columns_, 0.0f);
      for (int64_t row = piece * grain_; row < std::min((piece + 1) * grain_, rows_); ++row) work(row, sums);
    });
  }

  void total(int which, float *target) const {
    for (int64_t column = 0; column < width_; ++column) target[column] = 0.0f;
    for (int64_t piece = 0; piece < pieces_; ++piece) {
      const float *sums = sums_.data() + piece * columns_ + which * width_;
      for (int64_t column = 0; column < width_; ++column) target[column] += sums[column];
    }
  }

 private:
  int64_t columns_, width_, grain_, pieces_, rows_;
  Buffer<float> sums_;
};

template <typename T>
void sum_columns(const T *values, int64_t rows, int64_t columns, float *target) {
  ColumnSums sums(rows, columns, 1);
  sums.for_rows([&](int64_t row, float *sum) {
    const T *of_row = values + row * columns;
    for (int64_t column = 0; column < columns; ++column) sum[column] += float(of_row[column]);
  });
  sums.total(0, target);
}

}  // namespace cpu_kernels
