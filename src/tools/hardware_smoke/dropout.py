"""Dropout drops the right share, everywhere something else, and the same again."""

from itertools import combinations

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn

from src.device_forms import Operation
from src.dropout import Dropout
from src.tools.hardware_smoke.networks import run, step_of, weights_of
from src.tools.hardware_smoke.outcome import Outcome, Setting, judge
from src.training.train_step import TrainStep

RATE = 0.1
SHAPE = (256, 1024)
CALLS = 3
DEVIATIONS = 5.0  # standard deviations that a share may be off; by chance one of a million checks would fail


class TwoLayers(nn.Cell):
    """Two dropout cells over weights, whose gradients are therefore the masks."""

    def __init__(self) -> None:
        super().__init__()
        self.first = Parameter(Tensor(np.zeros(SHAPE, np.float32)), name="first")
        self.second = Parameter(Tensor(np.zeros(SHAPE, np.float32)), name="second")
        self.dropout_1: Operation = Dropout(RATE)
        self.dropout_2: Operation = Dropout(RATE)

    def construct(self, x: Tensor) -> Tensor:
        """Map x, float32 [], to a float32 scalar."""
        return (self.dropout_1(self.first) + self.dropout_2(self.second)).sum() * x


def masks(step: TrainStep) -> list[np.ndarray]:
    """The factors of both layers in each of `CALLS` steps of the plainest descent, [elements] each."""
    found = []
    before = weights_of(step.network)
    for _ in range(CALLS):
        run(step, [Tensor(1.0, ms.float32)])
        after = weights_of(step.network)
        found += np.split(before - after, 2)
        before = after
    return found


def check_dropout(setting: Setting) -> Outcome:
    """Share of zeros, whether masks of layers and calls are independent, and whether a saved state repeats them."""
    step = step_of(TwoLayers(), "Momentum", {"learning_rate": 1.0, "momentum": 0.0}, clip_norm=None, seed=1)
    state = {name: value.asnumpy().copy() for name, value in step.state().items()}
    factors = masks(step)
    for name, value in step.state().items():
        value.set_data(Tensor(state[name], value.dtype))
    again = masks(step)
    other = masks(step_of(TwoLayers(), "Momentum", {"learning_rate": 1.0, "momentum": 0.0}, clip_norm=None, seed=2))

    zeros = [np.abs(factor) < 0.5 for factor in factors]
    kept = np.concatenate([factor[~zero] for factor, zero in zip(factors, zeros, strict=True)])
    scale_error = float(np.abs(kept - 1 / (1 - RATE)).max())
    size = zeros[0].size
    worst_share = max((zero.mean() for zero in zeros), key=lambda share: abs(share - RATE))
    together = [(one & another).mean() for one, another in
                [*combinations(zeros, 2), *zip(zeros, (np.abs(factor) < 0.5 for factor in other), strict=True)]]
    worst_together = max(together, key=lambda share: abs(share - RATE**2))
    repeats = all(np.allclose(one, another, atol=1e-3) for one, another in zip(factors, again, strict=True))
    good = (scale_error < 1e-3 and abs(worst_share - RATE) < bound(RATE, size)
            and abs(worst_together - RATE**2) < bound(RATE**2, size) and repeats)
    return judge(good, f"zeros {worst_share:.5f} (0.1 +- {bound(RATE, size):.5f}); in two masks {worst_together:.5f} "
                       f"(0.01 +- {bound(RATE**2, size):.5f}); the others off by {scale_error:.0e}; "
                       f"{'the same' if repeats else 'NOT the same'} from a saved state")


def bound(share: float, count: int) -> float:
    """How far the share of `count` draws may be from the true one."""
    return DEVIATIONS * float(np.sqrt(share * (1 - share) / count))
