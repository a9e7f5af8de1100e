"""Whether the gradients of a step left the range of their type."""

import mindspore as ms
from mindspore import Tensor, amp, nn, ops

from src.device_forms import Operation, target


class OverflowCheck(nn.Cell):
    """Looks whether gradients are finite, by the sum of their squares.

    An Ascend 910A has no infinities: the largest number takes their place, and 0 that of a NaN. What overflowed is in a
    register of the device alone, which `mindspore.amp.all_finite` reads and clears there; elsewhere it looks at the
    numbers. Every rank has a register of its own.

    Args:
        reducer: maps a tuple to its mean over the ranks.
    """

    def __init__(self, reducer: nn.Cell) -> None:
        super().__init__()
        self.reduce: Operation = reducer
        self.may_have_register = target() == "Ascend"

    def begin(self, columns: tuple[Tensor, ...], scale: Tensor) -> tuple[Tensor, ...]:
        """Forget what overflowed before, in an optimizer for example; return the columns, to be taken after that."""
        if not self.may_have_register:
            return columns
        forgotten = amp.all_finite((scale,))
        after = ()
        for column in columns:
            after += (ops.depend(column, forgotten),)
        return after

    def construct(self, squares: Tensor) -> Tensor:
        """Map the sum of the squares of all gradients, float32 [], to whether they overflowed on any rank, bool []."""
        if not self.may_have_register:
            return ops.logical_not(ops.isfinite(squares))
        overflow = ops.logical_not(amp.all_finite((squares,)))
        return self.reduce((overflow.astype(ms.float32),))[0] > 0.0
