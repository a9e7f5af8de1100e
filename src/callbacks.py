"""What happens around the optimizer steps: log lines, progress, metrics, evaluation, checkpoints, the loss plot.

MindSpore calls every callback after each step (with data sink: after each `data_sink_steps` steps). The first one in
the list, `StepReporter`, turns what the step cell returned into numbers once; the others read its `StepReport`.
"""

import json
import math
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from mindspore.train import Callback, RunContext

from src.errors import UserError
from src.files import atomic_write
from src.optimizer import Optimizer

RATE_WINDOW = 20  # steps over which samples/s is averaged: long enough to be steady, short enough to show a slow-down


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


class StepReporter(Callback):
    """Turn each step's outputs (loss, overflow, loss scale) into a `StepReport`. Must stand first in the list."""

    def __init__(self, plan: RunPlan, optimizer: Optimizer) -> None:
        """The optimizer knows its learning rate; steps that overflowed did not count for its schedule."""
        self.plan = plan
        self.optimizer = optimizer
        # (step, time) of steps that ended; the first interval is behind the first step, so compilation does not count
        self.finished: deque[tuple[int, float]] = deque(maxlen=RATE_WINDOW)

    def on_train_step_end(self, run_context: RunContext) -> None:
        """Read the outputs and measure the rate."""
        params = run_context.original_args()
        loss, overflow, loss_scale = (output.asnumpy() for output in params.net_outputs)
        step = self.plan.start_step + params.cur_step_num
        self.finished.append((step, time.monotonic()))
        rate = self._samples_per_second()
        left = (self.plan.total_steps - step) * self.plan.samples_per_step
        params.report = StepReport(step, self.plan.epochs_at(step), float(loss), bool(overflow), float(loss_scale),
                                   self._learning_rate(), rate, left / rate if rate else math.inf)

    def _learning_rate(self) -> float:
        updates = int(self.optimizer.global_step.asnumpy())
        return self.optimizer.learning_rate.value_at(max(updates - 1, 0))

    def _samples_per_second(self) -> float:
        (first_step, start), (last_step, end) = self.finished[0], self.finished[-1]
        return (last_step - first_step) * self.plan.samples_per_step / (end - start) if end > start else 0.0


class StepCallback(Callback):
    """A callback that sees each step as numbers: override `on_step` and, if needed, `on_end`."""

    def on_train_step_end(self, run_context: RunContext) -> None:
        """Hand the step's report on."""
        self.on_step(run_context.original_args().report)

    def on_train_end(self, run_context: RunContext) -> None:
        """Hand the end of the run on, unless no step was run."""
        if "report" in run_context.original_args():
            self.on_end(run_context.original_args().report)

    def on_step(self, report: StepReport) -> None:
        """After each optimizer step."""

    def on_end(self, last: StepReport) -> None:
        """After the last optimizer step."""


class StopOnDivergence(StepCallback):
    """End the run when the loss is no longer a number, before anything of it is saved."""

    def __init__(self, checkpoint_directory: str | Path | None) -> None:
        """`checkpoint_directory` is only named in the message."""
        self.advice = (f"the last good checkpoint is the newest in {checkpoint_directory}; " if checkpoint_directory
                       else "")

    def on_step(self, report: StepReport) -> None:
        """Raise when the loss is no number, or when gradients overflow with no loss scale left to lower."""
        if not math.isfinite(report.loss):
            found = f"the loss became {report.loss}"
        elif report.overflow and report.loss_scale <= 1:
            found = "the gradients are no longer finite"
        else:
            return
        raise UserError(f"step {report.step}: {found} (learning rate {report.learning_rate:.3g}, loss scale "
                        f"{report.loss_scale:g}); training stopped; {self.advice}"
                        f"lower learning_rate or raise warmup_steps and resume from there")


class LogLines(StepCallback):
    """Print one line every `every` steps, and at the last one."""

    def __init__(self, every: int, stream: TextIO | None = None) -> None:
        """The stream is standard output unless given."""
        self.every = every
        self.stream = stream or sys.stdout
        self.printed_step = 0

    def on_step(self, report: StepReport) -> None:
        """Print if it is time to."""
        if report.step - self.printed_step >= self.every:
            self._print(report)

    def on_end(self, last: StepReport) -> None:
        """Print the last step, whatever the rhythm."""
        if last.step != self.printed_step:
            self._print(last)

    def _print(self, report: StepReport) -> None:
        print(report.log_line(), file=self.stream, flush=True)
        self.printed_step = report.step


class ProgressBar(StepCallback):
    """A bar with loss, samples/s and time left; made for a terminal, where it stands in for the log lines."""

    def __init__(self, plan: RunPlan, description: str) -> None:
        """The bar appears with the first step, so that compilation does not count as slow steps."""
        self.plan = plan
        self.description = description
        self.bar = None

    def on_train_begin(self, run_context: RunContext) -> None:
        """Say what the user waits for."""
        print(f"{self.description}: compiling the training graph ...", file=sys.stderr, flush=True)

    def on_step(self, report: StepReport) -> None:
        """Move the bar."""
        if self.bar is None:
            from tqdm import tqdm
            self.bar = tqdm(total=self.plan.total_steps, initial=self.plan.start_step, desc=self.description,
                            unit="step", dynamic_ncols=True, smoothing=0.05)
        self.bar.set_postfix_str(f"loss {report.loss:.4f}, {report.samples_per_second:.1f} samples/s", refresh=False)
        self.bar.update(report.step - self.bar.n)

    def on_end(self, last: StepReport) -> None:
        """Leave the finished bar on the screen."""
        if self.bar is not None:
            self.bar.close()


class MetricsFile(StepCallback):
    """Append a JSON line for every step to `path`; other callbacks may add lines with `write`.

    A resumed run first drops the lines behind its starting step, so that the file tells one history.
    """

    def __init__(self, path: str | Path, plan: RunPlan) -> None:
        """Open the file, keeping the history up to the plan's first step."""
        self.path = Path(path)
        history = [line for line in read_metrics(self.path) if line["step"] <= plan.start_step]
        with atomic_write(self.path) as temporary:
            temporary.write_text("".join(json.dumps(line) + "\n" for line in history), encoding="utf-8")
        self.file = self.path.open("a", encoding="utf-8", buffering=1)  # a line is in the file as soon as it is written

    def write(self, step: int, **values: float) -> None:
        """Append one line of numbers that belong to `step`."""
        self.file.write(json.dumps({"step": step, **values}) + "\n")

    def on_step(self, report: StepReport) -> None:
        """Append the step's line. Digits are those of the float32 loss, so that two runs can be compared exactly."""
        self.write(report.step, epoch=round(report.epochs, 6), loss=report.loss, overflow=report.overflow,
                   loss_scale=report.loss_scale, learning_rate=report.learning_rate,
                   samples_per_second=round(report.samples_per_second, 2))

    def on_end(self, last: StepReport) -> None:
        """Close the file."""
        self.file.close()


def read_metrics(path: str | Path) -> list[dict]:
    """The lines of a metrics file, without a last one that a killed process left unfinished."""
    path = Path(path)
    if not path.exists():
        return []
    lines = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(keepends=True), 1):
        if not line.endswith("\n"):
            break
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise UserError(f"{path}, line {number}: not a JSON line of a metrics file; move the file away") from error
    return lines


def plot_metrics(metrics_path: str | Path, plot_path: str | Path, smoothing: int = 50) -> None:
    """Draw the loss of each step, its running mean over `smoothing` steps, and the evaluation scores."""
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot

    lines = read_metrics(metrics_path)
    steps, losses = zip(*[(line["step"], line["loss"]) for line in lines if "loss" in line], strict=True)
    figure, axis = pyplot.subplots(figsize=(8, 4.5), dpi=120, layout="constrained")
    axis.plot(steps, losses, color="tab:blue", alpha=0.25, linewidth=0.8)
    axis.plot(steps, _running_mean(losses, smoothing), color="tab:blue", label=f"training loss (mean of {smoothing})")
    axis.set(xlabel="optimizer step", ylabel="loss")
    scores = [(line["step"], line["masked_lm_accuracy"]) for line in lines if "masked_lm_accuracy" in line]
    if scores:
        right = axis.twinx()
        right.plot(*zip(*scores, strict=True), "o-", color="tab:orange", label="masked-LM accuracy (evaluation)")
        right.set(ylabel="accuracy", ylim=(0, None))
        right.legend(loc="upper center")
    axis.legend(loc="upper right")
    with atomic_write(plot_path) as temporary:
        figure.savefig(temporary, format="png")
    pyplot.close(figure)


def _running_mean(values: Iterable[float], window: int) -> list[float]:
    recent: deque[float] = deque(maxlen=window)
    means = []
    for value in values:
        recent.append(value)
        means.append(sum(recent) / len(recent))
    return means


class LossPlot(StepCallback):
    """Draw the metrics file at the end of the run. Must stand behind the `MetricsFile`, which it reads."""

    def __init__(self, metrics_path: str | Path, plot_path: str | Path) -> None:
        """The plot is a PNG file."""
        self.metrics_path = metrics_path
        self.plot_path = Path(plot_path)

    def on_end(self, last: StepReport) -> None:
        """Draw it."""
        plot_metrics(self.metrics_path, self.plot_path)


class Periodic(StepCallback):
    """Call `action(step)` every `every` steps and at the end of the run: checkpoints, evaluation."""

    def __init__(self, action: Callable[[int], None], every: int, last_step: int) -> None:
        """`last_step` is where the run starts: the action is taken to have been done there."""
        self.action = action
        self.every = every
        self.done_step = last_step

    def on_step(self, report: StepReport) -> None:
        """Act at each multiple of `every`; with data sink, at the first report behind it."""
        if report.step // self.every > self.done_step // self.every:
            self._act(report.step)

    def on_end(self, last: StepReport) -> None:
        """Act on the final state too."""
        if last.step != self.done_step:
            self._act(last.step)

    def _act(self, step: int) -> None:
        self.action(step)
        self.done_step = step
