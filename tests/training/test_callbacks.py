"""Reports around the steps, without a network: what a step returns is made up."""

import fcntl
import math
import os
import pty
import re
import struct
import sys
import termios
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn
from toy_reports import PLAN, REPORT, at

from src.checkpoint_files import list_checkpoints
from src.errors import UserError
from src.training import callbacks
from src.training.callbacks import (
    Checkpoints,
    LogLines,
    Periodic,
    ProgressBar,
    RunPlan,
    StepMeter,
    StopOnDivergence,
    format_duration,
)
from src.training.optimizer import WarmUpPolynomialDecay

# ---------------------------------------------------------------- numbers of a step

@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Time that passes only when the test says so."""
    now = SimpleNamespace(seconds=1000.0)
    monkeypatch.setattr(callbacks.time, "monotonic", lambda: now.seconds)
    return now


def meter(plan: RunPlan = PLAN, updates: int = 0) -> StepMeter:
    schedule = WarmUpPolynomialDecay(0.5, 0.0, warmup_steps=10, decay_steps=100)
    return StepMeter(plan, SimpleNamespace(learning_rate=schedule, global_step=Tensor(updates)))


def outputs(loss: float = 2.5, overflow: bool = False, loss_scale: float = 1024.0) -> tuple[Tensor, ...]:
    return Tensor(np.float32(loss)), Tensor(overflow), Tensor(np.float32(loss_scale))


def test_report_holds_what_the_step_returned() -> None:
    [report] = meter(updates=6).reports([(20, outputs(loss=0.1, overflow=True))])
    assert (report.step, report.epochs, report.overflow, report.loss_scale) == (20, 4.0, True, 1024.0)
    assert report.loss == float(np.float32(0.1))
    assert report.learning_rate == 0.25  # of the sixth update


def test_steps_that_are_reported_together_have_their_own_numbers(clock: SimpleNamespace) -> None:
    measured = meter(updates=3)
    measured.reports([(3, outputs())])
    clock.seconds += 2
    measured.optimizer.global_step = Tensor(6)  # of the four steps that follow one overflowed
    reports = measured.reports([(step, outputs(loss=step, overflow=step == 5)) for step in (4, 5, 6, 7)])
    assert [(report.step, report.loss, report.overflow) for report in reports] == [
        (4, 4.0, False), (5, 5.0, True), (6, 6.0, False), (7, 7.0, False)]
    assert [report.learning_rate for report in reports] == pytest.approx([0.15, 0.15, 0.2, 0.25])
    assert [report.samples_per_second for report in reports] == pytest.approx([4 * 8 / 2] * 4)


def test_rate_and_time_left_are_of_the_latest_steps_without_compilation(clock: SimpleNamespace) -> None:
    measured = meter()
    clock.seconds += 60  # compilation, within the first step
    [first] = measured.reports([(1, outputs())])
    assert first.samples_per_second == 0
    assert first.seconds_left == math.inf
    for step in range(2, 31):
        clock.seconds += 0.5
        [report] = measured.reports([(step, outputs())])
        assert report.samples_per_second == pytest.approx(16)
        assert report.seconds_left == pytest.approx((100 - step) * 0.5)
    for step in range(31, 31 + callbacks.RATE_WINDOW):
        clock.seconds += 2.0
        [report] = measured.reports([(step, outputs())])
    assert report.samples_per_second == pytest.approx(4)


def test_rate_counts_the_steps_between_two_returns_from_the_device(clock: SimpleNamespace) -> None:
    measured = meter()
    for step in (20, 40, 60):
        clock.seconds += 4
        [report] = measured.reports([(step, outputs())])
    assert report.samples_per_second == pytest.approx(20 * 8 / 4)
    assert report.seconds_left == pytest.approx(8)


@pytest.mark.parametrize(("seconds", "text"), [(0.2, "0:00:00"), (59.6, "0:01:00"), (3661, "1:01:01"),
                                               (360000, "100:00:00"), (math.inf, "?")])
def test_durations(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


# ---------------------------------------------------------------- log lines

def test_log_line_is_the_documented_one_with_rate_and_time_left() -> None:
    assert REPORT.log_line() == (
        "epoch: 0.0, current epoch percent: 0.600, step: 3, outputs are (Tensor(shape=[1], dtype=Float32, "
        "[ 1.0856101e+01]), Tensor(shape=[], dtype=Bool, False), Tensor(shape=[], dtype=Float32, 65536)), "
        "123.5 samples/s, 1:01:01 left")


@pytest.mark.parametrize(("step", "place"), [
    (1, "epoch: 0.0, current epoch percent: 0.200,"), (4, "epoch: 0.0, current epoch percent: 0.800,"),
    (5, "epoch: 0.0, current epoch percent: 1.000,"), (6, "epoch: 1.0, current epoch percent: 0.200,"),
    (10, "epoch: 1.0, current epoch percent: 1.000,")])
def test_last_step_of_an_epoch_belongs_to_it(step: int, place: str) -> None:
    assert at(step).log_line().startswith(place)


def test_log_lines_are_written_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    events = []
    stream = SimpleNamespace(write=lambda text: events.append(text), flush=lambda: events.append("flushed"))
    monkeypatch.setattr(callbacks.sys, "stdout", stream)
    LogLines(every=3).on_step(REPORT)
    assert events == [REPORT.log_line(), "\n", "flushed"]


def test_lines_of_fast_steps_keep_a_pause(clock: SimpleNamespace, capsys: pytest.CaptureFixture) -> None:
    lines = LogLines(every=1, pause=10.0, last_step=100)
    lines.on_begin()
    for step in range(1, 101):  # the last line does not wait for the end, before which evaluations print theirs
        clock.seconds += 0.3
        lines.on_step(at(step))
    printed = [line.split("step: ")[1].split(",")[0] for line in capsys.readouterr().out.splitlines()]
    assert printed == ["34", "68", "100"]


def test_lines_of_slow_steps_keep_their_rhythm(clock: SimpleNamespace, capsys: pytest.CaptureFixture) -> None:
    lines = LogLines(every=10, pause=10.0)
    lines.on_begin()
    for step in range(1, 31):
        clock.seconds += 30
        lines.on_step(at(step))
    assert capsys.readouterr().out.count("\n") == 3


# ---------------------------------------------------------------- rhythm

def acted_at(steps: list[int], every: int, start_step: int = 0) -> list[int]:
    done = []

    class Noting(Periodic):
        def act(self, report):
            done.append(report.step)

    periodic = Noting(every, start_step)
    for step in steps:
        periodic.on_step(at(step))
    periodic.on_end(at(steps[-1]))
    return done


def test_acts_at_multiples_and_at_the_end() -> None:
    assert acted_at(list(range(1, 13)), every=5) == [5, 10, 12]
    assert acted_at(list(range(1, 11)), every=5) == [5, 10]
    assert acted_at([1, 2], every=1) == [1, 2]


def test_rhythm_is_that_of_the_whole_training_when_it_resumes() -> None:
    assert acted_at(list(range(8, 22)), every=10, start_step=7) == [10, 20, 21]
    assert acted_at(list(range(11, 21)), every=10, start_step=10) == [20]


def test_with_data_sink_the_first_return_behind_a_multiple_counts() -> None:
    assert acted_at([40, 80, 120, 160, 200, 240], every=100) == [120, 200, 240]
    assert acted_at([300, 600], every=100) == [300, 600]


# ---------------------------------------------------------------- divergence and checkpoints

class Training(nn.Cell):
    """The smallest thing that can be saved."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Cell()
        self.network.insert_param_to_cell("weight", Parameter(Tensor([1.0]), name="weight"))
        self.counter = Parameter(Tensor([0]), name="counter")

    def state(self) -> dict[str, Parameter]:
        return {"counter": self.counter}


@pytest.fixture
def saver(tmp_path: Path) -> Checkpoints:
    return Checkpoints(tmp_path, Training(), PLAN, every=2, keep=1, metadata=lambda: {"seed": 5})


def saved(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.glob("*.ckpt"))


def test_checkpoints_are_saved_in_rhythm_under_epoch_and_step(saver: Checkpoints, tmp_path: Path) -> None:
    for step in range(1, 10):
        saver.on_step(at(step))
    assert saved(tmp_path) == ["checkpoint_bert-2_8.ckpt"]  # five steps an epoch
    saver.on_end(at(9))
    assert saved(tmp_path) == ["checkpoint_bert-2_9.ckpt"]
    assert list_checkpoints(tmp_path)[0].metadata == {"seed": 5}


def test_checkpoint_is_kept_until_a_step_proves_the_next(saver: Checkpoints, tmp_path: Path) -> None:
    guard = StopOnDivergence(tmp_path)
    for step in range(1, 5):
        guard.on_step(at(step))
        saver.on_step(at(step))
    assert saved(tmp_path) == ["checkpoint_bert-1_2.ckpt", "checkpoint_bert-1_4.ckpt"]
    with pytest.raises(UserError, match=r"step 5: the loss became nan .* go on from .*checkpoint_bert-1_2\.ckpt, the"):
        guard.on_step(at(5, loss=math.nan))
    with pytest.raises(UserError, match=r"step 7: .* go on from .*checkpoint_bert-1_2\.ckpt, the"):
        StopOnDivergence(tmp_path, start_step=4).on_step(at(7, loss=math.nan))  # with data sink
    saver.on_step(at(5))
    assert saved(tmp_path) == ["checkpoint_bert-1_4.ckpt"]


@pytest.mark.parametrize("changes", [{"loss": math.nan}, {"loss": math.inf}, {"overflow": True, "loss_scale": 1.0}])
def test_divergence_stops_the_run(tmp_path: Path, changes: dict) -> None:
    with pytest.raises(UserError, match=r"step 7: .*, training stopped; lower learning_rate .* and start again$"):
        StopOnDivergence(tmp_path).on_step(at(7, **changes))


def test_overflow_that_a_lower_scale_may_mend_does_not_stop_the_run(tmp_path: Path) -> None:
    guard = StopOnDivergence(tmp_path)
    guard.on_step(at(7, overflow=True, loss_scale=2.0))
    with pytest.raises(UserError, match="training stopped"):
        guard.on_step(at(8, overflow=True, loss_scale=1.0))


# ---------------------------------------------------------------- progress bar

def test_bar_shows_loss_rate_and_where_the_run_stands(capsys: pytest.CaptureFixture) -> None:
    bar = ProgressBar(replace(PLAN, start_step=50), "pre-training")
    bar.on_begin()
    for step in range(51, 61):
        bar.on_step(at(step, loss=1.25))
    bar.close()
    printed = capsys.readouterr().err
    assert printed.startswith("pre-training: compiling the training graph ...\n")
    assert "60%" in printed.splitlines()[-1]
    assert "60/100" in printed
    assert "1:01:01 left, 123.5 samples/s, loss 1.2500" in printed
    assert printed.endswith("\n")


@pytest.mark.parametrize("description", ["fine-tuning", "pre-training"])
def test_bar_fits_80_columns(monkeypatch: pytest.MonkeyPatch, description: str) -> None:
    terminal, end_of_process = pty.openpty()
    fcntl.ioctl(end_of_process, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
    with os.fdopen(end_of_process, "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        bar = ProgressBar(replace(PLAN, total_steps=10000), description)
        bar.on_step(at(5000, loss=1.25))
        bar.close()
    shown = os.read(terminal, 4096).decode().split("\r")
    os.close(terminal)
    line = [line.strip() for line in shown if line.strip()][-1]
    assert re.fullmatch(rf"{description}:  50%\|█+.*\| 5000/10000, 1:01:01 left, 123\.5 samples/s, loss 1\.2500", line)
    assert len(line) <= 80


def test_bar_that_never_began_closes_quietly(capsys: pytest.CaptureFixture) -> None:
    ProgressBar(PLAN, "pre-training").close()
    assert capsys.readouterr().err == ""
