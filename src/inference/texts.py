"""Reading the texts to predict on."""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from src.errors import UserError


def read_items(path: str, fields: Sequence[str]) -> Iterator[dict]:
    """Items of a file, or of standard input for "-": JSON objects a line, or plain lines with `fields` between tabs.

    The first line decides: when it begins with a brace, all are JSON. Empty lines are passed over.

    Raises:
        UserError: the file cannot be read, or a line is not of its kind.
    """
    is_json = None
    for number, line in enumerate(_lines(path), start=1):
        line = line.rstrip("\r\n")
        if not line.strip():
            continue
        if is_json is None:
            is_json = line.lstrip().startswith("{")
        yield _json_item(path, number, line) if is_json else _plain_item(path, number, line, fields)


def _lines(path: str) -> Iterator[str]:
    if path == "-":
        yield from sys.stdin
        return
    try:
        with Path(path).open(encoding="utf-8-sig") as file:
            yield from file
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--input_file: cannot read {path}: {getattr(error, 'strerror', None) or 'not UTF-8'}; "
                        f"give a text file in UTF-8") from error


def _json_item(path: str, number: int, line: str) -> dict:
    try:
        item = json.loads(line)
    except ValueError as error:
        raise UserError(f"{path}, line {number}: found {line[:40]!r}, expected a JSON object as in the lines before "
                        f"({error})") from error
    if not isinstance(item, dict):
        raise UserError(f"{path}, line {number}: found {line[:40]!r}, expected a JSON object")
    return item


def _plain_item(path: str, number: int, line: str, fields: Sequence[str]) -> dict:
    parts = line.split("\t") if len(fields) > 1 else [line]
    if len(parts) > len(fields):
        raise UserError(f"{path}, line {number}: {len(parts)} fields between tabs, expected at most {len(fields)} "
                        f"({', '.join(fields)})")
    return dict(zip(fields, parts, strict=False))
