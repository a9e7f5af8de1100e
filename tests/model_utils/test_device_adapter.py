import logging
import os
import sys

import mindspore as ms
import numpy as np
import pytest

from src.cpu_kernels import library
from src.errors import UserError
from src.model_utils import core_share, device_adapter
from src.model_utils.config import Config, load_config
from src.model_utils.device_adapter import DeviceInfo, resolve_compute_type, set_up_device, target_of
from src.model_utils.local_adapter import get_device_id, get_device_num, get_rank_id

SCHEDULER = {"MS_ROLE": "MS_WORKER", "MS_WORKER_NUM": "2", "MS_SCHED_HOST": "127.0.0.1", "MS_SCHED_PORT": "8118",
             "MS_NODE_ID": "1", "DEVICE_ID": "1"}


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch):
    for variable in os.environ:
        if variable.startswith(("MS_", "OMPI_", "RANK_", "DEVICE_")):
            monkeypatch.delenv(variable)


@pytest.fixture
def joined(monkeypatch):
    """As started by msrun: rank 1 of 2."""
    for variable, value in SCHEDULER.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setattr(device_adapter, "init", lambda: None)
    monkeypatch.setattr(device_adapter, "get_rank", lambda: 1)
    monkeypatch.setattr(device_adapter, "get_group_size", lambda: 2)
    monkeypatch.setattr(ms, "set_auto_parallel_context", lambda **_: None)
    monkeypatch.setattr(core_share, "core_share", lambda rank_size: 10 // rank_size)
    monkeypatch.setattr(library, "_threads", 0)
    monkeypatch.setattr(sys, "stdout", sys.stdout)


@pytest.fixture(autouse=True)
def same_log_level(pynative_mode):
    logger = ms.log._get_logger()
    level = logger.level
    yield
    logger.setLevel(level)


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


@pytest.mark.parametrize(("found", "target"), [((), "CPU"), (("GPU",), "GPU"), (("GPU", "Ascend"), "Ascend")])
def test_auto_takes_the_first_device_that_is_there(monkeypatch, capfd, found, target):
    monkeypatch.setattr(ms.hal, "is_available", lambda device: device in found)
    monkeypatch.setattr(ms, "set_device", lambda device, device_id: None)
    auto = config("--device_target", "auto")
    assert set_up_device(auto) == DeviceInfo(target, 0, rank=0, rank_size=1)
    assert target_of(auto) == target
    assert capfd.readouterr() == ("", "" if target == "CPU" else f"device_target auto: {target}\n")


def test_auto_finds_what_mindspore_finds(capfd):
    expected = next((target for target in ("Ascend", "GPU") if ms.hal.is_available(target)), "CPU")
    capfd.readouterr()
    assert target_of(config("--device_target", "auto")) == expected
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


def test_launcher_that_cannot_be_joined(joined, monkeypatch):
    def init() -> None:
        raise RuntimeError("no scheduler\n\n- C++ Call Stack")
    monkeypatch.setattr(device_adapter, "init", init)
    with pytest.raises(UserError, match="cannot join the other processes: no scheduler$"):
        set_up_device(config("--distribute", "true"))


def test_other_ranks_print_nothing(joined, capsys):
    assert set_up_device(config("--distribute", "true")) == DeviceInfo("CPU", 1, rank=1, rank_size=2)
    print("accuracy")
    print("warning", file=sys.stderr)
    assert capsys.readouterr() == ("", "warning\n")


def test_the_operators_get_the_share_of_the_cores(joined):
    set_up_device(config("--distribute", "true"))
    assert library._threads == 5


def test_number_of_devices_must_be_that_of_the_launcher(joined, monkeypatch):
    monkeypatch.setattr(device_adapter, "init", lambda: pytest.fail("found before the processes wait for each other"))
    with pytest.raises(UserError, match="device_num: 8 .* 2 processes"):
        set_up_device(config("--distribute", "true", "--device_num", "8"))


def test_two_runs_at_one_port(joined, monkeypatch):
    monkeypatch.setattr(device_adapter, "get_rank", lambda: 0)
    with pytest.raises(UserError, match="rank 1 of 2, but it became rank 0 of 2; .* same port"):
        set_up_device(config("--distribute", "true"))


@pytest.mark.parametrize(("target", "requested", "asked_for", "expected"), [
    ("CPU", "float16", False, "float32"),
    ("CPU", "mstype.float16", False, "float32"),
    ("CPU", "bfloat16", False, "float32"),
    ("CPU", "float16", True, "float16"),
    ("CPU", "float32", False, "float32"),
    ("CPU", "mstype.float32", False, "mstype.float32"),
    ("Ascend", "float16", False, "float16"),
    ("GPU", "float16", False, "float16"),
])
def test_compute_type(capsys, target, requested, asked_for, expected):
    assert resolve_compute_type(target, requested, asked_for) == expected
    assert capsys.readouterr() == ("", "")


def test_a_type_that_was_asked_for_and_cannot_be_had_is_named(capsys, monkeypatch):
    monkeypatch.setattr(device_adapter, "bfloat16_misfit", lambda: "as this processor has none")
    assert resolve_compute_type("CPU", "bfloat16", asked_for=True) == "float32"
    assert capsys.readouterr().err == "compute_type: float32 in place of bfloat16, as this processor has none\n"


def test_what_the_launcher_says(monkeypatch):
    assert (get_device_id(), get_device_id(5), get_device_num(), get_rank_id()) == (0, 5, 1, 0)
    monkeypatch.setenv("DEVICE_ID", "3")
    monkeypatch.setenv("RANK_SIZE", "8")
    monkeypatch.setenv("RANK_ID", "2")
    assert (get_device_id(5), get_device_num(), get_rank_id()) == (3, 8, 2)
    monkeypatch.setenv("RANK_ID", "two")
    with pytest.raises(UserError, match="RANK_ID.*'two'"):
        get_rank_id()


@pytest.mark.parametrize("name", ["Ascend910A", "Ascend910ProB", "Ascend910B", "Ascend310P3"])
def test_a_device_without_bfloat16_refuses_it(monkeypatch, name):
    monkeypatch.setattr(ms.hal, "get_device_name", lambda number, target: name)
    with pytest.raises(UserError, match=f"^compute_type: bfloat16 needs .* this is {name}; use float16$"):
        resolve_compute_type("Ascend", "bfloat16", asked_for=True)


@pytest.mark.parametrize("name", ["Ascend910B3", "Ascend910_9391", "Ascend950"])
def test_a_device_with_bfloat16_computes_in_it(monkeypatch, name):
    monkeypatch.setattr(ms.hal, "get_device_name", lambda number, target: name)
    assert resolve_compute_type("Ascend", "bfloat16", asked_for=True) == "bfloat16"


def test_gpus_have_no_bfloat16():
    with pytest.raises(UserError, match="^compute_type: bfloat16 needs .* this is GPU; use float16$"):
        resolve_compute_type("GPU", "bfloat16", asked_for=True)


def test_compiler_level_and_order_of_sums_are_options(monkeypatch):
    told = []
    monkeypatch.setattr(ms, "set_deterministic", told.append)
    monkeypatch.setattr(ms, "set_context", lambda **options: told.append(options.get("jit_config")))
    set_up_device(config())
    assert told == [None]
    set_up_device(config("--jit_level", "O1", "--deterministic", "true"))
    assert told == [None, None, {"jit_level": "O1"}, True]
