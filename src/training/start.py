"""What a training starts from: a checkpoint of its own, weights, or random numbers; on all ranks the same."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from mindspore import nn

from src.checkpoint_files import PREFIX, Checkpoint, find_newest
from src.model_utils.communication import copy_from_first_rank, from_first_rank
from src.model_utils.device_adapter import DeviceInfo
from src.training.checkpoint import restore_training
from src.training.train_step import TrainStep


def resume_newest(step_cell: nn.Cell, output_dir: Path, recipe: Mapping[str, object], prefix: str = PREFIX
                  ) -> int | None:
    """Go on from the newest checkpoint in `output_dir`; return the steps that are done, None where there is none.

    Raises:
        UserError: the checkpoint cannot be read or does not fit.
    """
    found = find_newest(output_dir, prefix)
    if found is None:
        return None
    restore_training(step_cell, found)
    report_resumption(found, recipe)
    return found.step


def report_resumption(found: Checkpoint, recipe: Mapping[str, object]) -> None:
    """Say which checkpoint a run goes on from, and in what its recipe differs from the run that saved it."""
    print(f"resumed from {found.path} after step {found.step}", flush=True)
    changed = [f"{key} {found.metadata.get(key)} -> {value}" for key, value in recipe.items()
               if found.metadata.get(key) != value]
    if changed:
        print(f"continues differently from the run that saved it: {', '.join(changed)}", file=sys.stderr, flush=True)


def start_as_first_rank(step_cell: TrainStep, device: DeviceInfo, load: Callable[[], int]) -> int:
    """Let rank 0 `load` what training starts from, and give all ranks its weights, state and step.

    So the ranks start alike by construction, and only the host of rank 0 needs the files.
    """
    start_step = from_first_rank(load() if device.rank == 0 else None, device.rank, device.rank_size)
    parameters = [*step_cell.network.get_parameters(), *step_cell.state().values()]
    copy_from_first_rank(parameters, device.rank, device.rank_size)
    return start_step
