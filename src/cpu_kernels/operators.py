"""The operators of the library as MindSpore's primitives: their outputs' shapes and types.

What an operator takes and returns is written beside it in its source. T is the type of the products, float32 or
bfloat16; bfloat16 tensors are passed from operator to operator only, for MindSpore cannot compute with them on CPU.
"""

from collections.abc import Callable, Sequence
from typing import Any

import mindspore as ms
from mindspore import ops

from src.cpu_kernels.library import library

Shapes = tuple[Sequence[int], ...]


def operator(name: str, shapes: Callable[..., Shapes | Sequence[int]], types: Any) -> ops.Custom:
    """The operator called `name`.

    Args:
        name: that of the function in the library.
        shapes: from the shapes of the inputs to those of the outputs.
        types: of the outputs; a single one or a tuple.
    """
    return ops.Custom(f"{library()}:{name}", out_shape=shapes, out_dtype=types, func_type="aot")


def to_bfloat16() -> ops.Custom:
    """Round a weight to bfloat16."""
    return operator("ToBfloat16", _same, ms.bfloat16)


def dense_forward() -> ops.Custom:
    """x W^T + b."""
    return operator("DenseForward", _dense_shape, ms.float32)


def dense_backward() -> ops.Custom:
    """The gradients of x, weight and bias."""
    return operator("DenseBackward", _dense_gradient_shapes, (ms.float32,) * 3)


def cross_entropy() -> ops.Custom:
    """Losses, and the logarithms of the sums of exponentials."""
    return operator("CrossEntropy", _cross_entropy_shapes, (ms.float32,) * 2)


def cross_entropy_gradient() -> ops.Custom:
    """The gradient of the scores."""
    return operator("CrossEntropyGradient", _same, ms.float32)


def add_rows() -> ops.Custom:
    """Add the gradients of looked up rows to that of the table, in place."""
    return operator("AddRows", _number, ms.float32)


def squared_norm() -> ops.Custom:
    """The sum of the squares of all numbers in all inputs, [1]."""
    return operator("SquaredNorm", _number, ms.float32)


def optimizer(name: str) -> ops.Custom:
    """The update of all weights called `name`, Adam or Lamb; it changes weights and moments in place."""
    update = operator(name, _number, ms.float32)
    update.add_prim_attr("side_effect_mem", True)
    return update


def _same(shape: Sequence[int], *_: Sequence[int]) -> Sequence[int]:
    return shape


def _number(*_: Sequence[int]) -> Sequence[int]:
    return (1,)


def _dense_shape(x: Sequence[int], weight: Sequence[int], _: Sequence[int]) -> Sequence[int]:
    return (x[0], weight[0])


def _dense_gradient_shapes(x: Sequence[int], weight: Sequence[int], _: Sequence[int]) -> Shapes:
    return x, weight, (weight[0],)


def _cross_entropy_shapes(_: Sequence[int], labels: Sequence[int]) -> Shapes:
    return labels, (labels[0], 2)


class FeedForwardOperators:
    """Forward and backward of the second half of a block, in one type of products."""

    def __init__(self, compute_type: Any):
        f, t = ms.float32, compute_type
        self.forward = operator("FeedForward", self._shapes, (f, t, f, f))
        self.backward = operator("FeedForwardGradient", self._gradient_shapes, (f,) * 7)

    @staticmethod
    def _shapes(x: Sequence[int], weight1: Sequence[int], *_: Sequence[int]) -> Shapes:
        return x, (x[0], weight1[0]), x, (x[0],)

    @staticmethod
    def _gradient_shapes(dout: Sequence[int], x: Sequence[int], weight1: Sequence[int], weight2: Sequence[int],
                         gamma: Sequence[int], *_: Sequence[int]) -> Shapes:
        return x, weight1, (weight1[0],), weight2, gamma, gamma, gamma


class AttentionOperators:
    """Forward and backward of the first half of a block, in one type of products.

    The table of relative positions has a gradient if the block learns it.
    """

    def __init__(self, num_heads: int, compute_type: Any, learns_table: bool):
        self.num_heads = num_heads
        self.learns_table = learns_table
        f, t = ms.float32, compute_type
        self.forward = operator("Attention", self._shapes, (f, t, t, t, t, t, f, f))
        self.backward = operator("AttentionGradient", self._gradient_shapes, (f,) * (11 + learns_table))

    def _shapes(self, x: Sequence[int], *others: Sequence[int]) -> Shapes:
        batch, length = others[11]
        return x, (batch, self.num_heads, length, length), x, x, x, x, x, (x[0],)

    def _gradient_shapes(self, dout: Sequence[int], x: Sequence[int], weight: Sequence[int], *others: Sequence[int]
                         ) -> Shapes:
        bias, table = (weight[0],), others[4]
        return x, *([weight] * 4), *([bias] * 6), *([table] * self.learns_table)
