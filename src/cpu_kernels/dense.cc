// Products with weights whose inputs and outputs are float32, computed in the type of the weight.
#include "linear.h"
#include "operator.h"

using namespace cpu_kernels;

namespace {

// x [R,I], weight [O,I], bias [O]; y [R,O]
template <typename T>
void forward(const Arguments &arguments) {
  const LinearSizes n = {arguments.length(0, 0), arguments.length(0, 1), arguments.length(1, 0)};
  const Converted<T> x(arguments.floats(0), n.rows * n.inputs);
  linear(n, x.data(), arguments.at<const T>(1), arguments.floats(2), arguments.at<float>(3));
}

// x [R,I], weight [O,I], dy [R,O]; dx [R,I], dweight [O,I], dbias [O]
template <typename T>
void backward(const Arguments &arguments) {
  const LinearSizes n = {arguments.length(0, 0), arguments.length(0, 1), arguments.length(1, 0)};
  const Converted<T> x(arguments.floats(0), n.rows * n.inputs), dy(arguments.floats(2), n.rows * n.outputs);
  linear_input_gradient(n, dy.data(), arguments.at<const T>(1), arguments.at<float>(3));
  linear_weight_gradient(n, dy.data(), x.data(), arguments.at<float>(4));
  sum_columns(arguments.floats(2), n.rows, n.outputs, arguments.at<float>(5));
}

}  // namespace

OPERATOR(DenseForward) { arguments.is_bfloat16(1) ? forward<bfloat16>(arguments) : forward<float>(arguments); }

OPERATOR(DenseBackward) { arguments.is_bfloat16(1) ? backward<bfloat16>(arguments) : backward<float>(arguments); }

// weight float32; the same in bfloat16
OPERATOR(ToBfloat16) { convert(arguments.floats(0), arguments.at<bfloat16>(1), arguments.size(0)); }
