"""The one exception for a mistake that the user can mend, and how a script introduces itself, runs and reports it."""

import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn


class UserError(Exception):
    """A mistake in what the user gave: an option, a file, a line of data.

    The message is a single line in the user's words: which option or file (and line or column), what was found,
    what was expected, and what to do.
    """


def first_line(docstring: str | None) -> str:
    """The first line of a script's docstring, for its --help; `python -OO` leaves docstrings out."""
    return (docstring or "").split("\n")[0]


def run_script(main: Callable[[], object]) -> NoReturn:
    """Run a script's `main` and exit: 0 when it returns, 2 with one line for a `UserError`, 130 on Ctrl-C.

    A scheduler's request to end (SIGTERM) and a closed terminal (SIGHUP) are as Ctrl-C, so that nothing half-written
    stays. Anything else is our own fault and keeps its traceback.
    """
    taken_over = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is signal.SIG_DFL]
    for number in taken_over:  # not under nohup, which ignores SIGHUP
        signal.signal(number, signal.default_int_handler)
        os.register_at_fork(after_in_child=lambda number=number: signal.signal(number, signal.SIG_DFL))
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt as interrupt:
        print(str(interrupt) or "interrupted", file=sys.stderr)
        sys.exit(130)
    sys.exit(0)
