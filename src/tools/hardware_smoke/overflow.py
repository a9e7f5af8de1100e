"""Gradients that are not finite are seen, skip the update and lower the loss scale."""

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from src.tools.hardware_smoke.networks import (
    MOMENTUM,
    pretraining_network,
    pretraining_rows,
    run,
    step_of,
    tensors,
    tiny_config,
    weights_of,
)
from src.tools.hardware_smoke.outcome import Outcome, Setting, judge
from src.training.train_step import LossScale

ROWS, WIDTH = 64, 16
HUGE_SCALE, FALL = 2.0**120, 2.0**110


class Product(nn.Cell):
    """A product of matrices, whose gradient is the sum of the rows of its input."""

    def __init__(self, compute_type: ms.Type) -> None:
        super().__init__()
        self.compute_type = compute_type
        self.weight = Parameter(Tensor(np.full((WIDTH, WIDTH), 0.01, np.float32)), name="weight")

    def construct(self, x: Tensor) -> Tensor:
        """Map x float32 [ROWS,WIDTH] to the sum of the product, a float32 scalar."""
        product = ops.matmul(x.astype(self.compute_type), self.weight.astype(self.compute_type))
        return product.astype(ms.float32).sum()


def check_overflow_is_seen(setting: Setting) -> Outcome:
    """A step tells inf and nan, and a sum that leaves float16 inside of a product, from good gradients.

    A device that saturates makes 65504 of that sum, which looks like any other number.
    """
    # 64 rows of 2000 sum up to 128000.
    wanted = {"float32": {"good": 1.0, "inf": np.inf, "nan": np.nan}, "float16": {"good": 1.0, "beyond 65504": 2000.0}}
    seen, wrong = [], []
    for name, inputs in wanted.items():
        network = Product(getattr(ms, name))
        step = step_of(network, "Momentum", MOMENTUM)
        for kind, value in inputs.items():
            before = weights_of(network)
            x = np.ones((ROWS, WIDTH), np.float32)
            x[:, 0] = value
            _, overflow, _ = run(step, [Tensor(x)])
            moved = not np.array_equal(before, weights_of(network))
            seen.append(f"{name} {kind}: {'overflow' if overflow else 'no overflow'}, "
                        f"weights {'moved' if moved else 'kept'}")
            if overflow == (kind == "good") or moved != (kind == "good"):
                wrong.append(seen[-1])
    return judge(not wrong, f"{len(seen) - len(wrong)} of {len(seen)} as expected" + "".join(f"; {w}" for w in wrong),
                 *seen)


def check_overflow_skips(setting: Setting) -> Outcome:
    """A loss scale that is far too large skips the update and falls; with the next one the network learns."""
    config = tiny_config(setting)
    network = pretraining_network(config)
    step = step_of(network, loss_scale=LossScale(HUGE_SCALE, FALL))
    columns = tensors(pretraining_rows(config, 8))
    before = weights_of(network)
    first, overflow, scale = run(step, columns)
    kept = np.array_equal(before, weights_of(network))
    steps = [run(step, columns) for _ in range(2)]
    (second, overflow_2, scale_2), (third, overflow_3, _) = steps
    good = (overflow and kept and scale == HUGE_SCALE and scale_2 == HUGE_SCALE / FALL and second == first
            and not overflow_2 and not overflow_3 and third < second)
    return judge(good, f"scale {scale:.3g}: {'overflow' if overflow else 'no overflow'}, weights "
                       f"{'kept' if kept else 'moved'}; scale {scale_2:g}: losses {second:.6f}, {third:.6f}, "
                       f"{'overflow' if overflow_2 or overflow_3 else 'no overflow'}")
