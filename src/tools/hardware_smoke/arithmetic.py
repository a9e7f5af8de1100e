"""Arithmetic that the library relies on: integers that wrap around, and norms that no float16 takes part in."""

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from src.device_forms import Operation, device_forms
from src.tools.hardware_smoke.networks import compute
from src.tools.hardware_smoke.outcome import Outcome, Setting, judge

FACTOR = 569420461  # any large odd number
SHIFT = 15
COUNT = 100_000
# Relative. Clipping and LAMB would not notice more, and float16 on the way would be off by far more.
NORM_TOLERANCE = 1e-3


class Integers(nn.Cell):
    """The operations of a multiplicative hash."""

    def __init__(self) -> None:
        super().__init__()
        self.shift: Operation = ops.bitwise_right_shift
        self.xor: Operation = ops.bitwise_xor

    def construct(self, x: Tensor) -> tuple[Tensor, ...]:
        """Map int32 [n] to products, sums, shifted and xor-ed numbers."""
        shifted = self.shift(x, SHIFT)
        return x * FACTOR, x + FACTOR, shifted, self.xor(x, shifted)


def check_wrap_around(setting: Setting) -> Outcome:
    """Products and sums of int32 keep their lowest 32 bits, and a shift to the right keeps the sign."""
    x = np.random.default_rng(0).integers(-(1 << 31), 1 << 31, COUNT).astype(np.int32)
    x[:4] = np.iinfo(np.int32).min, np.iinfo(np.int32).max, -1, 0
    wide = x.astype(np.int64)
    expected = [value.astype(np.int32) for value in (wide * FACTOR, wide + FACTOR, wide >> SHIFT, wide ^ wide >> SHIFT)]
    wrong = [int((found.asnumpy() != wanted).sum()) for found, wanted in
             zip(compute(Integers(), Tensor(x, ms.int32)), expected, strict=True)]
    named = ", ".join(f"{name} {count}" for name, count in zip(("Mul", "Add", "RightShift", "Xor"), wrong, strict=True))
    return judge(not any(wrong), f"wrong of {COUNT}: {named}")


class Norm(nn.Cell):
    """The squared norm as this device computes it."""

    def __init__(self) -> None:
        super().__init__()
        self.squared_norm = device_forms().squared_norm

    def construct(self, x: Tensor) -> Tensor:
        """Map float32 of any shape to float32 []."""
        return self.squared_norm(x)


def check_norms(setting: Setting) -> Outcome:
    """Norms of weights, and of gradients with and without a loss scale, against float64.

    The squares of the scaled ones pass 65504, where float16 ends; those of the small ones are zero in float16.
    """
    norm = Norm()
    x = np.random.default_rng(0).standard_normal((setting.values // 512, 512), np.float32)
    errors = {}
    for name, size in (("weights", 0.02), ("gradients", 1e-6), ("gradients x 65536", 1e-6 * 65536),
                       ("large gradients x 65536", 1e-2 * 65536)):
        values = np.float32(size) * x
        expected = np.sqrt(np.square(values, dtype=np.float64).sum())
        errors[name] = abs(np.sqrt(float(compute(norm, Tensor(values)).asnumpy())) / expected - 1)
    # A number that is not finite is not below the tolerance either.
    return judge(all(error < NORM_TOLERANCE for error in errors.values()),
                 f"relative error of {x.size} values: "
                 + ", ".join(f"{name} {error:.1e}" for name, error in errors.items())
                 + f"; allowed {NORM_TOLERANCE:.0e}")
