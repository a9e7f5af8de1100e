"""Saving a training so that it goes on exactly as if never stopped; `src/checkpoint_files.py` describes the files."""

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import mindspore as ms
import numpy as np
import safetensors
from mindspore import nn
from safetensors.numpy import save_file

from src.checkpoint_files import (
    CKPT,
    FORMAT_VERSION,
    MANIFEST,
    PREFIX,
    STATE,
    Checkpoint,
    crc32,
    json_crc32,
    list_checkpoints,
    newest_in,
    open_checkpoint,
    sibling,
)
from src.errors import UserError
from src.files import flush, open_to_others
from src.weights import LoadReport, load_weights, quiet_mindspore, read_weights

# ---------------------------------------------------------------- saving

def save_training_checkpoint(directory: str | Path, epoch: int, step: int, train_step_cell: nn.Cell, metadata: dict,
                             keep: int, prefix: str = PREFIX) -> Path:
    """Save the network, the rest of the training's state and `metadata`; return the path of the `.ckpt`.

    Afterwards only the `keep` newest complete checkpoints up to this step remain; those of later steps (of another
    training in the same directory, perhaps) are left alone. Of several ranks only one may call this.

    Args:
        directory: an existing directory.
        epoch, step: numbers for the file name, counted as the user counts them.
        train_step_cell: the cell of one training step: its `network` holds the published parameters, its `state()`
            returns by name what else a resumed training needs.
        metadata: anything JSON can hold: position, seed, a digest of the configuration, ….
        keep: how many checkpoints to keep, at least 1.
        prefix: begin of the file names.

    Raises:
        UserError: the directory cannot be written, or the disk is full.
    """
    directory = Path(directory)
    try:
        remove_leftovers(directory, prefix)
        path = _write(directory, f"{prefix}-{epoch}_{step}", train_step_cell, {
            "format_version": FORMAT_VERSION,
            "epoch": epoch,
            "step": step,
            "serial": 1 + max((found.serial for found in list_checkpoints(directory, prefix)), default=0),
            "versions": {"mindspore": ms.__version__, "numpy": np.__version__},
            "metadata": metadata,
        })
        remove_old_checkpoints(directory, step, keep, prefix)
    except OSError as error:
        raise UserError(f"cannot save a checkpoint in {directory}: {error.strerror or error}; free space or give "
                        f"another save_checkpoint_path") from error
    return path


def remove_old_checkpoints(directory: str | Path, step: int, keep: int, prefix: str = PREFIX) -> None:
    """Remove all but the `keep` newest complete checkpoints up to `step`."""
    older = [found for found in list_checkpoints(directory, prefix) if found.step <= step]
    for found in older[keep:]:
        _remove(found.path)


def remove_leftovers(directory: str | Path, prefix: str = PREFIX) -> None:
    """Remove what a killed process left of its unfinished save (or unfinished removal)."""
    directory = Path(directory)
    for unfinished in directory.glob(f".saving-{prefix}-*"):
        shutil.rmtree(unfinished, ignore_errors=True)
    for state in directory.glob(f"{prefix}-*{STATE}"):
        ckpt = sibling(state, CKPT)
        if not sibling(state, MANIFEST).exists():
            _remove(ckpt)


def _write(directory: Path, stem: str, train_step_cell: nn.Cell, manifest: dict) -> Path:
    path = directory / (stem + CKPT)
    network, state = _split_parameters(train_step_cell)
    with tempfile.TemporaryDirectory(prefix=f".saving-{stem}-", dir=directory, ignore_cleanup_errors=True) as staging:
        ckpt, state_file, manifest_file = (Path(staging, stem + ending) for ending in (CKPT, STATE, MANIFEST))
        with quiet_mindspore():
            ms.save_checkpoint([{"name": name, "data": value} for name, value in network.items()], str(ckpt))
        try:
            save_file({name: np.asarray(value.asnumpy(), order="C") for name, value in state.items()}, state_file)
        except safetensors.SafetensorError as error:
            raise OSError(str(error)) from error
        manifest["files"] = {file.name: {"bytes": file.stat().st_size, "crc32": crc32(file)}
                             for file in (ckpt, state_file)}
        manifest = json.loads(json.dumps(manifest))  # as it will be read: all keys are text
        manifest["crc32"] = json_crc32(manifest)
        manifest_file.write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        open_to_others((ckpt, state_file))
        for file in (ckpt, state_file, manifest_file):
            flush(file)
        # Should the same step have been saved before, its manifest must not stand beside files of another save.
        sibling(path, MANIFEST).unlink(missing_ok=True)
        for file in (state_file, ckpt, manifest_file):  # a .ckpt without a state would look like weights only
            file.replace(directory / file.name)
        flush(directory)
    return path


def _split_parameters(train_step_cell: nn.Cell) -> tuple[dict[str, ms.Parameter], dict[str, ms.Parameter]]:
    """The network's parameters and the rest of the training's state, by name."""
    network = {parameter.name: parameter for parameter in train_step_cell.network.get_parameters()}
    return network, train_step_cell.state()


def _remove(ckpt: Path) -> None:
    """Remove a checkpoint; the manifest first, so that it is never taken for complete, the state last (see above)."""
    for ending in (MANIFEST, CKPT, STATE):
        sibling(ckpt, ending).unlink(missing_ok=True)


# ---------------------------------------------------------------- exact resume

def restore_training(train_step_cell: nn.Cell, checkpoint: Checkpoint) -> dict:
    """Put the network and the rest of the training's state back as they were saved; return the metadata.

    Nothing is changed unless everything fits.

    Raises:
        UserError: the training was set up differently (network, optimizer, …), or a file cannot be read.
    """
    network, state = _split_parameters(train_step_cell)
    parts = []
    for part, parameters, file in (("network", network, checkpoint.path),
                                   ("optimizer or loss scaling", state, checkpoint.state_path)):
        values = read_weights(file, is_verified=True)
        _check_same(checkpoint.path, part, parameters, values)
        parts.append((parameters, values))
    for parameters, values in parts:
        for name, parameter in parameters.items():
            parameter.set_data(ms.Tensor(values.pop(name)))  # popped: two copies of everything at most
    return checkpoint.metadata


def _check_same(path: Path, part: str, parameters: Mapping[str, ms.Parameter],
                values: Mapping[str, np.ndarray]) -> None:
    fault = None
    for name, parameter in parameters.items():
        if name not in values:
            fault = f"it has no {name}"
        elif values[name].shape != tuple(parameter.shape):
            fault = f"{name} is {list(values[name].shape)} there and {list(parameter.shape)} here"
        elif ms.Tensor(np.empty(0, values[name].dtype)).dtype != parameter.dtype:
            fault = f"{name} is {values[name].dtype} there and {parameter.dtype} here"
        if fault:
            break
    else:
        extra = [name for name in values if name not in parameters]
        fault = f"it also has {extra[0]}" if extra else None
    if fault:
        raise UserError(f"the checkpoint {path} was made with another {part}: {fault}; resume with the settings of "
                        f"that training, or give a copy of the .ckpt alone to take over only the weights")


# ---------------------------------------------------------------- load_checkpoint_path

def load_checkpoint_path(path: str | Path, train_step_cell: nn.Cell,
                         prefix: str = PREFIX) -> Checkpoint | LoadReport:
    """Begin a training from what the user gave as `load_checkpoint_path`.

    A directory stands for the newest complete checkpoint in it. A checkpoint of training is restored exactly and
    returned; of any other `.ckpt` or `.safetensors` file the weights are loaded, and the report is returned.

    Raises:
        UserError: nothing there, or it cannot be read or does not fit.
    """
    path = Path(path)
    checkpoint = newest_in(path, prefix) if path.is_dir() else open_checkpoint(path)
    if checkpoint is None:
        return load_weights(train_step_cell.network, path)
    restore_training(train_step_cell, checkpoint)
    return checkpoint
