"""Whether a training fits this machine: its memory, and the room for its checkpoints."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from src.errors import UserError
from src.files import check_room, in_gigabytes
from src.training.cost import MOMENTS, Workload, activations, cpu_memory, memory, parameters

# What MindSpore takes on CPU beyond what is needed, measured by `benchmarks/cost_model.py --measure all`.
_TIMES_ACTIVATIONS, _BYTES_OF_MINDSPORE = 1.35, 700_000_000
_SHORTEST = 3  # tokens; batches are not cut to less


def check_memory(run: Workload, compute_bytes: int, has_one_length: bool, machine: int) -> None:
    """Compare the memory that a training on CPU needs with the machine's, before anything is allocated.

    Args:
        run: batch and network.
        compute_bytes: of a number in compute_type.
        has_one_length: whether no batch is cut to less than the sequence length.
        machine: bytes of memory.

    Raises:
        UserError: not even half of what it cannot do without fits.
    """
    shortest = run if has_one_length else run._replace(seq_length=_SHORTEST)
    least = memory(shortest, compute_bytes)["total"]
    if least > 2 * machine:
        of_batch = activations(shortest, compute_bytes)
        of_smallest = memory(shortest._replace(batch_size=1), compute_bytes)["total"]
        option = "batch_size" if of_smallest <= machine else "vocab_size, num_hidden_layers, hidden_size"
        raise UserError(f"{option}: this training needs at least {in_gigabytes(least)} of memory, "
                        f"{in_gigabytes(of_batch)} of it for the batch, and this machine has {in_gigabytes(machine)}; "
                        f"give less")
    expected = cpu_memory(run, _TIMES_ACTIVATIONS, _BYTES_OF_MINDSPORE)
    if expected > machine:
        print(f"warning: this training may take {in_gigabytes(expected)} of memory, and this machine has "
              f"{in_gigabytes(machine)}; lower batch_size if it is killed", file=sys.stderr, flush=True)


def check_disk(run: Workload, count: int, directory: Path, prefix: str) -> None:
    """Compare what the checkpoints of a training take with what is free in their directory.

    Args:
        run: its network and optimizer.
        count: how many there are at the same time, with the one that is being written.
        directory: where they go; those of an earlier run there make room for them.
        prefix: begin of their names.

    Raises:
        UserError: not even half of one fits.
    """
    one = 4 * parameters(run.net) * (1 + MOMENTS[run.optimizer])
    earlier = sum(path.stat().st_size for path in directory.glob(f"{prefix}-*"))
    check_room(directory, "the checkpoints of this training take", min(count, 1) * one, count * one, earlier)


def machine_memory(system: Path = Path("/")) -> int:
    """Bytes of memory of this machine, or of the container that this process is confined to.

    Args:
        system: where the directories proc and sys of Linux are.
    """
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for file in _limit_files(system):
        try:
            found.append(int(file.read_text()))
        except (OSError, ValueError):  # "max", or no such file
            continue
    return min(found)


def _limit_files(system: Path) -> Iterator[Path]:
    """The files that can limit this process, of both versions of control groups: of its group, and of those above."""
    try:
        lines = (system / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers in ("", "memory"):
            root = system / "sys/fs/cgroup" / controllers
            for directory in (place := root / group.lstrip("/"), *place.parents):
                if directory.is_relative_to(root):
                    yield directory / ("memory.limit_in_bytes" if controllers else "memory.max")
