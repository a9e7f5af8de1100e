"""Find the library of CPU operators, and say whether it can be used in this process."""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from src.cpu_kernels.build import library_path

BUILD_COMMAND = "python -m src.cpu_kernels.build"


@cache
def library() -> Path | None:
    """The library, or None when it is not built or does not fit."""
    path = library_path()
    if _misfit(path) is not None:
        return None
    # MindSpore reads this list of folders from which it takes operators without a warning.
    os.environ.setdefault("MS_CUSTOM_AOT_WHITE_LIST", str(path.parent))
    return path


@cache
def report_missing() -> None:
    """Say once on standard error what is missed without the library, if it cannot be used."""
    misfit = _misfit(library_path())
    if misfit is not None:
        print(f"training is slower than it could be, {misfit}", file=sys.stderr, flush=True)


_plain = False


@contextmanager
def plain_operators() -> Iterator[None]:
    """Build networks of MindSpore's own operators only, as an exported model needs them."""
    global _plain
    before, _plain = _plain, True
    try:
        yield
    finally:
        _plain = before


def usable() -> bool:
    """Whether what is built now may use the library."""
    return not _plain and library() is not None


def bfloat16_misfit() -> str | None:
    """Why products cannot be computed in bfloat16 now; None if they can."""
    if _plain:
        return "for an exported model has MindSpore's own operators only"
    misfit = _misfit(library_path())
    if misfit is None and not ctypes.CDLL(str(library())).cpu_kernels_has_bfloat16():
        return "which this processor multiplies no faster (it has no avx512_bf16)"
    return misfit


def _misfit(path: Path) -> str | None:
    if not path.exists():
        return f"for the CPU operators are not built; `{BUILD_COMMAND}` builds them, it needs a C++ compiler"
    import mindspore  # noqa: F401 - its oneDNN must be there when the library looks for it

    try:
        loaded = ctypes.CDLL(str(path))
    except OSError as error:
        return f"for {path} cannot be loaded: {str(error).splitlines()[0]}"
    loaded.cpu_kernels_misfit.restype = ctypes.c_char_p
    misfit = loaded.cpu_kernels_misfit().decode()
    return f"for {misfit}" if misfit else None
