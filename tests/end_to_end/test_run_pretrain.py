"""Pre-training from the command line: every option, exact resume, divergence, and what a mistake gives."""

import fcntl
import os
import pty
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import mindspore as ms
import numpy as np
import pytest
from toy_pretraining import (
    REPOSITORY,
    TINY,
    Printed,
    assert_same_training,
    pretrain,
    start_script,
    steps_of,
    tiny_options,
    toy_batch,
    write_records,
)

import run_pretrain
from src.checkpoint_files import find_newest, open_checkpoint
from src.dataset import BatchStream
from src.errors import UserError
from src.training.callbacks import LogLines, ProgressBar, RunPlan
from src.training.metrics_file import read_metrics
from src.training.output_lock import locked_output
from src.training.train_step import LossScale, TrainStep
from src.weights import read_weights

LOG_LINE = re.compile(
    r"epoch: (?P<epoch>\d+\.0), current epoch percent: (?P<percent>[01]\.\d{3}), step: (?P<step>\d+), outputs are "
    r"\(Tensor\(shape=\[1\], dtype=Float32, \[ (?P<loss>\d\.\d{7}e[+-]\d\d)\]\), "
    r"Tensor\(shape=\[\], dtype=Bool, (?P<overflow>True|False)\), "
    r"Tensor\(shape=\[\], dtype=Float32, (?P<scale>\d+)\)\), [\d.]+ samples/s, (\d+:\d\d:\d\d|\?) left")


# ---------------------------------------------------------------- one run with everything on

@pytest.fixture(scope="module")
def run(toy_records: Path, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Three epochs of 100 records, 8 a step: 37 steps."""
    output_dir = tmp_path_factory.mktemp("run")
    printed = pretrain(output_dir, data_dir=toy_records / "mindrecord", epoch_size=3, save_checkpoint_steps=10,
                       save_checkpoint_num=2, log_steps=1, train_with_eval="true",
                       eval_data_dir=toy_records / "mindrecord", base_net_cfg__num_hidden_layers=2,
                       base_net_cfg__hidden_size=32, base_net_cfg__intermediate_size=64)
    return SimpleNamespace(output_dir=output_dir, printed=printed)


def test_every_step_has_the_documented_log_line(run: SimpleNamespace) -> None:
    lines = [line for line in run.printed.splitlines() if "epoch" in line]  # as `grep "epoch"` does
    matches = [LOG_LINE.fullmatch(line) for line in lines]
    assert all(matches), lines
    assert [int(match["step"]) for match in matches] == list(range(1, 38))
    assert matches[0]["epoch"] == "0.0"
    assert matches[0]["percent"] == "0.080"
    assert (matches[24]["epoch"], matches[24]["percent"]) == ("1.0", "1.000")  # 25 * 8 records: the end of the second
    assert (matches[25]["epoch"], matches[25]["percent"]) == ("2.0", "0.080")
    assert {match["scale"] for match in matches} == {"65536"}


def test_a_start_summary_says_what_begins(run: SimpleNamespace) -> None:
    parameters = 64 * 32 + 2 * 32 + 32 * 32 + 2 * 32  # tables, and the norm behind them
    parameters += 2 * (4 * (32 * 32 + 32) + 2 * 32 * 64 + 64 + 32 + 4 * 32)  # layers
    parameters += 32 * 32 + 32 + (32 * 32 + 32 + 2 * 32 + 64) + (32 * 2 + 2)  # pooler and heads
    assert ["Device      CPU, float32", f"Parameters  {parameters:,}", "Records     100", "Steps       37 of 8 samples",
            "Epochs      3.0", f"Results in  {run.output_dir}"] == run.printed.splitlines()[:6]


def test_metrics_have_the_same_numbers_as_the_log(run: SimpleNamespace) -> None:
    steps = steps_of(run.output_dir)
    printed = [match["loss"] for match in LOG_LINE.finditer(run.printed)]
    assert [f"{step['loss']:.7e}" for step in steps] == printed
    assert [step["step"] for step in steps] == list(range(1, 38))
    assert [step["learning_rate"] for step in steps[:5]] == pytest.approx(
        [0, 0.0025, 0.005, 0.0075, 0.01 * (1 - 4 / 37)**5])


def test_loss_falls_on_what_can_be_learnt(run: SimpleNamespace) -> None:
    losses = [step["loss"] for step in steps_of(run.output_dir)]
    assert losses[0] == pytest.approx(np.log(64) + np.log(2), abs=0.3)
    assert np.mean(losses[-5:]) < 0.6 * losses[0]


def test_evaluations_are_printed_and_in_the_metrics(run: SimpleNamespace) -> None:
    scores = [line for line in read_metrics(run.output_dir / "metrics.jsonl") if "masked_lm_accuracy" in line]
    assert [score["step"] for score in scores] == [10, 20, 30, 37]
    assert scores[-1]["masked_lm_accuracy"] > scores[-1]["most_frequent_word_accuracy"] + 0.2
    assert scores[-1]["masked_lm_loss"] < scores[0]["masked_lm_loss"]
    assert run.printed.count("masked_lm: acc_num") == run.printed.count("next_sentence: acc_num") == 4


def test_newest_checkpoints_remain_under_their_documented_names(run: SimpleNamespace) -> None:
    assert sorted(path.name for path in run.output_dir.glob("*.ckpt")) == [
        "checkpoint_bert-3_30.ckpt", "checkpoint_bert-3_37.ckpt"]
    assert not [path.name for path in run.output_dir.iterdir() if path.name.startswith(".")]


def test_loss_curve_is_drawn(run: SimpleNamespace) -> None:
    assert (run.output_dir / "loss.png").read_bytes().startswith(b"\x89PNG")


# ---------------------------------------------------------------- what the options mean

@pytest.fixture
def prepared(toy_records: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., SimpleNamespace]:
    """A function that runs the command up to the first step and returns what it would train with."""
    def prepare(**options: object) -> SimpleNamespace:
        caught = SimpleNamespace()

        def catch(step_cell: TrainStep, stream: BatchStream, plan: RunPlan, callbacks: list, sink_steps: int,
                  rank_size: int, report_every: list[int]) -> None:
            assert rank_size == 1 and report_every == [1]
            vars(caught).update(step=step_cell, stream=stream, plan=plan, callbacks=callbacks, sink_steps=sink_steps)
            for callback in callbacks:
                callback.close()

        monkeypatch.setattr("src.training.run.train", catch)
        caught.printed = pretrain(tmp_path / "out", **{"data_dir": toy_records / "mindrecord"} | options)
        caught.rows = [step.rows.tolist() for step in caught.stream.order.steps(0, caught.plan.total_steps)]
        return caught

    return prepare


def test_train_steps_are_optimizer_steps_whatever_epoch_size_says(prepared: Callable) -> None:
    plan = prepared(train_steps=7, epoch_size=90, accumulation_steps=3).plan
    assert (plan.total_steps, plan.samples_per_step) == (7, 24)
    assert prepared(train_steps=7).step.optimizer.learning_rate.decay_steps == 7


def test_epochs_count_complete_steps(prepared: Callable) -> None:
    assert prepared(epoch_size=3, accumulation_steps=2).plan.total_steps == 300 // 16
    assert prepared(epoch_size=3, num_samples=40).plan.total_steps == 120 // 8


def test_batch_size_option_wins_over_that_of_the_network(prepared: Callable) -> None:
    assert prepared(batch_size=4, base_batch_size=20, epoch_size=1).plan.samples_per_step == 4
    assert prepared(batch_size=0, base_batch_size=20, epoch_size=1).plan.samples_per_step == 20


def test_shuffle_takes_every_record_once_an_epoch_in_a_new_order(prepared: Callable) -> None:
    rows = prepared(epoch_size=2, batch_size=10).rows
    first, second = sum(rows[:10], []), sum(rows[10:], [])
    assert sorted(first) == sorted(second) == list(range(100))
    assert first != second
    assert first != sorted(first)
    in_file_order = prepared(epoch_size=2, batch_size=10, do_shuffle="false").rows
    assert sum(in_file_order, []) == 2 * list(range(100))


def test_seed_chooses_order_weights_and_dropout(prepared: Callable) -> None:
    one, same, other = (prepared(train_steps=5, seed=seed) for seed in (1, 1, 2))
    weights = [run.step.network.bert.cls1.dense.weight.asnumpy() for run in (one, same, other)]
    assert one.rows == same.rows != other.rows
    assert (weights[0] == weights[1]).all()
    assert (weights[0] != weights[2]).any()


def test_num_samples_takes_the_first_records(prepared: Callable) -> None:
    assert sorted({row for step in prepared(epoch_size=4, num_samples=40).rows for row in step}) == list(range(40))


def test_loss_scale_clipping_and_accumulation_reach_the_step(prepared: Callable) -> None:
    step = prepared(train_steps=1, loss_scale_value=1024, scale_factor=4, scale_window=7, accumulation_steps=3,
                    max_grad_norm=0.5).step
    assert step.dynamic_scale
    assert (step.scale_rule, step.accumulation_steps, step.clip_norm) == (LossScale(1024, 4, 7), 3, 0.5)
    without = prepared(train_steps=1, enable_lossscale="false", enable_global_norm="false").step
    assert not without.dynamic_scale
    assert without.clip_norm is None


@pytest.mark.parametrize("optimizer", ["Lamb", "AdamWeightDecay", "Momentum"])
def test_optimizer_and_its_group(prepared: Callable, optimizer: str) -> None:
    built = prepared(train_steps=100, optimizer=optimizer, **{f"{optimizer}__learning_rate": 0.125}).step.optimizer
    assert type(built).__name__ == optimizer
    assert built.learning_rate.learning_rate == 0.125


def test_data_sink_is_left_to_devices_that_have_it(prepared: Callable) -> None:
    assert prepared(train_steps=1, enable_data_sink="true", data_sink_steps=100).sink_steps == 0


# ---------------------------------------------------------------- short runs of other settings

@pytest.mark.slow
def test_both_formats_give_the_same_digits(toy_records: Path, tmp_path: Path) -> None:
    """NEZHA with Lamb; TFRecord with its schema file."""
    shared = {"bert_network": "nezha", "optimizer": "Lamb", "train_steps": 4, "log_steps": 3,
              "enable_lossscale": "false", "Lamb__warmup_steps": 0,
              **{key.replace("base", "nezha").replace(".", "__"): value for key, value in TINY.items()
                 if key.startswith("base_net_cfg")}}
    printed = [pretrain(tmp_path / "mindrecord", data_dir=toy_records / "mindrecord", **shared),
               pretrain(tmp_path / "tfrecord", data_dir=toy_records / "tfrecord", dataset_format="tfrecord",
                        schema_dir=toy_records / "tfrecord" / "schema.json", **shared)]
    assert steps_of(tmp_path / "mindrecord") == steps_of(tmp_path / "tfrecord")
    assert [step["loss_scale"] for step in steps_of(tmp_path / "tfrecord")] == [1.0] * 4
    assert [int(match["step"]) for match in LOG_LINE.finditer(printed[0])] == [3, 4]  # each third and the last
    names = set(read_weights(next((tmp_path / "tfrecord").glob("*.ckpt"))))
    assert "bert.bert.bert_encoder.layers.0.attention.attention._generate_relative_positions_embeddings." \
           "embeddings_table" in names


def test_momentum_without_checkpoints(toy_records: Path, tmp_path: Path) -> None:
    pretrain(tmp_path, data_dir=toy_records / "mindrecord", optimizer="Momentum", Momentum__learning_rate=0.1,
             train_steps=12, enable_save_ckpt="false", save_checkpoint_steps=1, metrics_file=tmp_path / "a" / "m.jsonl",
             plot_file=tmp_path / "b" / "p.png")
    steps = read_metrics(tmp_path / "a" / "m.jsonl")
    assert {step["learning_rate"] for step in steps} == {0.1}
    assert steps[-1]["loss"] < steps[0]["loss"]
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["m.jsonl", "p.png"]


def test_overflow_skips_the_step_and_lowers_the_scale(toy_records: Path, tmp_path: Path) -> None:
    """At a loss scale of 2**80 the norm of the first gradients overflows; training goes on below."""
    pretrain(tmp_path, data_dir=toy_records / "mindrecord", train_steps=6, loss_scale_value=2**80, scale_factor=256,
             AdamWeightDecay__warmup_steps=0)
    steps = steps_of(tmp_path)
    skipped = [step["overflow"] for step in steps]
    assert skipped == sorted(skipped, reverse=True)
    assert 0 < sum(skipped) < 6
    for before, after in zip(steps, steps[1:], strict=False):
        assert after["loss_scale"] == before["loss_scale"] / (256 if before["overflow"] else 1)
    assert steps[-1]["learning_rate"] == pytest.approx(0.01 * (1 - (5 - sum(skipped)) / 6)**5)  # updates count
    assert steps[-1]["loss"] < steps[0]["loss"]


# ---------------------------------------------------------------- terminal

@pytest.mark.parametrize(("error_is_terminal", "output_is_terminal", "bar", "lines"), [
    (True, True, True, False), (True, False, True, True), (False, True, False, True), (False, False, False, True)])
def test_bar_is_for_a_terminal_and_lines_for_everything_else(
        prepared: Callable, monkeypatch: pytest.MonkeyPatch, error_is_terminal: bool, output_is_terminal: bool,
        bar: bool, lines: bool) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: error_is_terminal, raising=False)
    monkeypatch.setattr(Printed, "isatty", lambda self: output_is_terminal)
    callbacks = prepared(train_steps=1).callbacks
    assert any(isinstance(callback, ProgressBar) for callback in callbacks) == bar
    assert any(isinstance(callback, LogLines) for callback in callbacks) == lines


def test_terminal_shows_a_bar_and_whole_lines_of_scores(toy_records: Path, tmp_path: Path) -> None:
    terminal, end_of_process = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("4H", 24, 100, 0, 0))
    argv = tiny_options(data_dir=toy_records / "mindrecord", train_steps=6, train_with_eval="true",
                        eval_data_dir=toy_records / "mindrecord", save_checkpoint_steps=3)
    process = start_script("run_pretrain.py", argv, tmp_path, stdout=end_of_process, stderr=end_of_process)
    os.close(end_of_process)
    shown = b""
    with suppress(OSError):  # raised at the end of the terminal
        while part := os.read(terminal, 4096):
            shown += part
    os.close(terminal)
    assert process.wait(timeout=60) == 0, shown.decode()
    screen = shown.decode().replace("\r\n", "\n")
    assert "outputs are" not in screen
    assert re.search(r"pre-training: 100%\|.*6/6, .* left, [\d.]+ samples/s, loss \d\.\d{4}", screen)
    assert len(re.findall(r"(?:^|\r)masked_lm: acc_num .*\)$", screen, re.MULTILINE)) == 2, screen


# ---------------------------------------------------------------- exact resume

# Dropout 0.1, shuffling, two accumulated batches, a loss scale that rises every third step, 36 steps of 16 in 5.8
# epochs of 100 records, a checkpoint after every step.
EXACT = {"train_steps": 36, "accumulation_steps": 2, "scale_window": 3, "save_checkpoint_steps": 1,
         "save_checkpoint_num": 3}


@pytest.fixture(scope="module")
def uninterrupted(toy_records: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that the interrupted ones are compared with."""
    output_dir = tmp_path_factory.mktemp("uninterrupted")
    pretrain(output_dir, data_dir=toy_records / "mindrecord", **EXACT)
    assert len({step["loss_scale"] for step in steps_of(output_dir)}) > 5
    return output_dir


def kill_when(moment: Callable[[], bool], argv: list[str], cwd: Path) -> None:
    """Start pre-training and end it by SIGKILL when `moment` has come."""
    process = start_script("run_pretrain.py", argv, cwd)
    wait_until(moment, process)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def wait_until(moment: Callable[[], bool], process: subprocess.Popen) -> None:
    """Wait for what a running process does."""
    deadline = time.monotonic() + 120
    while not moment():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.001)


def last_step(output_dir: Path) -> int:
    return max((step["step"] for step in steps_of(output_dir)), default=0)


@pytest.mark.slow
def test_killed_at_any_moment_the_same_command_goes_on_with_the_same_digits(
        toy_records: Path, uninterrupted: Path, tmp_path: Path) -> None:
    argv = tiny_options(data_dir=toy_records / "mindrecord", save_checkpoint_path=tmp_path, resume="true", **EXACT)
    kill_when(lambda: last_step(tmp_path) >= 5, argv, tmp_path)
    kill_when(lambda: last_step(tmp_path) >= 12 and any(tmp_path.glob(".saving-*")), argv, tmp_path)
    process = start_script("run_pretrain.py", argv, tmp_path)
    printed, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert errors == ""
    assert re.search(r"resumed from .*checkpoint_bert-\d+_\d+\.ckpt after step \d+\n", printed)
    assert_same_training(tmp_path, uninterrupted)
    assert not list(tmp_path.glob(".*")), "leftovers of the killed save"


@pytest.mark.slow
def test_killed_at_up_to_a_dozen_random_moments(toy_records: Path, uninterrupted: Path, tmp_path: Path) -> None:
    """Among them moments within a save, which takes most of the time of these small steps."""
    argv = tiny_options(data_dir=toy_records / "mindrecord", save_checkpoint_path=tmp_path, resume="true", **EXACT)
    random = np.random.default_rng()
    kills = 0
    while kills < 12 and (reached := last_step(tmp_path)) <= 28:  # a fast machine nears the end of 36 steps earlier
        kills += 1
        process = start_script("run_pretrain.py", argv, tmp_path)
        wait_until(lambda process=process, reached=reached: process.poll() is not None
                   or last_step(tmp_path) > reached + 1, process)
        time.sleep(random.uniform(0, 0.2))
        process.kill()
        process.communicate()
    assert kills >= 4
    pretrain(tmp_path, data_dir=toy_records / "mindrecord", resume="true", **EXACT)
    assert_same_training(tmp_path, uninterrupted)


@pytest.mark.slow
def test_two_processes_go_on_with_the_same_digits(toy_records: Path, tmp_path: Path) -> None:
    """Data-parallel training on CPU; each rank has its own rows and its own dropout masks."""
    def run(output_dir: Path, **options: object) -> list[dict]:
        argv = tiny_options(data_dir=toy_records / "mindrecord", save_checkpoint_path=output_dir, batch_size=4,
                            distribute="true", device_num=2, accumulation_steps=2, train_steps=8,
                            save_checkpoint_steps=4, save_checkpoint_num=2, **options)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}  # it calls `python`
        launcher = [Path(sys.executable).with_name("msrun"), "--worker_num=2", "--local_worker_num=2", "--join=True",
                    f"--master_port={port}", f"--log_dir={tmp_path / 'logs'}", REPOSITORY / "run_pretrain.py"]
        subprocess.run([*launcher, *argv], cwd=tmp_path, env=environment, check=True, capture_output=True,
                       timeout=300)
        return steps_of(output_dir)

    whole = run(tmp_path / "whole")
    assert [step["step"] for step in whole] == list(range(1, 9))
    assert run(tmp_path / "resumed", load_checkpoint_path=tmp_path / "whole" / "checkpoint_bert-1_4.ckpt") == whole[4:]


def test_checkpoint_file_of_a_training_goes_on_with_the_same_digits(
        toy_records: Path, uninterrupted: Path, tmp_path: Path) -> None:
    path = uninterrupted / "checkpoint_bert-6_34.ckpt"
    printed = pretrain(tmp_path, data_dir=toy_records / "mindrecord", load_checkpoint_path=path, **EXACT)
    assert printed.startswith(f"resumed from {path} after step 34\n")
    assert_same_training(tmp_path, uninterrupted, start=34)


def test_torn_newest_checkpoint_of_a_directory_costs_a_step_and_no_digit(
        toy_records: Path, uninterrupted: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    copy, output_dir = tmp_path / "copy", tmp_path / "out"
    shutil.copytree(uninterrupted, copy)
    torn = copy / "checkpoint_bert-6_36.state.safetensors"
    torn.write_bytes(torn.read_bytes()[:-1])
    printed = pretrain(output_dir, data_dir=toy_records / "mindrecord", load_checkpoint_path=copy, **EXACT)
    assert "after step 35\n" in printed
    assert re.fullmatch("warning: skipping the checkpoint .*\n", capsys.readouterr().err)
    assert_same_training(output_dir, uninterrupted, start=35)


def test_finished_run_has_nothing_left_to_do(toy_records: Path, uninterrupted: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in uninterrupted.iterdir()}
    printed = pretrain(uninterrupted, data_dir=toy_records / "mindrecord", resume="true", **EXACT)
    assert printed.endswith("nothing left to do: 36 of 36 steps are done\n")
    assert {path: path.stat().st_mtime_ns for path in uninterrupted.iterdir()} == before


def test_resume_with_other_settings_says_so(prepared: Callable, uninterrupted: Path,
                                            capsys: pytest.CaptureFixture) -> None:
    prepared(load_checkpoint_path=uninterrupted, **EXACT | {"train_steps": 50, "seed": 7})
    note = capsys.readouterr().err
    assert "seed 0 -> 7" in note
    assert "train_steps 36 -> 50" in note
    assert note.count("\n") == 1


@pytest.mark.slow
def test_killed_run_with_buckets_goes_on_with_the_same_digits(toy_records: Path, tmp_path: Path) -> None:
    """Here the same command goes on by itself: load_checkpoint_path is its own directory, empty at first."""
    options = {"data_dir": toy_records / "tfrecord", "dataset_format": "tfrecord", "bucket_list": "10,16",
               "optimizer": "Momentum", "Momentum.learning_rate": 0.1, "train_steps": 20, "save_checkpoint_steps": 2}
    killed, expected = tmp_path / "killed", tmp_path / "expected"
    pretrain(expected, **options)
    kill_when(lambda: last_step(killed) >= 5, tiny_options(save_checkpoint_path=killed, **options), tmp_path)
    pretrain(killed, load_checkpoint_path=killed, **options)
    assert_same_training(killed, expected)
    assert 4 <= last_step(killed) <= 20


def test_published_weights_are_loaded_with_a_report(
        toy_records: Path, uninterrupted: Path, prepared: Callable, tmp_path: Path) -> None:
    """A .ckpt without training state; the other network has a layer more, and the file knows a parameter more."""
    weights = read_weights(uninterrupted / "checkpoint_bert-6_36.ckpt")
    entries = [{"name": name, "data": ms.Tensor(value)} for name, value in weights.items()]
    ms.save_checkpoint([*entries, {"name": "bert.bert.extra.weight", "data": ms.Tensor([1.0])}],
                       str(tmp_path / "published.ckpt"))
    started = prepared(load_checkpoint_path=tmp_path / "published.ckpt", base_net_cfg__num_hidden_layers=2)
    loaded = re.search(r"loaded (\d+) of the network's (\d+) parameters", started.printed)
    assert (int(loaded[1]), int(loaded[2])) == (len(weights), len(weights) + 16)
    assert "left at their initial values (16): bert.bert.bert_encoder.layers.1." in started.printed
    assert "unknown to the network, ignored (1): bert.bert.extra.weight" in started.printed
    assert started.plan.start_step == 0
    table = started.step.network.bert.bert.bert_embedding_lookup.embedding_table
    assert (table.asnumpy() == weights[table.name]).all()


# ---------------------------------------------------------------- divergence and interruption

def test_divergence_stops_the_run_and_keeps_the_last_good_checkpoint(toy_records: Path, tmp_path: Path) -> None:
    """The learning rate is 0 in step 1, then explodes; weights that give a finite loss must be left to go on from."""
    argv = tiny_options(data_dir=toy_records / "mindrecord", save_checkpoint_path=tmp_path / "out", train_steps=50,
                        save_checkpoint_steps=1, AdamWeightDecay__learning_rate=1e38, AdamWeightDecay__warmup_steps=1)
    process = start_script("run_pretrain.py", argv, tmp_path)
    printed, errors = process.communicate(timeout=120)
    assert process.returncode == 2
    message = re.fullmatch(r"error: step (\d+): the loss became (nan|inf|-inf) \(learning rate .*\), training stopped; "
                           r"lower learning_rate or raise warmup_steps, and go on from (.*\.ckpt), the last good "
                           r"checkpoint, with load_checkpoint_path\n", errors)
    assert message, errors
    steps = steps_of(tmp_path / "out")
    assert [step["step"] for step in steps] == list(range(1, int(message[1])))
    assert np.isfinite([step["loss"] for step in steps]).all()
    assert "nan" not in printed
    good = Path(message[3])
    assert good.is_file()
    assert open_checkpoint(good).step == int(message[1]) - 2
    assert not list((tmp_path / "out").glob(".*"))
    continued = pretrain(tmp_path / "out", data_dir=toy_records / "mindrecord", load_checkpoint_path=good,
                         train_steps=open_checkpoint(good).step + 2)
    assert "nan" not in continued


def test_interrupted_run_saves_and_says_how_to_go_on(toy_records: Path, tmp_path: Path) -> None:
    """Whether within a step or between two; MindSpore may write a warning of its own first."""
    argv = tiny_options(data_dir=toy_records / "mindrecord", save_checkpoint_path=tmp_path / "out", train_steps=100000,
                        resume="true")
    process = start_script("run_pretrain.py", argv, tmp_path)
    wait_until(lambda: last_step(tmp_path / "out") >= 3, process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    step = last_step(tmp_path / "out")
    assert process.returncode == 130
    assert errors.splitlines()[-1] == (f"interrupted after step {step} of 100000; with --resume true the same command "
                                       f"goes on from the newest checkpoint in {tmp_path / 'out'}")
    assert find_newest(tmp_path / "out").step == step
    assert not list((tmp_path / "out").glob(".*"))


# ---------------------------------------------------------------- mistakes

MISTAKES = {
    "ids behind the vocabulary": (
        {"base_net_cfg__vocab_size": 50},
        r"toy\.mindrecord: record \d+: \w+ holds 5\d, expected 0 to 49 \(vocab_size is 50\)"),
    "a length that the positions do not reach": (
        {"base_net_cfg__max_position_embeddings": 8}, r"seq_length.*16.*max_position_embeddings.*8"),
    "a length that the records do not have": (
        {"base_net_cfg__seq_length": 32},
        r"seq_length is 32, but the records of .*toy\.mindrecord have 16 tokens; set seq_length to 16"),
    "heads that do not divide the width": (
        {"base_net_cfg__num_attention_heads": 3}, r"hidden_size.*16.*num_attention_heads.*3"),
    "no data_dir": ({"data_dir": ""}, r"data_dir is not set"),
    "a missing data_dir": ({"data_dir": "/nowhere/at/all"}, r"data_dir: there is no /nowhere/at/all"),
    "an empty data_dir": ({"data_dir": "{tmp}"}, r"data_dir: no mindrecord file in "),
    "another format": ({"data_dir": "{records}/tfrecord"}, r"holds tfrecord files .*set dataset_format to tfrecord"),
    "an unknown format": ({"dataset_format": "csv"}, r"dataset_format: expected one of mindrecord, tfrecord; found"),
    "a bucket behind the length": ({"bucket_list": "8,32"}, r"bucket_list: the largest bucket is 32"),
    "a misspelt key": ({"train_step": 3}, r"unknown option --train_step; did you mean train_steps\?"),
    "a misspelt choice": ({"optimizer": "Lamp"}, r"--optimizer: expected one of Lamb, .*did you mean Lamb\?"),
    "a text for a number": ({"train_steps": "many"}, r'--train_steps: expected a whole number, found "many"'),
    "too few records": (
        {"batch_size": 200, "epoch_size": 1, "train_steps": -1}, r"1 epochs of the 100 records .* not fill one step"),
    "a missing checkpoint": ({"load_checkpoint_path": "/nowhere.ckpt"}, r"there is no checkpoint /nowhere\.ckpt"),
    "a directory without checkpoints": (
        {"load_checkpoint_path": "{tmp}"}, r"no complete checkpoint .* in the directory "),
    "an unwritable directory": (
        {"save_checkpoint_path": "{records}/mindrecord/toy.mindrecord/out"}, r"save_checkpoint_path: cannot write to"),
    "an unwritable metrics file": (
        {"metrics_file": "{records}/mindrecord/toy.mindrecord/m.jsonl"}, r"metrics_file: cannot write to"),
    "a metrics file of another kind": (
        {"metrics_file": "{records}/tfrecord/schema.json"},
        r"schema\.json, line 1, column 2: no JSON .*expected the JSON of a metrics file"),
    "an unwritable plot": ({"plot_file": "{records}/mindrecord/toy.mindrecord/p.png"}, r"plot_file: cannot write to"),
    "a plot that is a directory": ({"plot_file": "{tmp}"}, r"plot_file: .* is a directory; give the name of a file"),
    "a batch that no machine holds": ({"batch_size": 10**9}, r"batch_size: this training needs at least [\d,]+ GB of"),
    "more layers than memory": (
        {"base_net_cfg__num_hidden_layers": 10**9}, r"vocab_size, num_hidden_layers, hidden_size: this training needs"),
    "evaluation without data": ({"train_with_eval": "true"}, r"eval_data_dir is not set"),
    "no launcher": ({"distribute": "true"}, r"distribute true: no launcher started this process"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_gives_one_line_that_says_what_to_do(toy_records: Path, tmp_path: Path, mistake: str) -> None:
    options, message = MISTAKES[mistake]
    places = {"tmp": tmp_path, "records": toy_records}
    given = {name: value.format(**places) if isinstance(value, str) else value for name, value in options.items()}
    defaults = {"data_dir": toy_records / "mindrecord", "save_checkpoint_path": tmp_path / "out", "train_steps": 3}
    with pytest.raises(UserError, match=message) as raised:
        run_pretrain.main(tiny_options(**defaults | given))
    assert "\n" not in str(raised.value)


def test_a_second_training_in_a_folder_is_refused_and_touches_nothing(toy_records: Path, tmp_path: Path) -> None:
    with locked_output(tmp_path, "save_checkpoint_path"):
        before = [path.name for path in tmp_path.iterdir()]
        with pytest.raises(UserError, match=f"save_checkpoint_path: process {os.getpid()} on host .* is training in"):
            pretrain(tmp_path, data_dir=toy_records / "mindrecord", train_steps=1)
        assert [path.name for path in tmp_path.iterdir()] == before


def test_missing_column_is_named(tmp_path: Path) -> None:
    records = write_records(tmp_path / "records", toy_batch(8), without="segment_ids")
    with pytest.raises(UserError, match=r"toy\.mindrecord: no column segment_ids; the file's columns are "):
        pretrain(tmp_path / "out", data_dir=records, train_steps=1)


@pytest.mark.parametrize("dataset_format", ["mindrecord", "tfrecord"])
def test_truncated_record_file_is_named(tmp_path: Path, dataset_format: str) -> None:
    records = write_records(tmp_path / "records", toy_batch(8), dataset_format)
    file = records / f"toy.{dataset_format}"
    os.truncate(file, file.stat().st_size - 100)
    with pytest.raises(UserError, match=rf"toy\.{dataset_format}.*truncated"):
        pretrain(tmp_path / "out", data_dir=records, dataset_format=dataset_format, train_steps=1)


@pytest.fixture(params=["unreadable", "empty", "unrelated", "of another size", "torn"])
def bad_checkpoint(request: pytest.FixtureRequest, uninterrupted: Path, tmp_path: Path) -> tuple[Path, str]:
    """A checkpoint that cannot be loaded, and what is said about it."""
    path = tmp_path / "bad.ckpt"
    good = uninterrupted / "checkpoint_bert-6_36.ckpt"
    if request.param == "unreadable":
        path.write_bytes(b"nonsense" * 100)
        return path, "cannot read the checkpoint .*bad.ckpt: damaged, cut off, or not a checkpoint"
    if request.param == "empty":
        path.touch()
        return path, "cannot read the checkpoint .*bad.ckpt: the file is empty"
    if request.param == "unrelated":
        ms.save_checkpoint([{"name": "conv.weight", "data": ms.Tensor([1.0])}], str(path))
        return path, "bad.ckpt has nothing for this network: its parameters are conv.weight, the network's are bert"
    if request.param == "of another size":
        entries = [{"name": name, "data": ms.Tensor(np.zeros((3, *value.shape), np.float32))}
                   for name, value in read_weights(good).items()]
        ms.save_checkpoint(entries, str(path))
        return path, "bad.ckpt is of a network of another size: .*; set the network's sizes"
    for file in uninterrupted.glob("checkpoint_bert-6_36.*"):
        shutil.copy(file, tmp_path)
    torn = tmp_path / good.name
    os.truncate(torn, torn.stat().st_size - 1)
    return torn, f"{torn} is damaged: .*; give an older one, or the directory"


def test_bad_checkpoint_is_named(toy_records: Path, tmp_path: Path, bad_checkpoint: tuple[Path, str],
                                 capfd: pytest.CaptureFixture) -> None:
    path, message = bad_checkpoint
    with pytest.raises(UserError, match=message) as raised:
        pretrain(tmp_path / "out", data_dir=toy_records / "mindrecord", load_checkpoint_path=path, train_steps=1)
    assert "\n" not in str(raised.value)
    assert capfd.readouterr().err == ""


def test_resume_with_another_network_names_what_differs(toy_records: Path, uninterrupted: Path, tmp_path: Path) -> None:
    told = "the command line: base_net_cfg.intermediate_size is 64, but the weights in .* have "
    with pytest.raises(UserError, match=told):
        pretrain(tmp_path / "out", data_dir=toy_records / "mindrecord", load_checkpoint_path=uninterrupted,
                 base_net_cfg__intermediate_size=64, train_steps=1)


@pytest.mark.parametrize(("options", "line"), [
    ({"base_net_cfg__vocab_size": 50}, r"error: .*: record \d+: \w+ holds 5\d, expected 0 to 49 .*\n"),
    ({"trian_steps": 2}, r"error: .*unknown option --trian_steps; did you mean train_steps\?\n"),
], ids=["record", "option"])
def test_mistake_ends_the_command_with_status_2_and_one_line(
        toy_records: Path, tmp_path: Path, options: dict, line: str) -> None:
    process = start_script("run_pretrain.py", tiny_options(data_dir=toy_records / "mindrecord", **options), tmp_path)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert re.fullmatch(line, errors), errors
    assert not list(tmp_path.glob("*.ckpt"))
