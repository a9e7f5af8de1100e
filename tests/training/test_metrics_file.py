"""The metrics file of runs that were killed, resumed or begun anew, and the loss curve."""

import json
import os
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from toy_reports import PLAN, at

from src.errors import UserError
from src.training.metrics_file import LossCurve, LossPlot, MetricsFile, plot_metrics, read_metrics


def steps(path: Path) -> list[int]:
    return [line["step"] for line in read_metrics(path)]


def write_steps(path: Path, last: int) -> None:
    lines = [{"step": step, "loss": 9.0, "learning_rate": 0.1} for step in range(1, last + 1)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_every_step_is_a_line_that_is_in_the_file_at_once(tmp_path: Path) -> None:
    metrics = MetricsFile(tmp_path / "new" / "metrics.jsonl", PLAN)
    metrics.on_step(at(1))
    metrics.write(1, masked_lm_accuracy=0.5)
    assert read_metrics(metrics.path) == [
        {"step": 1, "epoch": 0.2, "loss": 10.856101, "overflow": False, "loss_scale": 65536.0, "learning_rate": 1e-4,
         "samples_per_second": 123.45},
        {"step": 1, "masked_lm_accuracy": 0.5}]
    metrics.close()


def test_loss_keeps_all_its_digits(tmp_path: Path) -> None:
    loss = 4.813359260559082
    metrics = MetricsFile(tmp_path / "metrics.jsonl", PLAN)
    metrics.on_step(at(1, loss=loss))
    metrics.close()
    assert read_metrics(metrics.path)[0]["loss"] == loss


def test_resumed_run_drops_the_lines_behind_its_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write_steps(path, 7)
    metrics = MetricsFile(path, replace(PLAN, start_step=5))
    assert steps(path) == [1, 2, 3, 4, 5]
    metrics.on_step(at(6))
    metrics.close()
    assert steps(path) == [1, 2, 3, 4, 5, 6]
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.jsonl"]


@pytest.mark.parametrize("torn", ['{"st', '{"step": 4, "loss": 1.5', '{"step": 4, "loss": 1.5}'])
def test_torn_last_line_is_dropped(tmp_path: Path, torn: str) -> None:
    path = tmp_path / "metrics.jsonl"
    write_steps(path, 3)
    path.write_text(path.read_text() + torn)
    assert steps(path) == [1, 2, 3]
    MetricsFile(path, replace(PLAN, start_step=9)).close()
    assert path.read_text().endswith('{"step": 3, "loss": 9.0, "learning_rate": 0.1}\n')


def test_new_run_puts_the_history_of_an_earlier_one_aside(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write_steps(path, 3)
    MetricsFile(path, PLAN).close()
    assert steps(path) == []
    assert steps(tmp_path / "metrics.jsonl.old") == [1, 2, 3]


@pytest.mark.parametrize("content", ["hello\n", "[1]\n", '{"loss": 1.0}\n', '{"step": "one"}\n', "\n"])
def test_other_files_are_left_alone(tmp_path: Path, content: str) -> None:
    path = tmp_path / "notes.txt"
    path.write_text('{"step": 1}\n' + content)
    with pytest.raises(UserError, match=r"notes\.txt, line 2.*; give another metrics_file"):
        MetricsFile(path, PLAN)
    assert path.read_text() == '{"step": 1}\n' + content


def test_binary_file_is_no_metrics_file(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(b"\x89PNG\xff\n")
    with pytest.raises(UserError, match=r"image\.png, line 1: byte 0x89 is not UTF-8"):
        MetricsFile(path, PLAN)


def test_curve_of_losses_and_scores(tmp_path: Path) -> None:
    write_steps(tmp_path / "metrics.jsonl", 60)
    plain, scored = tmp_path / "plain.png", tmp_path / "plots" / "scored.png"
    plot_metrics(tmp_path / "metrics.jsonl", plain)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 60, "masked_lm_accuracy": 0.5}\n')
    LossPlot(tmp_path / "metrics.jsonl", scored).on_end(at(60))
    assert plain.read_bytes()[:4] == scored.read_bytes()[:4] == b"\x89PNG"
    assert plain.read_bytes() != scored.read_bytes()


def test_first_losses_do_not_set_the_scale() -> None:
    lines = [{"step": step, "loss": 1.0 + 0.001 * (1000 - step) + 10 * (step < 90), "learning_rate": 0.1}
             for step in range(1, 1001)]
    lines[500]["loss"] = 50.0  # one that sticks out
    low, high = LossCurve.of(lines, "").limits
    assert 0.9 < low < 1.01  # the last losses, and
    assert 1.9 < high < 3.0  # those behind the first tenth


def test_the_loss_of_evaluations_is_not_that_of_training() -> None:
    lines = [{"step": 1, "loss": 3.0, "learning_rate": 0.1}, {"step": 1, "loss": 9.0, "accuracy": 0.5}]
    curve = LossCurve.of(lines, "accuracy")
    assert (curve.steps, curve.losses, curve.scores) == ([1], [3.0], [(1, 0.5)])


@pytest.mark.parametrize("losses", [[2.0], [2.0, 2.0], [0.0] * 30])
def test_few_and_equal_losses_have_a_scale_around_them(losses: list[float]) -> None:
    lines = [{"step": step, "loss": loss, "learning_rate": 0.1} for step, loss in enumerate(losses, start=1)]
    low, high = LossCurve.of(lines, "").limits
    assert low < losses[0] < high


def test_nothing_is_drawn_of_no_steps(tmp_path: Path) -> None:
    plot_metrics(tmp_path / "metrics.jsonl", tmp_path / "loss.png")
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------- disks that fill up, pipes, links

@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """No file of this process can grow further; as on a full disk, a write stores what fits and the next one fails."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_is_one_line_and_the_next_run_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    metrics = MetricsFile(path, PLAN)
    metrics.on_step(at(1))
    with files_of_at_most(path.stat().st_size + 20), pytest.raises(UserError, match="cannot write .*; free space and"):
        try:
            metrics.on_step(at(2))
        finally:
            metrics.close()  # must not put an error of its own in the place of that line
    assert path.read_text().count("\n") == 1 and not path.read_text().endswith("\n")
    assert steps(path) == [1]
    MetricsFile(path, replace(PLAN, start_step=1)).close()
    assert path.read_text().endswith("}\n")


def test_a_pipe_gets_the_lines_and_there_is_no_plot(tmp_path: Path) -> None:
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.extend(pipe.read_text().splitlines()))
    reader.start()
    metrics = MetricsFile(pipe, PLAN)
    metrics.on_step(at(1))
    metrics.write(1, accuracy=0.5)
    metrics.close()
    reader.join(timeout=10)
    assert [json.loads(line)["step"] for line in read] == [1, 1]
    LossPlot(pipe, tmp_path / "loss.png").on_end(at(1))
    assert [file.name for file in tmp_path.iterdir()] == ["pipe"]


def test_a_link_stays_and_earlier_runs_are_put_aside_where_it_leads(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    path = tmp_path / "metrics.jsonl"
    path.symlink_to(tmp_path / "far" / "m.jsonl")
    for run in (1, 2):
        metrics = MetricsFile(path, PLAN)
        metrics.on_step(at(run))
        metrics.close()
    assert path.is_symlink() and steps(path) == [2] and steps(tmp_path / "far" / "m.jsonl.old") == [1]


def test_outputs_that_are_directories_are_refused_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"plot_file: {tmp_path} is a directory"):
        LossPlot(tmp_path / "metrics.jsonl", tmp_path)
    with pytest.raises(UserError, match=f"metrics_file: {tmp_path} is a directory"):
        MetricsFile(tmp_path, PLAN)
