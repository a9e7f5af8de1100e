"""What a training starts from: a checkpoint of its own, weights, or random numbers; on all ranks the same."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mindspore import nn

from src.checkpoint_files import PREFIX, Checkpoint, find_newest
from src.errors import UserError
from src.model_utils.communication import copy_from_first_rank, from_first_rank
from src.model_utils.device_adapter import DeviceInfo
from src.training.checkpoint import restore_training
from src.training.train_step import TrainStep

# Sizes of a network that its weights do not show, but without which they mean something else.
MEANING_OF_WEIGHTS = ("num_attention_heads", "hidden_act", "use_relative_positions", "relative_position_kind",
                      "max_relative_position")


class Start(NamedTuple):
    """Where a training starts: the steps that are done, and what is known of their evaluations."""

    step: int
    evaluated: Mapping[str, Any]


def resume_newest(step_cell: nn.Cell, output_dir: Path, recipe: Mapping[str, object], prefix: str = PREFIX
                  ) -> Checkpoint | None:
    """Go on from the newest checkpoint in `output_dir` and return it; None where there is none.

    Raises:
        UserError: the checkpoint cannot be read or does not fit.
    """
    found = find_newest(output_dir, prefix)
    if found is None:
        return None
    report_resumption(found, recipe)
    restore_training(step_cell, found)
    return found


def report_resumption(found: Checkpoint, recipe: Mapping[str, object]) -> None:
    """Say which checkpoint a run goes on from, and in what its recipe differs from the run that saved it.

    Raises:
        UserError: the network computes something else with the weights.
    """
    there, here = _flat(found.metadata), _flat(recipe)
    changed = {key: f"{key} {there[key]} -> {value}" for key, value in here.items()
               if key in there and there[key] != value}
    another = [changed[key] for key in map("network.{}".format, MEANING_OF_WEIGHTS) if key in changed]
    if another:
        raise UserError(f"the checkpoint {found.path} was made with another network: {', '.join(another)}; resume with "
                        f"the settings of that training, or give a copy of the .ckpt alone to take over only the "
                        f"weights")
    print(f"resumed from {found.path} after step {found.step}", flush=True)
    if changed:
        print(f"continues differently from the run that saved it: {', '.join(changed.values())}", file=sys.stderr,
              flush=True)


def _flat(recipe: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """A recipe with dotted keys. What an older version did not save is not there, and is not compared."""
    flat = {}
    for key, value in recipe.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def start_as_first_rank(step_cell: TrainStep, device: DeviceInfo, load: Callable[[], Checkpoint | None]) -> Start:
    """Let rank 0 `load` what training starts from, and give all ranks its weights, state and step.

    So the ranks start alike by construction, and only the host of rank 0 needs the files.
    """
    found = load() if device.rank == 0 else None
    start = (found.step, found.metadata.get("evaluated", {})) if found else (0, {})
    start = Start(*from_first_rank(start, device.rank, device.rank_size))
    parameters = [*step_cell.network.get_parameters(), *step_cell.state().values()]
    copy_from_first_rank(parameters, device.rank, device.rank_size)
    return start
