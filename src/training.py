"""Run optimizer steps: the stream of batches, the step cell and the callbacks under MindSpore's `Model.train`."""

import math
from collections.abc import Sequence

from mindspore import nn
from mindspore.train import Callback, Model

from src.dataset import BatchStream, create_dataset, user_errors_of


def train(step_cell: nn.Cell, stream: BatchStream, callbacks: Sequence[Callback], sink_steps: int = 0) -> None:
    """Run every step that is left in the stream.

    Args:
        step_cell: takes a step's batch and returns (loss, overflow, loss scale).
        stream: yields one batch per optimizer step.
        callbacks: called after every step, or after every `sink_steps` steps.
        sink_steps: steps that the device takes from its queue before it returns to the host (Ascend and GPU only);
            0 hands over every batch from the host. Lowered to a divisor of the steps that are left.

    Raises:
        UserError: a record does not fit the network, or the loss diverged.
    """
    steps = len(stream)
    if not steps:
        return
    model = Model(step_cell)
    with user_errors_of(stream):
        if sink_steps:
            sink_steps = math.gcd(steps, sink_steps)
            model.train(steps // sink_steps, create_dataset(stream), list(callbacks), dataset_sink_mode=True,
                        sink_size=sink_steps)
        else:
            model.train(1, create_dataset(stream), list(callbacks), dataset_sink_mode=False)
