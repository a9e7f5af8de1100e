"""The layers that every network here is built from, in forms that are exact and fast on a CPU as well.

`nn.LayerNorm`, `nn.Dense` and friends are not used because their defaults (epsilon, initialisers) are not BERT's and
because their CPU kernels are slow; parameter names are those of the published checkpoints.
"""

import math
from collections.abc import Callable
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops
from mindspore.ops.auto_generate import SigmoidGrad

from src.cpu_kernels.library import bfloat16_misfit, usable
from src.errors import UserError
from src.initialization import random_weight

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


def bias_add() -> nn.Cell | ops.BiasAdd:
    """The form of the operator that is fast on the device."""
    return BiasAdd() if on_cpu() else ops.BiasAdd()


class Dense(nn.Cell):
    """x W^T + b over the last axis.

    The weight [out_channels, in_channels] starts from a truncated normal distribution with the standard deviation
    `initializer_range` (see `src.initialization`), the bias [out_channels] at zero.
    """

    def __init__(self, in_channels: int, out_channels: int, activation: str | None = None,
                 initializer_range: float = 0.02, compute_type: Any = ms.float32):
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.weight = Parameter(random_weight((out_channels, in_channels), initializer_range), name="weight")
        self.bias = Parameter(Tensor(np.zeros(out_channels, np.float32)), name="bias")
        self.matmul = ops.MatMul(transpose_b=True)
        self.bias_add = bias_add()
        self.activation = get_activation(activation) if activation else None
        self.uses_kernel = uses_cpu_kernels(compute_type)
        if self.uses_kernel:
            self.kernel = cpu_cells().DenseProduct(compute_type)

    def construct(self, x: Tensor) -> Tensor:
        """Map [..., in_channels] to [..., out_channels]."""
        rows = x.reshape((-1, self.in_channels)) if x.ndim != 2 else x
        if self.uses_kernel:
            y = self.kernel(rows, self.weight, self.bias)
        else:
            y = self.bias_add(self.matmul(rows, self.weight.astype(x.dtype)), self.bias.astype(x.dtype))
        if self.activation is not None:
            y = self.activation(y)
        return y.reshape(x.shape[:-1] + (self.out_channels,)) if x.ndim != 2 else y


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


class LayerNorm(nn.Cell):
    """Normalise the last axis to zero mean and unit variance, scale by gamma, shift by beta (Ba et al. 2016)."""

    def __init__(self, hidden_size: int, epsilon: float = 1e-12):
        super().__init__()
        self.hidden_size = hidden_size
        self.gamma = Parameter(Tensor(np.ones(hidden_size, np.float32)), name="gamma")
        self.beta = Parameter(Tensor(np.zeros(hidden_size, np.float32)), name="beta")
        self.on_cpu = on_cpu()
        self.normalize = Normalize(epsilon) if self.on_cpu else ops.LayerNorm(epsilon=epsilon)

    def construct(self, x: Tensor) -> Tensor:
        """Normalise x [..., hidden_size]; the sums are in float32 whatever the type of x."""
        rows = x.astype(ms.float32).reshape((-1, self.hidden_size))
        y = self.normalize(rows, self.gamma, self.beta)
        return (y if self.on_cpu else y[0]).astype(x.dtype).reshape(x.shape)


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


def gelu_erf(x: Tensor) -> Tensor:
    """Gaussian error linear unit, exact form: x times the normal distribution function."""
    return 0.5 * x * (1.0 + ops.erf(x * math.sqrt(0.5)))


def fast_gelu(x: Tensor) -> Tensor:
    """Gaussian error linear unit in its sigmoid form, x sigmoid(1.702 x)."""
    return x * ops.sigmoid(1.702 * x)


_ACTIVATIONS = {
    "gelu": lambda: Gelu() if on_cpu() else ops.GeLU(),
    "gelu_erf": lambda: gelu_erf,
    "fast_gelu": lambda: fast_gelu,
    "relu": lambda: ops.relu,
    "tanh": lambda: tanh,
}


def get_activation(name: str) -> Callable[[Tensor], Tensor]:
    """Return the activation called `name`, a function or a cell."""
    if name not in _ACTIVATIONS:
        raise UserError(f"hidden_act: unknown activation '{name}'; choose one of {', '.join(sorted(_ACTIVATIONS))}")
    return _ACTIVATIONS[name]()


def on_cpu() -> bool:
    """Whether operators run on a CPU, where plain ones beat several fused kernels; elsewhere the fused ones win."""
    return ms.get_context("device_target") == "CPU"


def uses_cpu_kernels(compute_type: Any = ms.float32) -> bool:
    """Whether a network that is built now gets the operators of `src.cpu_kernels`.

    Not within `src.cpu_kernels.library.plain_operators`, where networks for export are built.
    """
    return on_cpu() and compute_type in (ms.float32, ms.bfloat16) and usable()


def cpu_cells() -> Any:
    """Return the module `src.cpu_kernels.cells`, which needs the library."""
    from src.cpu_kernels import cells

    return cells


def tensor_type(compute_type: Any) -> Any:
    """Return the type of the tensors that go into products: on CPU it is the operators that round to bfloat16.

    Raises:
        UserError: bfloat16 on a CPU without these operators.
    """
    if compute_type != ms.bfloat16 or not on_cpu():
        return compute_type
    if not uses_cpu_kernels(compute_type):
        raise UserError(f"compute_type: bfloat16 cannot be used, {bfloat16_misfit()}; give float32")
    return ms.float32


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
