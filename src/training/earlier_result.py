"""The result of an earlier training in the folder of a new one, which nothing overwrites."""

import os
import re
import shutil
from collections.abc import Collection
from itertools import count
from pathlib import Path

from src.checkpoint_files import MANIFEST, STATE
from src.errors import UserError
from src.files import failing_in_one_line, flush, open_to_others, temporary_directory

_WEIGHTS = r"(-\d+_\d+|_best)\.(ckpt|safetensors)"


def refuse_to_overwrite(directory: Path, option: str, prefix: str, may_overwrite: bool, advice: str) -> None:
    """Make sure that a new training may write into `directory` (given by `option`).

    Args:
        directory: of the checkpoints.
        option: names it.
        prefix: of the checkpoints' names.
        may_overwrite: whether what is there may be moved aside.
        advice: a further way out.

    Raises:
        UserError: weights of an earlier training are there, and they may not be moved.
    """
    weights = sorted(path.name for path in directory.iterdir() if re.fullmatch(re.escape(prefix) + _WEIGHTS, path.name))
    if weights and not may_overwrite:
        raise UserError(f"{option}: {directory} holds a training's result ({weights[-1]}); go on with it by --resume "
                        f"true, move it aside to {_free_place(directory)} by --overwrite true, or give another "
                        f"directory{advice}")


def move_aside(directory: Path, prefix: str, further: Collection[str], shared: Collection[str] = ()) -> Path | None:
    """Move an earlier result into a folder of its own inside `directory`, which is returned; None if there is none.

    The folder appears whole and before anything is removed, so that a killed process leaves the result in one place or
    the other. Other files stay where they are.

    Args:
        directory: of the checkpoints.
        prefix: of their names.
        further: names of the other files that a training leaves there.
        shared: names of files that the result needs and that stay, since the new training may have been given them.

    Raises:
        UserError: the folder cannot be written.
    """
    ours = re.compile(re.escape(prefix) + rf"({_WEIGHTS}|-\d+_\d+({re.escape(STATE)}|{re.escape(MANIFEST)})|_best\..*)")
    files = sorted(path for path in directory.iterdir() if path.name in further or ours.fullmatch(path.name))
    if not files:
        return None
    place = _free_place(directory)
    with failing_in_one_line(place):
        with temporary_directory(directory) as temporary:
            for path in [*files, *(directory / name for name in shared)]:
                if path.exists():
                    _duplicate(path, temporary / path.name)
            open_to_others([temporary])
            flush(temporary)
            temporary.rename(place)
        flush(directory)
        # The metrics go first, since they would be appended to under both names; a manifest goes before what it vouches
        # for, since without it nobody takes the rest for a checkpoint.
        for path in sorted(files, key=lambda path: (path.suffix != ".jsonl", path.suffix != MANIFEST)):
            path.unlink()
    return place


def _free_place(directory: Path) -> Path:
    return next(place for number in count(1) if not os.path.lexists(place := directory / f"old-{number}"))


def _duplicate(path: Path, other: Path) -> None:
    """Give a file a second name; of a link what it leads to, which stays there."""
    if path.is_symlink():
        other.symlink_to(path.resolve())
        return
    try:
        os.link(path, other)
    except OSError:  # the file system has no second names
        shutil.copy2(path, other)
        flush(other)
