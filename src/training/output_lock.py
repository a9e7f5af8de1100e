"""The lock on the folder of a training, which keeps a second training from writing into it at the same time."""

import errno
import fcntl
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from src.errors import UserError
from src.files import Process, failing_in_one_line

LOCK = ".training.lock"
_WITHOUT_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)  # what a file system says that has none


@contextmanager
def locked_output(directory: Path, option: str) -> Iterator[None]:
    """Keep other trainings out of `directory` (given by `option`).

    The operating system holds the lock, for all hosts that share the file system, and takes it away from a process that
    ends, in whatever way. The file only says whose it is; where the file system has no locks, that decides.

    Raises:
        UserError: another training is at work there, or the lock cannot be written.
    """
    path = directory / LOCK
    with failing_in_one_line(path):
        file = _take(path, option)
    _HELD.append(file)
    try:
        yield
    finally:
        _HELD.remove(file)
        path.unlink(missing_ok=True)  # before it is given back: then it may be another one's
        file.close()


def _take(path: Path, option: str) -> TextIO:
    """The file of the lock, which is held until it is closed, with this process in it."""
    while True:
        file = path.open("a+", encoding="utf-8")
        try:
            _lock(file, path, option)
            if _is_still_there(file, path):  # or else its owner removed it after it was opened here
                file.truncate(0)
                json.dump({"host": os.uname().nodename, "process": Process.this()}, file)
                file.flush()
                return file
        except BaseException:
            file.close()
            raise
        file.close()


def _lock(file: TextIO, path: Path, option: str) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        is_locked = True
    except BlockingIOError:
        is_locked = False
    except OSError as error:
        if error.errno not in _WITHOUT_LOCKS:
            raise
        is_locked = None
    host, process = _owner(file)
    ended = process is None or process.has_ended()
    whose = f"process {process.pid} on host {host}" if process else "another process"
    if is_locked is False or (is_locked is None and not ended):
        remedy = f"; if it has ended, remove {path}" if is_locked is None and ended is None else ""
        raise UserError(f"{option}: {whose} is training in {path.parent}; wait for its end, or give another "
                        f"directory{remedy}")
    if ended is None:
        print(f"warning: {path} was left by {whose}, which must have ended", file=sys.stderr, flush=True)


def _owner(file: TextIO) -> tuple[str, Process | None]:
    """The host and process that a lock's file names."""
    file.seek(0)
    try:
        content = json.load(file)
        return str(content["host"]), Process(*content["process"])
    except (ValueError, KeyError, TypeError):  # new, or being written
        return "", None


def _is_still_there(file: TextIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


_HELD: list[TextIO] = []


def _let_go() -> None:
    """Keep a process that was forked, as MindSpore's SummaryCollector forks its writers, from holding locks on."""
    for file in _HELD:
        file.close()


os.register_at_fork(after_in_child=_let_go)
