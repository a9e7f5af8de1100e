"""Build the library of CPU operators: python -m src.cpu_kernels.build

It needs a C++17 compiler: $CXX, or g++, or clang++. The result is for this processor and this MindSpore; networks that
are built afterwards use it.
"""

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

# To run as a file as well: python src/cpu_kernels/build.py
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from src.errors import UserError, run_script  # noqa: E402

FOLDER = Path(__file__).resolve().parent
# Numbers may be NaN or infinite, and sums are reordered only where the source says so: the flags must not touch that.
FLAGS = ("-std=c++17", "-O3", "-march=native", "-mprefer-vector-width=512", "-fopenmp-simd", "-fno-math-errno",
         "-fno-trapping-math", "-fPIC", "-shared", "-pthread", "-Wall", "-Wextra")
MINUTES = 10


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


def build() -> Path:
    """Compile the library unless it is there; return it.

    Raises:
        UserError: there is no compiler, or it fails.
    """
    path = library_path()
    if path.exists():
        return path
    command = [*_compiler(), *FLAGS]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as temporary:
            partial = Path(temporary) / path.name
            _run([*command, *map(str, sorted(FOLDER.glob("*.cc"))), "-ldl", "-o", str(partial)])
            partial.replace(path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; name another folder in CPU_KERNELS_DIR") from error
    return path


def _compiler() -> list[str]:
    for name in ("CXX", "g++", "clang++"):
        command = shlex.split(os.environ.get("CXX", "")) if name == "CXX" else [name]
        if command and shutil.which(command[0]):
            return command
    raise UserError("no C++ compiler found, neither $CXX nor g++ nor clang++; install one (Debian and Ubuntu: "
                    "apt install g++)")


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60 * MINUTES, check=False)
    except subprocess.TimeoutExpired:
        raise UserError(f"{command[0]} did not finish within {MINUTES} minutes") from None
    if done.returncode:
        first = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr.strip()[:300])
        raise UserError(f"{command[0]} cannot build the CPU operators: {first}; needed is a compiler of C++17, another "
                        f"one can be named in CXX")


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


def _main() -> None:
    there = library_path().exists()
    print(f"{build()}{' was there already' if there else ''}")


if __name__ == "__main__":
    run_script(_main)
