"""The random weights that networks are born with.

Like PyTorch's, a network here is ready to be trained as soon as it is constructed. The numbers follow NumPy's global
generator, which `mindspore.set_seed` and `numpy.random.seed` seed: two constructions after the same seed are equal.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np
from mindspore import Tensor

CHUNK = 1 << 18  # numbers drawn at a time: 1 MB stays in the cache

_are_drawn = ContextVar("are_drawn", default=True)


@contextmanager
def undrawn_weights() -> Iterator[None]:
    """Let the networks constructed inside start from zeros: for whoever loads or draws all weights right after.

    It saves two seconds with BERT-base. The scripts draw by `src.bert_for_pre_training.initialize_parameters`, whose
    numbers depend on the seed and the parameter's name only.
    """
    before = _are_drawn.set(False)
    try:
        yield
    finally:
        _are_drawn.reset(before)


def random_weight(shape: tuple[int, ...], standard_deviation: float) -> Tensor:
    """Draw the first value of a weight, float32, by `truncated_normal`; zeros within `undrawn_weights`."""
    if not _are_drawn.get():
        return Tensor(np.zeros(shape, np.float32))
    return Tensor(truncated_normal(shape, standard_deviation, tuple(np.random.randint(1 << 31, size=4).tolist())))


def truncated_normal(shape: tuple[int, ...], standard_deviation: float, key: tuple[int, ...]) -> np.ndarray:
    """Draw a float32 array from the normal distribution without what lies beyond two standard deviations.

    `key` alone determines the numbers.
    """
    generator = np.random.Generator(np.random.SFC64(key))
    values = np.empty(int(np.prod(shape)), np.float32)
    for start in range(0, values.size, CHUNK):
        part = values[start:start + CHUNK]
        generator.standard_normal(out=part, dtype=np.float32)
        outside = np.flatnonzero(np.abs(part) > 2)
        while outside.size:
            redrawn = generator.standard_normal(outside.size, dtype=np.float32)
            part[outside] = redrawn
            outside = outside[np.abs(redrawn) > 2]
        part *= np.float32(standard_deviation)
    return values.reshape(shape)
