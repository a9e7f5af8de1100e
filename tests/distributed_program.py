"""What each rank of tests/test_distributed.py runs: many small jobs, so that the processes start and meet only once.

    msrun --worker_num=2 ... tests/distributed_program.py DIRECTORY

DIRECTORY holds jobs.json, [[name, script or check, options of rank 0, options of rank 1], ...]; each rank writes what
came of every job to {rank}.json there.
"""

import importlib
import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn

from src.cpu_kernels import library
from src.layers import Dense
from src.model_utils.communication import any_rank, copy_from_first_rank, from_first_rank, gather
from src.model_utils.config import load_config
from src.model_utils.device_adapter import DeviceInfo, set_up_device
from src.training.callbacks import StepReport, StopOnDivergence
from src.training.create_optimizer import OPTIMIZERS, create_optimizer
from src.training.run import configured_step
from src.training.train_step import LossScale

ALL_OPTIMIZERS = (*OPTIMIZERS, "Thor")


def main() -> None:
    directory = Path(sys.argv[1])
    device = set_up_device(load_config("", "pretrain_config.yaml", ["--device_target", "CPU", "--distribute", "true"]))
    outcome = {}
    for name, what, *options in json.loads((directory / "jobs.json").read_text()):
        check = CHECKS.get(what)
        try:
            outcome[name] = check(device) if check else run(what, options[device.rank], device)
        except KeyboardInterrupt as interrupt:
            outcome[name] = f"interrupted: {interrupt}"
    (directory / f"{device.rank}.json").write_text(json.dumps(outcome))


def run(script: str, options: list[str], device: DeviceInfo) -> object:
    """Run a script's main; with the option --signal_rank R, rank R gets SIGTERM in step 2."""
    signalled = -1
    if "--signal_rank" in options:
        *options, _, signalled = options
    is_asked = device.rank == int(signalled)
    with patch.object(StopOnDivergence, "on_step", signal_in_step_2) if is_asked else nullcontext():
        return importlib.import_module(script).main([*options, "--distribute", "true", "--device_num", "2"])


def signal_in_step_2(_: StopOnDivergence, report: StepReport) -> None:
    if report.step == 2:
        os.kill(os.getpid(), signal.SIGTERM)


# ---------------------------------------------------------------- checks of parts

def check_device(device: DeviceInfo) -> list:
    return [device.target, device.device_id, device.rank, device.rank_size, ms.get_auto_parallel_context("device_num")]


def check_cores(device: DeviceInfo) -> int:
    """The number of threads that the CPU operators will ask for, where the user asks for none."""
    return library._threads


def check_gather(device: DeviceInfo) -> list:
    """Rank r gives r + 1 rows; once one rank gives none, and once none of them gives any."""
    rank = device.rank
    ids = np.arange(3 * (rank + 1), dtype=np.int32).reshape(-1, 3) + 100 * rank
    odd = np.array([np.nan, -0.0, np.inf, 1e-45][:rank + 1], np.float32)
    results = [gather([ids, odd], 2), gather([ids[1:], odd[1:]], 2), gather([ids[:0], odd[:0]], 2)]
    return [[[part.astype(np.int64).tolist() if part.dtype == np.int32 else part.view(np.uint32).tolist()
              for part in of_rank] for of_rank in result] for result in results]


def check_agreement(device: DeviceInfo) -> list:
    rank = device.rank
    return [any_rank(False, 2), any_rank(rank == 1, 2), any_rank(rank == 0, 2),
            from_first_rank({"text": f"größe {rank}", "none": None}, rank, 2)]


def check_copy(device: DeviceInfo) -> list:
    parameters = [Parameter(Tensor(np.arange(4, dtype=np.float32) + 0.1 * device.rank), name="weight"),
                  Parameter(Tensor(7 + device.rank, ms.int32), name="step")]
    copy_from_first_rank(parameters, device.rank, 2)
    return [parameter.asnumpy().tolist() for parameter in parameters]


class Product(nn.Cell):
    """The loss is the mean of the products of a column and a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = Parameter(Tensor(np.ones(2, np.float32)), name="weight")

    def construct(self, column: Tensor) -> Tensor:
        return (column * self.weight).mean()


def check_overflow(device: DeviceInfo, post_accumulation: str) -> list:
    """In the second step the gradient of rank 1 is not finite; return weights, overflow and the next scale by step."""
    config = load_config("", "pretrain_config.yaml", [
        "--device_target", "CPU", "--accumulation_steps", "2", "--loss_scale_value", "64",
        "--allreduce_post_accumulation", post_accumulation])
    network = Product()
    step = configured_step(config, device, network, create_optimizer("Momentum", network, {
        "learning_rate": 0.1, "momentum": 0.0}, 3))
    assert step.scale_rule == LossScale(64.0, 2.0, 1000)
    seen = []
    for number in range(3):
        column = np.full((2, 2), 1.0 + device.rank, np.float32)
        if (number, device.rank) == (1, 1):
            column[1, 0] = np.inf
        loss, overflow, _ = step(Tensor(column))
        seen.append([network.weight.asnumpy().tolist(), bool(overflow), float(step.loss_scale.asnumpy()),
                     bool(np.isfinite(loss.asnumpy()))])
    return seen


class TwoLayers(nn.Cell):
    """The loss is the mean squared error of a network of two dense layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first = Dense(6, 8, activation="gelu")
        self.second = Dense(8, 2)

    def construct(self, x: Tensor, y: Tensor) -> Tensor:
        error = self.second(self.first(x)) - y
        return (error * error).mean()


def train_two_layers(device: DeviceInfo, optimizer: str) -> list:
    """Four steps of 10 rows, in two halves: those of the ranks, or in one process accumulated; return all weights."""
    random = np.random.default_rng(0)
    network = TwoLayers()
    for parameter in network.get_parameters():
        parameter.set_data(Tensor(0.5 * random.standard_normal(parameter.shape, np.float32)))
    config = load_config("", "pretrain_config.yaml", [
        "--device_target", "CPU", "--accumulation_steps", str(2 // device.rank_size)])
    group = config[optimizer].to_dict() | {"learning_rate": 0.01}
    step = configured_step(config, device, network, create_optimizer(optimizer, network, group | (
        {"warmup_steps": 0} if "warmup_steps" in group else {}), 4))
    for _ in range(4):
        halves = [random.standard_normal((2, 5, width), np.float32) for width in (6, 2)]
        own = slice(device.rank, device.rank + 1) if device.rank_size == 2 else slice(0, 2)
        step(*(Tensor(half[own].reshape(-1, half.shape[-1])) for half in halves))
    return np.concatenate([parameter.asnumpy().ravel() for parameter in network.get_parameters()]).tolist()


CHECKS: dict[str, Callable] = {
    "device": check_device, "cores": check_cores, "gather": check_gather, "agreement": check_agreement,
    "copy": check_copy,
    "overflow_once": lambda device: check_overflow(device, "true"),
    "overflow_each": lambda device: check_overflow(device, "false"),
} | {f"optimizer {name}": partial(train_two_layers, optimizer=name) for name in ALL_OPTIMIZERS}

if __name__ == "__main__":
    main()
