"""What the predictors of all tasks share: the network that they compute with, and batches that waste little padding."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
from mindspore import Tensor

from src.errors import UserError, shown
from src.records.length_grouping import lengths_in_use

SHORTEST = 16  # tokens; twice, four times … as many are the other lengths that graphs are compiled for


class Predictor(Protocol):
    """Predicts for one task."""

    empty: ClassVar[Mapping[str, Any]]  # the result for a blank line, on which nothing is predicted

    @property
    def fields(self) -> tuple[str, ...]:
        """Those of an item, in the order in which tabs separate them in plain text."""
        ...

    def predict(self, items: Sequence[Mapping]) -> list[dict]:
        """One result for each item, in order; what an item holds depends on the task.

        Raises:
            UserError: an item lacks something.
        """
        ...

    def typed(self, result: Mapping) -> tuple:
        """A result of `predict` as a named tuple."""
        ...


class InferenceModel(NamedTuple):
    """A network to call with input columns [B,S], and the sizes that it is bound to, None where it takes any."""

    network: Callable[..., Tensor | tuple[Tensor, ...]]
    batch_size: int | None = None
    length: int | None = None

    def compute(self, columns: Mapping[str, np.ndarray], batch_size: int
                ) -> Iterator[tuple[list[np.ndarray], np.ndarray]]:
        """Compute texts in batches of similar length.

        Args:
            columns: arrays [n, S], among them input_mask, in the order of the network's inputs.
            batch_size: rows of a batch at most, where the model takes any.

        Yields:
            The outputs for some of the texts, [b, ...] with sequences of any length up to S, and their numbers [b].
        """
        count = len(columns["input_mask"])
        if not count:
            return
        rows_at_once = self.batch_size or min(batch_size, count)
        for inputs, numbers in batches_by_length(columns, rows_at_once, self.length):
            outputs = self.network(*(Tensor(values) for values in inputs))
            outputs = outputs if isinstance(outputs, tuple) else (outputs,)
            yield [output.asnumpy()[:len(numbers)] for output in outputs], numbers


def batches_by_length(columns: Mapping[str, np.ndarray], batch_size: int, fixed_length: int | None = None
                      ) -> Iterator[tuple[tuple[np.ndarray, ...], np.ndarray]]:
    """Cut texts into batches of similar length: yields (arrays [batch_size, L], numbers of the texts in them).

    Lengths L are few, because a graph is compiled for each. The last rows of a batch that the texts do not fill are
    copies, beyond the numbers that are yielded.

    Args:
        columns: arrays [n, S], among them input_mask; the arrays of a batch are in the same order.
        batch_size: rows of every batch.
        fixed_length: the one length that the model takes; None for any.
    """
    lengths = lengths_in_use(columns["input_mask"])  # [n]
    order = np.argsort(lengths, kind="stable")
    for first in range(0, len(order), batch_size):
        numbers = order[first:first + batch_size]
        length = fixed_length or SHORTEST
        while length < lengths[numbers].max():
            length *= 2
        rows = np.resize(numbers, batch_size)
        yield tuple(np.ascontiguousarray(values[rows, :length]) for values in columns.values()), numbers


def texts_of(item: Mapping, keys: Sequence[str], expected: str) -> list[str]:
    """The texts that an item holds under these keys.

    Raises:
        UserError: one is missing or no text; `expected` tells the user what an item is.
    """
    texts = [text for text in map(item.get, keys) if isinstance(text, str)]
    if len(texts) != len(keys):
        raise UserError(f"found {shown(dict(item))}, expected an object with {expected}")
    return texts
