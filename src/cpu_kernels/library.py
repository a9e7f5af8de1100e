"""Find the library of CPU operators, and say whether it can be used in this process."""

import ctypes
import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

BUILD_COMMAND = "python -m src.cpu_kernels.build"
FOLDER = Path(__file__).resolve().parent
# Numbers may be NaN or infinite, and sums are reordered only where the source says so: the flags must not touch that.
FLAGS = ("-std=c++17", "-O3", "-march=native", "-mprefer-vector-width=512", "-fopenmp-simd", "-fno-math-errno",
         "-fno-trapping-math", "-fPIC", "-shared", "-pthread", "-Wall", "-Wextra")


def library_path() -> Path:
    """Where the library belongs that fits the sources, this MindSpore and this processor.

    Its folder is $CPU_KERNELS_DIR, or one beside the sources.
    """
    key = hashlib.sha256()
    for source in sorted([*FOLDER.glob("*.cc"), *FOLDER.glob("*.h")]):
        key.update(source.name.encode() + source.read_bytes())
    for part in (*FLAGS, _mindspore_version(), _processor()):
        key.update(part.encode())
    folder = Path(os.environ.get("CPU_KERNELS_DIR") or FOLDER / "build")
    return folder / f"libcpu_kernels-{key.hexdigest()[:16]}.so"


def _mindspore_version() -> str:
    try:
        return version("mindspore")
    except PackageNotFoundError:
        return ""


def _processor() -> str:
    """Model and instructions of the processor, on which -march=native depends."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return "\n".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))


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


_threads = 0  # one for each core of this process


def limit_threads(count: int) -> None:
    """Let the operators work on so many threads, unless the user's OMP_NUM_THREADS gives another number.

    To be called before the library is looked for, which tells it.
    """
    global _threads
    _threads = count


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
    threads = os.environ.get("OMP_NUM_THREADS", "")  # the user's, as Python read it before MindSpore changed it
    loaded.cpu_kernels_ask_for_threads(int(threads) if threads.isdecimal() else _threads)
    loaded.cpu_kernels_misfit.restype = ctypes.c_char_p
    misfit = loaded.cpu_kernels_misfit().decode()
    return f"for {misfit}" if misfit else None
