"""The one exception for a mistake that the user can mend, and how a script introduces itself, runs and reports it."""

import errno
import io
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, TextIO

_NOBODY_READS = 128 + 13  # as a shell reports a program that SIGPIPE ended

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

    A scheduler's request to end (SIGTERM) and a closed terminal (SIGHUP) are as Ctrl-C, so that nothing half-written
    stays. When nobody reads standard output any more (`| head`) it ends quietly, with status 141; when that cannot be
    written, with status 2 and one line, as when memory runs out. Anything else is our own fault and keeps its
    traceback.
    """
    _end_in_order_on_signals()
    sys.stdout = _guarded(sys.stdout, sys.__stdout__, ends_command=True)
    sys.stderr = _guarded(sys.stderr, sys.__stderr__, ends_command=False)
    try:
        main()
        sys.stdout.flush()
    except UserError as error:
        _leave(2, f"error: {error}")
    except KeyboardInterrupt as interrupt:
        _leave(130, str(interrupt) or "interrupted")
    except MemoryError as error:
        _leave(2, f"error: out of memory: {error or 'no more is given'}; lower batch_size or the network's sizes")
    except OSError as error:
        # Any use of a path can find this, the question whether it exists too; only the path itself can be wrong.
        if error.errno != errno.ENAMETOOLONG:
            raise
        _leave(2, f"error: {UserError(f'the path {shown(error.filename)} is too long; shorten it')}")
    except OutputLostError as lost:
        if isinstance(lost.reason, BrokenPipeError):
            _leave(_NOBODY_READS)
        _leave(2, f"error: cannot write to standard output: {lost.reason.strerror}")
    except SystemExit:  # after --help
        with outliving_output(""):
            raise
    sys.exit(0)


def _end_in_order_on_signals() -> None:
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # nohup ignores SIGHUP
            signal.signal(number, signal.default_int_handler)
            os.register_at_fork(after_in_child=lambda number=number: signal.signal(number, signal.SIG_DFL))


def _leave(status: int, line: str = "") -> NoReturn:
    if line:
        print(line, file=sys.stderr)
    with outliving_output(""):  # it has ended for another reason
        sys.exit(status)


# ---------------------------------------------------------------- standard streams that are closed or full

class OutputLostError(Exception):
    """Standard output takes no more."""

    def __init__(self, reason: OSError) -> None:
        super().__init__(reason)
        self.reason = reason


@contextmanager
def outliving_output(what: str) -> Iterator[None]:
    """Let `what` go on without standard output when that takes no more, with one line on standard error."""
    stream = _stream_of(sys.stdout)
    if stream is None:
        yield
        return
    before = stream.ends_command
    stream.ends_command, stream.goes_on = False, what
    try:
        yield
    finally:
        sys.stdout.flush()
        stream.ends_command = before


class _StandardStream(io.FileIO):
    """Standard output or standard error; when it takes no more, what is written to it is dropped."""

    def __init__(self, descriptor: int, ends_command: bool, lost: OSError | None = None) -> None:
        super().__init__(descriptor, "wb", closefd=False)
        self.ends_command = ends_command
        self.goes_on = ""  # what does without it
        self.lost = lost
        self.is_told = False

    def write(self, data: Any) -> int | None:  # noqa: ANN401
        if self.lost is None:
            try:
                return super().write(data)
            except OSError as error:
                self.lost = error
        if not self.is_told:
            self.is_told = True
            if self.ends_command:
                raise OutputLostError(self.lost)
            if self.goes_on:
                print(f"warning: cannot write to standard output: {self.lost.strerror}; {self.goes_on} goes on "
                      f"without it", file=sys.stderr)
        return len(data)


def _guarded(stream: Any, original: object, ends_command: bool) -> Any:  # noqa: ANN401
    """The stream of this process that was given, over a `_StandardStream`; one that is not the process's own stays."""
    if stream is not original:
        return stream
    if stream is None:  # closed by whoever started the process; its number must not become that of another file
        closed = OSError(errno.EBADF, os.strerror(errno.EBADF))
        raw = _StandardStream(os.open(os.devnull, os.O_WRONLY), ends_command, closed)
        return io.TextIOWrapper(io.BufferedWriter(raw), "utf-8", "backslashreplace")
    raw = _StandardStream(stream.fileno(), ends_command)
    is_buffered = isinstance(stream.buffer, io.BufferedWriter)
    return io.TextIOWrapper(io.BufferedWriter(raw) if is_buffered else raw, stream.encoding, stream.errors,
                            line_buffering=stream.line_buffering, write_through=stream.write_through)


def _stream_of(stream: TextIO) -> _StandardStream | None:
    buffer = getattr(stream, "buffer", None)
    raw = getattr(buffer, "raw", buffer)
    return raw if isinstance(raw, _StandardStream) else None
