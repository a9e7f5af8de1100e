"""How many of a host's cores are left for one rank when several run there.

The ranks tell each other which cores they may use. No launcher has to be known for that, and ranks that a launcher has
bound to cores of their own keep all of these.
"""

import os
import zlib
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from src.model_utils.communication import gather


def core_share(rank_size: int) -> int:
    """The number of cores for this rank, at least 1; all ranks must call this."""
    cores = _usable_cores()
    mine = [np.array(cores, np.int32), np.full(len(cores), _host(), np.int32)]
    return share_of(cores, [numbers.tolist() for numbers, hosts in gather(mine, rank_size) if hosts[0] == mine[1][0]])


def share_of(cores: Sequence[int], ranks: Sequence[Sequence[int]]) -> int:
    """How many of its cores a rank has, when a core that several of the host's ranks may use is divided among them.

    Args:
        cores: those that the rank may use.
        ranks: those that each rank of the host may use, this one included.
    """
    users = Counter(core for rank in ranks for core in rank)
    return max(1, int(sum(Fraction(1, users[core]) for core in cores)))


def _usable_cores() -> list[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _host() -> int:
    """A number of this machine, the same in all its containers, which count its cores alike."""
    try:
        name = Path("/proc/sys/kernel/random/boot_id").read_bytes()
    except OSError:
        name = os.uname().nodename.encode()
    return zlib.crc32(name) & 0x7FFFFFFF
