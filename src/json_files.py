"""Reading JSON that a user gives: one value or an error of one line, whatever is in it.

Python's parser accepts more than can be used: lists nested so deeply that writing them again fails, numbers of any
size, halves of surrogate pairs that no file can hold, and keys that occur twice, of which one gets lost.
"""

import json
import re
from pathlib import Path
from typing import Any, TypeVar

from src.errors import UserError, shown
from src.text_files import read_text

MAX_DEPTH = 100
LARGEST_DOCUMENT = 1 << 26  # bytes of a file that describes something; data may have more

_LONG_NUMBER = re.compile(r"\d{19}")
_KIND_NAMES = {str: "a text", int: "a whole number", float: "a number", list: "a list", dict: "an object",
               bool: "true or false"}
ABSENT: Any = object()  # the default of `member` without one
_Kind = TypeVar("_Kind", str, int, float, list, dict, bool)


def parse_json(text: str, where: str, expected: str, check: bool = False) -> Any:  # noqa: ANN401
    """The value of a JSON text.

    Args:
        text: JSON.
        where: names the text to the user.
        expected: tells the user what it should be, and what to do.
        check: look through the value in any case, in a third of the time of parsing it; whole numbers beyond 64
            bits are found only then.

    Raises:
        UserError: it is no JSON, or cannot be used.
    """
    text = text.rstrip()
    try:
        value = _decode(text)
        if check or "\\ud" in text or "\\uD" in text or text.count("[") + text.count("{") > MAX_DEPTH:
            _check(value)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}" if "\n" in text else f"column {error.colno}"
        raise UserError(f"{where}, {place}: no JSON ({error.msg}); expected {expected}") from error
    except _UnusableError as error:
        raise UserError(f"{where}: {error}; expected {expected}") from error
    except RecursionError as error:
        raise UserError(f"{where}: nested more than {MAX_DEPTH} deep; expected {expected}") from error
    except ValueError as error:  # Python's limit, against the time that the conversion takes
        raise UserError(f"{where}: a number of thousands of digits; expected {expected}") from error
    return value


def read_json(path: str | Path, expected: str, option: str = "", largest: int = LARGEST_DOCUMENT) -> Any:  # noqa: ANN401
    """The value in a JSON file, whose whole numbers have at most 64 bits.

    Args:
        path: the file.
        expected: tells the user what it should be, and what to do.
        option: what the user calls it; may be empty.
        largest: bytes that it may have.

    Raises:
        UserError: the file cannot be read or is too large, or as for `parse_json`.
    """
    text = read_text(path, option, f"expected {expected}", largest)
    return parse_json(text, f"{option}: {path}" if option else str(path), expected, bool(_LONG_NUMBER.search(text)))


def read_json_object(path: str | Path, expected: str, option: str = "") -> dict[str, Any]:
    """The object in a JSON file; see `read_json`."""
    content = read_json(path, expected, option)
    if not isinstance(content, dict):
        raise UserError(f"{option + ': ' if option else ''}{path}: found no JSON object; expected {expected}")
    return content


def member(parent: dict[str, Any], key: str, kind: type[_Kind], where: str, default: Any = ABSENT,  # noqa: ANN401
           hint: str = "correct the file") -> _Kind:
    """The value of a key.

    Args:
        parent: an object.
        key: the key.
        kind: of which type the value must be; `float` takes whole numbers too.
        where: names the object to the user, up to the key.
        default: what is returned where the key is missing; without it that is an error.
        hint: tells the user what to do.

    Raises:
        UserError: the key is missing, or its value of another type.
    """
    value = parent.get(key, default)
    if value is ABSENT:
        raise UserError(f"{where}{key} is missing, expected {_KIND_NAMES[kind]}; {hint}")
    if key in parent:
        check_kind(value, kind, where + key, hint)
    return value


def check_kind(value: object, kind: type, where: str, hint: str = "correct the file") -> None:
    """Raise `UserError` unless a value is of this type; true is no number."""
    if type(value) is not kind and not (kind is float and type(value) is int):
        raise UserError(f"{where} is {json_shown(value)}, expected {_KIND_NAMES[kind]}; {hint}")


def json_shown(value: object) -> str:
    """A value as messages show it, written in JSON."""
    if isinstance(value, str):
        return shown(value)
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:40]}…"


class _UnusableError(ValueError):
    """JSON that Python could read, but nobody could use."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise _UnusableError(f"the key {shown(twice)} occurs twice")
    return value


_decoder = json.JSONDecoder(object_pairs_hook=_object)


def _decode(text: str) -> Any:  # noqa: ANN401
    try:
        value, end = _decoder.raw_decode(text)
    except json.JSONDecodeError:  # or spaces before the value, which `decode` looks for, as long as a short line takes
        return _decoder.decode(text)
    return value if end == len(text) else _decoder.decode(text)


def _check(value: object) -> None:
    """Raise `_UnusableError` where a value is nested too deeply, or holds half of a surrogate pair."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        if not level:
            return
        below: list[object] = []
        for item in level:
            if isinstance(item, dict):
                below += item.keys()
                below += item.values()
            elif isinstance(item, list):
                below += item
            elif isinstance(item, str) and not item.isascii():
                _check_text(item)
            elif isinstance(item, int) and abs(item) >> 64:
                raise _UnusableError(f"{shown(item)} is beyond 64 bits")
        level = below
    raise _UnusableError(f"nested more than {MAX_DEPTH} deep")


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise _UnusableError(f"\\u{ord(text[error.start]):04x} is half of a surrogate pair and no character") from error
