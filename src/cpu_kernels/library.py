"""Find the library of CPU operators, and say whether it can be used in this process."""

import ctypes
import os
import sys
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
        print(f"CPU operators: not used, {misfit}", file=sys.stderr, flush=True)


def has_bfloat16() -> bool:
    """Whether there is a library, and the processor multiplies bfloat16 faster than float32 (avx512_bf16)."""
    path = library()
    return path is not None and bool(ctypes.CDLL(str(path)).cpu_kernels_has_bfloat16())


def _misfit(path: Path) -> str | None:
    if not path.exists():
        return f"for they are not built; with a C++ compiler `{BUILD_COMMAND}` makes training faster"
    import mindspore  # noqa: F401 - its oneDNN must be there when the library looks for it

    try:
        loaded = ctypes.CDLL(str(path))
    except OSError as error:
        return f"for {path} cannot be loaded: {str(error).splitlines()[0]}"
    loaded.cpu_kernels_misfit.restype = ctypes.c_char_p
    return loaded.cpu_kernels_misfit().decode() or None
