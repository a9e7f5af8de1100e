// Attention by distance: a vector r[t - f] is added to the key and the value that query f sees at t (Shaw et al. 2018).
//
// There are fewer distances than pairs of tokens, so queries are multiplied by the C vectors of all distances at once,
// and row f of the product is read from its distance to the first token on; weighted sums of vectors go the other way.
#pragma once

#include <algorithm>
#include <cstdint>

#include "rows.h"

namespace cpu_kernels {

template <typename T>
class RelativePositions {
 public:
  // `table` [2K+1,D] holds the vectors of the distances from -K to K, which farther ones are clipped to; a single row
  // says that there are none.
  RelativePositions(const float *table, int64_t rows, int64_t length, int64_t width)
      : exist_(rows > 1), length_(length), width_(width), reach_(std::min(rows / 2, length - 1)),
        first_(exist_ ? (rows / 2 - reach_) * width : 0), vectors_(table + first_, exist_ ? size() : 0) {}

  bool exist() const { return exist_; }
  int64_t size() const { return count() * width_; }  // numbers of the vectors that a sequence of this length needs,
  int64_t first() const { return first_; }           // and the place of the first one in the table

  // scores[f,t] += x[f] r[t - f], for x [S,D] and scores [S,S].
  void add_scores(const Matrix &x, float *scores) const {
    const Buffer<float> by_distance(length_ * count());
    multiply(x, vectors().transposed(), matrix(by_distance.data(), length_, count()));
    for (int64_t row = 0; row < length_; ++row) {
      const float *from = by_distance.data() + row * count();
      float *to = scores + row * length_;
      const int64_t begin = nearest(row), end = farthest(row), shift = reach_ - row;
      for (int64_t i = 0; i < begin; ++i) to[i] += from[0];
      for (int64_t i = begin; i < end; ++i) to[i] += from[i + shift];
      for (int64_t i = end; i < length_; ++i) to[i] += from[count() - 1];
    }
  }

  // y[f] += the sum over t of weights[f,t] r[t - f], for weights [S,S] and y [S,D].
  void add_weighted_sums(const T *weights, const Matrix &y) const {
    const Buffer<T> by_distance(length_ * count());
    sum_by_distance(weights, by_distance.data());
    multiply(matrix(by_distance.data(), length_, count()), vectors(), y, nullptr, true);
  }

  // dr[t - f] += weights[f,t] x[f]: the gradient of the vectors, where one of the functions above has x or the gradient
  // of y for x [S,D] and the gradient of the scores or the weights for weights [S,S].
  void add_gradient(const T *weights, const Matrix &x, float *dvectors) const {
    const Buffer<T> by_distance(length_ * count());
    sum_by_distance(weights, by_distance.data());
    multiply(matrix(by_distance.data(), length_, count()).transposed(), x, matrix(dvectors, count(), width_), nullptr,
             true);
  }

 private:
  int64_t count() const { return 2 * reach_ + 1; }  // C, the distances within a sequence
  Matrix vectors() const { return matrix(vectors_.data(), count(), width_); }

  // sums[f,t - f] = weights[f,t] where that is within reach, and farther ones are summed; weights [S,S], sums [S,C].
  void sum_by_distance(const T *weights, T *sums) const {
    for (int64_t row = 0; row < length_; ++row) {
      const T *from = weights + row * length_;
      T *to = sums + row * count();
      const int64_t begin = nearest(row), end = farthest(row), shift = reach_ - row;
      std::fill(to, to + begin + shift, T{});
      std::copy(from + begin, from + end, to + begin + shift);
      std::fill(to + end + shift, to + count(), T{});
      put(to[0], sum(from, from + begin) + float(to[0]));
      put(to[count() - 1], sum(from + end, from + length_) + float(to[count() - 1]));
    }
  }

  // The first token that is not farther than `reach_` from token `row`, and the one behind the last.
  int64_t nearest(int64_t row) const { return std::max<int64_t>(row - reach_, 0); }
  int64_t farthest(int64_t row) const { return std::min(row + reach_ + 1, length_); }

  static float sum(const T *begin, const T *end) {
    float total = 0.0f;
    for (; begin < end; ++begin) total += float(*begin);
    return total;
  }

  bool exist_;
  int64_t length_, width_, reach_, first_;
  Converted<T> vectors_;
};

}  // namespace cpu_kernels
