"""Reading the texts to predict on."""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from src.errors import UserError, quoted
from src.json_files import parse_json
from src.text_files import decode_lines, read_lines

COLUMN_OPTIONS = ("text_column", "text_pair_column")  # of the first and the second field


class Item(NamedTuple):
    """What is to be predicted on, and the place that a message about it names."""

    where: str
    values: dict | None  # None for a blank line


def given_items(texts: Iterable[str], fields: Sequence[str]) -> Iterator[Item]:
    """Items of texts that stand on the command line, with `fields` between tabs.

    Raises:
        UserError: one is not UTF-8.
    """
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as error:  # Python keeps such bytes as halves of surrogate pairs
            raise UserError(f"--text: {quoted(text)} is not UTF-8; convert it to UTF-8") from error
        yield Item("--text", dict(zip(fields, text.split("\t", len(fields) - 1), strict=False)))


def read_items(path: str, fields: Sequence[str], given: Mapping[str, str] | None = None) -> Iterator[Item]:
    """Items of a file, or of standard input for "-"; each line or row gives one, so that results keep its place.

    A file that ends in .csv has a header line, and one that ends in .tsv has if it names columns that hold the fields.
    Others hold JSON objects a line, or plain lines with `fields` between tabs: when the first begins with a brace, all
    are JSON.

    Args:
        path: the file.
        fields: of an item.
        given: the options `text_column` and `text_pair_column`, which columns or JSON keys hold the first and the
            second field; empty or absent where their names tell.

    Raises:
        UserError: the file cannot be read, or a line is not of its kind.
    """
    given = {option: name for option, name in (given or {}).items() if name}
    ending = Path(path).suffix.lower()
    if ending == ".csv" or (ending == ".tsv" and _has_header(path, fields, given)):
        yield from _rows(path, fields, given)
        return
    is_json = None
    source = "standard input" if path == "-" else path
    keys = dict(zip(fields, map(given.get, COLUMN_OPTIONS), strict=False))
    for number, line in _lines(path):
        line = line.rstrip("\r\n")
        where = f"{source}, line {number}"
        if not line.strip():
            yield Item(where, None)
            continue
        if is_json is None:
            is_json = line.lstrip().startswith("{")
        yield Item(where, _json_item(where, line, keys) if is_json else _plain_item(where, line, fields))


# ---------------------------------------------------------------- tables

def _has_header(path: str, fields: Sequence[str], given: Mapping[str, str]) -> bool:
    """Whether the first line of a file names columns: one that the user names, or those of usual names."""
    first = next((line for _, line in _lines(path)), "").rstrip("\r\n").split("\t")
    if set(given.values()) & set(first):
        return True
    try:
        _columns(first, fields, {}, path)
    except UserError:
        return False
    return True


def _rows(path: str, fields: Sequence[str], given: Mapping[str, str]) -> Iterator[Item]:
    from src.records.text_rows import read_csv, read_tsv  # only tables need them

    columns = None
    for row in (read_csv if path.lower().endswith(".csv") else read_tsv)(Path(path), keeps_blank=True):
        if not row.fields:
            yield Item(row.where, None)
            continue
        columns = columns or _columns(list(row.fields), fields, given, path)
        values = {field: row.fields[name] for field, name in columns.items()}
        yield Item(row.where, values if any(value.strip() for value in values.values()) else None)


def _columns(names: Sequence[str], fields: Sequence[str], given: Mapping[str, str], where: str) -> dict[str, str]:
    """The column of each field."""
    from src.records.text_columns import choose_columns

    by_lower = {name.lower(): name for name in names}
    if len(fields) > 1 and not given and all(field in by_lower for field in fields):
        return {field: by_lower[field] for field in fields}
    chosen = choose_columns(names, given, where, wants_label=False)
    return {field: name for field, name in zip(fields, (chosen.text, chosen.pair), strict=False) if name is not None}


# ---------------------------------------------------------------- lines

def _lines(path: str) -> Iterator[tuple[int, str]]:
    if path == "-":
        return decode_lines(sys.stdin.buffer, "standard input")
    return read_lines(path, "--input_file", "give a text file in UTF-8")


def _json_item(where: str, line: str, keys: Mapping[str, str | None]) -> dict:
    item = parse_json(line, where, "a JSON object as in the lines before")
    if not isinstance(item, dict):
        raise UserError(f"{where}: found {quoted(line)}, expected a JSON object")
    return item | {field: item[key] for field, key in keys.items() if key in item}


def _plain_item(where: str, line: str, fields: Sequence[str]) -> dict:
    parts = line.split("\t") if len(fields) > 1 else [line]
    if len(parts) > len(fields):
        raise UserError(f"{where}: {len(parts)} fields between tabs, expected at most {len(fields)} "
                        f"({', '.join(fields)})")
    return dict(zip(fields, parts, strict=False))
