"""Reading files that a user gives: whatever is in them becomes text, or an error of one line."""

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO

from src.errors import CONTROL_CHARACTERS, UserError, shown

LARGEST_TEXT = 1 << 30  # bytes of a file that is read as a whole
LONGEST_LINE = 1 << 26  # bytes
_BLOCK = 1 << 22  # bytes read at a time
_LONGEST_NAME, _LONGEST_PATH = 255, 4095  # bytes that file systems allow
_ADVICE = "give an existing file"


@contextmanager
def open_input(path: str | Path, option: str = "", advice: str = _ADVICE) -> Iterator[BinaryIO]:
    """Open a file to read its bytes.

    Args:
        path: the file.
        option: what the user calls it; may be empty.
        advice: tells the user what to do if it cannot be read.

    Raises:
        UserError: it cannot be opened, or read later on.
    """
    try:
        with Path(path).open("rb") as file:
            yield file
    except OSError as error:
        raise UserError(f"{_prefix(option)}cannot read {shown_path(path)}: {error.strerror or error}; {advice}"
                        ) from error


def read_bytes(path: str | Path, option: str = "", advice: str = _ADVICE, largest: int = LARGEST_TEXT) -> bytes:
    """All bytes of a file.

    Raises:
        UserError: as for `open_input`; or there are more than `largest`.
    """
    check_path(str(path), option)
    blocks, size = [], 0
    with open_input(path, option, advice) as file:
        while block := file.read(_BLOCK):  # a pipe or device does not know its size
            blocks.append(block)
            size += len(block)
            if size > largest:
                raise UserError(f"{_prefix(option)}{path} has more than {largest / 1e6:.0f} MB; {advice}")
    return b"".join(blocks)


def read_text(path: str | Path, option: str = "", advice: str = _ADVICE, largest: int = LARGEST_TEXT) -> str:
    """The text of a UTF-8 file.

    Raises:
        UserError: as for `read_bytes`; or it is not UTF-8.
    """
    content = read_bytes(path, option, advice, largest)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _not_utf8(f"{_prefix(option)}{path}, line {line}", error) from error


def read_lines(path: str | Path, option: str = "", advice: str = _ADVICE) -> Iterator[tuple[int, str]]:
    """Lines of a UTF-8 file, with their ends and numbers from 1; see `decode_lines`.

    Raises:
        UserError: as for `open_input` and `decode_lines`.
    """
    check_path(str(path), option)
    with open_input(path, option, advice) as file:
        yield from decode_lines(file, f"{_prefix(option)}{path}")


def decode_lines(file: BinaryIO, source: str) -> Iterator[tuple[int, str]]:
    """Lines with their ends and numbers from 1. Only a line feed ends one: texts hold Unicode's other separators.

    Raises:
        UserError: a line is not UTF-8, or has no end.
    """
    lines: Iterable[bytes] = iter(partial(file.readline, LONGEST_LINE), b"")
    for number, line in enumerate(lines, 1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise _not_utf8(f"{source}, line {number}", error) from error
        if len(line) == LONGEST_LINE:
            raise UserError(f"{source}, line {number}: more than {LONGEST_LINE / 1e6:.0f} MB without a line end; is "
                            f"this a text file?")
        yield number, text


def check_path(path: str, option: str = "") -> str:
    """Return a path that a file can have; it need not exist.

    Raises:
        UserError: it holds control characters, or is longer than file systems allow.
    """
    if CONTROL_CHARACTERS.search(path):
        # Bytes that are not UTF-8 stand as surrogates in a path; they can be read, but no message can name the file.
        raise UserError(f"{_prefix(option)}the path {shown(path)} holds a control character, or bytes that are not "
                        f"UTF-8; rename it")
    encoded = path.encode()
    if len(encoded) > _LONGEST_PATH or max(map(len, encoded.split(b"/"))) > _LONGEST_NAME:
        raise UserError(f"{_prefix(option)}the path {shown(path)} is too long; a name may have {_LONGEST_NAME} bytes, "
                        f"a path {_LONGEST_PATH}")
    return path


def check_regular(path: Path) -> Path:
    """Return a path that is no pipe or device: opening a pipe waits for whoever may write into it.

    Raises:
        UserError: it is one.
    """
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 - Path.stat raises the same, and this is as short
    except OSError:
        return path  # opening it will say why
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise UserError(f"{path} is a pipe or a device, expected a file; move it away")
    return path


def shown_path(path: str | Path) -> str:
    """A path as messages show it: whole, unless it is too long to be one."""
    text = str(path)
    return text if len(text) <= _LONGEST_PATH else shown(text)


def _not_utf8(where: str, error: UnicodeDecodeError) -> UserError:
    return UserError(f"{where}: byte 0x{error.object[error.start]:02x} is not UTF-8; convert the file to UTF-8")


def _prefix(option: str) -> str:
    return f"{option}: " if option else ""
