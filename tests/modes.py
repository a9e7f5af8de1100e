"""MindSpore's two ways of computing: a graph that is compiled first, or call by call (PyNative)."""

from collections.abc import Iterator
from contextlib import contextmanager

import mindspore as ms


@contextmanager
def computing(mode: int) -> Iterator[None]:
    """Within, networks run in `mode`, ms.GRAPH_MODE or ms.PYNATIVE_MODE; afterwards as before, whatever was set."""
    before = ms.get_context("mode")
    ms.set_context(mode=mode)
    try:
        yield
    finally:
        ms.set_context(mode=before)
