"""Texts with labels: what a row of raw data says, the ids of its label, and the texts as the network takes them.

Any task whose records are texts, or pairs of texts, can use this module.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from src.errors import UserError, quoted
from src.files import atomic_write
from src.records.text_rows import Row, read_json_lines
from src.text_files import read_text
from src.tokenization import Tokenizer

LABELS_NAME = "labels.txt"  # beside the records
_LABELS_IN_MESSAGE = 20


class LabelledText(NamedTuple):
    """One row of a raw file."""

    text: str
    pair: str | None
    label: str | None  # None in test data without labels
    where: str  # file and line, for messages


class EncodedTexts(NamedTuple):
    """Texts as the network takes them."""

    columns: dict[str, np.ndarray]  # input_ids, input_mask, segment_ids: int32 [n, S]
    full_lengths: np.ndarray  # [n] tokens before truncation, special tokens included


class Labels:
    """The names of the classes; a label's id is its place among them.

    Args:
        names: the labels in the order of their ids.
        source: where they come from, for messages.
        readable: what people call those that are a code in the data.
    """

    def __init__(self, names: Iterable[str], source: str, readable: Mapping[str, str] | None = None) -> None:
        self.names = list(names)
        self.readable = readable or {}
        self.source = source
        self._ids = {name: index for index, name in enumerate(self.names)}
        if len(self._ids) != len(self.names):
            repeated = next(name for index, name in enumerate(self.names) if self._ids[name] != index)
            raise UserError(f"{source}: the label {quoted(repeated)} occurs twice; expected each label once")
        if len(self.names) < 2:
            raise UserError(f"{source}: the labels are {quoted(self.names)}, expected at least two different ones")

    @classmethod
    def from_file(cls, path: str | Path, column: str = "label") -> "Labels":
        """Read a label file: one label a line, or with a name ending in .json(l) one object a line.

        Args:
            path: the file.
            column: the key of the label in those objects.

        Raises:
            UserError: the file cannot be read, or holds an empty line, a label twice, or fewer than two labels.
        """
        path = Path(path)
        if path.suffix in (".json", ".jsonl"):
            names = [label_of(row, column) for row in read_json_lines(path)]
        else:
            text = read_text(path, "label file", "expected one label a line")
            names = [line.strip() for line in text.removesuffix("\n").split("\n")]
        if not all(names):
            raise UserError(f"{path}, line {names.index('') + 1}: the line is empty, expected a label; remove the line")
        return cls(names, str(path))

    @classmethod
    def collect(cls, examples: Iterable[LabelledText], source: str) -> "Labels":
        """The labels that occur, sorted; by their value when all are whole numbers."""
        names = sorted({example.label for example in examples if example.label is not None})
        if all(name.removeprefix("-").isdecimal() for name in names):
            names.sort(key=int)  # of equal numbers, the texts keep their order
        return cls(names, source)

    def id_of(self, example: LabelledText) -> int:
        """The id of an example's label.

        Raises:
            UserError: the label is none of the names.
        """
        found = None if example.label is None else self._ids.get(example.label)
        if found is None:
            names = ", ".join(self.names[:_LABELS_IN_MESSAGE]) + (", …" if len(self) > _LABELS_IN_MESSAGE else "")
            raise UserError(f"{example.where}: the label {quoted(example.label)} is unknown, expected one of {names} "
                            f"(from {self.source})")
        return found

    def write(self, path: str | Path) -> None:
        """Write one label a line, in the order of their ids, each by its readable name."""
        names = [self.readable.get(name, name) for name in self.names]
        with atomic_write(path) as temporary:
            temporary.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")

    def __len__(self) -> int:
        """Number of classes."""
        return len(self.names)


def score_of(example: LabelledText) -> float:
    """The label as the number that regression learns.

    Raises:
        UserError: the label is no finite number.
    """
    try:
        score = float(example.label or "")
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        raise UserError(f"{example.where}: the label {quoted(example.label)} is no number; regression expects numbers")
    return score


def read_labels(path: str | Path, num_class: int) -> list[str]:
    """The names of the classes: a text file with one a line, in the order of their ids.

    Raises:
        UserError: the file cannot be read, or has another number of lines than there are classes.
    """
    labels = Labels.from_file(path).names
    if len(labels) != num_class:
        raise UserError(f"label_file_path: {path} names {len(labels)} classes, but num_class is {num_class}; "
                        f"set num_class to {len(labels)} or give another file")
    return labels


def label_lines(class_names: Sequence[str]) -> list[str]:
    """The lines of a label file.

    Raises:
        UserError: a name is no line.
    """
    if any("\n" in name or not name.strip() for name in class_names):
        raise UserError("some names of classes are empty or take several lines: no label file")
    return list(class_names)


# ---------------------------------------------------------------- fields of a row

def field_of(row: Row, column: str) -> Any:  # noqa: ANN401
    """What a row holds in a column.

    Raises:
        UserError: there is no such column.
    """
    try:
        return row.fields[column]
    except KeyError:
        raise UserError(f"{row.where}: no column {column!r}; the columns are {', '.join(map(repr, row.fields))}"
                        ) from None


def label_of(row: Row, column: str) -> str:
    """The label that a row holds in a column.

    Raises:
        UserError: it holds none.
    """
    label = field_of(row, column)
    if isinstance(label, bool):
        label = str(label).lower()
    text = str(label).strip()
    if not isinstance(label, (str, int, float)) or not text or "\n" in text:
        raise UserError(f"{row.where}: column {column!r} holds {quoted(label)}, expected a label")
    return text


# ---------------------------------------------------------------- texts to arrays

def encode_texts(tokenizer: Tokenizer, texts: Iterable[tuple[str, str | None]], max_seq_length: int) -> EncodedTexts:
    """[CLS] text [SEP], or [CLS] text [SEP] pair [SEP] with segment 1 from the pair on; padded to S = max_seq_length.

    A text that is too long loses its end; of a pair, the longer text loses tokens first.
    """
    vocab, S = tokenizer.vocab, max_seq_length
    tokens, lengths, firsts_of_pair, full_lengths = [], [], [], []
    for text, pair in texts:
        a = tokenizer.encode(text)
        b = [] if pair is None else tokenizer.encode(pair)
        num_special = 2 if pair is None else 3
        size_a, size_b = _cut(len(a), len(b), S - num_special)
        tokens += [vocab.cls_id, *a[:size_a], vocab.sep_id]
        if pair is not None:
            tokens += [*b[:size_b], vocab.sep_id]
        firsts_of_pair.append(size_a + 2)
        lengths.append(size_a + size_b + num_special)
        full_lengths.append(len(a) + len(b) + num_special)
    positions = np.arange(S)
    is_token = positions < np.array(lengths, np.int64)[:, None]  # [n, S]
    ids = np.full(is_token.shape, vocab.pad_id, np.int32)
    ids[is_token] = tokens
    is_pair = is_token & (positions >= np.array(firsts_of_pair, np.int64)[:, None])
    columns = {"input_ids": ids, "input_mask": is_token.astype(np.int32), "segment_ids": is_pair.astype(np.int32)}
    return EncodedTexts(columns, np.array(full_lengths, np.int64))


def _cut(size_a: int, size_b: int, room: int) -> tuple[int, int]:
    """How much of A and B stays: tokens are taken from the end of the longer one, of B when they are equally long."""
    excess = size_a + size_b - room
    if excess <= 0:
        return size_a, size_b
    from_longer = min(excess, abs(size_a - size_b))
    rest = excess - from_longer
    from_a = rest // 2 + (from_longer if size_a > size_b else 0)
    return size_a - from_a, size_b - (excess - from_a)
