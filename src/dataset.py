"""What training and evaluation take their batches from.

`src/records/sample_order.py` decides which records a step takes, `src/records/reader.py` fetches them; this module
deals them out to the ranks, checks them, trims them to their bucket, and hands them to MindSpore.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from typing import NamedTuple

import mindspore.dataset as ds
import numpy as np

from src.errors import UserError
from src.records.columns import SEQUENCE_COLUMNS, Limit, pretrain_columns
from src.records.length_grouping import choose_lengths, fitting_length, lengths_in_use
from src.records.reader import RecordSource, open_records
from src.records.sample_order import SampleOrder, Step, rank_share

__all__ = ["PRETRAIN_TYPES", "BatchStream", "Bucketing", "EvaluationBatch", "EvaluationBatches", "create_dataset",
           "open_records", "user_errors_of"]

_ROWS_READ_AT_ONCE = 1024  # at 1.5 KB a row (128 tokens) 2 MB of memory
_STEPS_IN_A_SAMPLE = 2000  # enough to know how long the longest record of a step usually is

# Columns of pre-training in the order in which the network takes them: {name: dtype}.
PRETRAIN_TYPES = {name: dtype for name, (dtype, _) in pretrain_columns(1, 1).items()}



def _check(records: RecordSource, rows: np.ndarray, batch: dict[str, np.ndarray], limits: Mapping[str, Limit]) -> None:
    for name, values in batch.items():
        limit = limits.get(name)
        if limit and (values.min() < 0 or values.max() >= limit.bound):
            row, place = np.argwhere((values < 0) | (values >= limit.bound))[0]
            raise UserError(f"{records.where(int(rows[row]))}: {name} holds {values[row, place]}, expected 0 to "
                            f"{limit.bound - 1} ({limit.reason}); were the records made with another vocabulary or "
                            f"length?")
        if values.dtype == np.float32 and not np.isfinite(values).all():
            row, place = np.argwhere(~np.isfinite(values))[0]
            raise UserError(f"{records.where(int(rows[row]))}: {name} holds {values[row, place]}, expected a finite "
                            f"number; make the file anew")


@dataclass(frozen=True)
class Bucketing:
    """How a stream deals with sequences of different lengths.

    Args:
        bucket_list: ascending sequence lengths, the last one the length of the records. Then a step's rows are
            of similar length and its sequence columns are cut to the bucket's length.
        length_grouping: without a `bucket_list`: "trim" cuts each step's sequence columns to the shortest of some
            lengths that holds its longest record, which changes no result; "group" chooses a `bucket_list` by itself;
            "none" computes all padding.
    """

    bucket_list: Sequence[int] = ()
    length_grouping: str = "none"

    @property
    def needs_lengths(self) -> bool:
        """Whether the lengths of all records must be known, for which input_mask is read once."""
        return bool(self.bucket_list) or self.length_grouping != "none"

    def buckets(self, records: RecordSource, lengths: np.ndarray, total_steps: int) -> Sequence[int]:
        """The lengths by which records are grouped; none for records in any order.

        Raises:
            UserError: a bad `bucket_list`.
        """
        if self.bucket_list:
            _check_bucket_list(self.bucket_list, records)
        elif self.length_grouping == "group":
            return choose_lengths(lengths, _full_length(records), total_steps)
        return self.bucket_list

    def trim_lengths(self, order: SampleOrder, records: RecordSource, lengths: np.ndarray, total_steps: int
                     ) -> Sequence[int]:
        """The lengths to which steps of records in any order are cut; none where they are not cut."""
        if self.bucket_list or self.length_grouping != "trim":
            return ()
        longest = [lengths[step.rows].max() for step in order.steps(0, min(total_steps, _STEPS_IN_A_SAMPLE))]
        longest.append(lengths.max())  # any step may meet the longest record
        return choose_lengths(np.array(longest), _full_length(records), total_steps)


class BatchStream:
    """The batches of training steps `start_step` to `total_steps - 1`, one tuple of arrays a step.

    Each array is [accumulation_steps * batch_size, length], int32 or float32, in the order of `records.columns`; the
    rows of the accumulated batches stand one after another. The ranks' parts of a step are disjoint and together the
    same rows whatever the number of ranks, as long as `batch_size * rank_size` is the same.

    A stream can be iterated any number of times; each time it begins at `start_step`.

    Args:
        records: where the rows come from.
        batch_size: rows of this rank in one accumulated batch.
        total_steps: optimizer steps of the whole training.
        seed: decides the order, together with the epoch.
        start_step: steps that were done before.
        shuffle: False takes the records in file order in every epoch.
        accumulation_steps: batches in a step.
        bucketing: what becomes of sequences of different lengths.
        rank, rank_size: this process and the number of processes.
        limits: bounds that every value of a column is compared with.

    Raises:
        UserError: a bad `bucket_list`; while iterating: a record breaks a limit or cannot be read.
    """

    def __init__(self, records: RecordSource, batch_size: int, total_steps: int, *, seed: int, start_step: int = 0,
                 shuffle: bool = True, accumulation_steps: int = 1, bucketing: Bucketing | None = None, rank: int = 0,
                 rank_size: int = 1, limits: Mapping[str, Limit] | None = None) -> None:
        self.records = records
        self.start_step = start_step
        self.total_steps = total_steps
        self.error: UserError | None = None  # what ended an iteration
        self.num_good = 0  # batches that it yielded before
        self._accumulation_steps = accumulation_steps
        self._rank, self._rank_size = rank, rank_size
        self._limits = dict(limits or {})
        global_batch = accumulation_steps * batch_size * rank_size
        bucketing = bucketing or Bucketing()
        self._row_lengths = used_lengths(records) if bucketing.needs_lengths else np.empty(0, np.int64)
        buckets = bucketing.buckets(records, self._row_lengths, total_steps)
        self.order = SampleOrder(records.num_rows, global_batch, seed, shuffle, buckets, self._row_lengths)
        self._trim_lengths = bucketing.trim_lengths(self.order, records, self._row_lengths, total_steps)

    def __len__(self) -> int:
        """Steps that are left."""
        return max(0, self.total_steps - self.start_step)

    def part(self, first: int, last: int) -> "BatchStream":
        """The steps from `first` up to `last`, which is not among them, counted from 0 at the start of training."""
        part = copy(self)
        part.start_step, part.total_steps = first, last
        return part

    def __iter__(self) -> Iterator[tuple[np.ndarray, ...]]:
        """Yield the batch of each step."""
        self.error, self.num_good = None, 0
        try:
            for steps in self._groups():
                everything = self.records.read(np.concatenate([step.rows for step in steps]))
                begin = 0
                for step in steps:
                    end = begin + len(step.rows)
                    batch = self._finish(step, {name: values[begin:end] for name, values in everything.items()})
                    self.num_good += 1
                    yield batch
                    begin = end
        except UserError as error:
            self.error = error
            raise

    def check(self, number: int) -> None:
        """Raise what is wrong with batch `number` of the running iteration, counted from 1, if anything is."""
        if self.error is not None and number > self.num_good:
            raise self.error

    def _groups(self) -> Iterator[list[Step]]:
        """This rank's part of several steps at a time: a read has a price for each file that it touches."""
        at_once = min(max(_ROWS_READ_AT_ONCE, 16 * len(self.records.files)), 16 * _ROWS_READ_AT_ONCE)
        group, count = [], 0
        for step in self.order.steps(self.start_step, self.total_steps):
            rows = rank_share(step.rows, self._accumulation_steps, self._rank, self._rank_size)
            # The same length on every rank, as it is that of the whole step's longest record.
            bucket = fitting_length(int(self._row_lengths[step.rows].max()), self._trim_lengths) \
                if self._trim_lengths else step.bucket
            group.append(Step(rows, bucket))
            count += len(rows)
            if count >= at_once:
                yield group
                group, count = [], 0
        if group:
            yield group

    def _finish(self, step: Step, batch: dict[str, np.ndarray]) -> tuple[np.ndarray, ...]:
        limits = self._limits
        if step.bucket is not None:
            _cut(batch, step.bucket, self.records)
            if "masked_lm_positions" in limits:
                limits = {**limits, "masked_lm_positions": Limit(step.bucket, "input_mask ends before it")}
        _check(self.records, step.rows, batch, limits)
        return tuple(batch.values())


class EvaluationBatch(NamedTuple):
    """Arrays [batch_size, length] in the order of the columns; the first `len(rows)` rows count."""

    columns: tuple[np.ndarray, ...]
    rows: np.ndarray  # record numbers of the rows that count, from 0


class EvaluationBatches:
    """Every record once, in batches of `batch_size` rows: yields an `EvaluationBatch` each.

    A batch that records do not fill is filled up with copies of one, which do not count: one shape means one compiled
    graph. All ranks have the same number of batches (so that they may communicate in each); towards the end a rank may
    be left with a batch of which nothing counts.

    Args:
        records: where the rows come from.
        batch_size: rows of a batch.
        group_by_length: batches hold records of similar length and their sequence columns are cut to it, which spares
            the padding; otherwise records come in file order at full length.
        rank, rank_size: this process and the number of processes.
        limits: bounds that every value of a column is compared with.

    Raises:
        UserError: while iterating: a record breaks a limit or cannot be read.
    """

    def __init__(self, records: RecordSource, batch_size: int, *, group_by_length: bool = False, rank: int = 0,
                 rank_size: int = 1, limits: Mapping[str, Limit] | None = None) -> None:
        self.records = records
        self._batch_size = batch_size
        self._rank, self.rank_size = rank, rank_size
        self._limits = dict(limits or {})
        groups = [(np.arange(records.num_rows), records.seq_length)]
        if group_by_length:
            lengths = used_lengths(records)
            chosen = choose_lengths(lengths, _full_length(records), -(-records.num_rows // batch_size))
            group_of = np.searchsorted(chosen, lengths)
            groups = [(np.flatnonzero(group_of == i), length) for i, length in enumerate(chosen)]
        at_once = batch_size * rank_size
        self._batches = [(rows[first:first + at_once], length) for rows, length in groups
                         for first in range(0, len(rows), at_once)]

    def __len__(self) -> int:
        """Number of batches."""
        return len(self._batches)

    def __iter__(self) -> Iterator[EvaluationBatch]:
        """Yield each batch with the numbers of the rows that count."""
        for of_all_ranks, length in self._batches:
            rows = self._share(of_all_ranks)
            filled = np.resize(rows, self._batch_size) if len(rows) else np.full(self._batch_size, of_all_ranks[-1])
            batch = self.records.read(filled)
            _check(self.records, filled, batch, self._limits)
            if length is not None and length < (self.records.seq_length or 0):
                _cut(batch, length, self.records)
            yield EvaluationBatch(tuple(batch.values()), rows)

    def _share(self, of_all_ranks: np.ndarray) -> np.ndarray:
        return of_all_ranks[self._rank * self._batch_size:(self._rank + 1) * self._batch_size]

    def complete(self, *results: np.ndarray) -> None:
        """Fill in the rows of other ranks in results [num_rows, ...], int32 or float32, of which each has its own."""
        if self.rank_size == 1:
            return
        own = np.concatenate([self._share(rows) for rows, _ in self._batches]).astype(np.int32)
        from src.model_utils.communication import gather  # no prediction needs it

        for rows, *parts in gather([own, *(result[own] for result in results)], self.rank_size):
            for result, part in zip(results, parts, strict=True):
                result[rows] = part


def _cut(batch: dict[str, np.ndarray], length: int, records: RecordSource) -> None:
    """Cut the columns that have a value for every token (ids, mask, segments, labels of tokens) to a length."""
    for name, values in batch.items():
        if name in SEQUENCE_COLUMNS or (name == "label_ids" and values.shape[1] == records.seq_length):
            batch[name] = np.ascontiguousarray(values[:, :length])


def _full_length(records: RecordSource) -> int:
    """The length to which the sequences of the records are padded."""
    if records.seq_length is None:
        raise ValueError("the records have no input_ids, so there are no sequences to group or cut by their length")
    return records.seq_length


def used_lengths(records: RecordSource) -> np.ndarray:
    """Number of tokens up to the last one in use in each record [num_rows], by one pass over input_mask."""
    lengths = []
    for rows in np.array_split(np.arange(records.num_rows), -(-records.num_rows // 4096)):
        mask = records.read(rows, ["input_mask"])["input_mask"]
        lengths.append(lengths_in_use(mask))
    return np.concatenate(lengths)


def _check_bucket_list(bucket_list: Sequence[int], records: RecordSource) -> None:
    if list(bucket_list) != sorted(set(bucket_list)) or bucket_list[0] < 1:
        raise UserError(f"bucket_list: {list(bucket_list)} is not a list of ascending lengths, such as [32, 64, 128]")
    if bucket_list[-1] != records.seq_length:
        raise UserError(f"bucket_list: the largest bucket is {bucket_list[-1]}, but the records of {records.files[0]} "
                        f"have {records.seq_length} tokens; end bucket_list with {records.seq_length}")


class _Source:
    """A stream as the source of MindSpore's pipeline, which reads ahead of the training.

    An error inside the pipeline would come some steps too early, below a page of MindSpore's own report. So a stand-in
    takes the place of a bad batch and of all behind it, and `BatchStream.check` raises the error when its step begins.
    """

    def __init__(self, stream: BatchStream, *, may_stand_in: bool) -> None:
        self.stream = stream
        self.may_stand_in = may_stand_in

    def __len__(self) -> int:
        return len(self.stream)

    def __iter__(self) -> Iterator[tuple[np.ndarray, ...]]:
        try:
            yield from self.stream
        except UserError:
            if not self.may_stand_in:
                raise
            nothing = tuple(np.zeros((1, 1), dtype) for dtype, _ in self.stream.records.columns.values())
            for _ in range(len(self.stream) - self.stream.num_good):
                yield nothing


def create_dataset(stream: BatchStream, to_device_queue: bool = False) -> ds.GeneratorDataset:
    """Wrap a stream for `mindspore.train.Model.train`; one epoch of the data set is all the steps that are left.

    Before each step the training must call `stream.check`. With a device's queue nothing can look at single steps: then
    run the training inside `user_errors_of(stream)`, which gives a user's mistake its one line back.
    """
    return ds.GeneratorDataset(_Source(stream, may_stand_in=not to_device_queue), list(stream.records.columns),
                               shuffle=False, num_parallel_workers=1, python_multiprocessing=False)


@contextmanager
def user_errors_of(stream: BatchStream) -> Iterator[None]:
    """Raise the stream's own UserError in place of the RuntimeError that MindSpore's pipeline makes of it."""
    try:
        yield
    except RuntimeError as error:
        if stream.error is not None:
            raise stream.error from error
        raise
