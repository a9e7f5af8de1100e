"""The library of CPU operators, built once for all tests here."""

import pytest

from src.cpu_kernels import library as finder
from src.cpu_kernels.build import build
from src.errors import UserError


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Where the library is built, once."""
    return tmp_path_factory.mktemp("cpu_kernels")


@pytest.fixture(scope="module", autouse=True)
def library(folder):
    """There for the tests of a file, and gone behind them: no other test may compute with it by chance."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CPU_KERNELS_DIR", str(folder))
        finder.library.cache_clear()  # it may have been asked for before there was one
        try:
            path = build()
        except UserError as error:
            pytest.skip(f"the CPU operators cannot be built: {error}")
        if finder.library() is None:
            pytest.skip("the CPU operators do not fit this MindSpore")
        yield path
    finder.library.cache_clear()


@pytest.fixture(autouse=True)
def compiled(graph_mode):
    """The operators are for graphs."""
