"""What happens around the optimizer steps: log lines, progress, evaluation, checkpoints, the end of a diverged run.

Callbacks are MindSpore's, told by `Model.train` after each step (with data sink: after each `data_sink_steps` steps).
Ours see a step as a `StepReport`, the step in numbers, which `src/training/loop.py` puts into MindSpore's arguments; so
may others: `run_context.original_args().step_report`. To read numbers from a device means to wait for it: there the
reports of several steps come together, when one of them is wanted.
"""

import math
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, ClassVar

import mindspore.train
from mindspore import Tensor, nn
from mindspore.train import RunContext
from tqdm import tqdm

from src.checkpoint_files import PREFIX, list_checkpoints
from src.errors import UserError
from src.training.checkpoint import remove_old_checkpoints, save_training_checkpoint
from src.training.optimizer import Optimizer

RATE_WINDOW = 20  # steps over which samples/s is averaged: long enough to be steady, short enough to show a slow-down
# tqdm's own form leaves no room for samples/s in 80 columns: it tells the elapsed time and the steps per second too.
_BAR = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}{postfix}"


@dataclass(frozen=True)
class RunPlan:
    """How long a run is: from `start_step` (0, or where a checkpoint stopped) to `total_steps` optimizer steps.

    `samples_per_step` counts all ranks and accumulated micro-batches; `samples_per_epoch` is the size of the data set.
    """

    start_step: int
    total_steps: int
    samples_per_step: int
    samples_per_epoch: int

    def epochs_at(self, step: int) -> float:
        """Epochs completed after `step` optimizer steps, with the fraction."""
        return step * self.samples_per_step / self.samples_per_epoch


@dataclass(frozen=True)
class StepReport:
    """One optimizer step in numbers; rate in samples of all ranks per second, times in seconds."""

    step: int
    epochs: float
    loss: float
    overflow: bool
    loss_scale: float
    learning_rate: float
    samples_per_second: float
    seconds_left: float

    def log_line(self) -> str:
        """The line that users of the original grep for, with rate and time left behind it."""
        percent, epoch = math.modf(self.epochs)
        if percent == 0.0:  # the last step of an epoch still belongs to it
            percent, epoch = 1.0, epoch - 1
        return (f"epoch: {epoch:.1f}, current epoch percent: {percent:.3f}, step: {self.step}, outputs are "
                f"(Tensor(shape=[1], dtype=Float32, [ {self.loss:.7e}]), "
                f"Tensor(shape=[], dtype=Bool, {self.overflow}), "
                f"Tensor(shape=[], dtype=Float32, {self.loss_scale:g})), "
                f"{self.samples_per_second:.1f} samples/s, {format_duration(self.seconds_left)} left")


def format_duration(seconds: float) -> str:
    """Seconds as `h:mm:ss`; `?` while the rate is not known yet."""
    if not math.isfinite(seconds):
        return "?"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"


class StepMeter:
    """Turn what the step cell returned (loss, overflow, loss scale) into a `StepReport`, and measure the rate."""

    def __init__(self, plan: RunPlan, optimizer: Optimizer) -> None:
        """The optimizer knows its learning rate; steps that overflowed did not count for its schedule."""
        self.plan = plan
        self.optimizer = optimizer
        # (step, time) of steps that ended; the first interval is behind the first step, so compilation does not count
        self.finished: deque[tuple[int, float]] = deque(maxlen=RATE_WINDOW)

    def reports(self, ended: Sequence[tuple[int, Sequence[Tensor]]]) -> list[StepReport]:
        """Read the outputs of the steps that ended since the last call, the last of them right now.

        Args:
            ended: (step, outputs) in order, the steps counted from 1.
        """
        outputs = [[float(output.asnumpy()) for output in of_step] for _, of_step in ended]
        last = ended[-1][0]
        self.finished.append((last, time.monotonic()))
        rate = self._samples_per_second()
        seconds_left = (self.plan.total_steps - last) * self.plan.samples_per_step / rate if rate else math.inf
        updates = int(self.optimizer.global_step.asnumpy())
        reports = []
        for (step, _), (loss, overflow, loss_scale) in zip(reversed(ended), reversed(outputs), strict=True):
            reports.append(StepReport(step, self.plan.epochs_at(step), loss, bool(overflow), loss_scale,
                                      self.optimizer.learning_rate.value_at(max(updates - 1, 0)), rate, seconds_left))
            updates -= not overflow
        return reports[::-1]

    def _samples_per_second(self) -> float:
        (first_step, start), (last_step, end) = self.finished[0], self.finished[-1]
        return (last_step - first_step) * self.plan.samples_per_step / (end - start) if end > start else 0.0


class Place(IntEnum):
    """When a callback is told of a step, whatever the order of the list that it stands in."""

    GUARD = 0  # before anything is kept: a step that failed must not be saved
    RECORD = 1  # numbers into files, which evaluations add to
    SHOW = 2  # what a user sees
    EVALUATE = 3  # before the checkpoint: a run that is killed in between then evaluates this step again
    SAVE = 4
    DRAW = 5  # at the end, from what was recorded


class Callback(mindspore.train.Callback):
    """What wants to see the steps overrides some of the methods with a report."""

    place: ClassVar[Place] = Place.SHOW
    wants_to_stop = False  # set by a callback: the run ends behind this step, as if it were the last

    def on_begin(self) -> None:
        """Before the first optimizer step."""

    def on_step(self, report: StepReport) -> None:
        """After each optimizer step."""

    def on_end(self, last: StepReport) -> None:
        """After the last optimizer step of a run that went well."""

    def on_interrupt(self, last: StepReport) -> None:
        """After the last optimizer step of a run that the user ends early."""

    def close(self) -> None:
        """At the very end, also of a run that went wrong."""

    def on_train_begin(self, run_context: RunContext) -> None:
        """Called by MindSpore."""
        if arguments_of(run_context).begins:
            self.on_begin()

    def on_train_step_end(self, run_context: RunContext) -> None:
        """Called by MindSpore."""
        for report in arguments_of(run_context).step_reports:
            self.on_step(report)
        if self.wants_to_stop:
            run_context.request_stop()

    def on_train_end(self, run_context: RunContext) -> None:
        """Called by MindSpore."""
        arguments = arguments_of(run_context)
        if arguments.interrupted:
            self.on_interrupt(arguments.step_report)
        elif arguments.ends:
            self.on_end(arguments.step_report)


class Recorder(Callback):
    """Keeps the numbers of a run, in the order of the steps; an evaluation adds its own to those of its step."""

    place = Place.RECORD
    takes_text = False  # whether `write_text` keeps anything

    def write(self, step: int, **values: float) -> None:
        """Keep scores that belong to `step`."""

    def write_text(self, step: int, text: str) -> None:
        """Keep what was predicted after `step`, in Markdown, if there is a place for text."""


def arguments_of(run_context: RunContext) -> Any:
    """What MindSpore's loop and `src/training/loop.py` tell: declared as a dict, but its entries are attributes."""
    return run_context.original_args()


class StopOnDivergence(Callback):
    """End the run when the loss is no longer a number, before anything of it is saved."""

    place = Place.GUARD

    def __init__(self, checkpoint_directory: str | Path, start_step: int = 0, prefix: str = PREFIX) -> None:
        """The directory is where the message tells the user to go on from; the run begins behind `start_step`."""
        self.directory = checkpoint_directory
        self.prefix = prefix
        self.good_step = start_step

    def on_step(self, report: StepReport) -> None:
        """Raise when the loss is no number, or when gradients overflow with no loss scale left to lower."""
        if not math.isfinite(report.loss):
            found = f"the loss became {report.loss}"
        elif report.overflow and report.loss_scale <= 1:
            found = "the gradients are no longer finite"
        else:
            self.good_step = report.step
            return
        # A checkpoint of the last good step itself holds the weights that led to this.
        good = [found.path for found in list_checkpoints(self.directory, self.prefix)
                if found.step < self.good_step]
        advice = f"go on from {good[0]}, the last good checkpoint, with load_checkpoint_path" if good else "start again"
        raise UserError(f"step {report.step}: {found} (learning rate {report.learning_rate:.3g}, loss scale "
                        f"{report.loss_scale:g}), training stopped; lower learning_rate or raise warmup_steps, and "
                        f"{advice}")


class ProgressBar(Callback):
    """A bar with loss, samples/s and time left; made for a terminal, where it stands in for the log lines."""

    def __init__(self, plan: RunPlan, description: str) -> None:
        """The bar appears with the first step, so that compilation does not count as slow steps."""
        self.plan = plan
        self.description = description
        self.bar = None

    def on_begin(self) -> None:
        """Say what the user waits for."""
        print(f"{self.description}: compiling the training graph ...", file=sys.stderr, flush=True)

    def on_step(self, report: StepReport) -> None:
        """Move the bar."""
        if self.bar is None:
            self.bar = tqdm(total=self.plan.total_steps, initial=self.plan.start_step, desc=self.description,
                            bar_format=_BAR, dynamic_ncols=True)
        # What a narrow terminal cuts off is the end.
        self.bar.set_postfix_str(f"{format_duration(report.seconds_left)} left, {report.samples_per_second:.1f} "
                                 f"samples/s, loss {report.loss:.4f}", refresh=False)
        self.bar.update(report.step - self.bar.n)

    def close(self) -> None:
        """Leave the bar on the screen, and what follows on a new line."""
        if self.bar is not None:
            self.bar.close()


class Periodic(Callback):
    """Does something at each multiple of `every` steps and at the end of the run; a subclass says what in `act`.

    With data sink, the first report behind a multiple stands for it.

    Args:
        every: steps; 0 leaves it at the end of the run.
        start_step: where the run starts; it is taken to have been done there.
    """

    def __init__(self, every: int, start_step: int = 0) -> None:
        super().__init__()
        self.every = every
        self.done_step = start_step

    def act(self, report: StepReport) -> None:
        """Do it, behind the reported step."""
        raise NotImplementedError

    def on_step(self, report: StepReport) -> None:
        """Act if it is time to."""
        if self.every and report.step // self.every > self.done_step // self.every:
            self._act(report)

    def on_end(self, last: StepReport) -> None:
        """Act on the final state too."""
        if last.step != self.done_step:
            self._act(last)

    def _act(self, report: StepReport) -> None:
        self.act(report)
        self.done_step = report.step


class LogLines(Periodic):
    """Print steps for `grep epoch`, at once.

    Args:
        every: steps between two lines.
        start_step: where the run starts.
        pause: seconds between two lines at least.
        last_step: of the run, for whose line there is no pause.
    """

    def __init__(self, every: int, start_step: int = 0, pause: float = 0.0, last_step: int | None = None) -> None:
        super().__init__(every, start_step)
        self.pause = pause
        self.last_step = last_step
        self.printed = -math.inf  # time of the last line

    def on_begin(self) -> None:
        """Let the pause begin."""
        self.printed = time.monotonic()

    def on_step(self, report: StepReport) -> None:
        """Print the line if it is time to."""
        if report.step == self.last_step or time.monotonic() - self.printed >= self.pause:
            super().on_step(report)

    def act(self, report: StepReport) -> None:
        """Print the line of the step."""
        print(report.log_line(), flush=True)
        self.printed = time.monotonic()


class Checkpoints(Periodic):
    """Save the training at each multiple of `every` steps and at the end; keep the `keep` newest good checkpoints.

    A checkpoint is good when the next step finds a finite loss with its weights. Until then one more is kept, so that
    a run that diverges right behind a save has something to go back to.
    """

    place = Place.SAVE

    def __init__(self, directory: Path, train_step_cell: nn.Cell, plan: RunPlan, every: int, keep: int,
                 metadata: Callable[[], dict], prefix: str = PREFIX) -> None:
        """What `metadata` returns at a checkpoint goes into it; file names begin with `prefix`."""
        super().__init__(every, plan.start_step)
        self.directory = directory
        self.train_step_cell = train_step_cell
        self.plan = plan
        self.keep = keep
        self.metadata = metadata
        self.prefix = prefix
        self.unproven = False

    def on_step(self, report: StepReport) -> None:
        """Remove what a step with a finite loss made superfluous, then save if it is time to."""
        if self.unproven:
            self._prune(report)
        super().on_step(report)

    def on_end(self, last: StepReport) -> None:
        """Save the final state, which no step can prove."""
        super().on_end(last)
        self._prune(last)

    def on_interrupt(self, last: StepReport) -> None:
        """Save where the user stopped, so that nothing is lost."""
        self.on_end(last)

    def act(self, report: StepReport) -> None:
        """Save the training."""
        epoch = math.floor(self.plan.epochs_at(report.step - 1)) + 1  # in which the step began
        save_training_checkpoint(self.directory, epoch, report.step, self.train_step_cell, self.metadata(),
                                 self.keep + 1, self.prefix)
        self.unproven = True

    def _prune(self, report: StepReport) -> None:
        remove_old_checkpoints(self.directory, report.step, self.keep, self.prefix)
        self.unproven = False
