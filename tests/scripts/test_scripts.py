import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from paths import REPOSITORY
from toy_pretraining import tiny_options

SCRIPTS = REPOSITORY / "scripts"
LAUNCHERS = {"run_standalone_pretrain_ascend.sh": "Ascend", "run_standalone_pretrain_for_gpu.sh": "GPU",
             "run_standaloned_pretrain_gpu.sh": "GPU", "run_standalone_pretrain_cpu.sh": "CPU"}
DISTRIBUTED = {"run_distributed_pretrain_ascend.sh": "Ascend", "run_distributed_pretrain_for_gpu.sh": "GPU",
               "run_distributed_pretrain_gpu.sh": "GPU", "run_distributed_pretrain_cpu.sh": "CPU"}

# Stands for Python: prints its arguments, then does what STUB says.
STUB = """#!/usr/bin/env bash
printf '[%s]\\n' "$@"
case "${STUB:-}" in
    fails) echo "some noise"; echo "error: --data_dir: nothing there" >&2; exit 7 ;;
    breaks) printf 'Traceback (most recent call last):\\n  File "x"\\nValueError: our fault\\n' >&2; exit 1 ;;
    trains) echo "epoch: 0.0, current epoch percent: 0.001, step: 1"; exec sleep 30 ;;
esac
"""


@pytest.fixture
def place(tmp_path) -> Path:
    """A directory with a space in its name, with data and a stub for Python in it."""
    directory = tmp_path / "a place"
    (directory / "my data").mkdir(parents=True)
    stub = directory / "python stub"
    stub.write_text(STUB)
    stub.chmod(0o755)
    return directory


@pytest.fixture
def run(place):
    def run_script(name: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
        return subprocess.run(["bash", str(SCRIPTS / name), *arguments], cwd=place, capture_output=True, text=True,
                              stdin=subprocess.DEVNULL, timeout=60,
                              env=os.environ | {"PYTHON": str(place / "python stub")} | environment)
    return run_script


def all_scripts() -> list[str]:
    return [str(path) for path in (*SCRIPTS.rglob("*.sh"), *(REPOSITORY / "src").rglob("*.sh"), REPOSITORY / ".ci/run",
                                    REPOSITORY / "ascend310_infer/build.sh")]


def test_shellcheck():
    shellcheck = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if shellcheck is None:
        pytest.skip("shellcheck absent")
    done = subprocess.run([shellcheck, "-x", "-P", str(REPOSITORY), *all_scripts()], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(("name", "target"), LAUNCHERS.items())
def test_launchers_pass_everything_on(run, place, name, target):
    done = run(name, "1", "3", "my data", "--batch_size", "8", "--load_checkpoint_path", "my model.ckpt",
               "--schema_dir", "")
    assert done.returncode == 0, done.stderr
    log = place / "pretraining_log.txt"
    assert log.read_text().splitlines() == [f"[{word}]" for word in (
        REPOSITORY / "run_pretrain.py", "--device_target", target, "--device_id", 1, "--epoch_size", 3,
        "--data_dir", "my data", "--batch_size", 8, "--load_checkpoint_path", "my model.ckpt", "--schema_dir", "")]
    assert str(log) in done.stdout and "PID" in done.stdout


@pytest.mark.parametrize("arguments", [
    [], ["0"], ["0", "1"], ["zero", "1", "my data"], ["0", "0", "my data"], ["0", "1.5", "my data"],
    ["0", "1", "my data", "extra"],
])
def test_wrong_arguments_show_the_usage(run, place, arguments):
    done = run("run_standalone_pretrain_cpu.sh", *arguments)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("usage: ") and "DEVICE_ID EPOCH_SIZE DATA_DIR" in done.stderr
    assert not (place / "pretraining_log.txt").exists()


def test_absent_data_directory(run):
    done = run("run_standalone_pretrain_cpu.sh", "0", "1", "your data")
    assert (done.returncode, done.stderr) == (2, "error: DATA_DIR: no directory your data\n")


@pytest.mark.parametrize(("stub", "status", "line"), [
    ("fails", 7, "error: --data_dir: nothing there"), ("breaks", 1, "ValueError: our fault")])
def test_a_failed_start_is_reported(run, place, stub, status, line):
    done = run("run_standalone_pretrain_cpu.sh", "0", "1", "my data", STUB=stub)
    assert done.returncode == status
    first, second = done.stderr.splitlines()
    assert first == line
    assert f"exit status {status}" in second and str(place / "pretraining_log.txt") in second


def test_a_good_start_leaves_the_run_in_the_background(run, place):
    begin = time.monotonic()
    done = run("run_standalone_pretrain_cpu.sh", "0", "1", "my data", STUB="trains")
    pid = int(done.stdout.split("PID ")[1].split(",")[0])
    try:
        os.kill(pid, 0)  # raises when the run has ended
        assert done.returncode == 0 and "running in the background" in done.stdout
        assert time.monotonic() - begin < 25, "the launcher must not wait for the run"
    finally:
        os.kill(pid, 9)


def test_a_run_that_logs_nothing_yet_is_left_alone_too(run):
    done = run("run_standalone_pretrain_cpu.sh", "0", "1", "my data", STUB="trains", START_SECONDS="0")
    os.kill(int(done.stdout.split("PID ")[1].split(",")[0]), 9)
    assert done.returncode == 0 and "running in the background" in done.stdout


@pytest.mark.parametrize(("options", "environment"), [(["--foreground"], {}), ([], {"FOREGROUND": "1"})])
def test_in_front(run, place, options, environment):
    done = run("run_standalone_pretrain_cpu.sh", "0", "1", "my data", *options, STUB="fails", **environment)
    assert done.returncode == 7 and "--foreground" not in done.stdout
    assert "[my data]" in done.stdout and "nothing there" in done.stderr
    assert not (place / "pretraining_log.txt").exists()


def test_the_hardware_smoke_command_passes_everything_on(run):
    done = run("hardware_smoke.sh", "GPU", "--only", "3,5", "--compute_type", "a b; echo $HOME")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"[{word}]" for word in (
        REPOSITORY / "src/tools/hardware_smoke/run.py", "--device_target", "GPU", "--only", "3,5", "--compute_type",
        "a b; echo $HOME")]
    assert run("hardware_smoke.sh", "CPU", STUB="fails").returncode == 7


@pytest.mark.parametrize("arguments", [[], ["TPU"], ["ascend"], ["--device_id", "0"], ["GPU", "0"]])
def test_a_hardware_smoke_command_without_a_device_shows_the_usage(run, arguments):
    done = run("hardware_smoke.sh", *arguments)
    assert done.returncode == 2 and done.stdout == "" and done.stderr.startswith("usage: ")


@pytest.mark.parametrize(("name", "target"), [("run_classifier.sh", "Ascend"), ("run_classifier_gpu.sh", "GPU")])
def test_classifier_launchers(run, place, name, target):
    done = run(name, "3", "--train_data_file_path", "my data/train.mindrecord", "--class_weights", "")
    assert done.returncode == 0, done.stderr
    words = [line[1:-1] for line in (place / "classfier_log.txt").read_text().splitlines()]
    assert words[0] == str(REPOSITORY / "run_classifier.py")
    given = {}
    for key, value in zip(words[1::2], words[2::2], strict=True):
        given[key] = value  # the last counts
    assert given["--device_target"] == target and given["--device_id"] == "3" and given["--num_class"] == "15"
    assert given["--train_data_file_path"] == "my data/train.mindrecord" and given["--class_weights"] == ""

    done = run(name, "zero")
    assert done.returncode == 2 and done.stderr.startswith("usage: ") and "[DEVICE_ID]" in done.stderr


@pytest.mark.parametrize(("name", "target"), [("run_ner.sh", "Ascend"), ("run_ner_gpu.sh", "GPU"),
                                              ("ner.sh", "Ascend")])
def test_ner_launchers(run, place, name, target):
    done = run(name, "2", "--use_crf", "true", "--label_file_path", "my data/label_file")
    assert done.returncode == 0, done.stderr
    words = [line[1:-1] for line in (place / "ner_log.txt").read_text().splitlines()]
    assert words[0] == str(REPOSITORY / "run_ner.py")
    given = {}
    for key, value in zip(words[1::2], words[2::2], strict=True):
        given[key] = value  # the last counts
    assert given["--device_target"] == target and given["--device_id"] == "2" and given["--assessment_method"] == "BF1"
    assert given["--use_crf"] == "true" and given["--label_file_path"] == "my data/label_file"


@pytest.mark.parametrize(("name", "target"), [("run_squad.sh", "Ascend"), ("run_squad_gpu.sh", "GPU"),
                                              ("squad.sh", "Ascend")])
def test_squad_launchers(run, place, name, target):
    done = run(name, "1", "--eval_json_path", "my data/dev.json")
    assert done.returncode == 0, done.stderr
    words = [line[1:-1] for line in (place / "squad_log.txt").read_text().splitlines()]
    assert words[0] == str(REPOSITORY / "run_squad.py")
    given = dict(zip(words[1::2], words[2::2], strict=True))
    assert given["--device_target"] == target and given["--device_id"] == "1" and given["--do_train"] == "true"
    assert given["--eval_json_path"] == "my data/dev.json"


# --- several ranks: what the scripts hand to the program that starts them ---

def words_of(log: Path) -> list[str]:
    return [line[1:-1] for line in log.read_text().splitlines()]


def by_option(words: list[str]) -> dict[str, str]:
    return dict(zip(words[::2], words[1::2], strict=True))  # the last of an option counts


@pytest.mark.parametrize(("task", "log"), [("classifier", "classfier_log.txt"), ("ner", "ner_log.txt"),
                                           ("squad", "squad_log.txt")])
def test_fine_tuning_on_several_devices(run, place, task, log):
    done = run(f"run_{task}_gpu_distribute.sh", "3", "--device_target", "CPU", "--epoch_num", "7", MASTER_PORT="5000")
    assert done.returncode == 0, done.stderr
    words = words_of(place / log)
    end = words.index("--")
    assert words[0] == str(SCRIPTS / "start_ranks.py") and words[end + 1] == str(REPOSITORY / f"run_{task}.py")
    assert by_option(words[1:end]) == {
        "--log": log, "--processes": "3", "--nodes": "1", "--node_rank": "0", "--master_addr": "127.0.0.1",
        "--master_port": "5000", "--bind_cores": "false"}
    given = by_option(words[end + 2:])
    assert (given["--device_target"], given["--distribute"], given["--device_num"]) == ("CPU", "true", "3")
    assert given["--epoch_num"] == "7" and given["--do_eval"] == "true"


@pytest.mark.parametrize("arguments", [[], ["0"], ["--epoch_num", "2"], ["2", "3"]])
def test_fine_tuning_on_several_devices_needs_their_number(run, arguments):
    done = run("run_squad_gpu_distribute.sh", *arguments)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("usage: ") and "run_squad_gpu_distribute.sh DEVICE_NUM" in done.stderr


@pytest.mark.parametrize(("name", "target"), DISTRIBUTED.items())
def test_distributed_pretraining(run, place, name, target):
    done = run(name, "4", "2", "my data", "--batch_size", "8", "--schema_dir", "")
    assert done.returncode == 0, done.stderr
    words = words_of(place / "pretraining_log.txt")
    end = words.index("--")
    started = by_option(words[1:end])
    assert (started["--log"], started["--processes"], started["--nodes"]) == ("pretraining_log.txt", "4", "1")
    assert words[end + 1] == str(REPOSITORY / "run_pretrain.py") and by_option(words[end + 2:]) == {
        "--device_target": target, "--distribute": "true", "--device_num": "4", "--data_dir": "my data",
        "--save_checkpoint_path": str(place / "LOG0"), "--epoch_size": "2", "--batch_size": "8", "--schema_dir": ""}


def test_distributed_pretraining_on_several_hosts(run, place):
    assert run("run_distributed_pretrain_cpu.sh", "4", "2", "my data", "--ini_path", "my.ini", NODE_NUM="2",
               NODE_RANK="1", MASTER_ADDR="10.0.0.1", MASTER_PORT="5000", BIND_CORES="true").returncode == 0
    words = words_of(place / "pretraining_log.txt")
    end = words.index("--")
    assert by_option(words[1:end]) == {
        "--log": "pretraining_log.txt", "--processes": "4", "--nodes": "2", "--node_rank": "1",
        "--master_addr": "10.0.0.1", "--master_port": "5000", "--bind_cores": "true"}
    given = by_option(words[end + 2:])
    assert given["--device_num"] == "8"
    assert "--save_checkpoint_path" not in given, "the ini file may say where checkpoints go"


def test_all_gpus_of_a_host(run, place, tmp_path):
    assert run("run_distributed_pretrain_for_gpu.sh", "my data", CUDA_VISIBLE_DEVICES="2,5,7").returncode == 0
    words = words_of(place / "pretraining_log.txt")
    given = by_option(words[words.index("--") + 2:])
    assert given["--device_num"] == "3" and "--epoch_size" not in given

    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "nvidia-smi").write_text("#!/bin/sh\nprintf 'GPU 0: A\\nGPU 1: B\\n'\n")
    (tools / "nvidia-smi").chmod(0o755)
    path = f"{tools}{os.pathsep}{os.environ['PATH']}"
    assert run("run_distributed_pretrain_for_gpu.sh", "my data", "--seed", "3", PATH=path,
               CUDA_VISIBLE_DEVICES="").returncode == 0
    words = words_of(place / "pretraining_log.txt")
    assert words[words.index("--processes") + 1] == "2" and words[-2:] == ["--seed", "3"]

    (tools / "nvidia-smi").write_text("#!/bin/sh\nexit 9\n")
    done = run("run_distributed_pretrain_for_gpu.sh", "my data", PATH=path, CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 2 and done.stderr.startswith("error: no GPU found; say how many to use")


@pytest.mark.parametrize("arguments", [
    [], ["8"], ["8", "40"], ["0", "40", "my data"], ["8", "40", "my data", "extra"], ["--seed", "3"]])
@pytest.mark.parametrize("name", DISTRIBUTED)
def test_wrong_arguments_of_distributed_pretraining(run, place, name, arguments):
    done = run(name, *arguments)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("usage: ") and "DEVICE_NUM EPOCH_SIZE DATA_DIR" in done.stderr
    other_form = {"Ascend": "DATA_DIR HCCL_JSON", "GPU": "DATA_DIR", "CPU": ""}[DISTRIBUTED[name]]
    assert ("or: bash" in done.stderr) == bool(other_form) and f".sh {other_form}" in done.stderr
    assert not (place / "pretraining_log.txt").exists()


@pytest.mark.parametrize(("arguments", "message"), [
    (["4", "2", "no data"], "DATA_DIR: no directory no data"),
    (["no data", "hccl.json"], "DATA_DIR: no directory no data"),
    (["my data", "hccl.json"], "HCCL_JSON: no file hccl.json")])
def test_absent_files_of_distributed_pretraining(run, arguments, message):
    done = run("run_distributed_pretrain_ascend.sh", *arguments)
    assert (done.returncode, done.stderr) == (2, f"error: {message}\n")


def test_mpirun(run, place, tmp_path):
    arguments = ("run_distributed_pretrain_for_gpu.sh", "4", "2", "my data")
    done = run(*arguments, LAUNCHER="mpirun", PATH="/usr/bin:/bin")
    if not Path("/usr/bin/mpirun").exists():
        assert done.returncode == 2 and done.stderr.startswith("error: LAUNCHER: mpirun is absent; install Open MPI")
    assert run(*arguments, LAUNCHER="slurm").stderr.startswith("error: LAUNCHER: expected mpirun")

    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "mpirun").write_text(STUB)
    (tools / "mpirun").chmod(0o755)
    done = run(*arguments, LAUNCHER="mpirun --hostfile hosts", NODE_NUM="2",
               PATH=f"{tools}{os.pathsep}{os.environ['PATH']}")
    assert done.returncode == 0, done.stderr
    words = words_of(place / "pretraining_log.txt")
    script = words.index(str(REPOSITORY / "run_pretrain.py"))
    assert words[:2] == ["--hostfile", "hosts"] and words[words.index("-n") + 1] == "8"
    assert words[script - 3:script] == ["--output-filename", str(place / "LOG"), str(place / "python stub")]
    assert by_option(words[script + 1:])["--device_num"] == "8"


def test_msrun(run, place, tmp_path):
    """MindSpore's launcher lies beside the Python of the run."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("python", "msrun"):
        (tools / name).write_text(STUB)
        (tools / name).chmod(0o755)
    done = run("run_distributed_pretrain_for_gpu.sh", "4", "2", "my data", LAUNCHER="msrun --cluster_time_out 60",
               NODE_NUM="2", NODE_RANK="1", MASTER_ADDR="10.0.0.1", MASTER_PORT="8200", PYTHON=str(tools / "python"))
    assert done.returncode == 0, done.stderr
    words = words_of(place / "pretraining_log.txt")
    script = words.index(str(REPOSITORY / "run_pretrain.py"))
    assert words[:script] == [
        "--worker_num", "8", "--local_worker_num", "4", "--node_rank", "1", "--master_addr", "10.0.0.1",
        "--master_port", "8200", "--log_dir", str(place / "LOG_msrun"), "--join", "True", "--tail_worker_log", "0",
        "--bind_core", "False", "--cluster_time_out", "60"]
    assert by_option(words[script + 1:])["--device_num"] == "8"


@pytest.mark.slow
def test_two_processes_of_msrun_really_train(place, toy_records):
    command = ["bash", str(SCRIPTS / "run_distributed_pretrain_cpu.sh"), "2", "1", str(toy_records / "mindrecord"),
               "--foreground", *tiny_options(train_steps=2, log_steps=1)]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=600,
                          env=os.environ | {"PYTHON": sys.executable, "LAUNCHER": "msrun"})
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line for line in done.stdout.splitlines() if "epoch: " in line]
    assert ["step: 1," in lines[0], "step: 2," in lines[-1]] == [True, True], done.stdout
    assert len(list((place / "LOG_msrun").glob("worker_*.log"))) == 2


# ---------------------------------------------------------------- question answering as published

def test_squad_on_several_devices_takes_the_files_of_its_folder(run, place, tmp_path):
    folder = tmp_path / "squad"
    folder.mkdir()
    for name in ("train-v1.1.tf_record", "dev-v1.1.json", "vocab.txt", "bert_large.ckpt"):
        (folder / name).touch()
    done = run("run_squad_gpu_distribute.sh", "8", SQUAD_FOLDER=str(folder))
    assert done.returncode == 0, done.stderr
    words = words_of(place / "squad_log.txt")
    options = by_option(words[words.index(str(REPOSITORY / "run_squad.py")) + 1:])
    assert {name: options[f"--{name}"] for name in ("train_data_file_path", "eval_json_path", "vocab_file_path",
                                                    "load_pretrain_checkpoint_path", "dataset_format", "config_path")
            } == {"train_data_file_path": str(folder / "train-v1.1.tf_record"),
                  "eval_json_path": str(folder / "dev-v1.1.json"), "vocab_file_path": str(folder / "vocab.txt"),
                  "load_pretrain_checkpoint_path": str(folder / "bert_large.ckpt"), "dataset_format": "tfrecord",
                  "config_path": str(REPOSITORY / "task_squad_large_config.yaml")}
    assert (options["--device_num"], options["--device_target"]) == ("8", "GPU")


def test_squad_folder_that_is_not_complete(run, tmp_path):
    folder = tmp_path / "squad"
    folder.mkdir()
    (folder / "train.tf_record").touch()
    done = run("run_squad_gpu_distribute.sh", "8", SQUAD_FOLDER=str(folder))
    assert done.returncode == 2
    assert done.stderr == (f"error: {folder}: expected the file to evaluate on (*dev*.json), found 0 such files; put "
                           f"it there, or give the files as options\n")


@pytest.mark.slow  # the README's commands start two as well
def test_two_processes_really_train(place, toy_records):
    command = ["bash", str(SCRIPTS / "run_distributed_pretrain_cpu.sh"), "2", "1", str(toy_records / "mindrecord"),
               "--foreground", *tiny_options(train_steps=3, log_steps=1)]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=600,
                          env=os.environ | {"PYTHON": sys.executable})
    assert done.returncode == 0, done.stderr
    steps = [line for line in done.stdout.splitlines() if line.startswith("epoch: ")]
    assert [line.split("step: ")[1].split(",")[0] for line in steps] == ["1", "2", "3"]
    assert (place / "LOG0/pretraining_log.txt").read_text().splitlines() == done.stdout.splitlines()
    assert "epoch: " not in (place / "LOG1/pretraining_log.txt").read_text(), "rank 0 alone reports"
    records = [json.loads(line) for line in (place / "LOG0/metrics.jsonl").read_text().splitlines()]
    assert len([record for record in records if "loss" in record]) == 3
    assert len(list((place / "LOG0").glob("checkpoint_bert-*_3.ckpt"))) == 1


def test_evaluation_launcher(run, place):
    done = run("run_pretrain_eval_ascend.sh", "--eval_ckpt", "my model.ckpt", STUB="fails")
    assert done.returncode == 7 and "nothing there" in done.stderr
    lines = (place / "pretrain_eval_log.txt").read_text().splitlines()
    assert lines[:5] == [f"[{word}]" for word in (
        REPOSITORY / "pretrain_eval.py", "--device_target", "Ascend", "--eval_ckpt", "my model.ckpt")]


def test_a_log_that_cannot_be_written(run, place):
    (place / "pretraining_log.txt").mkdir()
    done = run("run_standalone_pretrain_cpu.sh", "0", "1", "my data")
    assert done.returncode == 2 and "cannot write" in done.stderr.splitlines()[-1]


# --- the environment, with a stub for Python whose pip installs nothing ---

# `-m venv DIR` copies the stub there; `-m pip install` notes its arguments, and fails when PIP_STATUS says so.
ENVIRONMENT_STUB = """#!/usr/bin/env bash
here="$(dirname "$0")"
case "$1 $2" in
    "-m venv") mkdir -p "$3/bin"; cp "$0" "$3/bin/python" ;;
    "-m pip") printf '%s|' "${@:4}" >>"$LOG"; echo >>"$LOG"; echo "pip talks"; exit "${PIP_STATUS:-0}" ;;
    "--version "*) echo "Python 3.11.0" ;;
    "-c import sysconfig"*) echo "$here/../packages" ;;
    "-c import sys;"*) exit "${VERSION_STATUS:-0}" ;;
    "-c "*) exit 0 ;;
    "-m src.cpu_kernels.build") echo "${BUILD_ERROR:-built}" >&2; [[ -z ${BUILD_ERROR:-} ]]; exit ;;
    *) printf 'runs %s\\n' "$*"; case "$*" in "-m ruff"*) exit "${RUFF_STATUS:-0}" ;; esac ;;
esac
"""


@pytest.fixture
def clone(tmp_path) -> Path:
    """The scripts and requirements as in a fresh clone, in a directory with a space in its name."""
    directory = tmp_path / "a clone"
    directory.mkdir()
    shutil.copytree(SCRIPTS, directory / "scripts")
    shutil.copytree(REPOSITORY / ".ci", directory / ".ci")
    for path in REPOSITORY.glob("requirements*.txt"):
        shutil.copy(path, directory)
    (directory / "python stub").write_text(ENVIRONMENT_STUB)
    (directory / "python stub").chmod(0o755)
    return directory


@pytest.fixture
def run_in_clone(clone, tmp_path):
    def run_script(script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
        known = {key: value for key, value in os.environ.items() if key not in ("VENV", "VIRTUAL_ENV")}
        return subprocess.run(["bash", str(clone / script), *arguments], cwd=tmp_path, capture_output=True, text=True,
                              stdin=subprocess.DEVNULL, timeout=60,
                              env=known | {"PYTHON": str(clone / "python stub"), "LOG": str(tmp_path / "log"),
                                           "CI": "true"} | environment)
    return run_script


def installations(tmp_path: Path) -> list[list[str]]:
    log = tmp_path / "log"
    if not log.exists():
        return []
    return [[Path(word).name for word in line.split("|") if word.endswith(".txt")]
            for line in log.read_text().splitlines()]


PYTEST = "runs -m pytest -n 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 1"
DEVELOPMENT = ["requirements.txt", "requirements-tensorflow.txt", "requirements-dev.txt"]


@pytest.mark.parametrize("script", ["scripts/run_tests.sh", ".ci/run"])
def test_run_tests_installs_checks_and_tests(run_in_clone, clone, tmp_path, script):
    done = run_in_clone(script)
    assert done.returncode == 0, done.stderr
    assert installations(tmp_path) == [DEVELOPMENT]
    lines = done.stdout.splitlines()
    assert "runs -m ruff check --quiet ." in lines and lines[-1] == PYTEST
    assert "pip talks" not in done.stdout and (clone / ".venv/install.log").read_text() == "pip talks\n"


def test_arguments_reach_pytest_and_the_quick_start(run_in_clone):
    assert f"{PYTEST} -k a b\n" in run_in_clone("scripts/run_tests.sh", "-k", "a b").stdout
    assert "runs quick_start.py --seed 3" in run_in_clone("scripts/quick_start.sh", "--seed", "3").stdout


def test_the_quick_start_builds_the_cpu_operators_quietly(run_in_clone):
    assert run_in_clone("scripts/quick_start.sh").stdout.splitlines()[-2:] == ["installed", "runs quick_start.py"]


def test_the_quick_start_goes_on_without_cpu_operators(run_in_clone):
    done = run_in_clone("scripts/quick_start.sh", BUILD_ERROR="error: no C++ compiler found")
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout.splitlines()[-2:] == ["going on without the CPU operators: no C++ compiler found",
                                             "runs quick_start.py"]


def test_slow_tests_run_when_asked_for(run_in_clone):
    """`-m` and nothing takes back the choice of pyproject.toml; what else is given stands behind it, and counts."""
    done = run_in_clone("scripts/run_tests.sh", "-x", "--slow", "-k", "a b")
    assert done.stdout.splitlines()[-1] == f"{PYTEST} -m  -x -k a b"


def test_a_style_error_ends_the_tests(run_in_clone):
    done = run_in_clone("scripts/run_tests.sh", RUFF_STATUS="1")
    assert done.returncode == 1 and "runs -m ruff" in done.stdout and "runs -m pytest" not in done.stdout


def test_marker_options_choose_the_tests(tmp_path):
    """What run_tests.sh passes, by pytest itself with the project's settings."""
    tests = tmp_path / "test_speeds.py"
    tests.write_text("import pytest\n\ndef test_plain(): pass\n\n@pytest.mark.slow\ndef test_slow(): pass\n")

    def chosen(*options: str) -> set[str]:
        done = subprocess.run([sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", "-c",
                               str(REPOSITORY / "pyproject.toml"), "--rootdir", str(tmp_path), *options, str(tests)],
                              capture_output=True, text=True, timeout=60)
        return {line.split("::")[1] for line in done.stdout.splitlines() if "::" in line}

    assert chosen() == {"test_plain"}
    assert chosen("-m", "") == {"test_plain", "test_slow"}
    assert chosen("-m", "", "-m", "slow") == {"test_slow"}


def test_installs_again_only_when_requirements_changed(run_in_clone, clone, tmp_path):
    for _ in range(2):
        assert run_in_clone("scripts/quick_start.sh").returncode == 0
    assert installations(tmp_path) == [["requirements.txt"]]
    run_in_clone("scripts/run_tests.sh")
    run_in_clone("scripts/quick_start.sh")
    assert installations(tmp_path) == [["requirements.txt"], DEVELOPMENT]
    with (clone / "requirements.txt").open("a") as file:
        file.write("# changed\n")
    run_in_clone("scripts/quick_start.sh")
    run_in_clone("scripts/run_tests.sh")
    assert installations(tmp_path)[2:] == [["requirements.txt"]]


def test_a_failed_installation_is_reported_and_tried_again(run_in_clone, tmp_path):
    done = run_in_clone("scripts/quick_start.sh", PIP_STATUS="1")
    assert done.returncode == 2 and "runs" not in done.stdout
    assert "pip talks" in done.stderr and "install.log" in done.stderr.splitlines()[-1]
    assert run_in_clone("scripts/quick_start.sh").returncode == 0
    assert len(installations(tmp_path)) == 2


def test_an_environment_without_pip_is_mended(run_in_clone, clone, tmp_path):
    broken = clone / ".venv/bin/python"
    broken.parent.mkdir(parents=True)
    broken.write_text("#!/usr/bin/env bash\nexit 1\n")
    broken.chmod(0o755)
    (clone / ".venv/mine").write_text("kept")
    assert run_in_clone("scripts/quick_start.sh").returncode == 0
    assert installations(tmp_path) == [["requirements.txt"]] and (clone / ".venv/mine").exists()


def test_no_supported_python(run_in_clone, clone, tmp_path):
    nowhere = tmp_path / "bin"
    nowhere.mkdir()
    for tool in ("bash", "dirname", "mkdir", "flock"):
        if shutil.which(tool):
            (nowhere / tool).symlink_to(shutil.which(tool))
    done = run_in_clone("scripts/quick_start.sh", PATH=str(nowhere), VERSION_STATUS="1")
    assert done.returncode == 2 and "no Python 3.10, 3.11 or 3.12" in done.stderr and "runs" not in done.stdout
    assert not (clone / ".venv/bin").exists()
