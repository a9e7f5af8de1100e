"""What one of a host's processes does for all of them, before they can talk to each other."""

import fcntl
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from src.errors import UserError
from src.files import atomic_write
from src.json_files import member, read_json_object


@contextmanager
def once_per_host(state: Path, purpose: str, action: Callable[[], None]) -> Iterator[None]:
    """Do `action` in one of the processes of this host that are in here at the same time; the others wait for it.

    The first to come does it and leaves its outcome in a marker file. When it fails, the others fail too; when it is
    killed, the next one does the action. Nobody waits for a process that is gone, because the operating system takes
    locks away from a process that ends. A marker that an earlier run has left counts for nothing.

    Args:
        state: folder for the locks and the marker, the same in all processes.
        purpose: what the action does; processes that are there at the same time must agree on it.
        action: what to do.

    Raises:
        UserError: the action failed in another process, or that one does something else in the same folder.
    """
    state.mkdir(parents=True, exist_ok=True)
    marker = state / "outcome.json"
    with (state / "users").open("a") as users, (state / "turn").open("a") as turn:
        if _is_alone(users):
            marker.unlink(missing_ok=True)
        fcntl.flock(users, fcntl.LOCK_SH)  # until this process leaves
        fcntl.flock(turn, fcntl.LOCK_EX)
        try:
            _do_or_adopt(marker, purpose, action)
        finally:
            fcntl.flock(turn, fcntl.LOCK_UN)
        yield


def _is_alone(users: TextIO) -> bool:
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _do_or_adopt(marker: Path, purpose: str, action: Callable[[], None]) -> None:
    """Do the action unless the marker tells how it went; leave the marker."""
    if marker.exists():
        outcome = read_json_object(marker, "what a process of this run wrote; remove the file")
        where = f"{marker}: "
        if member(outcome, "purpose", str, where) != purpose:
            raise UserError(f"{marker.parent}: another run on this machine is at work here: {outcome['purpose']}; wait "
                            f"for its end, or give another data_path")
        if member(outcome, "error", str, where):
            raise UserError(f"another process of this host failed to {purpose}: {outcome['error']}")
        return
    try:
        action()
    except Exception as error:
        _write(marker, {"purpose": purpose, "error": str(error) or type(error).__name__})
        raise
    _write(marker, {"purpose": purpose, "error": ""})


def _write(marker: Path, outcome: dict) -> None:
    with atomic_write(marker) as temporary:
        temporary.write_text(json.dumps(outcome), encoding="utf-8")
