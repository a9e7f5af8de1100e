"""Build the library of CPU operators: python -m src.cpu_kernels.build

It needs a C++17 compiler: $CXX, or g++, or clang++. The result is for this processor and this MindSpore; networks that
are built afterwards use it.
"""

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

# To run as a file as well: python src/cpu_kernels/build.py
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from src.cpu_kernels.library import FLAGS, FOLDER, library_path  # noqa: E402
from src.errors import UserError, run_script  # noqa: E402

MINUTES = 10


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


def _main() -> None:
    there = library_path().exists()
    print(f"{build()}{' was there already' if there else ''}")


if __name__ == "__main__":
    run_script(_main)
