"""Record files of one directory, of either format, read as one list of records in any order."""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from src.errors import UserError
from src.json_files import read_json_object
from src.records.columns import ABOUT, DATASET_FORMATS, SEQUENCE_COLUMNS, Columns, check_dataset_format

ColumnTypes = Mapping[str, str]  # name -> "int32" or "float32"

_SCHEMA_EXAMPLE = '{"numRows": 8, "columns": {"input_ids": {"type": "int64", "shape": [128]}}}'
# What a record file has in its name; the BERT authors' tools and the documented commands write tf_record.
RECORD_FILE_NAMES = {"mindrecord": re.compile("mindrecord", re.IGNORECASE),
                     "tfrecord": re.compile("tf[_-]?records?", re.IGNORECASE)}
_KINDS = {"int32": "integers", "int64": "integers", "float32": "floats", "float64": "floats"}


class RecordSource(Protocol):
    """What batches are made of: the records of files, or what puts records together when they are read."""

    @property
    def num_rows(self) -> int:
        """Number of records."""
        ...

    @property
    def seq_length(self) -> int | None:
        """Values of `input_ids` in a record; None without that column."""
        ...

    @property
    def columns(self) -> Mapping[str, tuple[str, int]]:
        """{name: (dtype, values in a record)}."""
        ...

    @property
    def files(self) -> Sequence[str | Path]:
        """Where the records come from."""
        ...

    def read(self, rows: np.ndarray, columns: Iterable[str] | None = None) -> dict[str, np.ndarray]:
        """The records of these numbers, see `Records.read`."""
        ...

    def where(self, row: int) -> str:
        """Name a record to the user."""
        ...


class RecordFile(Protocol):
    """One record file of either format."""

    path: Path

    def __len__(self) -> int:
        """Number of records."""
        ...

    def columns(self) -> dict[str, tuple[str, int]]:
        """The columns of the first record."""
        ...

    def read(self, rows: np.ndarray, columns: Columns) -> dict[str, np.ndarray]:
        """These columns of the records of these numbers."""
        ...


class Records:
    """The records of several files, in the order of the files; see `open_records`.

    Attributes:
        files: the record files.
        columns: {name: (dtype, values in a record)} of the columns that were asked for, in that order.
        num_rows: number of records, after the limit `num_samples`.
        seq_length: values of `input_ids` in a record (None without that column).
        rows_of_files: number of records in each file.
    """

    def __init__(self, readers: Sequence[RecordFile], columns: dict[str, tuple[str, int]]) -> None:
        self.files = [reader.path for reader in readers]
        self.columns = columns
        self.seq_length = columns["input_ids"][1] if "input_ids" in columns else None
        self._readers = readers
        self.rows_of_files = [len(reader) for reader in readers]
        self._ends = np.cumsum(self.rows_of_files)
        self.num_rows = int(self._ends[-1])

    def read(self, rows: np.ndarray, columns: Iterable[str] | None = None) -> dict[str, np.ndarray]:
        """The records of these numbers, in this order: int32 or float32 [len(rows), length] for each column.

        Args:
            rows: record numbers [n], from 0.
            columns: names of the columns to read; None reads all.

        Raises:
            UserError: a record is damaged or does not have the columns.
        """
        wanted = {name: self.columns[name] for name in columns or self.columns}
        rows = np.asarray(rows, np.int64)
        if len(self._readers) == 1:
            return self._readers[0].read(rows, wanted)
        batch = {name: np.empty((len(rows), length), dtype) for name, (dtype, length) in wanted.items()}
        file_of = np.searchsorted(self._ends, rows, side="right")
        for file in np.unique(file_of):
            here = np.flatnonzero(file_of == file)
            first = self._ends[file] - len(self._readers[file])
            for name, values in self._readers[file].read(rows[here] - first, wanted).items():
                batch[name][here] = values
        return batch

    def where(self, row: int) -> str:
        """Name a record to the user: its file and its number in that file, from 0."""
        file = int(np.searchsorted(self._ends, row, side="right"))
        first = int(self._ends[file - 1]) if file else 0
        return f"{self.files[file]}: record {row - first}"


def _opener(dataset_format: str) -> Callable[[Path], RecordFile]:
    """What opens a file of a format. Imported here: prediction on texts reads none, and training one of them."""
    if dataset_format == "mindrecord":
        from src.records.mindrecord import MindRecordFile

        return MindRecordFile
    from src.records.tfrecord import TFRecordFile

    return TFRecordFile


def open_records(path: str | Path, dataset_format: str, columns: ColumnTypes, *, option: str = "data_dir",
                 seq_length: int | None = None, num_samples: int | None = None,
                 schema_path: str | Path | None = None) -> Records:
    """Open the record files of a directory, or one record file; of the records only the first of each file is read.

    In a directory (and below it) the files count whose name holds `dataset_format` (for TFRecord also `tf_record`), in
    natural order of their names.

    Args:
        path: directory or file, given by the user as `option`.
        dataset_format: "mindrecord" or "tfrecord".
        columns: the columns to read, with the types that the network takes.
        option: what the user calls `path`.
        seq_length: the network's sequence length, which the records must have; None accepts any.
        num_samples: take the first so many records; None or a number below 1 takes all.
        schema_path: TFRecord only: a JSON file (or the directory that holds it) whose `numRows` limits the number of
            records and whose columns must agree with the files.

    Raises:
        UserError: nothing to read there, another format, a damaged file, or columns that do not fit.
    """
    check_dataset_format(dataset_format)
    open_file = _opener(dataset_format)
    readers = [open_file(file) for file in record_files(path, dataset_format, option)]
    readers = [reader for reader in readers if len(reader)]
    if not readers:
        raise UserError(f"{option}: the record files in {path} hold no record; generate them anew")
    found = [(reader.path, reader.columns()) for reader in readers]
    schema_rows = None
    if schema_path and dataset_format == "tfrecord":
        schema_rows = _check_schema(_find_schema(Path(schema_path)), columns, *found[0])
    records = Records(readers, _agreed_columns(found, columns))
    _check_lengths(records, seq_length)
    limits = [limit for limit in (num_samples, schema_rows) if limit and limit > 0]
    records.num_rows = min([records.num_rows, *limits])
    return records


# ---------------------------------------------------------------- finding the files

def record_files(path: str | Path, dataset_format: str, option: str) -> list[Path]:
    """The record files of a directory, or the one that `path` is; none is a `UserError`. See `open_records`."""
    if not str(path):
        raise UserError(f"{option} is not set; give the directory of the {dataset_format} files")
    path = Path(path)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError(f"{option}: there is no {path}; give the directory of the {dataset_format} files")
    names = {kind: sorted(files_of_format(path, kind), key=_natural) for kind in DATASET_FORMATS}
    if names[dataset_format]:
        return names[dataset_format]
    other = next((kind for kind in DATASET_FORMATS if names[kind]), None)
    if other:
        raise UserError(f"{option}: {path} holds {other} files (such as {names[other][0].name}) and no "
                        f"{dataset_format} file; set dataset_format to {other} or give another directory")
    raise UserError(f"{option}: no {dataset_format} file in {path}; expected files with '{dataset_format}' in their "
                    f"names, as the generators write them")


def files_of_format(directory: Path, kind: str) -> Iterator[Path]:
    """The record files of a format in a directory and below it."""
    for parent, folders, names in os.walk(directory):
        folders[:] = [folder for folder in folders if not folder.startswith(".")]  # files being written
        for name in names:
            is_kind = RECORD_FILE_NAMES[kind].search(name)
            if is_kind and not name.startswith(".") and not name.endswith((".db", ".json", ".jsonl")):
                yield Path(parent, name)


def _natural(path: Path) -> list[tuple[int, int | str]]:
    """Sort key that takes digits as numbers: part2 comes before part10."""
    return [(0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d+)", str(path))]


def _find_schema(path: Path) -> Path:
    if path.is_dir():
        found = sorted(file for file in path.glob("*.json") if not file.name.endswith(ABOUT))
        if len(found) != 1:
            raise UserError(f"schema_dir: expected one .json file in {path}, found {len(found)}; give the file itself")
        return found[0]
    if not path.is_file():
        raise UserError(f"schema_dir: there is no {path}; give the schema file of the TFRecord files, or nothing")
    return path


# ---------------------------------------------------------------- checking what they hold

def _agreed_columns(found: list[tuple[Path, dict[str, tuple[str, int]]]],
                    columns: ColumnTypes) -> dict[str, tuple[str, int]]:
    """The wanted columns with their lengths, which all files must share."""
    agreed = {}
    for file, has in found:
        for name, dtype in columns.items():
            if name not in has:
                raise UserError(f"{file}: no column {name}; the file's columns are {', '.join(sorted(has))}; "
                                f"was it made for another task?")
            if _KINDS.get(has[name][0]) != _KINDS[dtype]:
                raise UserError(f"{file}: column {name} holds {has[name][0]}, expected {dtype}; make the file anew")
            first = agreed.setdefault(name, (dtype, has[name][1]))
            if has[name][1] != first[1]:
                raise UserError(f"{file}: column {name} has {has[name][1]} values in a record, but {first[1]} in "
                                f"{found[0][0].name}; files of different lengths cannot be mixed")
    return agreed


def _check_lengths(records: Records, seq_length: int | None) -> None:
    if records.seq_length is None:
        return
    file, length = records.files[0], records.seq_length
    if seq_length is not None and length != seq_length:
        raise UserError(f"seq_length is {seq_length}, but the records of {file} have {length} tokens; set seq_length "
                        f"to {length} or generate records with --max_seq_length {seq_length}")
    for name in SEQUENCE_COLUMNS:
        if name in records.columns and records.columns[name][1] != length:
            raise UserError(f"{file}: column {name} has {records.columns[name][1]} values in a record, but input_ids "
                            f"has {length}; make the file anew")


def _check_schema(path: Path, columns: ColumnTypes, file: Path, has: dict[str, tuple[str, int]]) -> int | None:
    """Check that the schema describes the files; return its number of rows, if it states one."""
    try:
        schema = read_json_object(path, f"a schema such as {_SCHEMA_EXAMPLE}", "schema_dir")
        described = {name: (field["type"], list(field.get("shape", []))) for name, field in schema["columns"].items()}
        rows = int(schema.get("numRows", 0))
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise UserError(f"schema_dir: {path} is no schema of TFRecord files ({type(error).__name__}: {error}); "
                        f"expected {_SCHEMA_EXAMPLE}") from error
    for name in columns:
        if name not in described:
            raise UserError(f"schema_dir: {path} has no column {name}; its columns are {', '.join(sorted(described))}")
        kind, shape = described[name]
        length = shape[0] if len(shape) == 1 else 1 if not shape else None
        if name in has and (_KINDS.get(kind) != _KINDS[has[name][0]] or length != has[name][1]):
            raise UserError(f"schema_dir: {path} says {kind} {shape} for column {name}, but {file} has "
                            f"{_KINDS[has[name][0]]} [{has[name][1]}]; correct the schema or leave schema_dir empty")
    return rows
