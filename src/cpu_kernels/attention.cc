// The first half of a transformer block: normalize(dropout(attention(x) Wo^T + bo) + x).
//
// B batch, S sequence, R = B * S rows, N heads, D width of a head, H = N * D, K where distances are clipped. NEZHA's
// relative positions are a table [2K+1,D] (see relative_positions.h), which has one row where there are none.
#include <cmath>

#include "linear.h"
#include "maths.h"
#include "operator.h"
#include "relative_positions.h"
#include "residual_norm.h"

using namespace cpu_kernels;

namespace {

struct Sizes {
  int64_t batch, length, heads, head_width;

  // of x [R,H], additive_mask [B,S] and probabilities [B,N,S,S]
  Sizes(const Arguments &arguments, int x, int mask, int probabilities)
      : batch(arguments.length(mask, 0)), length(arguments.length(mask, 1)), heads(arguments.length(probabilities, 1)),
        head_width(arguments.length(x, 1) / heads) {}
  int64_t width() const { return heads * head_width; }
  int64_t rows() const { return batch * length; }
  int64_t numbers() const { return rows() * width(); }
  LinearSizes linear() const { return {rows(), width(), width()}; }
  NormSizes norm() const { return {rows(), width()}; }
  template <typename T>
  RelativePositions<T> positions(const float *table, int64_t rows) const { return {table, rows, length, head_width}; }
  float scale() const { return 1.0f / std::sqrt(static_cast<float>(head_width)); }

  // The part of values [R,H] that head number `head` of all B * N has.
  template <typename T>
  Matrix of_head(const T *values, int64_t head) const {
    const T *first = values + head / heads * length * width() + head % heads * head_width;
    return matrix(first, length, head_width, width());
  }
};

// probabilities = softmax(scores * scale + mask), dropped = dropout(probabilities), of one row of scores.
template <typename T>
void softmax_row(int64_t size, float *scores, float scale, const float *mask, Dropout dropout,
                 uint32_t first_element, T *probabilities, T *dropped) {
  float largest = -INFINITY, sum = 0.0f;
#pragma omp simd reduction(max : largest)
  for (int64_t i = 0; i < size; ++i) {
    scores[i] = scores[i] * scale + mask[i];
    largest = largest < scores[i] ? scores[i] : largest;
  }
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < size; ++i) {
    scores[i] = exponential(scores[i] - largest);
    sum += scores[i];
  }
  const float inverse = 1.0f / sum;
#pragma omp simd
  for (int64_t i = 0; i < size; ++i) {
    const float probability = scores[i] * inverse;
    put(probabilities[i], probability);
    put(dropped[i], probability * dropout.factor(first_element + static_cast<uint32_t>(i)));
  }
}

// From the gradient of the dropped probabilities that of the scores before scaling; computes the former again.
template <typename T>
void softmax_row_gradient(int64_t size, float *gradient, float scale, Dropout dropout, uint32_t first_element,
                          const T *probabilities, T *dropped, T *dscores) {
  float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < size; ++i) {
    const float factor = dropout.factor(first_element + static_cast<uint32_t>(i));
    put(dropped[i], float(probabilities[i]) * factor);
    gradient[i] *= factor;
    sum += gradient[i] * float(probabilities[i]);
  }
#pragma omp simd
  for (int64_t i = 0; i < size; ++i) put(dscores[i], float(probabilities[i]) * (gradient[i] - sum) * scale);
}

template <typename T>
struct Heads {
  T *query, *key, *value;  // [R,H]
};

template <typename T>
void attend(const Sizes &n, const Heads<const T> &x, const RelativePositions<T> &positions, const float *mask,
            Dropout dropout, T *probabilities, T *context) {
  const int64_t length = n.length, square = length * length;
  parallel(n.batch * n.heads, [&](int64_t head) {
    const Buffer<float> scores(square);
    const Buffer<T> dropped(square);
    multiply(n.of_head(x.query, head), n.of_head(x.key, head).transposed(), matrix(scores.data(), length, length));
    if (positions.exist()) positions.add_scores(n.of_head(x.query, head), scores.data());
    for (int64_t row = 0; row < length; ++row) {
      const int64_t start = head * square + row * length;
      softmax_row(length, scores.data() + row * length, n.scale(), mask + head / n.heads * length, dropout,
                  static_cast<uint32_t>(start), probabilities + start, dropped.data() + row * length);
    }
    multiply(matrix(dropped.data(), length, length), n.of_head(x.value, head), n.of_head(context, head));
    if (positions.exist()) positions.add_weighted_sums(dropped.data(), n.of_head(context, head));
  });
}

// `dtable` is null where the table is not learned.
template <typename T>
void attend_gradient(const Sizes &n, const Heads<const T> &x, const RelativePositions<T> &positions, Dropout dropout,
                     const T *probabilities, const T *dcontext, const Heads<T> &dx, float *dtable) {
  const int64_t length = n.length, square = length * length;
  const auto of_one = [&](int64_t head, float *dvectors) {
    const Buffer<float> gradient(square);
    const Buffer<T> dropped(square), dscores(square);
    multiply(n.of_head(dcontext, head), n.of_head(x.value, head).transposed(),
             matrix(gradient.data(), length, length));
    if (positions.exist()) positions.add_scores(n.of_head(dcontext, head), gradient.data());
    for (int64_t row = 0; row < length; ++row) {
      const int64_t start = head * square + row * length;
      softmax_row_gradient(length, gradient.data() + row * length, n.scale(), dropout, static_cast<uint32_t>(start),
                           probabilities + start, dropped.data() + row * length, dscores.data() + row * length);
    }
    const Matrix of_scores = matrix(dscores.data(), length, length), of_dropped = matrix(dropped.data(), length, length);
    multiply(of_dropped.transposed(), n.of_head(dcontext, head), n.of_head(dx.value, head));
    multiply(of_scores, n.of_head(x.key, head), n.of_head(dx.query, head));
    multiply(of_scores.transposed(), n.of_head(x.query, head), n.of_head(dx.key, head));
    if (positions.exist()) {
      positions.add_weighted_sums(dscores.data(), n.of_head(dx.query, head));
      if (dvectors != nullptr) {
        positions.add_gradient(dscores.data(), n.of_head(x.query, head), dvectors);
        positions.add_gradient(dropped.data(), n.of_head(dcontext, head), dvectors);
      }
    }
  };
  if (dtable == nullptr) {
    parallel(n.batch * n.heads, [&](int64_t head) { of_one(head, nullptr); });
    return;
  }
  ColumnSums sums(n.batch * n.heads, positions.size(), 1, 1);
  sums.for_rows(of_one);
  sums.total(0, dtable + positions.first());
}

// The inputs that forward and backward share, but for the biases.
template <typename T>
struct Weights {
  const T *query, *key, *value, *output;  // [H,H]
};

template <typename T>
void forward(const Arguments &arguments) {
  const Sizes n(arguments, 0, 12, 18);
  Reader read(arguments);
  const float *x = read.floats();                                                    // [R,H]
  const Weights<T> weights = {read.in<T>(), read.in<T>(), read.in<T>(), read.in<T>()};
  const float *query_bias = read.floats(), *key_bias = read.floats(), *value_bias = read.floats();
  const float *bias = read.floats(), *gamma = read.floats(), *beta = read.floats();  // [H]
  const auto positions = n.positions<T>(read.floats(), arguments.length(11, 0));     // [2K+1,D], [1,1] for none
  const float *mask = read.floats();                                                 // [B,S], added to the scores
  const Dropout scores_dropout = read.dropout(), dropout = read.dropout();
  float *out = read.out<float>();                                                    // [R,H]
  T *probabilities = read.out<T>();                                                  // [B,N,S,S]
  T *query = read.out<T>(), *key = read.out<T>(), *value = read.out<T>(), *context = read.out<T>();  // [R,H]
  float *normal = read.out<float>(), *inverse = read.out<float>();                   // [R,H], [R]

  const Converted<T> input(x, n.numbers());
  linear(n.linear(), input.data(), weights.query, query_bias, query);
  linear(n.linear(), input.data(), weights.key, key_bias, key);
  linear(n.linear(), input.data(), weights.value, value_bias, value);
  attend<T>(n, {query, key, value}, positions, mask, scores_dropout, probabilities, context);
  const Buffer<T> y(n.numbers());
  linear(n.linear(), context, weights.output, bias, y.data());
  residual_norm(n.norm(), y.data(), x, gamma, beta, dropout, out, normal, inverse);
}

// The gradients of one of the three products that x goes into.
template <typename T>
void projection_gradient(const Sizes &n, const T *dy, const T *x, const T *weight, float *dx, float *dweight,
                         float *dbias) {
  linear_input_gradient(n.linear(), dy, weight, dx, true);
  linear_weight_gradient(n.linear(), dy, x, dweight);
  sum_columns(dy, n.rows(), n.width(), dbias);
}

template <typename T>
void backward(const Arguments &arguments) {
  const Sizes n(arguments, 1, 8, 13);
  Reader read(arguments);
  const float *dout = read.floats(), *x = read.floats();
  const Weights<T> weights = {read.in<T>(), read.in<T>(), read.in<T>(), read.in<T>()};
  const float *gamma = read.floats();
  const auto positions = n.positions<T>(read.floats(), arguments.length(7, 0));
  read.floats();  // the mask, which says B and S
  const Dropout scores_dropout = read.dropout(), dropout = read.dropout();
  const T *probabilities = read.in<T>();
  const Heads<const T> heads = {read.in<T>(), read.in<T>(), read.in<T>()};
  const T *context = read.in<T>();
  const float *normal = read.floats(), *inverse = read.floats();
  float *dx = read.out<float>();
  float *dweights[4], *dbiases[4];  // query, key, value, output
  for (float *&dweight : dweights) dweight = read.out<float>();
  for (float *&dbias : dbiases) dbias = read.out<float>();
  float *dgamma = read.out<float>(), *dbeta = read.out<float>();
  float *dtable = read.has_more() ? read.out<float>() : nullptr;  // of a table that is learned
  if (dtable != nullptr) std::fill(dtable, dtable + arguments.size(7), 0.0f);

  const Buffer<T> dy(n.numbers()), dcontext(n.numbers());
  const Buffer<T> dquery(n.numbers()), dkey(n.numbers()), dvalue(n.numbers());
  residual_norm_gradient(n.norm(), dout, normal, inverse, gamma, dropout, dy.data(), dx, {dgamma, dbeta, dbiases[3]});
  linear_input_gradient(n.linear(), dy.data(), weights.output, dcontext.data());
  linear_weight_gradient(n.linear(), dy.data(), context, dweights[3]);
  attend_gradient<T>(n, heads, positions, scores_dropout, probabilities, dcontext.data(),
                     {dquery.data(), dkey.data(), dvalue.data()}, dtable);
  const Converted<T> input(x, n.numbers());
  projection_gradient(n, dquery.data(), input.data(), weights.query, dx, dweights[0], dbiases[0]);
  projection_gradient(n, dkey.data(), input.data(), weights.key, dx, dweights[1], dbiases[1]);
  projection_gradient(n, dvalue.data(), input.data(), weights.value, dx, dweights[2], dbiases[2]);
}

}  // namespace

OPERATOR(Attention) { arguments.is_bfloat16(1) ? forward<bfloat16>(arguments) : forward<float>(arguments); }

OPERATOR(AttentionGradient) { arguments.is_bfloat16(2) ? backward<bfloat16>(arguments) : backward<float>(arguments); }
