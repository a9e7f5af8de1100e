"""The layers that every network here is built from.

`nn.LayerNorm`, `nn.Dense` and friends are not used because their defaults (epsilon, initialisers) are not BERT's;
parameter names are those of the published checkpoints. How each operation is computed depends on the device, see
`src.device_forms`.
"""

import math
from collections.abc import Callable
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from src.cpu_kernels.library import bfloat16_misfit, usable
from src.device_forms import device_forms, on_cpu
from src.errors import UserError
from src.initialization import random_weight


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
        self.bias_add = device_forms().bias_add()
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


class LayerNorm(nn.Cell):
    """Normalise the last axis to zero mean and unit variance, scale by gamma, shift by beta (Ba et al. 2016)."""

    def __init__(self, hidden_size: int, epsilon: float = 1e-12):
        super().__init__()
        self.hidden_size = hidden_size
        self.gamma = Parameter(Tensor(np.ones(hidden_size, np.float32)), name="gamma")
        self.beta = Parameter(Tensor(np.zeros(hidden_size, np.float32)), name="beta")
        self.normalize = device_forms().normalize(epsilon)

    def construct(self, x: Tensor) -> Tensor:
        """Normalise x [..., hidden_size]; the sums are in float32 whatever the type of x."""
        rows = x.astype(ms.float32).reshape((-1, self.hidden_size))
        return self.normalize(rows, self.gamma, self.beta).astype(x.dtype).reshape(x.shape)


def gelu_erf(x: Tensor) -> Tensor:
    """Gaussian error linear unit, exact form: x times the normal distribution function."""
    return 0.5 * x * (1.0 + ops.erf(x * math.sqrt(0.5)))


def fast_gelu(x: Tensor) -> Tensor:
    """Gaussian error linear unit in its sigmoid form, x sigmoid(1.702 x)."""
    return x * ops.sigmoid(1.702 * x)


_ACTIVATIONS = {
    "gelu": lambda: device_forms().gelu(),
    "gelu_erf": lambda: gelu_erf,
    "fast_gelu": lambda: fast_gelu,
    "relu": lambda: ops.relu,
    "tanh": lambda: device_forms().tanh,
}


def get_activation(name: str) -> Callable[[Tensor], Tensor]:
    """Return the activation called `name`, a function or a cell."""
    if name not in _ACTIVATIONS:
        raise UserError(f"hidden_act: unknown activation '{name}'; choose one of {', '.join(sorted(_ACTIVATIONS))}")
    return _ACTIVATIONS[name]()


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
