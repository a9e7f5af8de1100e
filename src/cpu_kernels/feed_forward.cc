// The second half of a transformer block: normalize(dropout(gelu(x W1^T + b1) W2^T + b2) + x).
#include "linear.h"
#include "maths.h"
#include "operator.h"
#include "residual_norm.h"

using namespace cpu_kernels;

namespace {

struct Sizes {
  LinearSizes up, down;
  NormSizes norm;

  // of x [R,H] and the weight [I,H]
  Sizes(const Arguments &arguments, int x, int weight)
      : up{arguments.length(x, 0), arguments.length(x, 1), arguments.length(weight, 0)},
        down{up.rows, up.outputs, up.inputs}, norm{up.rows, up.inputs} {}
  int64_t numbers() const { return up.rows * up.inputs; }
  int64_t inner() const { return up.rows * up.outputs; }
};

template <typename T>
void gelu(const T *x, T *y, int64_t size) {
  parallel_ranges(size, kGrain, [=](int64_t begin, int64_t end) {
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) put(y[i], Gelu(float(x[i])).value);
  });
}

// Turns dy, the gradient of y = gelu(x), into that of x on one row; computes y again, and adds to the sums.
template <typename T>
void gelu_row_gradient(int64_t width, const T *x, T *y, T *dy, float *sums) {
#pragma omp simd
  for (int64_t i = 0; i < width; ++i) {
    const Gelu result{float(x[i])};
    const float dx = float(dy[i]) * result.slope;
    put(y[i], result.value);
    put(dy[i], dx);
    sums[i] += dx;
  }
}

template <typename T>
void gelu_gradient(const Sizes &n, const T *x, T *y, T *dy, float *dbias) {
  const int64_t width = n.up.outputs;
  ColumnSums sums(n.up.rows, width, 1);
  sums.for_rows([=](int64_t row, float *of_piece) {
    gelu_row_gradient(width, x + row * width, y + row * width, dy + row * width, of_piece);
  });
  sums.total(0, dbias);
}

template <typename T>
void forward(const Arguments &arguments) {
  const Sizes n(arguments, 0, 1);
  Reader read(arguments);
  const float *x = read.floats();    // [R,H]
  const T *weight1 = read.in<T>();   // [I,H]
  const float *bias1 = read.floats();
  const T *weight2 = read.in<T>();   // [H,I]
  const float *bias2 = read.floats(), *gamma = read.floats(), *beta = read.floats();
  const Dropout dropout = read.dropout();
  float *out = read.out<float>();    // [R,H]
  T *before = read.out<T>();         // [R,I], the argument of gelu
  float *normal = read.out<float>(), *inverse = read.out<float>();

  const Buffer<T> after(n.inner()), y(n.numbers());
  linear(n.up, Converted<T>(x, n.numbers()).data(), weight1, bias1, before);
  gelu(before, after.data(), n.inner());
  linear(n.down, after.data(), weight2, bias2, y.data());
  residual_norm(n.norm, y.data(), x, gamma, beta, dropout, out, normal, inverse);
}

template <typename T>
void backward(const Arguments &arguments) {
  const Sizes n(arguments, 1, 2);
  Reader read(arguments);
  const float *dout = read.floats(), *x = read.floats();
  const T *weight1 = read.in<T>(), *weight2 = read.in<T>();
  const float *gamma = read.floats();
  const Dropout dropout = read.dropout();
  const T *before = read.in<T>();
  const float *normal = read.floats(), *inverse = read.floats();
  float *dx = read.out<float>();
  float *dweight1 = read.out<float>(), *dbias1 = read.out<float>();
  float *dweight2 = read.out<float>(), *dbias2 = read.out<float>();
  float *dgamma = read.out<float>(), *dbeta = read.out<float>();

  const Buffer<T> after(n.inner()), inner(n.inner()), dy(n.numbers());
  residual_norm_gradient(n.norm, dout, normal, inverse, gamma, dropout, dy.data(), dx, {dgamma, dbeta, dbias2});
  linear_input_gradient(n.down, dy.data(), weight2, inner.data());
  gelu_gradient(n, before, after.data(), inner.data(), dbias1);
  linear_weight_gradient(n.down, dy.data(), after.data(), dweight2);
  linear_weight_gradient(n.up, inner.data(), Converted<T>(x, n.numbers()).data(), dweight1);
  linear_input_gradient(n.up, inner.data(), weight1, dx, true);
}

}  // namespace

OPERATOR(FeedForward) { arguments.is_bfloat16(1) ? forward<bfloat16>(arguments) : forward<float>(arguments); }

OPERATOR(FeedForwardGradient) { arguments.is_bfloat16(2) ? backward<bfloat16>(arguments) : backward<float>(arguments); }
