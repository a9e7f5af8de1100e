"""Operations from plain operators and products, where the CPU's own kernels are slow or inexact; see `device_forms`."""

import math

import mindspore as ms
from mindspore import Tensor, nn, ops
from mindspore.ops.auto_generate import SigmoidGrad

ROUNDING = 1e-5  # of the mean of a row, relative to it: on CPU it was measured to be 2e-6 at width 1024, 6e-6 at 3072


class BiasAdd(nn.Cell):
    """Add a bias [C] to rows [R,C].

    On CPU the BiasAdd kernel takes half the time of a broadcast Add, and `_column_sums` half to a tenth of BiasAddGrad.
    """

    def __init__(self):
        super().__init__()
        self.bias_add = ops.BiasAdd()

    def construct(self, rows: Tensor, bias: Tensor) -> Tensor:
        """Return rows + bias."""
        return self.bias_add(rows, bias)

    def bprop(self, rows: Tensor, bias: Tensor, out: Tensor, dout: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradients of rows and bias."""
        return dout, _column_sums(dout)


class Normalize(nn.Cell):
    """Layer normalisation of rows [R,C] from plain operators, with its own gradient.

    On CPU, forward and backward, it takes a quarter of the time of the LayerNorm kernels, which use one core.
    """

    def __init__(self, epsilon: float):
        super().__init__()
        self.epsilon = epsilon
        self.row_mean = ops.ReduceMean(keep_dims=True)
        self.bias_add = ops.BiasAdd()
        self.product = ops.MatMul()

    def construct(self, x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        """Return the rows with zero mean and unit variance, times gamma [C], plus beta [C]."""
        centred, inverse = self.standardize(x)
        return self.bias_add(centred * self.product(inverse, gamma.reshape((1, -1))), beta)

    def standardize(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the rows less their means [R,C], and one over their standard deviations [R,1].

        The latter is 0 for a constant row, whose differences from its mean are rounding: divided by the root of a small
        epsilon that would become numbers of up to 1.
        """
        mean = self.row_mean(x, 1)  # [R,1]
        centred = x - spread(mean, x.shape[1])
        variance = self.row_mean(centred * centred, 1)  # [R,1]
        varies = variance > ops.square(ROUNDING * mean)
        return centred, ops.rsqrt(variance + self.epsilon) * varies.astype(ms.float32)

    def bprop(self, x: Tensor, gamma: Tensor, beta: Tensor, out: Tensor, dout: Tensor) -> tuple[Tensor, ...]:
        """Return the gradients of x, gamma and beta."""
        width = x.shape[1]
        centred, inverse = self.standardize(x)  # the compiler takes these from the forward pass
        inverse = spread(inverse, width)
        normal = centred * inverse
        slopes = dout * normal
        dnormal = dout * _stack(gamma, x.shape[0])
        # The row means of dnormal * normal. As a product it needs no further pass over memory.
        tilt = self.product(slopes, (gamma / width).reshape((-1, 1)))  # [R,1]
        dx = (dnormal - spread(self.row_mean(dnormal, 1), width) - normal * spread(tilt, width)) * inverse
        return dx, _column_sums(slopes), _column_sums(dout)


class Softmax(nn.Cell):
    """Softmax over the last axis.

    With its own gradient, which on CPU sums each row as a product with ones: half the time of the whole, as ReduceSum
    is slow.
    """

    def __init__(self):
        super().__init__()
        self.softmax = ops.Softmax(axis=-1)
        self.product = ops.MatMul()

    def construct(self, x: Tensor) -> Tensor:
        """Return exp(x) divided by its sum over the last axis."""
        return self.softmax(x)

    def bprop(self, x: Tensor, out: Tensor, dout: Tensor) -> tuple[Tensor]:
        """Return the gradient of x."""
        width = x.shape[-1]
        rows = (out * dout).reshape((-1, width))
        sums = self.product(rows, ops.ones((width, 1), x.dtype))  # [R,1]
        return (out * (dout - spread(sums, width).reshape(x.shape)),)


def tanh(x: Tensor) -> Tensor:
    """Hyperbolic tangent, as 2 sigmoid(2x) - 1: on a CPU `ops.tanh` is off by up to 1e-4, `ops.sigmoid` by 1e-6."""
    return 2.0 * ops.sigmoid(2.0 * x) - 1.0


class Gelu(nn.Cell):
    """Gaussian error linear unit in the tanh form of BERT (Hendrycks and Gimpel 2016).

    0.5 x (1 + tanh(u)) is written as x sigmoid(2u), which is faster and, see `tanh`, exact. On CPU this takes a tenth
    of the time of the GeLU kernels; its own gradient saves 3 of 16 passes over memory.
    """

    def __init__(self):
        super().__init__()
        self.linear = 2.0 * math.sqrt(2.0 / math.pi)
        self.cubic = self.linear * 0.044715
        self.sigmoid_grad = SigmoidGrad()

    def construct(self, x: Tensor) -> Tensor:
        """Return x times its gate."""
        return x * self.gate(x)

    def gate(self, x: Tensor) -> Tensor:
        """Return sigmoid(2u), about the normal distribution function."""
        return ops.sigmoid(x * (self.linear + self.cubic * ops.square(x)))

    def bprop(self, x: Tensor, out: Tensor, dout: Tensor) -> tuple[Tensor]:
        """Return the gradient of x."""
        gate = self.gate(x)  # the compiler takes it from the forward pass
        if x.dtype == ms.float16:  # whose range x * slope leaves at 68, where the gate has long been 0 or 1
            x = ops.clamp(x, -16.0, 16.0)
        slope = self.linear + 3.0 * self.cubic * ops.square(x)
        return (dout * (gate + self.sigmoid_grad(gate, x * slope)),)


def spread(column: Tensor, width: int) -> Tensor:
    """Repeat a column [R,1] to [R,width], as a product with ones, which is exact.

    On CPU a sum or product that broadcasts was measured to keep about 16 bytes for every element of its output as long
    as the graph lives: nearly half of all memory that training took.
    """
    return ops.MatMul()(column, ops.ones((1, width), column.dtype))


def _stack(row: Tensor, height: int) -> Tensor:
    """Repeat a row [C] to [height,C]; see `spread`."""
    return ops.MatMul()(ops.ones((height, 1), row.dtype), row.reshape((1, -1)))


def _column_sums(rows: Tensor) -> Tensor:
    """Sum rows [R,C] to [C]: as a product with ones, on CPU half the time of ReduceSum."""
    return ops.MatMul()(ops.ones((1, rows.shape[0]), rows.dtype), rows).reshape((-1,))


def squared_norm(x: Tensor) -> Tensor:
    """Return the sum of the squares of x, float32, as float32 [].

    As a product of x with itself: on CPU 0.5 ms per million numbers at a relative error of 1e-6, where a sum over the
    squares takes 4 ms and the L2Loss kernel is 5% wrong on a word embedding.
    """
    row = ops.Reshape()(x, (1, -1))
    return ops.Reshape()(ops.MatMul(transpose_b=True)(row, row), ())
