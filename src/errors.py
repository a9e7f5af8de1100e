"""The one exception for a mistake that the user can mend, and how a script introduces itself, runs and reports it."""

import errno
import re
import sys
from collections.abc import Callable
from typing import NoReturn

_LONGEST_MESSAGE = 2000  # characters
_LONGEST_VALUE = 60
# What ends a line, moves the cursor, turns the direction of writing or cannot be encoded.
CONTROL_CHARACTERS = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class UserError(Exception):
    """A mistake in what the user gave: an option, a file, a line of data.

    The message is a single line in the user's words: which option or file (and line or column), what was found,
    what was expected, and what to do. Whatever of the user's is quoted in it, it stays one line of bounded length.
    """

    def __init__(self, message: str) -> None:
        message = CONTROL_CHARACTERS.sub(lambda found: repr(found[0])[1:-1], message)
        if len(message) > _LONGEST_MESSAGE:  # the advice at its end stays
            message = f"{message[:_LONGEST_MESSAGE - 500]} … {message[-500:]}"
        super().__init__(message)


def shown(value: object, longest: int = _LONGEST_VALUE) -> str:
    """A user's value of an option or a file as messages show it: text in quotes, what is long cut off."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"' if len(value) <= longest else f'"{value[:longest]}…"'
    try:
        text = str(value)
    except (ValueError, RecursionError):  # a number of too many digits, or lists in lists in lists
        return f"a very large {type(value).__name__}"
    return text if len(text) <= longest else f"{text[:longest]}…"


def quoted(value: object) -> str:
    """A piece of a user's data as messages show it: as Python writes it, what is long cut off."""
    return repr(value) if not isinstance(value, str) or len(value) <= _LONGEST_VALUE else f"{value[:_LONGEST_VALUE]!r}…"


def first_line(docstring: str | None) -> str:
    """The first line of a script's docstring, for its --help; `python -OO` leaves docstrings out."""
    return (docstring or "").split("\n")[0]


def run_script(main: Callable[[], object]) -> NoReturn:
    """Run a script's `main` and exit: 0 when it returns, 2 with one line for a `UserError`, 130 on Ctrl-C.

    Anything else is our own fault and keeps its traceback.
    """
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt as interrupt:
        print(str(interrupt) or "interrupted", file=sys.stderr)
        sys.exit(130)
    except OSError as error:
        # Any use of a path can find this, the question whether it exists too; only the path itself can be wrong.
        if error.errno != errno.ENAMETOOLONG:
            raise
        print(f"error: {UserError(f'the path {shown(error.filename)} is too long; shorten it')}", file=sys.stderr)
        sys.exit(2)
    sys.exit(0)
