"""Rows of JSON-lines, TSV and CSV files, each with the place that an error message about it needs."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from src.errors import UserError, quoted
from src.json_files import parse_json
from src.records.sentences import Place
from src.text_files import open_input, read_lines


class Row(NamedTuple):
    """The fields of one row by column name; strings, and any JSON value from JSON lines."""

    where: str  # a `Place`: file and line
    fields: Mapping[str, Any]


def read_json_lines(path: Path) -> Iterator[Row]:
    """Rows of a file with one JSON object a line.

    Raises:
        UserError: the file cannot be read, is not UTF-8, or a line is empty or something else.
    """
    for number, line in read_lines(path):
        where = Place(path, number)
        if line.isspace():
            raise UserError(f"{where}: the line is empty, expected a JSON object; remove the line")
        fields = parse_json(line, where, "one JSON object a line")
        if not isinstance(fields, dict):
            raise UserError(f"{where}: found {quoted(line.strip())}, expected a JSON object in braces")
        yield Row(where, fields)


def read_tsv(path: Path, columns: Sequence[str] | None = None, left_out: list[int] | None = None,
             keeps_blank: bool = False) -> Iterator[Row]:
    """Rows of a tab-separated file; a quotation mark is a character like any other.

    Args:
        path: the file.
        columns: the names of the columns when the file has no header line.
        left_out: takes the line numbers of rows with a wrong number of fields, which are an error otherwise.
        keeps_blank: a blank line is a row without fields; otherwise it is an error.

    Raises:
        UserError: the file cannot be read, is not UTF-8, or a row has a wrong number of fields.
    """
    for number, line in read_lines(path):
        where = Place(path, number)
        values = line.removesuffix("\n").removesuffix("\r").split("\t")
        if columns is None:
            columns = _header(where, values)
        elif keeps_blank and not any(values):
            yield Row(where, {})
        elif len(values) == len(columns):
            yield Row(where, dict(zip(columns, values, strict=True)))
        elif left_out is not None:
            left_out.append(number)
        else:
            raise _wrong_width(where, values, columns, "tabs")


def read_csv(path: Path, keeps_blank: bool = False) -> Iterator[Row]:
    """Rows of a comma-separated file with a header, written as spreadsheets do.

    Fields may stand in double quotes, and may then hold commas, line ends and doubled quotes. A blank line is an error,
    or if `keeps_blank` a row without fields.

    Raises:
        UserError: the file cannot be read, is not UTF-8, or is no CSV, or a row has a wrong number of fields.
    """
    reader = csv.reader((line for _, line in read_lines(path)), strict=True)
    columns = None
    while True:
        where = Place(path, reader.line_num + 1)
        try:
            values = next(reader, None)
        except csv.Error as error:
            raise UserError(f"{where}: {error}; expected comma-separated values, with quotes in a quoted field "
                            f"doubled") from error
        if values is None:
            return
        if columns is None:
            columns = _header(where, values)
        elif keeps_blank and not any(values):
            yield Row(where, {})
        elif len(values) == len(columns):
            yield Row(where, dict(zip(columns, values, strict=True)))
        else:
            raise _wrong_width(where, values, columns, "commas")


def read_table(path: Path) -> Iterator[Row]:
    """Rows of a file with a header line or with JSON lines; its name says which, or else its first line.

    Raises:
        UserError: as of `read_json_lines`, `read_tsv` and `read_csv`.
    """
    readers = {".csv": read_csv, ".tsv": read_tsv, ".json": read_json_lines, ".jsonl": read_json_lines}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        first = next((line for _, line in read_lines(path)), "")
        reader = read_json_lines if first.lstrip().startswith("{") else read_tsv if "\t" in first else read_csv
    return reader(path)


def count_lines(path: Path) -> int:
    """How many lines a file has, for a progress bar: nothing is decoded or checked.

    Raises:
        UserError: it cannot be read.
    """
    with open_input(path) as file:
        return sum(block.count(b"\n") for block in iter(partial(file.read, 1 << 22), b""))


def _header(where: str, names: Sequence[str]) -> list[str]:
    names = [name.strip() for name in names]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise UserError(f"{where}: the header names the column {repeated[0]!r} twice; name each column once")
    return names


def _wrong_width(where: str, values: Sequence[str], columns: Sequence[str], separator: str) -> UserError:
    if not any(values):
        return UserError(f"{where}: the line is empty, expected {len(columns)} fields; remove the line")
    return UserError(f"{where}: number of fields: {len(values)}, expected {len(columns)} ({', '.join(columns)}), "
                     f"separated by {separator}")
