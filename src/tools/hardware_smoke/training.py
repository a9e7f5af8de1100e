"""Trainings that must come out alike: accumulated or not, by the device's queue or not, interrupted or not."""

from pathlib import Path

import mindspore.train
import numpy as np

from src.checkpoint_files import newest_in
from src.dataset import PRETRAIN_TYPES, BatchStream, open_records
from src.records.columns import pretrain_columns
from src.records.writer import RecordWriter
from src.tools.hardware_smoke.networks import (
    MOMENTUM,
    PREDICTIONS,
    pretraining_network,
    pretraining_rows,
    run,
    step_of,
    tensors,
    tiny_config,
    weights_of,
)
from src.tools.hardware_smoke.outcome import Outcome, Setting, judge, skip
from src.training.callbacks import RunPlan, arguments_of
from src.training.checkpoint import restore_training, save_training_checkpoint
from src.training.loop import train
from src.training.train_step import LossScale

ROWS, STEPS = 8, 4
SINK_SIZES = (0, 1, 4)  # 0 is without the queue
# Of what must be the same but for the order of sums, relative to the way that the weights went; other rows or other
# dropout masks would make it about 1.
REPEAT_TOLERANCE = 1e-2


def check_accumulation(setting: Setting) -> Outcome:
    """Two batches of 4 rows move the weights as one of 8 does."""
    config = tiny_config(setting)
    columns = tensors(pretraining_rows(config, ROWS))
    results = []
    for count in (1, 2):
        network = pretraining_network(config)
        before = weights_of(network)
        loss, _, _ = run(step_of(network, "Momentum", MOMENTUM, accumulation_steps=count), columns)
        results.append((loss, weights_of(network) - before))
    difference = distance(*results)
    return judge(difference <= setting.tolerance, f"losses {results[0][0]:.6f}, {results[1][0]:.6f}; relative "
                                                  f"difference {difference:.1e}, allowed {setting.tolerance:.0e}")


def check_data_sink(setting: Setting) -> Outcome:
    """Steps that the device takes from its queue, one or four at a time, train as those from the host do."""
    if setting.target == "CPU":
        return skip("a CPU has no queue of its own")
    return compare_sinks(setting, SINK_SIZES)


def compare_sinks(setting: Setting, sizes: tuple[int, ...]) -> Outcome:
    """Train with each sink size from the same weights."""
    write_records(setting, setting.directory / "records")
    results = {size: train_through(setting, size) for size in sizes}
    expected, *others = results.values()
    losses = ", ".join(f"{size or 'off'} {loss:.6f}" for size, (loss, _) in results.items())
    difference = max(distance(expected, other) for other in others)
    return judge(difference <= REPEAT_TOLERANCE, f"loss of step {STEPS} by sink size: {losses}; relative difference "
                                                 f"{difference:.1e}, allowed {REPEAT_TOLERANCE:.0e}")


def distance(expected: tuple[float, np.ndarray], found: tuple[float, np.ndarray]) -> float:
    """The relative difference of two results, the larger of those of the loss and of the update of the weights."""
    (loss, update), (other_loss, other_update) = expected, found
    return max(abs(other_loss / loss - 1), float(np.linalg.norm(other_update - update) / np.linalg.norm(update)))


def write_records(setting: Setting, directory: Path) -> None:
    """Records for `STEPS` steps."""
    directory.mkdir()
    config = tiny_config(setting)
    with RecordWriter(directory / "smoke.mindrecord", pretrain_columns(config.seq_length, PREDICTIONS),
                      "mindrecord") as writer:
        writer.write(pretraining_rows(config, ROWS * STEPS))


def train_through(setting: Setting, sink_size: int) -> tuple[float, np.ndarray]:
    """The loss of the last step and the update of all weights by a training with `src.training.loop`."""
    config = tiny_config(setting, dropout=0.1)
    network = pretraining_network(config)
    before = weights_of(network)
    step = step_of(network, loss_scale=LossScale(1024.0))
    stream = BatchStream(open_records(setting.directory / "records", "mindrecord", PRETRAIN_TYPES, option="records",
                                      seq_length=config.seq_length), ROWS, STEPS, seed=1)
    last = LastLoss()
    train(step, stream, RunPlan(0, STEPS, ROWS, ROWS * STEPS), [last], sink_size)
    return last.loss, weights_of(network) - before


class LastLoss(mindspore.train.Callback):
    """Keeps the loss of the newest step."""

    loss = float("nan")

    def on_train_step_end(self, run_context: mindspore.train.RunContext) -> None:
        """Read it."""
        self.loss = float(arguments_of(run_context).net_outputs[0].asnumpy())


def check_resume(setting: Setting) -> Outcome:
    """Two steps, a checkpoint, and two more steps of a fresh network that starts from it, against four in a row."""
    config = tiny_config(setting, dropout=0.1)
    batches = [tensors(pretraining_rows(config, ROWS, seed)) for seed in range(STEPS)]
    half = STEPS // 2
    network = pretraining_network(config)
    before = weights_of(network)
    step = step_of(network, loss_scale=LossScale(1024.0, window=2))
    for batch in batches[:half]:
        run(step, batch)
    save_training_checkpoint(setting.directory, 1, half, step, {}, keep=1)
    fresh = pretraining_network(config, seed=1)
    resumed = step_of(fresh, loss_scale=LossScale(1024.0, window=2))
    restore_training(resumed, newest_in(setting.directory))
    results = []
    for one in (step, resumed):
        loss = [run(one, batch)[0] for batch in batches[half:]][-1]
        results.append((loss, weights_of(one.network) - before))
    difference = distance(*results)
    allowed = 0.0 if setting.target == "CPU" else REPEAT_TOLERANCE  # what README.md says of a CPU
    return judge(difference <= allowed, f"losses of step {STEPS} {results[0][0]:.7f}, {results[1][0]:.7f}; relative "
                                        f"difference {difference:.1e}, 0 is the same digits, allowed {allowed:g}")
