import logging
import os
import socket
import subprocess
import sys
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest

from src.errors import UserError
from src.model_utils import device_adapter
from src.model_utils.config import REPOSITORY, Config, load_config
from src.model_utils.device_adapter import (
    DeviceInfo,
    get_device_id,
    get_device_num,
    get_rank_id,
    resolve_compute_type,
    set_up_device,
)


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch):
    for variable in ("MS_ROLE", "OMPI_COMM_WORLD_RANK", "RANK_TABLE_FILE", "DEVICE_ID", "RANK_ID", "RANK_SIZE"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture(autouse=True)
def same_log_level_and_mode():
    logger, mode = ms.log._get_logger(), ms.get_context("mode")
    level = logger.level
    yield
    logger.setLevel(level)
    ms.set_context(mode=mode)


def config(*argv: str) -> Config:
    return load_config("", "pretrain_config.yaml", ["--device_target", "CPU", *argv])


def test_cpu_in_graph_mode_with_the_seed():
    assert set_up_device(config("--seed", "7", "--device_id", "3")) == DeviceInfo("CPU", 3, rank=0, rank_size=1)
    assert ms.get_context("mode") == ms.GRAPH_MODE and ms.get_seed() == 7
    first = np.random.rand()
    set_up_device(config("--seed", "7"))
    assert np.random.rand() == first, "MindSpore seeds numpy as well"


def test_again_after_something_was_computed():
    (ms.Tensor([1.0]) + 1).asnumpy()
    assert set_up_device(config()).target == "CPU"


@pytest.mark.parametrize("target", ["Ascend", "GPU"])
def test_absent_device_is_one_line(target, capfd):
    if ms.hal.is_available(target):
        pytest.skip(f"this machine has {target}")
    capfd.readouterr()
    with pytest.raises(UserError) as caught:
        set_up_device(config("--device_target", target))
    message = str(caught.value)
    assert target in message and "--device_target CPU" in message and "\n" not in message
    assert capfd.readouterr() == ("", ""), "MindSpore's search for libraries must not be printed"


def test_quiet_unless_the_user_chose_a_level(monkeypatch):
    monkeypatch.delenv("GLOG_v", raising=False)
    ms.log._get_logger().setLevel(logging.WARNING)
    set_up_device(config())
    assert ms.log._get_logger().level == logging.ERROR
    ms.log._get_logger().setLevel(logging.INFO)
    monkeypatch.setenv("GLOG_v", "1")
    set_up_device(config())
    assert ms.log._get_logger().level == logging.INFO


def test_distributed_run_without_a_launcher():
    with pytest.raises(UserError, match="--worker_num.*--distribute false"):
        set_up_device(config("--distribute", "true"))


def test_launcher_that_cannot_be_joined(monkeypatch):
    def init() -> None:
        raise RuntimeError("no scheduler\n\n- C++ Call Stack")
    monkeypatch.setenv("MS_ROLE", "MS_WORKER")
    monkeypatch.setattr(device_adapter, "init", init)
    with pytest.raises(UserError, match="cannot join the other processes: no scheduler$"):
        set_up_device(config("--distribute", "true"))


def test_two_processes_know_each_other(tmp_path):
    script = tmp_path / "worker.py"
    script.write_text(
        "import sys\n"
        f"sys.path.insert(0, {str(REPOSITORY)!r})\n"
        "import mindspore as ms\n"
        "from src.model_utils.config import load_config\n"
        "from src.model_utils.device_adapter import set_up_device\n"
        "device = set_up_device(load_config('', 'pretrain_config.yaml'))\n"
        "print('INFO', device, ms.get_auto_parallel_context('device_num'))\n")
    msrun = Path(sys.executable).with_name("msrun")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run([msrun, "--worker_num=2", "--local_worker_num=2", f"--master_port={port}", "--join=True",
                    f"--log_dir={tmp_path}", script, "--device_target", "CPU", "--distribute", "true"],
                   env=os.environ | {"PATH": path, "GLOG_v": "3"}, cwd=tmp_path, check=True, capture_output=True,
                   timeout=120)
    lines = [line for rank in range(2) for line in (tmp_path / f"worker_{rank}.log").read_text().splitlines()
             if line.startswith("INFO")]
    assert sorted(lines) == [f"INFO {DeviceInfo('CPU', rank, rank, 2)} 2" for rank in range(2)]


def test_number_of_devices_must_be_that_of_the_launcher(monkeypatch):
    monkeypatch.setenv("MS_ROLE", "MS_WORKER")
    monkeypatch.setattr(device_adapter, "init", lambda: None)
    monkeypatch.setattr(device_adapter, "get_rank", lambda: 0)
    monkeypatch.setattr(device_adapter, "get_group_size", lambda: 2)
    with pytest.raises(UserError, match="device_num: 8 .* 2 processes"):
        set_up_device(config("--distribute", "true", "--device_num", "8"))


@pytest.mark.parametrize(("target", "requested", "asked_for", "expected", "says"), [
    ("CPU", "float16", False, "float32", True),
    ("CPU", "mstype.float16", False, "float32", True),
    ("CPU", "bfloat16", False, "float32", True),
    ("CPU", "float16", True, "float16", False),
    ("CPU", "float32", False, "float32", False),
    ("CPU", "mstype.float32", False, "mstype.float32", False),
    ("Ascend", "float16", False, "float16", False),
    ("GPU", "float16", False, "float16", False),
])
def test_compute_type(capsys, target, requested, asked_for, expected, says):
    assert resolve_compute_type(target, requested, asked_for) == expected
    printed = capsys.readouterr().err
    assert printed.count("\n") == int(says) and ("float32" in printed) is says


def test_what_the_launcher_says(monkeypatch):
    assert (get_device_id(), get_device_id(5), get_device_num(), get_rank_id()) == (0, 5, 1, 0)
    monkeypatch.setenv("DEVICE_ID", "3")
    monkeypatch.setenv("RANK_SIZE", "8")
    monkeypatch.setenv("RANK_ID", "2")
    assert (get_device_id(5), get_device_num(), get_rank_id()) == (3, 8, 2)
    monkeypatch.setenv("RANK_ID", "two")
    with pytest.raises(UserError, match="RANK_ID.*'two'"):
        get_rank_id()
