"""The library of CPU operators, built once for all tests here."""

import os

import pytest

from src.cpu_kernels import library as finder
from src.cpu_kernels.build import build
from src.errors import UserError


@pytest.fixture(scope="package", autouse=True)
def library(tmp_path_factory):
    """In a folder of its own, and gone when the last test here is done: no other test may compute with it by chance."""
    before = os.environ.get("CPU_KERNELS_DIR")
    os.environ["CPU_KERNELS_DIR"] = str(tmp_path_factory.mktemp("cpu_kernels"))
    finder.library.cache_clear()  # it may have been asked for before there was one
    try:
        path = build()
        if finder.library() is None:
            pytest.skip("the CPU operators do not fit this MindSpore")
        yield path
    except UserError as error:
        pytest.skip(f"the CPU operators cannot be built: {error}")
    finally:
        os.environ.pop("CPU_KERNELS_DIR")
        if before is not None:
            os.environ["CPU_KERNELS_DIR"] = before
        finder.library.cache_clear()


@pytest.fixture(autouse=True)
def compiled(graph_mode):
    """The operators are for graphs."""
