"""What the ranks of a data-parallel run tell each other: gradients inside the graph, NumPy arrays outside of it.

All ranks must call the functions in the same order. In a run of one process (`rank_size` 1) they communicate nothing.
AllGather and Broadcast are all they use: of MindSpore's collectives on CPU these are the ones that move int32, bit by
bit.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops


class MeanOfGradients(nn.Cell):
    """The mean over the ranks of each tensor of a tuple.

    On Ascend and GPU MindSpore joins these reductions to larger ones. On CPU it must not: its kernel reduces one part
    and leaves the others at zero. To concatenate gradients there took as long as to send each by itself, or longer.
    """

    def __init__(self, rank_size: int):
        super().__init__()
        self.share = 1.0 / rank_size
        self.sum = ops.AllReduce()
        if ms.get_context("device_target") != "CPU":
            self.sum.add_prim_attr("fusion", 1)  # those with the same number may be joined
        self.hyper_map = ops.HyperMap()

    def construct(self, gradients: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Map each rank's float32 gradients to their means, of the same shapes."""
        return self.hyper_map(self.mean, gradients)

    def mean(self, gradient: Tensor) -> Tensor:
        """Return the mean of one gradient."""
        return self.sum(gradient * self.share)


def gather(arrays: Sequence[np.ndarray], rank_size: int) -> list[list[np.ndarray]]:
    """Collect the arrays of every rank, in the order of the ranks, on every rank.

    Args:
        arrays: int32 or float32, [n, ...] with the same n; every rank gives as many, of the same types and of the same
            shapes but for n.
        rank_size: number of ranks.

    Returns:
        The arrays of each rank, unchanged to the last bit.
    """
    if rank_size == 1:
        return [list(arrays)]
    rows = len(arrays[0])
    packed = np.concatenate([_bits(array).reshape(rows, -1) if rows else np.empty((0, _width(array)), np.int32)
                             for array in arrays], axis=1)  # [n,W]
    counts = _all_gather(np.array([rows], np.int32))
    if not counts.any():
        return [list(arrays)] * rank_size
    filled = np.zeros((counts.max(), packed.shape[1]), np.int32)  # AllGather wants the same size from all
    filled[:rows] = packed
    everything = _all_gather(filled).reshape(rank_size, *filled.shape)
    ends = np.cumsum([_width(array) for array in arrays])[:-1]
    return [[part.copy().view(array.dtype).reshape(count, *array.shape[1:])
             for part, array in zip(np.split(of_rank[:count], ends, axis=1), arrays, strict=True)]
            for of_rank, count in zip(everything, counts, strict=True)]


def any_rank(flag: bool, rank_size: int) -> bool:
    """Whether `flag` is true on any rank; at the same time a point that no rank passes before all have reached it."""
    return flag if rank_size == 1 else bool(_all_gather(np.array([flag], np.int32)).any())


def from_first_rank(value: Any, rank: int, rank_size: int) -> Any:  # noqa: ANN401 - anything JSON can hold
    """Return rank 0's `value`, anything that JSON can hold, on every rank."""
    if rank_size == 1:
        return value
    text = json.dumps(value).encode() if rank == 0 else b""
    first, *_ = gather([np.frombuffer(text, np.uint8).astype(np.int32)], rank_size)
    return json.loads(first[0].astype(np.uint8).tobytes())


def copy_from_first_rank(parameters: Iterable[Parameter], rank: int, rank_size: int) -> None:
    """Give the parameters, which every rank lists in the same order, rank 0's values."""
    if rank_size == 1:
        return
    broadcast = ops.Broadcast(0)
    for parameter in parameters:
        received = broadcast((Tensor(parameter.asnumpy()),))[0]
        if rank:
            parameter.set_data(Tensor(received.asnumpy()))
    any_rank(False, rank_size)  # on CPU the sender must not end before the last value has arrived


def _all_gather(values: np.ndarray) -> np.ndarray:
    return ops.AllGather()(Tensor(values)).asnumpy()


def _width(array: np.ndarray) -> int:
    return int(np.prod(array.shape[1:], dtype=np.int64))


def _bits(array: np.ndarray) -> np.ndarray:
    if array.dtype not in (np.int32, np.float32):
        raise TypeError(f"only int32 and float32 can be gathered, found {array.dtype}")
    return np.ascontiguousarray(array).view(np.int32)
