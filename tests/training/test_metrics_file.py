"""The metrics file of runs that were killed, resumed or begun anew, and the loss curve."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from toy_reports import PLAN, at

from src.errors import UserError
from src.training.metrics_file import LossPlot, MetricsFile, plot_metrics, read_metrics


def steps(path: Path) -> list[int]:
    return [line["step"] for line in read_metrics(path)]


def write_steps(path: Path, last: int) -> None:
    path.write_text("".join(json.dumps({"step": step, "loss": 9.0}) + "\n" for step in range(1, last + 1)))


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
    assert path.read_text().endswith('{"step": 3, "loss": 9.0}\n')


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
