// Cross entropy of rows of scores, without storing the probabilities of all classes.
#include <cmath>

#include "maths.h"
#include "operator.h"
#include "rows.h"

using namespace cpu_kernels;

namespace {

// log(sum(exp(scores)))
float log_of_sum(const float *scores, int64_t size) {
  float largest = -INFINITY, sum = 0.0f;
#pragma omp simd reduction(max : largest)
  for (int64_t i = 0; i < size; ++i) largest = largest < scores[i] ? scores[i] : largest;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < size; ++i) sum += exponential(scores[i] - largest);
  return largest + std::log(sum);
}

}  // namespace

// scores [R,C], labels int32 [R]; losses [R], log of the sums [R]
OPERATOR(CrossEntropy) {
  const int64_t rows = arguments.length(0, 0), classes = arguments.length(0, 1);
  const float *scores = arguments.floats(0);
  const int32_t *labels = arguments.integers(1);
  float *losses = arguments.at<float>(2), *sums = arguments.at<float>(3);
  parallel_ranges(rows, rows_at_a_time(classes), [=](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      sums[row] = log_of_sum(scores + row * classes, classes);
      losses[row] = sums[row] - scores[row * classes + labels[row]];
    }
  });
}

// scores [R,C], labels int32 [R], log of the sums [R], dlosses [R]; dscores [R,C]
OPERATOR(CrossEntropyGradient) {
  const int64_t rows = arguments.length(0, 0), classes = arguments.length(0, 1);
  const float *scores = arguments.floats(0), *sums = arguments.floats(2), *dlosses = arguments.floats(3);
  const int32_t *labels = arguments.integers(1);
  float *dscores = arguments.at<float>(4);
  parallel_ranges(rows, rows_at_a_time(classes), [=](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const float *of_row = scores + row * classes;
      float *gradient = dscores + row * classes;
      const float sum = sums[row], factor = dlosses[row];
#pragma omp simd
      for (int64_t i = 0; i < classes; ++i) gradient[i] = exponential(of_row[i] - sum) * factor;
      gradient[labels[row]] -= factor;
    }
  });
}
