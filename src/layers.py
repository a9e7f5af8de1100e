"""The layers that every network here is built from, in forms that are exact and fast on a CPU as well.

`nn.LayerNorm`, `nn.Dense` and friends are not used because their defaults (epsilon, initialisers) are not BERT's and
because their CPU kernels are slow; parameter names are those of the published checkpoints.
"""

import math
from collections.abc import Callable

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from src.errors import UserError


class Dense(nn.Cell):
    """x W^T + b over the last axis.

    Weight [out_channels, in_channels] and bias [out_channels] start at zero: `initialize_parameters` or a checkpoint
    fills them.
    """

    def __init__(self, in_channels: int, out_channels: int, activation: str | None = None):
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.weight = Parameter(Tensor(np.zeros((out_channels, in_channels), np.float32)), name="weight")
        self.bias = Parameter(Tensor(np.zeros(out_channels, np.float32)), name="bias")
        self.matmul = ops.MatMul(transpose_b=True)
        self.activation = get_activation(activation) if activation else None

    def construct(self, x: Tensor) -> Tensor:
        """Map [..., in_channels] to [..., out_channels]."""
        rows = x.reshape((-1, self.in_channels)) if x.ndim != 2 else x
        y = self.matmul(rows, self.weight.astype(x.dtype)) + self.bias.astype(x.dtype)
        if self.activation is not None:
            y = self.activation(y)
        return y.reshape(x.shape[:-1] + (self.out_channels,)) if x.ndim != 2 else y


class LayerNorm(nn.Cell):
    """Normalise the last axis to zero mean and unit variance, scale by gamma, shift by beta (Ba et al. 2016)."""

    def __init__(self, hidden_size: int, epsilon: float = 1e-12):
        super().__init__()
        self.gamma = Parameter(Tensor(np.ones(hidden_size, np.float32)), name="gamma")
        self.beta = Parameter(Tensor(np.zeros(hidden_size, np.float32)), name="beta")
        self.layer_norm = ops.LayerNorm(begin_norm_axis=-1, begin_params_axis=-1, epsilon=epsilon)

    def construct(self, x: Tensor) -> Tensor:
        """Normalise x [..., hidden_size]; the sums are in float32 whatever the type of x."""
        y, _, _ = self.layer_norm(x.astype(ms.float32), self.gamma, self.beta)
        return y.astype(x.dtype)


class Dropout(nn.Cell):
    """Zero a fraction p of the elements and scale the others by 1/(1-p) while training; nothing in evaluation."""

    def __init__(self, p: float):
        super().__init__()
        self.p = p
        self.dropout = ops.Dropout(keep_prob=1.0 - p)

    def construct(self, x: Tensor) -> Tensor:
        """Return x with elements dropped, of the same shape."""
        if not self.training or self.p == 0.0:
            return x
        return self.dropout(x)[0]


def tanh(x: Tensor) -> Tensor:
    """Hyperbolic tangent, as 2 sigmoid(2x) - 1: on a CPU `ops.tanh` is off by up to 1e-4, `ops.sigmoid` by 1e-6."""
    return 2.0 * ops.sigmoid(2.0 * x) - 1.0


def gelu(x: Tensor) -> Tensor:
    """Gaussian error linear unit in the tanh form of BERT (Hendrycks and Gimpel 2016).

    0.5 x (1 + tanh(u)) is written as x sigmoid(2u), which is faster and, see `tanh`, exact.
    """
    factor = 2.0 * math.sqrt(2.0 / math.pi)
    return x * ops.sigmoid(x * (factor + factor * 0.044715 * x * x))


def gelu_erf(x: Tensor) -> Tensor:
    """Gaussian error linear unit, exact form: x times the normal distribution function."""
    return 0.5 * x * (1.0 + ops.erf(x * math.sqrt(0.5)))


def fast_gelu(x: Tensor) -> Tensor:
    """Gaussian error linear unit in its sigmoid form, x sigmoid(1.702 x)."""
    return x * ops.sigmoid(1.702 * x)


_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": gelu,
    "gelu_erf": gelu_erf,
    "fast_gelu": fast_gelu,
    "relu": ops.relu,
    "tanh": tanh,
}


def get_activation(name: str) -> Callable[[Tensor], Tensor]:
    """Return the activation function called `name`."""
    if name not in _ACTIVATIONS:
        raise UserError(f"hidden_act: unknown activation '{name}'; choose one of {', '.join(sorted(_ACTIVATIONS))}")
    return _ACTIVATIONS[name]
