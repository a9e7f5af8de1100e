"""Outputs of every command: whole or absent, where the user's path leads to.

A file is written under a temporary name beside it and then renamed; links are followed, and what is no regular file, a
device or a pipe, is written to and not replaced. The temporary name tells whose it is, so that the next writer of the
same output removes what a killed one has left.
"""

import io
import json
import os
import re
import shutil
import stat
import sys
import tempfile
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from src.errors import UserError

_ABANDONED_SECONDS = 24 * 3600  # nothing is left unfinished and untouched for so long, on whatever host


# ---------------------------------------------------------------- who writes

class Process(NamedTuple):
    """A process, as others can tell whether it still runs."""

    place: str  # of its number: the host, and on it the container
    pid: int
    started: int  # numbers are given again

    @classmethod
    def this(cls) -> "Process":
        """The one that asks."""
        try:
            namespace = Path("/proc/self/ns/pid").readlink()
        except OSError:
            namespace = ""
        return cls(f"{zlib.crc32(f'{os.uname().nodename} {namespace}'.encode()):08x}", os.getpid(),
                   _start_time(os.getpid()))

    def has_ended(self) -> bool | None:
        """Whether it is no more; None for a process of another place, of which nothing is known here."""
        if self.place != Process.this().place:
            return None
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:  # somebody else's
            pass
        return _start_time(self.pid) != self.started


def _start_time(pid: int) -> int:
    """When a process started, in ticks since the machine did; 0 where the system does not tell."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return 0


_MARK = re.compile(r"(?P<place>[0-9a-f]{8})-(?P<pid>\d+)-(?P<started>\d+)")


def _mark() -> str:
    """What the name of a temporary file says of its process."""
    return "-".join(map(str, Process.this()))


def _remove_leftovers(directory: Path, before: str) -> None:
    """Remove what killed processes left in a directory under names with their mark behind `before`."""
    with os.scandir(directory) as entries:
        names = [entry.name for entry in entries if entry.name.startswith(before)]
    for name in names:
        found = _MARK.match(name, len(before))
        if not found:
            continue
        left = directory / name
        ended = Process(found["place"], int(found["pid"]), int(found["started"])).has_ended()
        with suppress(OSError):  # another process may remove it at the same time, or it is somebody else's
            if ended or (ended is None and _age(left) > _ABANDONED_SECONDS):
                shutil.rmtree(left) if left.is_dir() else left.unlink()


def _age(path: Path) -> float:
    """Seconds since a file, or the newest in a directory, was written."""
    times = [path.lstat().st_mtime, *(inner.lstat().st_mtime for inner in path.rglob("*"))]
    return time.time() - max(times)


# ---------------------------------------------------------------- before the work

def make_output_dir(path: str | Path, option: str) -> Path:
    """Create the directory `path` (given by `option`) if needed and make sure that it can be written to.

    Raises:
        UserError: the path is a file, or cannot be created or written.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        # Asking the file system beats reading permission bits: it also knows read-only mounts and full disks.
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise UserError(f"{option}: cannot write to the directory {path}: {error.strerror}; "
                        f"give a directory that you may write to") from error
    return path


def check_output(path: str | Path, option: str) -> Path:
    """Make sure, before the work begins, that the file `path` (given by `option`) can be written at its end.

    Its directory is made if needed, and what a killed process left of the same output is removed.

    Raises:
        UserError: it is a directory, or cannot be written.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{option}: {path} is a directory; give the name of a file in it")
    if is_passed_on(path):
        if not os.access(path, os.W_OK):
            raise UserError(f"{option}: {path} cannot be written to; give another file")
        return path
    target = _followed(path)
    make_output_dir(target.parent, option)
    try:
        _remove_leftovers(target.parent, f".{target.name}.")
        temporary = _temporary(target)
        temporary.touch()  # the name may be too long
        temporary.unlink()
    except OSError as error:
        raise UserError(f"{option}: cannot write {path}: {error.strerror}; give another file") from error
    return path


def check_room(directory: Path, what: str, least: float, most: float, given_back: int = 0) -> None:
    """Compare what is to be written into a directory with what is free there, and warn where it does not fit.

    Args:
        directory: where to.
        what: is written, for the message.
        least: bytes that it cannot do without.
        most: bytes that it may take.
        given_back: bytes of files there that it removes.

    Raises:
        UserError: not even half of the least fits.
    """
    try:
        free = shutil.disk_usage(directory).free + given_back
    except OSError:  # it does not tell
        return
    fault = f"and {in_gigabytes(free)} are free in {directory}; free space, or give another directory"
    if least > 2 * free:
        raise UserError(f"{what} at least {in_gigabytes(least)}, {fault}")
    if most > free:
        print(f"warning: {what} up to {in_gigabytes(most)}, {fault}", file=sys.stderr, flush=True)


def in_gigabytes(count: float) -> str:
    """A number of bytes for the user."""
    return f"{count / 1e9:,.1f} GB" if count < 1e11 else f"{int(count) // 10**9:,} GB"


def is_passed_on(path: Path) -> bool:
    """Whether what is written to a path goes to a device, a pipe or a file that a shell has opened: /dev/stdout."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    is_open_file = os.path.abspath(path).startswith(("/dev/std", "/dev/fd/", "/proc/"))  # noqa: PTH100 - no link's end
    return not stat.S_ISDIR(mode) and (is_open_file or not stat.S_ISREG(mode))


def _followed(path: Path) -> Path:
    """The file that a path leads to, which need not exist."""
    return Path(os.path.realpath(path))


# ---------------------------------------------------------------- writing

@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Give a temporary path; on success its content becomes that of `path` in one step, on any error it is removed.

    The content is flushed to the disk before the rename, so that not even a power cut leaves half a file.

    Raises:
        UserError: the file cannot be written.
    """
    path = Path(path)
    if is_passed_on(path):
        with tempfile.TemporaryDirectory() as directory, failing_in_one_line(path):
            temporary = Path(directory) / path.name
            yield temporary
            with temporary.open("rb") as written, path.open("ab") as device:  # not "w", for files that a shell opened
                shutil.copyfileobj(written, device)
        return
    target = _followed(path)
    temporary = _temporary(target)
    try:
        with failing_in_one_line(path):
            _remove_leftovers(target.parent, f".{target.name}.")
            yield temporary
            flush(temporary)
            temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def write_all(file: io.FileIO, data: bytes, path: Path) -> None:
    """Write all of the data to an unbuffered file, which `path` names; a disk may take a part of it at a time.

    Raises:
        UserError: it cannot be written.
    """
    try:
        while data:
            data = data[file.write(data) or 0:]
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; free space and resume") from error


def write_text(path: Path, text: str) -> None:
    """Make a file hold a text; one that holds it already is left alone.

    Raises:
        UserError: it cannot be written.
    """
    with suppress(OSError):
        if path.is_file() and path.read_bytes() == text.encode():
            return
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _temporary(target: Path) -> Path:
    return target.with_name(f".{target.name}.{_mark()}.tmp")


@contextmanager
def failing_in_one_line(path: Path) -> Iterator[None]:
    """Turn what the system says while `path` is written into a `UserError`."""
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}; free space or give another place") from error


def flush(path: Path) -> None:
    """Make the system write a file or directory to the disk: a power cut after this does not lose it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_to_others(paths: Iterable[Path]) -> None:
    """Give files and directories the permissions that the user's umask leaves; some libraries take them away."""
    umask = os.umask(0)
    os.umask(umask)
    for path in paths:
        path.chmod((0o777 if path.is_dir() else 0o666) & ~umask)


@contextmanager
def temporary_directory(parent: Path) -> Iterator[Path]:
    """Give a temporary directory inside `parent`, and remove those that killed processes left there."""
    _remove_leftovers(parent, ".writing-")
    temporary = Path(tempfile.mkdtemp(prefix=f".writing-{_mark()}-", dir=parent))
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def atomic_files(directory: str | Path) -> Iterator[Path]:
    """Give a temporary directory inside `directory`; on success every file in it moves up, on any error none does.

    For writers that produce several files or record their own names (MindRecord and its `.db`).

    Raises:
        UserError: a file cannot be written, or has the name of a directory.
    """
    directory = Path(directory)
    with failing_in_one_line(directory), temporary_directory(directory) as temporary:
        yield temporary
        pairs = [(written, directory / written.name) for written in sorted(temporary.iterdir())]
        for written, path in pairs:
            if path.is_dir() and not written.is_dir():
                raise UserError(f"cannot write {path}: it is a directory; move it away or give another name")
            for file in (written, *written.rglob("*")):
                flush(file)
        for written, path in sorted(pairs, key=lambda pair: not _leads_elsewhere(pair[1])):  # these may still fail
            if _leads_elsewhere(path):
                with atomic_write(path) as copy:
                    shutil.copyfile(written, copy)
            else:
                written.replace(path)


def _leads_elsewhere(path: Path) -> bool:
    return path.is_symlink() or is_passed_on(path)


# ---------------------------------------------------------------- JSON

def write_json_lines(path: str | Path, items: Iterable[Mapping]) -> None:
    """Write a file of JSON objects, one a line; characters stay readable.

    Half of a surrogate pair, which JSON allows and UTF-8 does not, is written as JSON's own escape.
    """
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", errors="backslashreplace") as file:
        for item in items:
            file.write(json.dumps(item, ensure_ascii=False) + "\n")
