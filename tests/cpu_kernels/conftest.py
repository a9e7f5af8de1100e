"""The library of CPU operators, built once for all tests here."""

import mindspore as ms
import pytest

from src.cpu_kernels import library as finder
from src.cpu_kernels.build import build
from src.errors import UserError


@pytest.fixture(scope="session", autouse=True)
def library():
    try:
        path = build()
    except UserError as error:
        pytest.skip(f"the CPU operators cannot be built: {error}")
    finder.library.cache_clear()  # it may have been asked for before there was one
    if finder.library() is None:
        pytest.skip("the CPU operators do not fit this MindSpore")
    return path


@pytest.fixture(autouse=True)
def graph_mode():
    ms.set_context(mode=ms.GRAPH_MODE)
