"""Files that are either whole or absent: write under a temporary name, then rename."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from src.errors import UserError


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


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; on success it becomes `path` in one step, on any error it is removed.

    The content is flushed to the disk before the rename, so that not even a power cut leaves half a file.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def open_to_others(paths: Iterable[Path]) -> None:
    """Give files and directories the permissions that the user's umask leaves; some libraries take them away."""
    umask = os.umask(0)
    os.umask(umask)
    for path in paths:
        path.chmod((0o777 if path.is_dir() else 0o666) & ~umask)


@contextmanager
def atomic_files(directory: str | Path) -> Iterator[Path]:
    """Give a temporary directory inside `directory`; on success every file in it moves up, on any error none does.

    For writers that produce several files or record their own names (MindRecord and its `.db`).
    """
    directory = Path(directory)
    temporary = Path(tempfile.mkdtemp(prefix=".writing-", dir=directory))
    try:
        yield temporary
        for written in sorted(temporary.iterdir()):
            written.replace(directory / written.name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_json_lines(path: str | Path, items: Iterable[Mapping]) -> None:
    """Write a file of JSON objects, one a line; characters stay readable."""
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for item in items:
            file.write(json.dumps(item, ensure_ascii=False) + "\n")
