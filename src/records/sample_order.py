"""The order in which training takes its samples: computed from (seed, epoch), so any position can be found again.

Reading plays no part here. A step takes G rows, the global batch of all ranks. Rows that do not fill the last step
of an epoch open the first step of the next one, so nothing is dropped and nothing is repeated: `step` steps have taken
exactly `step * G` rows, and epoch e is complete after `(e + 1) * num_rows // G` steps.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Step:
    """One optimizer step: which rows it takes and how long the longest of them may be."""

    rows: np.ndarray  # [G], numbers of records in file order
    bucket: int | None  # sequence length that all rows fit into; None: no buckets


class SampleOrder:
    """Steps of a training run over `num_rows` records, `global_batch` rows each.

    Every epoch takes every record once, permuted by (seed, epoch) or in file order. With buckets, rows of similar
    length share a step: each bucket's rows are taken in the epoch's order and a step is due when its last row is
    reached; at the end of the epoch the rows that do not fill a step join the next larger bucket, and those of the
    largest bucket open its first step of the next epoch. Where that bucket has too few rows of its own to complete
    this step, a step's worth of a smaller one joins them: no row waits for more than one epoch, of which its step would
    then take several copies.

    The order does not depend on the number of ranks, and of the number of rows per step only through G.

    Args:
        num_rows: records in the data set, at least 1.
        global_batch: rows of one step over all ranks and accumulated batches, at least 1.
        seed: any non-negative integer.
        shuffle: False takes the records in file order.
        buckets: ascending sequence lengths; the last is the length of the records. Empty: no bucketing.
        lengths: used length of every record [num_rows]; needed with buckets.
    """

    def __init__(self, num_rows: int, global_batch: int, seed: int, shuffle: bool = True,
                 buckets: Sequence[int] = (), lengths: np.ndarray | None = None) -> None:
        self.num_rows = num_rows
        self.global_batch = global_batch
        self._seed = seed
        self._shuffle = shuffle
        self._buckets = tuple(buckets)
        if self._buckets:
            if lengths is None:
                raise ValueError("buckets need the lengths of the records")
            self._bucket_of = np.searchsorted(self._buckets, lengths).astype(np.uint8)  # [num_rows]

    def steps_through(self, epoch: int) -> int:
        """Number of steps that are complete when epoch `epoch` (from 0) ends."""
        return (epoch + 1) * self.num_rows // self.global_batch

    def epoch_of(self, step: int) -> int:
        """The epoch (from 0) whose records complete step `step` (from 0)."""
        return ((step + 1) * self.global_batch - 1) // self.num_rows

    def steps(self, start: int, stop: int) -> Iterator[Step]:
        """Steps `start` to `stop - 1`; the cost of starting anywhere is that of one or two permutations."""
        while start < stop:
            epoch = self.epoch_of(start)
            first = self.steps_through(epoch - 1)
            for step in self._epoch_steps(epoch, start - first, min(stop - first, self.steps_through(epoch) - first)):
                yield step
                start += 1

    def _epoch_steps(self, epoch: int, start: int, stop: int) -> Iterator[Step]:
        """Steps `start` to `stop - 1`, counted from the first that epoch `epoch` completes."""
        G = self.global_batch
        queues = self._queues(epoch)
        queues[-1] = np.concatenate([self._carried_into(epoch), queues[-1]])
        blocks = [queue[:len(queue) // G * G].reshape(-1, G) for queue in queues]
        if not self._buckets:
            for rows in blocks[0][start:stop]:
                yield Step(rows, None)
            return
        place = np.empty(self.num_rows, np.int64)  # of each row in the epoch's order
        place[self._permutation(epoch)] = np.arange(self.num_rows)
        due = place[np.concatenate([block[:, -1] for block in blocks])]  # a step's last row is taken at this place
        bucket = np.repeat(np.arange(len(blocks)), [len(block) for block in blocks])
        number = np.concatenate([np.arange(len(block)) for block in blocks])
        for i in np.argsort(due)[start:stop]:
            yield Step(blocks[bucket[i]][number[i]], self._buckets[bucket[i]])

    def _permutation(self, epoch: int) -> np.ndarray:
        dtype = np.uint32 if self.num_rows < 1 << 32 else np.uint64
        order = np.arange(self.num_rows, dtype=dtype)
        if self._shuffle:
            np.random.default_rng((self._seed, epoch)).shuffle(order)
        return order

    def _queues(self, epoch: int) -> list[np.ndarray]:
        """Each bucket's own rows in the epoch's order, then what the smaller buckets left over or gave away."""
        order = self._permutation(epoch)
        if not self._buckets:
            return [order]
        bucket_of = self._bucket_of[order]
        queues = [order[bucket_of == bucket] for bucket in range(len(self._buckets))]
        for smaller in range(len(queues) - 1):
            full = len(queues[smaller]) // self.global_batch * self.global_batch
            queues[smaller], left = np.split(queues[smaller], [full])
            queues[smaller + 1] = np.concatenate([queues[smaller + 1], left])
        carried = epoch * self.num_rows % self.global_batch
        with_steps = [smaller for smaller, queue in enumerate(queues[:-1]) if len(queue)]
        if with_steps and 0 < carried < self.global_batch - len(queues[-1]):
            nearest = with_steps[-1]
            queues[nearest], last_step = np.split(queues[nearest], [-self.global_batch])
            queues[-1] = np.concatenate([queues[-1], last_step])
        return queues

    def _carried_into(self, epoch: int) -> np.ndarray:
        """Rows of earlier epochs that did not fill a step."""
        pieces, missing = [], epoch * self.num_rows % self.global_batch
        while missing:  # more than once only when an epoch is smaller than a step
            epoch -= 1
            pieces.append(self._queues(epoch)[-1][-missing:])
            missing -= len(pieces[-1])
        return np.concatenate([*reversed(pieces), np.empty(0, np.uint32)])


def rank_share(rows: np.ndarray, accumulation_steps: int, rank: int, rank_size: int) -> np.ndarray:
    """The part of a step's rows [G] that `rank` takes, [G / rank_size].

    Rows are dealt out within each accumulated batch, so the ranks together see in each of them what a single rank
    would see.
    """
    return rows.reshape(accumulation_steps, rank_size, -1)[:, rank].ravel()
