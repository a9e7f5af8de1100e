"""Data-parallel runs of two real processes on CPU, compared with one process.

Starting the processes takes longer than most of what they do. So they run all jobs of `JOBS` in one go
(tests/distributed_program.py), and the tests look at what came of them.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import toy_finetuning
import toy_ner
import toy_pretraining
import toy_squad
from distributed_program import ALL_OPTIMIZERS, CHECKS, train_two_layers
from paths import TESTS

import pretrain_eval
import run_classifier
import run_ner
import run_pretrain
import run_squad
from src.model_utils.config import REPOSITORY, load_config
from src.model_utils.device_adapter import DeviceInfo
from src.weights import read_weights

STEPS = 3


class Outcome(NamedTuple):
    """What the two ranks did: their files, and what came of every job on each rank."""

    files: Path
    ranks: list[dict]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def msrun(directory: Path, *command: object) -> None:
    """Start two processes of a Python script with MindSpore's own launcher; it calls `python`."""
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "GLOG_v": "3"}
    launcher = [Path(sys.executable).with_name("msrun"), "--worker_num=2", "--local_worker_num=2", "--join=True",
                f"--master_port={free_port()}", f"--log_dir={directory}"]
    started = subprocess.run([*map(str, launcher), *map(str, command)], cwd=directory, env=environment,
                             capture_output=True, text=True, timeout=600)
    if started.returncode:
        logs = "\n".join(log.read_text(errors="replace") for log in sorted(directory.glob("worker_?.log")))
        pytest.fail("\n".join(re.findall(r"^(?:error: |\w*(?:Error|Exception)\b).*", logs, re.MULTILINE)))


# ---------------------------------------------------------------- the jobs

def pretraining_options(files: Path, output: str, optimizer: str = "AdamWeightDecay", **options: object) -> list[str]:
    """Of a rank. Without dropout, whose masks differ by rank."""
    group = load_config("", "pretrain_config.yaml", ["--device_target", "CPU"])[optimizer].to_dict()
    own = {"data_dir": files / "train", "save_checkpoint_path": files / output, "batch_size": 4,
           "optimizer": optimizer, "train_steps": STEPS, "save_checkpoint_steps": 2, "save_checkpoint_num": 3,
           "base_net_cfg.hidden_dropout_prob": 0, "base_net_cfg.attention_probs_dropout_prob": 0}
    if "warmup_steps" in group:
        own |= {f"{optimizer}.warmup_steps": 0, f"{optimizer}.learning_rate": 0.01}
    return toy_pretraining.tiny_options(**own | options)


FINETUNING = {"train_batch_size": 4, "epoch_num": 1, "length_grouping": "none", "bert_net_cfg.hidden_dropout_prob": 0,
              "bert_net_cfg.attention_probs_dropout_prob": 0, "bert_net_cfg.num_hidden_layers": 1}


def classifier_options(files: Path, output: str, **options: object) -> list[str]:
    return toy_finetuning.tiny_options(files, files / output, **FINETUNING | options)


def ner_options(files: Path, output: str, **options: object) -> list[str]:
    own = {"with_lstm": "false", "use_crf": "false"}
    return toy_ner.ner_options(files / "ner", files / output, **FINETUNING | own | options)


def squad_options(files: Path, output: str, **options: object) -> list[str]:
    return toy_squad.tiny_options(files / "squad", files / output, **FINETUNING | options)


TASKS = {"classifier": (run_classifier, classifier_options), "ner": (run_ner, ner_options),
         "squad": (run_squad, squad_options)}


def quick_jobs(files: Path) -> list[list]:
    """[name, script or check, options of each rank]; training twice, as compiling the step takes seconds."""
    listed = [[name, name, [], []] for name in CHECKS]
    interrupted = [*pretraining_options(files, "interrupted"), "--signal_rank", "1"]
    listed.append(["interrupted", "run_pretrain", interrupted, interrupted])
    resume = {"resume": "true", "train_with_eval": "true", "eval_data_dir": files / "dev"}
    listed.append(["resumed", "run_pretrain", pretraining_options(files, "interrupted", **resume),
                   pretraining_options(files, "nothing there", **resume)])
    evaluation = toy_pretraining.tiny_options(eval_data_dir=files / "dev", eval_ckpt=files / "interrupted",
                                              batch_size=4)
    listed.append(["pretrain_eval", "pretrain_eval", evaluation, evaluation])
    classifier = classifier_options(files, "classifier")
    listed.append(["classifier", "run_classifier", classifier, classifier])
    evaluation = classifier_options(files, "unused", do_train="false", predictions_file=files / "predictions.jsonl",
                                    load_finetune_checkpoint_path=files / "classifier")
    return [*listed, ["classifier_eval", "run_classifier", evaluation, evaluation]]


def slow_jobs(files: Path) -> list[list]:
    """Pre-training with each optimizer, and the other tasks."""
    options = {name: pretraining_options(files, name, name) for name in ALL_OPTIMIZERS}
    listed = [[name, "run_pretrain", of_rank, of_rank] for name, of_rank in options.items()]
    for task in ("ner", "squad"):
        options = TASKS[task][1](files, task)
        listed.append([task, f"run_{task}", options, options])
    return listed


def write_data(files: Path) -> None:
    """Toy records of all tasks; numbers of records that the batches of two ranks do not divide."""
    toy_pretraining.write_records(files / "train", toy_pretraining.toy_batch(19))
    toy_pretraining.write_records(files / "dev", toy_pretraining.toy_batch(13, seed=1))
    for name, count in (("train", 21), ("dev", 37)):
        toy_finetuning.write_rows(files / f"{name}.mindrecord", toy_finetuning.toy_rows(count, seed=count))
    (files / "ner").mkdir()
    toy_ner.write_toy_data(files / "ner")
    toy_squad.write_toy(files / "squad", train=toy_squad.toy_squad(14), dev=toy_squad.toy_squad(19, 1, longest=10))


def run_jobs(files: Path, jobs: Callable[[Path], list[list]]) -> Outcome:
    write_data(files)
    (files / "jobs.json").write_text(json.dumps(jobs(files)))
    msrun(files, TESTS / "distributed_program.py", files)
    return Outcome(files, [json.loads((files / f"{rank}.json").read_text()) for rank in range(2)])


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return run_jobs(tmp_path_factory.mktemp("two ranks"), quick_jobs)


@pytest.fixture(scope="module")
def more_of_two_ranks(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return run_jobs(tmp_path_factory.mktemp("more of two ranks"), slow_jobs)


# ---------------------------------------------------------------- parts

def test_each_rank_knows_its_place(two_ranks: Outcome) -> None:
    assert [outcome["device"] for outcome in two_ranks.ranks] == [["CPU", rank, rank, 2, 2] for rank in range(2)]


def test_ranks_share_the_cores(two_ranks: Outcome) -> None:
    assert [outcome["cores"] for outcome in two_ranks.ranks] == [max(1, len(os.sched_getaffinity(0)) // 2)] * 2


def test_arrays_of_any_lengths_reach_every_rank_bit_by_bit(two_ranks: Outcome) -> None:
    nan, minus_zero = 0x7FC00000, 0x80000000
    ids = [[0, 1, 2]], [[100, 101, 102], [103, 104, 105]]
    expected = [[[ids[0], [nan]], [ids[1], [nan, minus_zero]]], [[[], []], [ids[1][1:], [minus_zero]]],
                [[[], []], [[], []]]]
    assert [outcome["gather"] for outcome in two_ranks.ranks] == [expected] * 2


def test_ranks_agree(two_ranks: Outcome) -> None:
    expected = [False, True, True, {"text": "größe 0", "none": None}]
    assert [outcome["agreement"] for outcome in two_ranks.ranks] == [expected] * 2


def test_values_of_the_first_rank_are_those_of_all(two_ranks: Outcome) -> None:
    assert [outcome["copy"] for outcome in two_ranks.ranks] == [[[0, 1, 2, 3], 7]] * 2


@pytest.mark.parametrize("job", ["overflow_once", "overflow_each"])
def test_one_rank_overflows_and_all_skip_the_update(two_ranks: Outcome, job: str) -> None:
    """Gradients are reduced before the check, so an infinity on one rank is one on all."""
    first, second = (outcome[job] for outcome in two_ranks.ranks)
    assert first == second
    weights, overflows, scales, finite = zip(*first, strict=True)
    assert (overflows, scales, finite) == ((False, True, False), (64, 32, 32), (True, False, True))
    assert weights[0] == weights[1] != weights[2]


@pytest.mark.parametrize("optimizer", ALL_OPTIMIZERS)
def test_steps_of_two_ranks_are_those_of_one_process(graph_mode: None, two_ranks: Outcome, optimizer: str) -> None:
    expected = train_two_layers(DeviceInfo("CPU", 0, rank=0, rank_size=1), optimizer)
    first, second = (outcome[f"optimizer {optimizer}"] for outcome in two_ranks.ranks)
    assert first == second
    np.testing.assert_allclose(first, expected, rtol=1e-5, atol=1e-6)


# ---------------------------------------------------------------- runs

def losses(directory: Path) -> list[float]:
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss_scale" in line]


def assert_same_training(found: Path, expected: Path, skipped: int = 0) -> None:
    """Losses behind the `skipped` first steps, and the last weights, are equal to rounding."""
    wanted = losses(expected)
    np.testing.assert_allclose(losses(found), wanted[skipped:], rtol=1e-4)
    weights, expected_weights = (read_weights(next(directory.glob(f"*-*_{len(wanted)}.ckpt")))
                                 for directory in (found, expected))
    assert weights.keys() == expected_weights.keys()
    for name, value in expected_weights.items():
        np.testing.assert_allclose(weights[name], value, rtol=1e-4, atol=2e-5, err_msg=name)


def check_fine_tuning(outcome: Outcome, task: str, directory: Path) -> None:
    """Train in one process, with the batches of the ranks one after the other."""
    script, options_of = TASKS[task]
    options = options_of(outcome.files, task, save_finetune_checkpoint_path=directory, accumulation_steps=2,
                         do_eval="false")
    script.main(options)
    assert_same_training(outcome.files / task, directory)


def check_scores(outcome: Outcome, task: str, directory: Path) -> None:
    """Evaluate in one process the best weights of the ranks: scores and predictions are the same to the last digit."""
    script, options_of = TASKS[task]
    written = outcome.files / task / {"squad": "predictions.json"}.get(task, f"{task}_predictions.jsonl")
    scores = script.main(options_of(outcome.files, task, do_train="false", predictions_file=directory / "predictions",
                                    load_finetune_checkpoint_path=outcome.files / task))
    assert [of_rank[task] for of_rank in outcome.ranks] == [scores] * 2
    assert written.read_text() == (directory / "predictions").read_text()


def test_two_ranks_fine_tune_like_one_process(two_ranks: Outcome, tmp_path: Path) -> None:
    check_fine_tuning(two_ranks, "classifier", tmp_path)


def test_all_ranks_know_the_scores_of_one_process(two_ranks: Outcome, tmp_path: Path) -> None:
    check_scores(two_ranks, "classifier", tmp_path)


def test_evaluation_alone(two_ranks: Outcome) -> None:
    for of_rank in two_ranks.ranks:
        assert of_rank["classifier_eval"] == of_rank["classifier"]
    assert (two_ranks.files / "predictions.jsonl").read_text() == (
        two_ranks.files / "classifier" / "classifier_predictions.jsonl").read_text()


def test_evaluation_of_pre_training(two_ranks: Outcome) -> None:
    """While training and afterwards, on two ranks and on one: the same digits."""
    scores = pretrain_eval.main(toy_pretraining.tiny_options(
        eval_data_dir=two_ranks.files / "dev", eval_ckpt=two_ranks.files / "interrupted", batch_size=4))
    assert [outcome["pretrain_eval"] for outcome in two_ranks.ranks] == [scores] * 2
    last = json.loads((two_ranks.files / "interrupted" / "metrics.jsonl").read_text().splitlines()[-1])
    assert last == {"step": STEPS} | scores


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ALL_OPTIMIZERS)
def test_two_ranks_pre_train_like_one_process(more_of_two_ranks: Outcome, optimizer: str, tmp_path: Path) -> None:
    run_pretrain.main(pretraining_options(more_of_two_ranks.files, optimizer, optimizer,
                                          save_checkpoint_path=tmp_path, accumulation_steps=2))
    assert_same_training(more_of_two_ranks.files / optimizer, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["ner", "squad"])
def test_other_tasks_train_like_one_process_and_know_its_scores(
        more_of_two_ranks: Outcome, task: str, tmp_path: Path) -> None:
    check_fine_tuning(more_of_two_ranks, task, tmp_path)
    check_scores(more_of_two_ranks, task, tmp_path)


# ---------------------------------------------------------------- stop and go on

def test_a_signal_to_one_rank_stops_all_after_the_same_step(two_ranks: Outcome) -> None:
    messages = [outcome["interrupted"] for outcome in two_ranks.ranks]
    assert messages[0].startswith(f"interrupted: interrupted after step 2 of {STEPS}; with --resume true")
    assert messages[1].startswith(f"interrupted: interrupted after step 2 of {STEPS}; ")


@pytest.fixture(scope="module")
def uninterrupted(two_ranks: Outcome, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole training in one process, which takes the batches of the ranks one after the other."""
    directory = tmp_path_factory.mktemp("uninterrupted")
    run_pretrain.main(pretraining_options(two_ranks.files, "", save_checkpoint_path=directory, accumulation_steps=2))
    return directory


def test_ranks_go_on_from_the_checkpoint_of_the_first(two_ranks: Outcome, uninterrupted: Path) -> None:
    """Rank 1 looked for it in a directory without one, as on another host. The result is that of one process."""
    assert_same_training(two_ranks.files / "interrupted", uninterrupted)
    assert not any((two_ranks.files / "nothing there").iterdir()), "only rank 0 writes"


def test_one_process_goes_on_from_two_ranks(two_ranks: Outcome, uninterrupted: Path, tmp_path: Path,
                                            capsys: pytest.CaptureFixture) -> None:
    checkpoint = next((two_ranks.files / "interrupted").glob("*_2.ckpt"))
    run_pretrain.main(pretraining_options(two_ranks.files, "", save_checkpoint_path=tmp_path, accumulation_steps=2,
                                          load_checkpoint_path=checkpoint))
    assert "ranks 2 -> 1" in capsys.readouterr().err
    assert_same_training(tmp_path, uninterrupted, skipped=2)


# ---------------------------------------------------------------- a rank that dies

@pytest.fixture
def long_run(tmp_path: Path) -> Iterator[subprocess.Popen]:
    """Two ranks that train for hours, started by the launcher of the scripts, after their first steps."""
    toy_pretraining.write_records(tmp_path / "train", toy_pretraining.toy_batch(19))
    options = pretraining_options(tmp_path, "out", train_steps=10**6, save_checkpoint_steps=10**6, distribute="true")
    process = subprocess.Popen(
        [sys.executable, REPOSITORY / "scripts" / "start_ranks.py", "--processes", "2", "--log", "log.txt", "--",
         REPOSITORY / "run_pretrain.py", *options], cwd=tmp_path, text=True, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, env=os.environ | {"GLOG_v": "3"})
    metrics = tmp_path / "out" / "metrics.jsonl"
    try:
        while not (metrics.exists() and len(metrics.read_text().splitlines()) > 2):
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.2)
        yield process
    finally:
        process.kill()  # the ranks end with it
        process.wait()


def rank_pid(launcher: subprocess.Popen, rank: int) -> int:
    """Of a rank that `launcher` started."""
    children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
    place = {f"RANK_ID={rank}", "MS_ROLE=MS_WORKER"}
    return next(int(pid) for pid in children
                if place <= set(Path(f"/proc/{pid}/environ").read_text(errors="replace").split("\0")))


@pytest.mark.slow
def test_a_killed_rank_stops_the_others(long_run: subprocess.Popen) -> None:
    first = rank_pid(long_run, 0)
    os.kill(rank_pid(long_run, 1), signal.SIGKILL)
    _, errors = long_run.communicate(timeout=60)
    assert re.search(r"^error: rank 1 \(device 1\) was ended by SIGKILL", errors, re.MULTILINE)
    assert long_run.returncode == 128 + signal.SIGKILL
    assert not Path(f"/proc/{first}").exists()


@pytest.mark.slow
def test_sigterm_to_the_launcher_lets_the_first_rank_save(long_run: subprocess.Popen, tmp_path: Path) -> None:
    long_run.terminate()
    long_run.communicate(timeout=60)
    assert long_run.returncode == 128 + signal.SIGTERM
    steps = len(losses(tmp_path / "out"))
    assert len(list((tmp_path / "out").glob(f"checkpoint_bert-*_{steps}.ckpt"))) == 1
