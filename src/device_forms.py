"""The one place that chooses how an operation is computed on the device that a network is built for.

On a CPU plain operators and products beat several fused kernels, some of which are inexact there; on Ascend and GPU the
fused kernels win, and products of float32 are slow or, on the Ascend 910A, not there at all.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

import mindspore as ms
from mindspore import Tensor, nn, ops
from mindspore.ops.auto_generate import DropoutDoMaskExt, DropoutGenMaskExt

from src import cpu_forms

Operation = Callable[..., Any]  # a function, a primitive or a cell; returns a Tensor

_TARGET: ContextVar[str] = ContextVar("target", default="")


@dataclass(frozen=True)
class DeviceForms:
    """Operations that differ between devices; the cells are made by calling them.

    Attributes:
        bias_add: rows [R,C] and a bias [C] to their sum.
        normalize: of an epsilon; rows [R,C], gamma [C] and beta [C], float32, to the normalised rows.
        softmax: over the last axis.
        gelu: the tanh form.
        tanh: a function.
        squared_norm: a function; float32 of any shape to float32 [].
        drop: of a fraction; x and a key, int32 [1,3], to x with that fraction of its elements dropped and the others
            scaled; None where no kernel takes a key, and `src.dropout` puts masks together.
        tiles_mask: whether the mask of attention is repeated for every head and query, not broadcast.
    """

    bias_add: Callable[[], Operation]
    normalize: Callable[[float], Operation]
    softmax: Callable[[], Operation]
    gelu: Callable[[], Operation]
    tanh: Operation
    squared_norm: Operation
    drop: Callable[[float], Operation] | None
    tiles_mask: bool


class FusedNormalize(nn.Cell):
    """Layer normalisation of rows by one kernel."""

    def __init__(self, epsilon: float) -> None:
        super().__init__()
        self.layer_norm: Operation = ops.LayerNorm(epsilon=epsilon)

    def construct(self, rows: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        """Return the rows [R,C] with zero mean and unit variance, times gamma [C], plus beta [C]."""
        return self.layer_norm(rows, gamma, beta)[0]


class KeyedDropout(nn.Cell):
    """Dropout by Ascend's kernels, which draw a mask of bits from a seed and an offset.

    `ops.Dropout` would draw from a state of its own, which no checkpoint holds.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.bitwise_and: Operation = ops.BitwiseAnd()
        self.draw = DropoutGenMaskExt()
        self.drop = DropByBits(p)

    def construct(self, x: Tensor, key: Tensor) -> Tensor:
        """Return x with elements dropped; the key, int32 [1,3], decides which."""
        natural = self.bitwise_and(key.reshape((3,)), 0x7FFFFFFF).astype(ms.int64)
        bits = self.draw(x.shape, self.p, natural[0], natural[1], x.dtype)
        return self.drop(x, ops.stop_gradient(bits))


class DropByBits(nn.Cell):
    """Drop what a mask of bits says, with the gradient that MindSpore 2.10 lacks for this operator."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.drop = DropoutDoMaskExt()

    def construct(self, x: Tensor, bits: Tensor) -> Tensor:
        """Return zeros, and the other elements of x times 1/(1-p)."""
        return self.drop(x, bits, self.p)

    def bprop(self, x: Tensor, bits: Tensor, out: Tensor, dout: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradients of x and, without meaning, of the bits."""
        return self.drop(dout, bits, self.p), ops.zeros_like(bits)


def sum_of_squares(x: Tensor) -> Tensor:
    """Return the sum of the squares of x as float32 [], without a product of matrices."""
    return ops.square(x.astype(ms.float32)).sum()


CPU = DeviceForms(cpu_forms.BiasAdd, cpu_forms.Normalize, cpu_forms.Softmax, cpu_forms.Gelu, cpu_forms.tanh,
                  cpu_forms.squared_norm, drop=None, tiles_mask=True)
GPU = DeviceForms(ops.BiasAdd, FusedNormalize, lambda: ops.Softmax(axis=-1), ops.GeLU, ops.tanh, sum_of_squares,
                  drop=None, tiles_mask=False)
ASCEND = replace(GPU, drop=KeyedDropout)
_FORMS = {"CPU": CPU, "GPU": GPU, "Ascend": ASCEND}


def target() -> str:
    """The device that networks are built for: CPU, Ascend or GPU."""
    return _TARGET.get() or ms.get_context("device_target")


@contextmanager
def built_for(device_target: str) -> Iterator[None]:
    """Build networks for another device than this process computes on, to export or to inspect them."""
    token = _TARGET.set(device_target)
    try:
        yield
    finally:
        _TARGET.reset(token)


def on_cpu() -> bool:
    """Whether networks are built for a CPU."""
    return target() == "CPU"


def device_forms() -> DeviceForms:
    """The forms for the device that networks are built for."""
    return _FORMS[target()]
