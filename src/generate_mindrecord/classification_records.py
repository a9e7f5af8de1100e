"""Records of sentence classification and regression: one text or a pair of texts, and a label or a score."""

import argparse
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import fields
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from src.errors import UserError
from src.files import check_output, make_output_dir
from src.generate_mindrecord.options import SPLIT_OPTIONS, DataFile, RecordOptions, choose_files
from src.records.about import accompany
from src.records.sentences import writing_sentences
from src.records.text_rows import Row, count_lines
from src.records.writer import EXTENSIONS, SCHEMA_NAME, RecordWriter, write_schema_json
from src.tasks.labelled_text import LABELS_NAME, LabelledText, Labels, encode_texts, field_of, label_of, score_of
from src.tokenization import FullTokenizer, Tokenizer

_EXAMPLES_AT_ONCE = 1024


class ExampleColumns(NamedTuple):
    """The columns of a raw file that matter."""

    text: str
    pair: str | None  # of the second text; None for single texts
    label: str


class Summary(NamedTuple):
    """What one record file holds."""

    path: Path
    num_examples: int
    longest: int  # tokens before truncation
    num_truncated: int


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
    def examples(self, file: DataFile, path: Path) -> Iterator[LabelledText]:
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
                may_be_empty: bool = False) -> Iterator[LabelledText]:
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
        yield LabelledText(_text(row, columns.text, may_be_empty),
                      None if columns.pair is None else _text(row, columns.pair, may_be_empty),
                      None if has_none else label_of(row, columns.label), row.where)


def _text(row: Row, column: str, may_be_empty: bool) -> str:
    text = field_of(row, column)
    if not isinstance(text, str):
        raise UserError(f"{row.where}: column {column!r} holds {text!r}, expected a text")
    if not may_be_empty and not text.strip():
        raise UserError(f"{row.where}: the text in column {column!r} is empty; remove the row or fill it in")
    return text


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
    tokenizer = open_tokenizer(options, data.columns)
    labels = data.labels()
    make_output_dir(options.output_dir, "--output_dir")
    summaries = write_data_set({file.record_name: data.examples(file, path) for file, path in chosen.items()}, labels,
                               options, tokenizer, list(chosen.values()))
    for summary in summaries:
        print(f"{summary.path}: {summary.num_examples} examples, the longest of {summary.longest} tokens; "
              f"{summary.num_truncated} cut to {options.max_seq_length}")
    labels_path = Path(options.output_dir, LABELS_NAME)
    print(f"{len(labels)} labels in {labels_path}" if labels else "labels are numbers (regression)")
    return summaries


def open_tokenizer(options: RecordOptions, columns: ExampleColumns) -> Tokenizer:
    """The tokenizer that the options ask for.

    Raises:
        UserError: the vocabulary cannot be read, or a record has no room for a token of each text.
    """
    smallest = 5 if columns.pair else 3  # with the special tokens
    if options.max_seq_length < smallest:
        raise UserError(f"--max_seq_length is {options.max_seq_length}, expected at least {smallest}")
    return FullTokenizer(options.vocab_file, options.do_lower_case)


def write_data_set(files: Mapping[str, Iterable[LabelledText]], labels: Labels | None, options: RecordOptions,
                   tokenizer: Tokenizer, sources: Sequence[Path]) -> list[Summary]:
    """Write record files, all or none, with the label file and for TFRecord the schema.

    Args:
        files: the examples of each record file, by its name without extension.
        labels: the classes; None for regression.
        options: what the user says about the records; the directory is there.
        tokenizer: that of these options.
        sources: the raw file of each record file.

    Raises:
        UserError: a line is wrong, or an output cannot be written.
    """
    directory = Path(options.output_dir)
    columns = record_columns(options.max_seq_length, labels is None)
    target_of = labels.id_of if labels else score_of
    summaries = []
    paths = [check_output(directory / f"{name}.{EXTENSIONS[options.dataset_format]}", "--output_dir")
             for name in files]
    with ExitStack() as stack:
        for path, examples, source in zip(paths, files.values(), sources, strict=True):
            writer = stack.enter_context(RecordWriter(path, columns, options.dataset_format))
            shown = tqdm(examples, desc=source.name, unit=" texts", total=count_lines(source), leave=False,
                         disable=None)
            add_source = stack.enter_context(writing_sentences(path))
            summaries.append(_write(writer, tokenizer, shown, target_of, add_source))
    if labels:
        labels.write(directory / LABELS_NAME)
    about = {"task": "classifier", **options.about(), **({"label_file": LABELS_NAME} if labels else {"num_class": 1})}
    accompany(paths, options.vocab_file, about, sources)
    if options.dataset_format == "tfrecord":
        # Without a number of rows: the schema serves all the files, and would limit the reading of each.
        write_schema_json(directory / SCHEMA_NAME, columns, 0)
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


def _write(writer: RecordWriter, tokenizer: Tokenizer, examples: Iterable[LabelledText],
           target_of: Callable[[LabelledText], float], add_source: Callable[..., None]) -> Summary:
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
        for example in block:
            pair = {} if example.pair is None else {"text_pair": example.pair}
            add_source(example.where, example.text, 1, **pair)
    return Summary(writer.path, writer.num_rows, longest, num_truncated)


def _blocks(examples: Iterable[LabelledText]) -> Iterator[Sequence[LabelledText]]:
    examples = iter(examples)
    while block := list(islice(examples, _EXAMPLES_AT_ONCE)):
        yield block
