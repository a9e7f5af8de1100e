"""Optimizers and their schedules from the groups of the configuration."""

from collections.abc import Mapping
from typing import Any

from mindspore import nn

from src.errors import UserError
from src.training.optimizer import AdamWeightDecay, Lamb, Momentum, Optimizer, WarmUpPolynomialDecay
from src.training.thor import Thor

OPTIMIZERS = {"Lamb": Lamb, "AdamWeightDecay": AdamWeightDecay, "Momentum": Momentum}
THOR = "Thor"  # takes the network, not its weights, and a second schedule


def create_optimizer(name: str, network: nn.Cell, group: Mapping[str, Any], total_steps: int) -> Optimizer:
    """Build the optimizer called `name` for the trainable weights of `network`.

    `group` holds the configuration keys of that optimizer: those of the schedule (`take_schedule`) and the arguments
    of its class. `layer_decay` is that of `layer_rates`.
    """
    if name not in (*OPTIMIZERS, THOR):
        raise UserError(f"optimizer: unknown optimizer '{name}'; choose one of {', '.join((*OPTIMIZERS, THOR))}")
    schedule, options = take_schedule(group, total_steps)
    if name == THOR:
        damping, options = take_schedule(options, total_steps, "damping", "damping_")
        return Thor(network, schedule, damping, **options)
    return OPTIMIZERS[name](network.trainable_params(), schedule, **options)


def take_schedule(group: Mapping[str, Any], total_steps: int, value: str = "learning_rate", prefix: str = ""
                  ) -> tuple[WarmUpPolynomialDecay, dict[str, Any]]:
    """The schedule of `value` that a group describes, and the rest of the group.

    Without an end the value is constant; `decay_steps` 0 means the whole run of `total_steps` updates. `prefix` begins
    the names of the schedule's other keys.
    """
    rest = dict(group)
    start = rest.pop(value)
    end = rest.pop(f"end_{value}", start)
    warmup_steps, decay_steps, power = (rest.pop(prefix + key, default) for key, default in
                                        (("warmup_steps", 0), ("decay_steps", 0), ("power", 1.0)))
    return WarmUpPolynomialDecay(start, end, warmup_steps, decay_steps or total_steps, power), rest
