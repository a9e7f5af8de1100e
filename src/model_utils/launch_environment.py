"""Which process of a distributed run this is, from the environment that its launcher made.

Three kinds of launchers are known: those of MindSpore's scheduler (msrun, `scripts/`), mpirun (Open MPI), and the rank
table of old Ascend clusters. Everything that can be wrong is found here, before the processes wait for each other.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from src.errors import UserError
from src.model_utils.local_adapter import get_device_id, get_device_num, get_rank_id, whole_number
from src.model_utils.rank_table import read_rank_table

SCHEDULER, MPI, RANK_TABLE = "MS_ROLE", "OMPI_COMM_WORLD_RANK", "RANK_TABLE_FILE"  # what shows the kind of launcher
_LAST_PORT = 65535


@dataclass(frozen=True)
class Launch:
    """This process's place: rank None when the scheduler assigns it (msrun on several hosts without --node_rank)."""

    rank: int | None
    rank_size: int
    device_id: int


def read_launch(target: str) -> Launch:
    """Return the place of this process in a run on devices of kind `target`.

    Raises:
        UserError: no launcher started the process, or what it says is incomplete or contradicts itself.
    """
    for variable, read in ((SCHEDULER, _of_scheduler), (MPI, _of_mpi), (RANK_TABLE, _of_rank_table)):
        if os.environ.get(variable):
            launch = read(target)
            break
    else:
        raise UserError("distribute true: no launcher started this process; start one process per device with "
                        "`msrun --worker_num=N --local_worker_num=N SCRIPT ...`, or use --distribute false")
    if launch.rank is not None and launch.rank >= launch.rank_size:
        raise UserError(f"distribute true: this process has rank {launch.rank}, but the launcher says that there are "
                        f"{launch.rank_size}; ranks count from 0, so give the last one {launch.rank_size - 1}")
    return launch


def _of_scheduler(target: str) -> Launch:
    size = _required("MS_WORKER_NUM", "the number of processes")
    for variable in ("MS_SCHED_HOST", "MS_SCHED_PORT"):
        if not os.environ.get(variable):
            raise UserError(f"distribute true: MS_ROLE is set, but not {variable}, where the processes meet; start "
                            f"them with msrun, which sets both")
    port = whole_number("MS_SCHED_PORT", 0)
    if not 0 < port <= _LAST_PORT:
        raise UserError(f"MS_SCHED_PORT: found {port}, expected a port from 1 to {_LAST_PORT}; give msrun another "
                        f"--master_port")
    if os.environ["MS_ROLE"] == "MS_SCHED":  # it computes nothing
        return Launch(None, size, get_device_id())
    rank = whole_number("MS_NODE_ID", -1)
    return Launch(None if rank < 0 else rank, size, _device(target, "LOCAL_RANK"))


def _of_mpi(target: str) -> Launch:
    if target == "CPU":
        raise UserError("distribute true: MindSpore does not meet over mpirun on CPU; start the processes with msrun")
    rank = _required("OMPI_COMM_WORLD_RANK", "this process's rank")
    return Launch(rank, _required("OMPI_COMM_WORLD_SIZE", "the number of processes"),
                  _device(target, "OMPI_COMM_WORLD_LOCAL_RANK"))


def _of_rank_table(target: str) -> Launch:
    if target != "Ascend":
        raise UserError(f"RANK_TABLE_FILE: a rank table describes Ascend devices, but device_target is {target}; start "
                        f"the processes with msrun, or use --device_target Ascend")
    _required("RANK_ID", "this process's rank")
    path, rank = os.environ[RANK_TABLE], get_rank_id()
    device_of = {device.rank: device.device_id for server in read_rank_table(Path(path), RANK_TABLE)
                 for device in server.devices}
    if os.environ.get("RANK_SIZE") and get_device_num() != len(device_of):
        raise UserError(f"RANK_SIZE: found {get_device_num()}, but {path} (RANK_TABLE_FILE) has {len(device_of)} "
                        f"devices; set RANK_SIZE to {len(device_of)}, or make the table anew")
    if rank not in device_of:
        raise UserError(f"RANK_ID: found {rank}, but {path} (RANK_TABLE_FILE) has only the ranks 0 to "
                        f"{len(device_of) - 1}")
    # Inside a container DEVICE_ID counts the devices that it may use, and the table those of the host.
    return Launch(rank, len(device_of), get_device_id(device_of[rank]))


def _device(target: str, local_rank: str) -> int:
    """DEVICE_ID, or else the process's number on its host; there is one CPU, whatever its number."""
    if target == "CPU" or os.environ.get("DEVICE_ID"):
        return get_device_id()
    return _required(local_rank, "DEVICE_ID, the device of this process,")


def _required(variable: str, meaning: str) -> int:
    if not os.environ.get(variable):
        raise UserError(f"distribute true: the launcher did not set {variable}, {meaning}; start the processes with "
                        f"msrun, or set it for each of them")
    return whole_number(variable, 0)
