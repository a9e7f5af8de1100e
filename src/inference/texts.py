"""Reading the texts to predict on."""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
    """Items of a file, or of standard input for "-", one for each line or row: a table, JSON objects or plain lines.

    Tables end in .csv, or in .tsv with a header. When the first of other lines begins with a brace, all are JSON;
    plain lines have `fields` between tabs. `given` are the `COLUMN_OPTIONS`, empty where names of columns tell.

    Raises:
        UserError: the file cannot be read, or a line is not of its kind.
    """
    given = {option: name for option, name in (given or {}).items() if name}
    if path.lower().endswith((".csv", ".tsv")):
        from src.inference.tables import is_table, read_cells  # lines need no tables

        if is_table(path, fields, given):
            yield from (Item(*row) for row in read_cells(path, fields, given))
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
