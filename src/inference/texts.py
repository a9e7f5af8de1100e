"""Reading the texts to predict on."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from src.errors import UserError, quoted
from src.json_files import parse_json
from src.text_files import decode_lines, read_lines


class Item(NamedTuple):
    """What is to be predicted on, and the place that a message about it names."""

    where: str
    values: dict


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


def read_items(path: str, fields: Sequence[str]) -> Iterator[Item]:
    """Items of a file, or of standard input for "-": JSON objects a line, or plain lines with `fields` between tabs.

    The first line decides: when it begins with a brace, all are JSON. Empty lines are passed over.

    Raises:
        UserError: the file cannot be read, or a line is not of its kind.
    """
    is_json = None
    source = "standard input" if path == "-" else path
    for number, line in _lines(path):
        line = line.rstrip("\r\n")
        if not line.strip():
            continue
        if is_json is None:
            is_json = line.lstrip().startswith("{")
        where = f"{source}, line {number}"
        yield Item(where, _json_item(where, line) if is_json else _plain_item(where, line, fields))


def _lines(path: str) -> Iterator[tuple[int, str]]:
    if path == "-":
        return decode_lines(sys.stdin.buffer, "standard input")
    return read_lines(path, "--input_file", "give a text file in UTF-8")


def _json_item(where: str, line: str) -> dict:
    item = parse_json(line, where, "a JSON object as in the lines before")
    if not isinstance(item, dict):
        raise UserError(f"{where}: found {quoted(line)}, expected a JSON object")
    return item


def _plain_item(where: str, line: str, fields: Sequence[str]) -> dict:
    parts = line.split("\t") if len(fields) > 1 else [line]
    if len(parts) > len(fields):
        raise UserError(f"{where}: {len(parts)} fields between tabs, expected at most {len(fields)} "
                        f"({', '.join(fields)})")
    return dict(zip(fields, parts, strict=False))
