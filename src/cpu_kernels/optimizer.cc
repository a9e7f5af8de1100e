// Updates of all weights of a network in one call.
#include <cmath>
#include <vector>

#include "operator.h"
#include "rows.h"

using namespace cpu_kernels;

namespace {

constexpr int64_t kPiece = 65536;

struct Piece {
  int weight;
  int64_t begin, end;
};

// Divides `weights` tensors, the first of which is input number `first`, among the threads.
std::vector<Piece> pieces_of(const Arguments &arguments, int first, int weights) {
  std::vector<Piece> pieces;
  for (int weight = 0; weight < weights; ++weight) {
    const int64_t size = arguments.size(first + weight);
    for (int64_t begin = 0; begin < size; begin += kPiece) {
      pieces.push_back({weight, begin, std::min(begin + kPiece, size)});
    }
  }
  return pieces;
}

// What is the same for all weights: learning rate, factor of the gradients, beta1, beta2, eps, corrections of the
// moments.
struct Rule {
  float learning_rate, factor, beta1, beta2, eps, correction1, correction2;

  explicit Rule(const Arguments &arguments)
      : learning_rate(*arguments.floats(0)), factor(*arguments.floats(1)), beta1(arguments.floats(2)[0]),
        beta2(arguments.floats(2)[1]), eps(arguments.floats(2)[2]), correction1(1.0f), correction2(1.0f) {
    if (arguments.floats(2)[3] != 0.0f) {  // the number of this update, counted from 1
      const double update = *arguments.integers(3) + 1.0;
      correction1 = static_cast<float>(1.0 / (1.0 - std::pow(static_cast<double>(beta1), update)));
      correction2 = static_cast<float>(1.0 / (1.0 - std::pow(static_cast<double>(beta2), update)));
    }
  }
};

constexpr int kFirstTensor = 5;  // the inputs before: learning rate, factor, constants, updates made, [n,2] see below

// The tensors that belong to one weight, of lists of `weights` each: weights, first and second moments, gradients.
struct Weight {
  float *value, *first, *second;
  const float *gradient;
  float decay, rate;  // weight decay, factor of the learning rate

  Weight(const Arguments &arguments, int number, int weights)
      : value(arguments.at<float>(kFirstTensor + number)), first(arguments.at<float>(kFirstTensor + weights + number)),
        second(arguments.at<float>(kFirstTensor + 2 * weights + number)),
        gradient(arguments.floats(kFirstTensor + 3 * weights + number)), decay(arguments.floats(4)[2 * number]),
        rate(arguments.floats(4)[2 * number + 1]) {}
};

inline void update_moments(const Rule &rule, const Weight &weight, int64_t i) {
  const float gradient = weight.gradient[i] * rule.factor;
  weight.first[i] += (gradient - weight.first[i]) * (1.0f - rule.beta1);
  weight.second[i] += (gradient * gradient - weight.second[i]) * (1.0f - rule.beta2);
}

inline float direction(const Rule &rule, const Weight &weight, int64_t i) {
  return weight.first[i] * rule.correction1 / (std::sqrt(weight.second[i] * rule.correction2) + rule.eps);
}

int number_of_weights(const Arguments &arguments) { return static_cast<int>(arguments.length(4, 0)); }

// The sums of value(i) over the pieces of each weight, in a fixed order.
template <typename Value>
std::vector<double> sums_of(const std::vector<Piece> &pieces, int weights, const Value &sum_of_piece) {
  std::vector<double> of_pieces(pieces.size()), of_weights(weights, 0.0);
  parallel(pieces.size(), [&](int64_t number) { of_pieces[number] = sum_of_piece(pieces[number]); });
  for (size_t i = 0; i < pieces.size(); ++i) of_weights[pieces[i].weight] += of_pieces[i];
  return of_weights;
}

float sum_of_squares(const float *values, int64_t begin, int64_t end) {
  float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = begin; i < end; ++i) sum += values[i] * values[i];
  return sum;
}

}  // namespace

// gradients; the sum of their squares [1]
OPERATOR(SquaredNorm) {
  const int tensors = arguments.count() - 1;
  const std::vector<double> sums = sums_of(pieces_of(arguments, 0, tensors), tensors, [&](const Piece &piece) {
    return sum_of_squares(arguments.floats(piece.weight), piece.begin, piece.end);
  });
  double total = 0.0;
  for (const double sum : sums) total += sum;
  *arguments.at<float>(tensors) = static_cast<float>(total);
}

// Adam with decoupled weight decay, see `src.optimizer.AdamWeightDecay`. The weights and moments change in place.
//
// learning rate [], factor of the gradients [], beta1, beta2, eps and whether to correct the moments [4], updates made
// int32 [], decay and rate of each weight [n,2], n weights, n first moments, n second moments, n gradients;
// output [1], without a meaning
OPERATOR(Adam) {
  const Rule rule(arguments);
  const int weights = number_of_weights(arguments);
  const std::vector<Piece> pieces = pieces_of(arguments, kFirstTensor, weights);
  parallel(pieces.size(), [&](int64_t number) {
    const Piece &piece = pieces[number];
    const Weight weight(arguments, piece.weight, weights);
    const float rate = rule.learning_rate * weight.rate, kept = 1.0f - rate * weight.decay;
#pragma omp simd
    for (int64_t i = piece.begin; i < piece.end; ++i) {
      update_moments(rule, weight, i);
      weight.value[i] = weight.value[i] * kept - rate * direction(rule, weight, i);
    }
  });
  arguments.at<float>(arguments.count() - 1)[0] = 0.0f;
}

// LAMB, see `src.optimizer.Lamb`; the arguments are those of Adam.
OPERATOR(Lamb) {
  const Rule rule(arguments);
  const int weights = number_of_weights(arguments);
  const std::vector<Piece> pieces = pieces_of(arguments, kFirstTensor, weights);
  const std::vector<double> of_directions = sums_of(pieces, weights, [&](const Piece &piece) {
    const Weight weight(arguments, piece.weight, weights);
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = piece.begin; i < piece.end; ++i) {
      update_moments(rule, weight, i);
      const float step = direction(rule, weight, i) + weight.decay * weight.value[i];
      sum += step * step;
    }
    return sum;
  });
  const std::vector<double> of_weights = sums_of(pieces, weights, [&](const Piece &piece) {
    return sum_of_squares(arguments.floats(kFirstTensor + piece.weight), piece.begin, piece.end);
  });
  parallel(pieces.size(), [&](int64_t number) {
    const Piece &piece = pieces[number];
    const Weight weight(arguments, piece.weight, weights);
    const double norm = std::sqrt(of_weights[piece.weight]), length = std::sqrt(of_directions[piece.weight]);
    const float ratio = norm > 0.0 && length > 0.0 ? static_cast<float>(norm / length) : 1.0f;
    const float rate = rule.learning_rate * weight.rate * ratio;
#pragma omp simd
    for (int64_t i = piece.begin; i < piece.end; ++i) {
      weight.value[i] -= rate * (direction(rule, weight, i) + weight.decay * weight.value[i]);
    }
  });
  arguments.at<float>(arguments.count() - 1)[0] = 0.0f;
}
