// Cross entropy of rows of scores, without storing the probabilities of all classes.
#include <cmath>

#include "maths.h"
#include "operator.h"
#include "rows.h"

using namespace cpu_kernels;

namespace {

// log(sum(exp(scores))) in two parts, whose sum would lose digits.
struct LogOfSum {
  float largest, rest;
};

LogOfSum log_of_sum(const float *scores, int64_t size) {
  float largest = -INFINITY, sum = 0.0f;
#pragma omp simd reduction(max : largest)
  for (int64_t i = 0; i < size; ++i) largest = largest < scores[i] ? scores[i] : largest;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < size; ++i) sum += exponential(scores[i] - largest);
  return {largest, std::log(sum)};
}

}  // namespace

// scores [R,C], labels int32 [R]; losses [R], logarithms of the sums [R,2]
OPERATOR(CrossEntropy) {
  const int64_t rows = arguments.length(0, 0), classes = arguments.length(0, 1);
  const float *scores = arguments.floats(0);
  const int32_t *labels = arguments.integers(1);
  float *losses = arguments.at<float>(2);
  LogOfSum *sums = arguments.at<LogOfSum>(3);
  check_ids(labels, rows, classes, "label");
  parallel_ranges(rows, rows_at_a_time(classes), [=](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      sums[row] = log_of_sum(scores + row * classes, classes);
      losses[row] = sums[row].largest - scores[row * classes + labels[row]] + sums[row].rest;
    }
  });
}

// scores [R,C], labels int32 [R], logarithms of the sums [R,2], dlosses [R]; dscores [R,C]
OPERATOR(CrossEntropyGradient) {
  const int64_t rows = arguments.length(0, 0), classes = arguments.length(0, 1);
  const float *scores = arguments.floats(0), *dlosses = arguments.floats(3);
  const LogOfSum *sums = arguments.at<const LogOfSum>(2);
  const int32_t *labels = arguments.integers(1);
  float *dscores = arguments.at<float>(4);
  parallel_ranges(rows, rows_at_a_time(classes), [=](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const float *of_row = scores + row * classes;
      float *gradient = dscores + row * classes;
      const float largest = sums[row].largest, rest = sums[row].rest, factor = dlosses[row];
#pragma omp simd
      for (int64_t i = 0; i < classes; ++i) gradient[i] = exponential(of_row[i] - largest - rest) * factor;
      gradient[labels[row]] -= factor;
    }
  });
}
