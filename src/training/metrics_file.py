"""The metrics file, a JSON line for every step, and the loss curve drawn from it."""

import json
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

import numpy as np

from src.errors import UserError, quoted
from src.files import atomic_write, check_output, failing_in_one_line, is_passed_on, write_all
from src.json_files import member, parse_json
from src.text_files import read_text
from src.training.callbacks import Callback, Place, Recorder, RunPlan, StepReport


class MetricsFile(Recorder):
    """Append a JSON line for every step to `path`; others may add lines with `write`.

    A resumed run first drops the lines behind its starting step, so that the file tells one history. A new run puts
    the file of an earlier one aside, as `<name>.old`. A device or pipe just gets the lines.
    """

    def __init__(self, path: str | Path, plan: RunPlan) -> None:
        """Open the file (given by metrics_file), keeping the history up to the plan's first step."""
        self.path = check_output(path, "metrics_file")
        with failing_in_one_line(self.path):
            if not is_passed_on(self.path):
                self._keep_history(self.path.resolve(), plan.start_step)
            # Without a buffer a line is in the file as soon as it is written, and `close` has nothing to write.
            self.file = self.path.open("ab", buffering=0)

    def _keep_history(self, path: Path, start_step: int) -> None:
        lines = read_metrics(path)
        if lines and start_step == 0:
            path.replace(path.with_name(path.name + ".old"))
        kept = "".join(json.dumps(line) + "\n" for line in lines if line["step"] <= start_step)
        if not path.exists() or path.read_text(encoding="utf-8") != kept:
            with atomic_write(path) as temporary:
                temporary.write_text(kept, encoding="utf-8")

    def write(self, step: int, **values: float) -> None:
        """Append one line of numbers that belong to `step`."""
        write_all(self.file, (json.dumps({"step": step, **values}) + "\n").encode(), self.path)

    def on_step(self, report: StepReport) -> None:
        """Append the step's line. Digits are those of the float32 loss, so that two runs can be compared exactly."""
        self.write(report.step, epoch=round(report.epochs, 6), loss=report.loss, overflow=report.overflow,
                   loss_scale=report.loss_scale, learning_rate=report.learning_rate,
                   samples_per_second=round(report.samples_per_second, 2))

    def close(self) -> None:
        """Close the file."""
        self.file.close()


def read_metrics(path: str | Path) -> list[dict]:
    """The lines of a metrics file, without a last one that a killed process left unfinished.

    Raises:
        UserError: the file cannot be read, or is not a metrics file.
    """
    path = Path(path)
    text = read_text(path, "metrics_file") if path.exists() else ""
    expected = "the JSON of a metrics file; give another metrics_file or move this one away"
    lines = []
    for number, line in enumerate(text.split("\n")[:-1], start=1):
        values = parse_json(line, f"{path}, line {number}", expected)
        if not isinstance(values, dict) or not isinstance(values.get("step"), int):
            raise UserError(f"{path}, line {number}: found {quoted(line)}, expected {expected}")
        for key in ("loss", "step"):
            member(values, key, float, f"{path}, line {number}: ", default=0.0)
        lines.append(values)
    return lines


class LossPlot(Callback):
    """Draw the metrics file at the end of the run."""

    place = Place.DRAW

    def __init__(self, metrics_path: str | Path, plot_path: str | Path, score: str = "masked_lm_accuracy") -> None:
        """The plot is a PNG file, given by plot_file; it shows this score of the evaluations too."""
        self.metrics_path = Path(metrics_path)
        self.score = score
        self.plot_path = check_output(plot_path, "plot_file")

    def on_end(self, last: StepReport) -> None:
        """Draw it, unless that was done, or the numbers went into a device or pipe."""
        if not is_passed_on(self.metrics_path) and not self._is_drawn():
            plot_metrics(self.metrics_path, self.plot_path, self.score)

    def _is_drawn(self) -> bool:
        return self.plot_path.exists() and self.plot_path.stat().st_mtime_ns >= self.metrics_path.stat().st_mtime_ns


def plot_metrics(metrics_path: str | Path, plot_path: str | Path, score: str = "masked_lm_accuracy") -> None:
    """Draw the loss of each step, its running mean, and one score of the evaluations."""
    from matplotlib.figure import Figure  # takes half a second to import, which the start of a run need not wait for

    curve = LossCurve.of(read_metrics(metrics_path), score)
    if curve is None:
        return
    figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
    axis = figure.subplots()
    axis.plot(curve.steps, curve.losses, color="tab:blue", alpha=0.25, linewidth=0.8)
    beyond = f", at first {curve.losses[0]:.3g}" if curve.losses[0] > curve.limits[1] else ""
    axis.plot(curve.steps, curve.means, color="tab:blue", label=f"training loss (mean of {curve.window}{beyond})")
    axis.set(xlabel="optimizer step", ylabel="loss", ylim=curve.limits)
    if curve.scores:
        right = axis.twinx()
        name = score.replace("_", " ")
        right.plot(*zip(*curve.scores, strict=True), "o-", color="tab:orange", label=f"{name} (evaluation)")
        right.set(ylabel=name, ylim=(min(0, min(curve.scores, key=itemgetter(1))[1]), None))
    figure.legend(loc="outside upper center", ncols=2, frameon=False)  # above the curves, where it covers none
    with atomic_write(plot_path) as temporary:
        figure.savefig(temporary, format="png")


class LossCurve(NamedTuple):
    """What a metrics file has to show."""

    steps: Sequence[int]
    losses: Sequence[float]
    means: Sequence[float]  # running, over `window` steps
    window: int
    limits: tuple[float, float]  # of the losses that are worth showing
    scores: Sequence[tuple[int, float]]  # (step, score of its evaluation)

    @classmethod
    def of(cls, lines: Sequence[Mapping], score: str) -> "LossCurve | None":
        """The curve of the lines that `read_metrics` gives, with this score; None where no line is that of a step."""
        # Evaluations may have a loss too, which is not that of training.
        losses_at = {line["step"]: line["loss"] for line in lines if "learning_rate" in line}
        if not losses_at:
            return None
        steps, losses = list(losses_at), list(losses_at.values())
        window = min(50, max(1, len(losses) // 20))  # a twentieth of a short run is smooth enough, and not late
        means = _running_mean(losses, window)
        return cls(steps, losses, means, window, _limits(losses, means, window),
                   [(line["step"], line[score]) for line in lines if score in line])


def _limits(losses: Sequence[float], means: Sequence[float], window: int) -> tuple[float, float]:
    """A scale for everything but single losses that stick out and the first tenth, which falls from pure chance."""
    first = len(losses) // 10
    settled = means[first + window:] or means[-1:]  # the first losses are in none of these means
    low, high = np.percentile(losses[first:], [0.5, 99.5])
    low, high = min(low, *settled), max(high, *settled)
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return float(low - margin), float(high + margin)


def _running_mean(values: Iterable[float], window: int) -> list[float]:
    recent: deque[float] = deque(maxlen=window)
    means = []
    for value in values:
        recent.append(value)
        means.append(sum(recent) / len(recent))
    return means
