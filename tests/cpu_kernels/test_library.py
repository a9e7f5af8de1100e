"""Building the library, finding it, and saying what is missed without it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from src.bert_model import float_type
from src.cpu_kernels import build as builder
from src.cpu_kernels import library as finder
from src.errors import UserError
from src.layers import tensor_type
from src.model_utils.device_adapter import resolve_compute_type

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def other_folder(tmp_path, monkeypatch):
    """A folder without a library."""
    monkeypatch.setenv("CPU_KERNELS_DIR", str(tmp_path / "kernels"))
    finder.library.cache_clear()
    finder.report_missing.cache_clear()
    yield tmp_path / "kernels"
    monkeypatch.undo()
    finder.library.cache_clear()
    finder.report_missing.cache_clear()


def test_build_again_keeps_the_file(library):
    before = library.stat().st_mtime_ns
    assert builder.build() == library
    assert library.stat().st_mtime_ns == before
    assert not [path for path in library.parent.iterdir() if path.is_dir()]


def test_no_compiler(other_folder, monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(UserError, match=r"no C\+\+ compiler found, neither \$CXX nor g\+\+ nor clang\+\+"):
        builder.build()


def test_compiler_that_fails(other_folder, monkeypatch):
    monkeypatch.setenv("CXX", "false")
    with pytest.raises(UserError, match="false cannot build the CPU operators"):
        builder.build()
    assert not list(other_folder.iterdir())


def test_not_built(other_folder, capsys):
    assert finder.library() is None
    assert not finder.usable()
    finder.report_missing()
    finder.report_missing()
    line, = capsys.readouterr().err.splitlines()
    assert "the CPU operators are not built; `python -m src.cpu_kernels.build` builds them" in line


def test_damaged(other_folder, capsys):
    path = builder.library_path()
    path.parent.mkdir()
    path.write_bytes(b"no library")
    assert finder.library() is None
    finder.report_missing()
    assert "cannot be loaded" in capsys.readouterr().err


def test_mindspore_whose_onednn_does_not_fit(tmp_path, library):
    """In a process without MindSpore's oneDNN the library says so instead of failing at the first product."""
    code = ("import ctypes, sys; library = ctypes.CDLL(sys.argv[1]); f = library.cpu_kernels_misfit; "
            "f.restype = ctypes.c_char_p; print(f().decode())")
    done = subprocess.run([sys.executable, "-c", code, str(library)], capture_output=True, text=True, check=True)
    assert done.stdout == "this MindSpore has no libdnnl.so.3 (oneDNN 3)\n"


def test_bfloat16_without_the_library(other_folder, capsys):
    assert resolve_compute_type("CPU", "bfloat16", asked_for=True) == "float32"
    assert "float32 in place of bfloat16, for the CPU operators are not built" in capsys.readouterr().err


def test_bfloat16_of_an_exported_model(capsys):
    with finder.plain_operators():
        assert resolve_compute_type("CPU", "bfloat16", asked_for=True) == "float32"
    assert "exported model" in capsys.readouterr().err


def test_network_in_bfloat16_without_the_library(other_folder):
    with pytest.raises(UserError, match="compute_type: bfloat16 cannot be used, for the CPU operators are not built"):
        tensor_type(float_type("bfloat16", "compute_type"))


@pytest.mark.parametrize(("asked_for", "limit", "threads"), [({"OMP_NUM_THREADS": "3"}, 5, 3), ({}, 5, 5),
                                                             ({}, 0, len(os.sched_getaffinity(0)))])
def test_number_of_threads(library, asked_for, limit, threads):
    """MindSpore sets OMP_NUM_THREADS to 1 for itself when it is imported."""
    code = (f"import ctypes; from src.cpu_kernels.library import library, limit_threads; limit_threads({limit})\n"
            "print(ctypes.CDLL(str(library())).cpu_kernels_threads())")
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"} | asked_for
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT,
                          env=environment)
    assert done.stdout == f"{threads}\n"


@pytest.mark.slow
def test_operators_on_five_threads(library):
    """The comparison with NumPy holds for more threads than there are cores, too; the suite runs on one thread."""
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "tests/cpu_kernels/test_operators.py", "-k",
                           "sizes2 or sizes3 or shared_table", "--durations=0"], cwd=ROOT, capture_output=True,
                          text=True, check=False, env={
                              name: value for name, value in os.environ.items() if name != "MS_CUSTOM_AOT_WHITE_LIST"
                          } | {"OMP_NUM_THREADS": "5"})
    assert done.returncode == 0, done.stdout
