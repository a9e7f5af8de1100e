"""The device and its processes: the only place that touches MindSpore's global context."""

import logging
import os
import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import mindspore as ms
from mindspore.communication import get_group_size, get_rank, init

from src.cpu_kernels.library import bfloat16_misfit, limit_threads
from src.errors import UserError
from src.model_utils.config import Config

if TYPE_CHECKING:
    from src.model_utils.launch_environment import Launch


# Names that CANN gives to the generations before the Ascend 910B1, 910B2, …; "910B" alone is one of them.
_WITHOUT_BFLOAT16 = re.compile(r"Ascend(310.*|910|910A|910B|910Pro[AB]|910PremiumA)")


@dataclass(frozen=True)
class DeviceInfo:
    """Where this process runs: the device, and its rank among the `rank_size` processes of the run."""

    target: str
    device_id: int
    rank: int
    rank_size: int


def set_up_device(config: Config) -> DeviceInfo:
    """Choose device and graph mode, set the seed, and join the other processes of a distributed run.

    Reads `device_target`, `device_id` and `seed`, and where the script has them `use_pynative_mode`, `jit_level`,
    `deterministic`, `distribute` and `device_num`. In a distributed run the launcher names the device, and what ranks
    other than 0 print is dropped.
    To be called before anything is computed.

    Raises:
        UserError: this machine has no such device, or a distributed run was not started by a launcher.
    """
    _quiet_logs()
    target = target_of(config)
    if target not in ("CPU", config.device_target):
        print(f"device_target auto: {target}", file=sys.stderr, flush=True)
    launch = _read_launch(config, target) if config.get("distribute") else None
    device_id = launch.device_id if launch else config.device_id
    _select_device(target, device_id)
    ms.set_context(mode=ms.PYNATIVE_MODE if config.get("use_pynative_mode") else ms.GRAPH_MODE)
    if config.get("jit_level", "auto") != "auto":
        ms.set_context(jit_config={"jit_level": config.jit_level})
    if config.get("deterministic"):  # before the ranks meet, as their sums depend on it too
        ms.set_deterministic(True)
    ms.set_seed(config.seed)
    if not launch:
        return DeviceInfo(target, device_id, rank=0, rank_size=1)
    rank = _join_processes(launch)
    if target == "CPU":
        from src.model_utils.core_share import core_share

        limit_threads(core_share(launch.rank_size))
    if rank:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123 - until the process ends
    return DeviceInfo(target, device_id, rank, launch.rank_size)


def target_of(config: Config) -> str:
    """The device to run on: `device_target`, for which auto is the first that MindSpore finds on this machine."""
    if config.device_target != "auto":
        return config.device_target
    return next(filter(_is_available, ("Ascend", "GPU")), "CPU")


def resolve_compute_type(target: str, requested: str, asked_for: bool) -> str:
    """Return the type to compute in: on CPU float32 in place of a 16-bit type, unless the user `asked_for` that one.

    On CPU bfloat16 needs the operators of `src.cpu_kernels` and a processor that has it.

    Raises:
        UserError: the device has no bfloat16.
    """
    if requested.endswith("float32"):
        return requested
    if target != "CPU":
        if requested.endswith("bfloat16"):
            _require_bfloat16(target)
        return requested
    if not asked_for:  # the default is that of other devices, so there is nothing to tell
        return "float32"
    misfit = bfloat16_misfit() if requested.endswith("bfloat16") else None
    if misfit is None:
        return requested
    print(f"compute_type: float32 in place of {requested}, {misfit}", file=sys.stderr, flush=True)
    return "float32"


def _require_bfloat16(target: str) -> None:
    device = ms.hal.get_device_name(ms.get_context("device_id"), target) if target == "Ascend" else target
    if target == "GPU" or _WITHOUT_BFLOAT16.fullmatch(device):
        raise UserError(f"compute_type: bfloat16 needs an Ascend 910B1 or later, or a CPU that has it, and this is "
                        f"{device}; use float16")


def _quiet_logs() -> None:
    """Show MindSpore's errors only, unless the user chose a level by GLOG_v.

    The C++ part reads GLOG_v once, when mindspore is imported; the launch scripts set it.
    """
    if "GLOG_v" not in os.environ:
        _mindspore_logger().setLevel(logging.ERROR)


def _mindspore_logger() -> logging.Logger:
    # MindSpore documents no way to change the level after the import; its logger's name holds the process id.
    return ms.log._get_logger()


def _select_device(target: str, device_id: int) -> None:
    if target == "CPU":
        # There is one CPU, whatever device_id says. Setting it again after something was computed is an error.
        if ms.get_context("device_target") != "CPU":
            ms.set_device("CPU")
        return
    if not _is_available(target):
        raise UserError(f"device_target {target}: MindSpore finds no {target} with its driver on this machine; "
                        f"use --device_target CPU, or install MindSpore for {target}")
    try:
        ms.set_device(target, device_id)
    except (RuntimeError, ValueError) as error:
        raise UserError(f"device_target {target}, device_id {device_id}: {_first_line(error)}") from error


def _is_available(target: str) -> bool:
    """Ask MindSpore for a device without the page of log lines in which it reports what it tried to load."""
    logger = _mindspore_logger()
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        return ms.hal.is_available(target)
    finally:
        logger.setLevel(level)


def _read_launch(config: Config, target: str) -> "Launch":
    from src.model_utils.launch_environment import read_launch  # a run of one process needs nothing of launchers

    launch = read_launch(target)
    if config.was_given("device_num") and config.device_num != launch.rank_size:
        raise UserError(f"device_num: {config.device_num} asked for, but the launcher started {launch.rank_size} "
                        f"processes; give both the same number")
    return launch


def _join_processes(launch: "Launch") -> int:
    """Start communication for data-parallel training; return the rank."""
    try:
        init()
    except (RuntimeError, ValueError) as error:
        raise UserError(f"distribute true: cannot join the other processes: {_first_line(error)}") from error
    rank, rank_size = get_rank(), get_group_size()
    if rank_size != launch.rank_size or launch.rank not in (None, rank):
        raise UserError(f"distribute true: the launcher named this process rank {launch.rank} of {launch.rank_size}, "
                        f"but it became rank {rank} of {rank_size}; does another run meet at the same port?")
    ms.set_auto_parallel_context(parallel_mode="data_parallel", gradients_mean=True, device_num=rank_size)
    if ms.get_context("device_target") != "CPU":  # where reductions that were joined came out as zeros
        ms.set_auto_parallel_context(comm_fusion={"allreduce": {"mode": "auto", "config": None}})  # pieces of 64 MB
    return rank


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]
