"""Records of sentence classification and regression: one text or a pair of texts, and a label or a score."""

import argparse
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import fields
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from src.errors import UserError
from src.files import atomic_write, make_output_dir
from src.generate_mindrecord.options import SPLIT_OPTIONS, DataFile, RecordOptions, choose_files
from src.records.text_rows import Row, read_json_lines
from src.records.writer import RecordWriter, write_schema_json
from src.tokenization import FullTokenizer, Tokenizer

LABELS_NAME = "labels.txt"
SCHEMA_NAME = "dataset.json"
EXTENSIONS = {"mindrecord": "mindrecord", "tfrecord": "tf_record"}

_EXAMPLES_AT_ONCE = 1024
_LABELS_IN_MESSAGE = 20


class ExampleColumns(NamedTuple):
    """The columns of a raw file that matter."""

    text: str
    pair: str | None  # of the second text; None for single texts
    label: str


class Example(NamedTuple):
    """One row of a raw file."""

    text: str
    pair: str | None
    label: str | None  # None in test data without labels
    where: str  # file and line, for messages


class EncodedTexts(NamedTuple):
    """Texts as the network takes them."""

    columns: dict[str, np.ndarray]  # input_ids, input_mask, segment_ids: int32 [n, S]
    full_lengths: np.ndarray  # [n] tokens before truncation, special tokens included


class Summary(NamedTuple):
    """What one record file holds."""

    path: Path
    num_examples: int
    longest: int  # tokens before truncation
    num_truncated: int


class Labels:
    """The names of the classes; a label's id is its place among them.

    Args:
        names: the labels in the order of their ids.
        source: where they come from, for messages.
    """

    def __init__(self, names: Iterable[str], source: str) -> None:
        self.names = list(names)
        self.source = source
        self._ids = {name: index for index, name in enumerate(self.names)}
        if len(self._ids) != len(self.names):
            repeated = next(name for index, name in enumerate(self.names) if self._ids[name] != index)
            raise UserError(f"{source}: the label {repeated!r} occurs twice; expected each label once")
        if len(self.names) < 2:
            raise UserError(f"{source}: the labels are {self.names}, expected at least two different ones")

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
            names = [_label(row, column) for row in read_json_lines(path)]
        else:
            try:
                lines = path.read_text(encoding="utf-8-sig").removesuffix("\n").split("\n")
            except (OSError, UnicodeDecodeError) as error:
                raise UserError(f"cannot read the label file {path}: {getattr(error, 'strerror', None) or 'not UTF-8'}"
                                f"; expected one label a line") from error
            names = [line.strip() for line in lines]
        if not all(names):
            raise UserError(f"{path}, line {names.index('') + 1}: the line is empty, expected a label; remove the line")
        return cls(names, str(path))

    @classmethod
    def collect(cls, examples: Iterable[Example], source: str) -> "Labels":
        """The labels that occur, sorted; by their value when all are whole numbers."""
        names = {example.label for example in examples}
        by_value = all(name.removeprefix("-").isdecimal() for name in names)
        return cls(sorted(names, key=(lambda name: (int(name), name)) if by_value else None), source)

    def id_of(self, example: Example) -> int:
        """The id of an example's label.

        Raises:
            UserError: the label is none of the names.
        """
        found = self._ids.get(example.label)
        if found is None:
            names = ", ".join(self.names[:_LABELS_IN_MESSAGE]) + (", …" if len(self) > _LABELS_IN_MESSAGE else "")
            raise UserError(f"{example.where}: the label {example.label!r} is unknown, expected one of {names} "
                            f"(from {self.source})")
        return found

    def write(self, path: str | Path) -> None:
        """Write one label a line, in the order of their ids."""
        with atomic_write(path) as temporary:
            temporary.write_text("".join(f"{name}\n" for name in self.names), encoding="utf-8")

    def __len__(self) -> int:
        """Number of classes."""
        return len(self.names)


class DataSet(ABC):
    """The raw files of a data set in a directory; a subclass says how they are read.

    Args:
        data_dir: the directory.
        files: the files that it may hold, the training data first.
        columns: the columns of these files that matter.
    """

    def __init__(self, data_dir: str | Path, files: Sequence[DataFile], columns: ExampleColumns) -> None:
        self.data_dir = Path(data_dir)
        self.files = files
        self.columns = columns

    @abstractmethod
    def examples(self, file: DataFile, path: Path) -> Iterator[Example]:
        """The examples of one file."""

    @abstractmethod
    def labels(self) -> Labels | None:
        """The classes; None for regression."""

    def collect_labels(self, alternative: str) -> Labels:
        """The classes of the training data; `alternative` tells the user what else could name them."""
        train = self.files[0]
        path = next((path for name in train.names if (path := self.data_dir / name).is_file()), None)
        if path is None:
            raise UserError(f"--data_dir: no {' or '.join(train.names)} in {self.data_dir} to collect the labels from; "
                            f"{alternative}")
        return Labels.collect(self.examples(train, path), str(path))


# ---------------------------------------------------------------- rows to examples

def to_examples(rows: Iterable[Row], columns: ExampleColumns, *, may_lack_labels: bool = False,
                may_be_empty: bool = False) -> Iterator[Example]:
    """Pick an example out of each row.

    Args:
        rows: the rows of one file.
        columns: which of their fields to take.
        may_lack_labels: whether the file may do without labels, in all of its rows.
        may_be_empty: whether a text may be empty; it then is [CLS] [SEP].

    Raises:
        UserError: a column is missing, or a field is empty or no text.
    """
    lacks_labels = None  # known from the first row on
    for row in rows:
        has_none = may_lack_labels and row.fields.get(columns.label) in (None, "")
        if lacks_labels is None:
            lacks_labels = has_none
        elif has_none != lacks_labels:
            raise UserError(f"{row.where}: {'no' if has_none else 'a'} label in column {columns.label!r}, unlike the "
                            f"rows before; expected labels in all rows or in none")
        yield Example(_text(row, columns.text, may_be_empty),
                      None if columns.pair is None else _text(row, columns.pair, may_be_empty),
                      None if has_none else _label(row, columns.label), row.where)


def _field(row: Row, column: str) -> Any:
    try:
        return row.fields[column]
    except KeyError:
        raise UserError(f"{row.where}: no column {column!r}; the columns are {', '.join(map(repr, row.fields))}"
                        ) from None


def _text(row: Row, column: str, may_be_empty: bool) -> str:
    text = _field(row, column)
    if not isinstance(text, str):
        raise UserError(f"{row.where}: column {column!r} holds {text!r}, expected a text")
    if not may_be_empty and not text.strip():
        raise UserError(f"{row.where}: the text in column {column!r} is empty; remove the row or fill it in")
    return text


def _label(row: Row, column: str) -> str:
    label = _field(row, column)
    if isinstance(label, bool):
        label = str(label).lower()
    text = str(label).strip()
    if not isinstance(label, (str, int, float)) or not text or "\n" in text:
        raise UserError(f"{row.where}: column {column!r} holds {label!r}, expected a label")
    return text


# ---------------------------------------------------------------- examples to arrays

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


def score_of(example: Example) -> float:
    """The label as the number that regression learns.

    Raises:
        UserError: the label is no finite number.
    """
    try:
        score = float(example.label)
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        raise UserError(f"{example.where}: the label {example.label!r} is no number; regression expects numbers")
    return score


# ---------------------------------------------------------------- writing

def record_columns(max_seq_length: int, is_regression: bool) -> dict[str, tuple[str, int]]:
    """The columns of a record, in the order in which the network takes the first four."""
    S = max_seq_length
    return {"input_ids": ("int32", S), "input_mask": ("int32", S), "segment_ids": ("int32", S),
            "label_ids": ("float32" if is_regression else "int32", 1), "is_real_example": ("int32", 1)}


def generate(data: DataSet, options: RecordOptions, wanted: Mapping[str, bool | None]) -> list[Summary]:
    """Write the record files of a data set, all or none, with the label file and for TFRecord the schema; report them.

    Args:
        data: the raw files.
        options: what the user says about the records.
        wanted: the options that choose the files; see `choose_files`.

    Raises:
        UserError: a file is missing, a line is wrong, an option makes no sense, or an output cannot be written.
    """
    chosen = choose_files(data.data_dir, data.files, wanted)
    smallest = 5 if data.columns.pair else 3  # one token of each text and the special tokens
    if options.max_seq_length < smallest:
        raise UserError(f"--max_seq_length is {options.max_seq_length}, expected at least {smallest}")
    tokenizer = FullTokenizer(options.vocab_file, options.do_lower_case)
    labels = data.labels()
    directory = make_output_dir(options.output_dir, "--output_dir")
    columns = record_columns(options.max_seq_length, labels is None)
    target_of = labels.id_of if labels else score_of
    summaries = []
    with ExitStack() as stack:
        for file, source in chosen.items():
            path = directory / f"{file.record_name}.{EXTENSIONS[options.dataset_format]}"
            writer = stack.enter_context(RecordWriter(path, columns, options.dataset_format))
            summaries.append(_write(writer, tokenizer, data.examples(file, source), target_of))
    if labels:
        labels.write(directory / LABELS_NAME)
    if options.dataset_format == "tfrecord":
        # Without a number of rows: the schema serves all the files, and would limit the reading of each.
        write_schema_json(directory / SCHEMA_NAME, columns, 0)
    for summary in summaries:
        print(f"{summary.path}: {summary.num_examples} examples, the longest of {summary.longest} tokens; "
              f"{summary.num_truncated} cut to {options.max_seq_length}")
    print(f"{len(labels)} labels in {directory / LABELS_NAME}" if labels else "labels are numbers (regression)")
    return summaries


def run_generator(parser: argparse.ArgumentParser, open_data: Callable[..., DataSet],
                  argv: Sequence[str] | None) -> list[Summary]:
    """Parse the command line and do what it asks for.

    Args:
        parser: knows the options of `add_data_set_options` and `add_record_options`, and the arguments of `open_data`.
        open_data: gives the data set that the other options describe.
        argv: the command line, by default the process's own.
    """
    given = vars(parser.parse_args(argv))
    options = RecordOptions(**{field.name: given.pop(field.name) for field in fields(RecordOptions)})
    wanted = {option: given.pop(option) for option in SPLIT_OPTIONS.values()}
    return generate(open_data(**given), options, wanted)


def _write(writer: RecordWriter, tokenizer: Tokenizer, examples: Iterable[Example],
           target_of: Callable[[Example], float]) -> Summary:
    dtype = writer.columns["label_ids"][0]
    S = writer.columns["input_ids"][1]
    longest = num_truncated = 0
    for block in _blocks(examples):
        encoded = encode_texts(tokenizer, [(example.text, example.pair) for example in block], S)
        targets = [0 if example.label is None else target_of(example) for example in block]
        writer.write({**encoded.columns, "label_ids": np.array(targets, dtype)[:, None],
                      "is_real_example": np.ones((len(block), 1), np.int32)})
        longest = max(longest, int(encoded.full_lengths.max()))
        num_truncated += int((encoded.full_lengths > S).sum())
    return Summary(writer.path, writer.num_rows, longest, num_truncated)


def _blocks(examples: Iterable[Example]) -> Iterator[Sequence[Example]]:
    examples = iter(examples)
    while block := list(islice(examples, _EXAMPLES_AT_ONCE)):
        yield block
