"""Checkpoints: saving a training so that it goes on exactly as if never stopped, and loading weights alone.

A checkpoint of training is three files, of which the manifest is written last:

    checkpoint_bert-{epoch}_{step}.ckpt                the network's parameters, MindSpore's own format
    checkpoint_bert-{epoch}_{step}.state.safetensors   the rest of the training's state: optimizer, loss scale, …
    checkpoint_bert-{epoch}_{step}.json                manifest: metadata, sizes and checksums of the other two

Each file appears under its name only when it is whole, so a process killed at any moment leaves complete checkpoints
and at most one without a manifest. Nothing is ever unpickled.
"""

import json
import logging
import os
import shutil
import sys
import tempfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import mindspore as ms
import numpy as np
import safetensors
from safetensors.numpy import save_file

from src.errors import UserError
from src.files import atomic_write

PREFIX = "checkpoint_bert"
FORMAT_VERSION = 1

_CKPT, _STATE, _MANIFEST = ".ckpt", ".state.safetensors", ".json"
_ABOUT = ".about.json"  # beside weights alone
# What other trainings leave in a .ckpt beside the weights.
_OPTIMIZER_NAMES = {"learning_rate", "global_step", "beta1_power", "beta2_power", "epoch_num", "step_num", "loss_scale",
                    "scale_sense", "current_iterator_step", "last_overflow_iterator_step", "momentum"}
_OPTIMIZER_PREFIXES = ("adam_m.", "adam_v.", "lamb_m.", "lamb_v.", "moments.", "moment1.", "moment2.", "accum.",
                       "matrix_a", "matrix_g", "optimizer.", "learning_rate.")


class TornCheckpointError(Exception):
    """A checkpoint is incomplete or damaged; the message says in what way."""


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint of training; `metadata` is what the training stored."""

    path: Path  # the .ckpt
    epoch: int
    step: int
    serial: int  # grows by one with every save in a directory; the newest has the largest
    metadata: dict

    @property
    def state_path(self) -> Path:
        """The parameters that are not the network's."""
        return _sibling(self.path, _STATE)


# ---------------------------------------------------------------- saving

def save_training_checkpoint(directory: str | Path, epoch: int, step: int, train_step_cell: ms.nn.Cell, metadata: dict,
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


def save_weights(network: ms.nn.Cell, path: str | Path, **about: object) -> None:
    """Write the network's parameters to `path` (a `.ckpt`), and `about` them to a `.json` file beside it.

    Such a file is for evaluation and prediction; a training cannot be resumed from it.

    Raises:
        UserError: the file cannot be written.
    """
    write_weights({parameter.name: parameter for parameter in network.get_parameters()}, path, about)


def write_weights(values: Mapping[str, ms.Tensor | np.ndarray], path: str | Path,
                  about: Mapping[str, object] | None = None) -> None:
    """Write values by name to a `.ckpt` or `.safetensors` file, and what `about` says to a `.json` file beside it.

    Raises:
        UserError: the file cannot be written.
    """
    path = Path(path)
    try:
        # The weights last: whoever reads both never finds weights without what is said about them.
        with atomic_write(path) as weights, \
                nullcontext() if about is None else atomic_write(path.with_suffix(_ABOUT)) as description:
            if description:
                description.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
            _write_values(values, weights, path.suffix)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}; free space or give another directory"
                        ) from error


def _write_values(values: Mapping[str, ms.Tensor | np.ndarray], path: Path, ending: str) -> None:
    path.touch()
    mode = path.stat().st_mode  # the libraries make files 0400 and 0600 whatever the umask
    written = path.with_name(path.name + ending)  # MindSpore adds the ending
    parameters = [{"name": name, "data": ms.Tensor(value) if isinstance(value, np.ndarray) else value}
                  for name, value in values.items()]
    try:
        with _quiet_mindspore():
            ms.save_checkpoint(parameters, str(path), format=ending[1:])
        written.chmod(mode)
        written.replace(path)
    finally:
        written.unlink(missing_ok=True)


def read_about(path: str | Path) -> dict | None:
    """What `save_weights` was told about the weights in `path`; None when nothing is there to read."""
    try:
        return json.loads(Path(path).with_suffix(_ABOUT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


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
    for state in directory.glob(f"{prefix}-*{_STATE}"):
        ckpt = _sibling(state, _CKPT)
        if not _sibling(state, _MANIFEST).exists():
            _remove(ckpt)


def _write(directory: Path, stem: str, train_step_cell: ms.nn.Cell, manifest: dict) -> Path:
    path = directory / (stem + _CKPT)
    network, state = _split_parameters(train_step_cell)
    with tempfile.TemporaryDirectory(prefix=f".saving-{stem}-", dir=directory, ignore_cleanup_errors=True) as staging:
        ckpt, state_file, manifest_file = (Path(staging, stem + ending) for ending in (_CKPT, _STATE, _MANIFEST))
        with _quiet_mindspore():
            ms.save_checkpoint([{"name": name, "data": value} for name, value in network.items()], str(ckpt))
        try:
            save_file({name: np.asarray(value.asnumpy(), order="C") for name, value in state.items()}, state_file)
        except safetensors.SafetensorError as error:
            raise OSError(str(error)) from error
        manifest["files"] = {file.name: {"bytes": file.stat().st_size, "crc32": _crc32(file)}
                             for file in (ckpt, state_file)}
        manifest = json.loads(json.dumps(manifest))  # as it will be read: all keys are text
        manifest["crc32"] = _json_crc32(manifest)
        manifest_file.write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        for file in (ckpt, state_file):  # the libraries make them 0400 and 0600 whatever the umask
            file.chmod(manifest_file.stat().st_mode)
        for file in (ckpt, state_file, manifest_file):
            _flush(file)
        # Should the same step have been saved before, its manifest must not stand beside files of another save.
        _sibling(path, _MANIFEST).unlink(missing_ok=True)
        for file in (state_file, ckpt, manifest_file):  # a .ckpt without a state would look like weights only
            file.replace(directory / file.name)
        _flush(directory)
    return path


def _split_parameters(train_step_cell: ms.nn.Cell) -> tuple[dict[str, ms.Parameter], dict[str, ms.Parameter]]:
    """The network's parameters and the rest of the training's state, by name."""
    network = {parameter.name: parameter for parameter in train_step_cell.network.get_parameters()}
    return network, train_step_cell.state()


def _remove(ckpt: Path) -> None:
    """Remove a checkpoint; the manifest first, so that it is never taken for complete, the state last (see above)."""
    for ending in (_MANIFEST, _CKPT, _STATE):
        _sibling(ckpt, ending).unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Make the system write a file or directory to the disk: a power cut after this does not lose it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# ---------------------------------------------------------------- finding

def find_newest(directory: str | Path, prefix: str = PREFIX) -> Checkpoint | None:
    """The newest complete checkpoint in a directory, None if there is none; a torn one costs a line on stderr."""
    directory = Path(directory)
    stems = {path.name.removesuffix(ending) for ending in (_MANIFEST, _STATE)
             for path in directory.glob(f"{prefix}-*{ending}")}
    found = []
    for stem in sorted(stems):
        path = directory / (stem + _CKPT)
        try:
            found.append(_read_manifest(path))
        except TornCheckpointError as error:
            _warn(f"skipping the checkpoint {path}: {error}")
    for checkpoint in sorted(found, key=lambda checkpoint: -checkpoint.serial):
        try:
            _verify(checkpoint)
            return checkpoint
        except TornCheckpointError as error:
            _warn(f"skipping the checkpoint {checkpoint.path}: {error}")
    return None


def _newest_in(directory: Path, prefix: str) -> Checkpoint:
    checkpoint = find_newest(directory, prefix)
    if checkpoint is None:
        raise UserError(f"no complete checkpoint {prefix}-*.ckpt of a training in the directory {directory}; give a "
                        f".ckpt or .safetensors file to load weights alone")
    return checkpoint


def open_checkpoint(path: str | Path) -> Checkpoint | None:
    """The checkpoint of training that a `.ckpt` belongs to, verified; None if it is a file of weights alone.

    Raises:
        UserError: there are parts of a checkpoint of training, but it is torn.
    """
    path = Path(path)
    if path.suffix != _CKPT or not _has_state(path):
        return None
    try:
        checkpoint = _read_manifest(path)
        _verify(checkpoint)
    except TornCheckpointError as error:
        raise UserError(f"the checkpoint {path} is damaged: {error}; give an older one, or the directory "
                        f"{path.parent} to have the newest complete one found") from error
    return checkpoint


def _has_state(path: Path) -> bool:
    """Whether a `.ckpt` is part of a checkpoint of training: a state is beside it, or a manifest that wants one."""
    if _sibling(path, _STATE).exists():
        return True
    try:
        return bool(_manifest(path))
    except TornCheckpointError:  # no manifest; another program's .json, perhaps
        return False


def list_checkpoints(directory: str | Path, prefix: str = PREFIX) -> list[Checkpoint]:
    """Checkpoints whose manifest is sound and whose files have the right sizes, the newest first."""
    found = []
    for manifest in Path(directory).glob(f"{prefix}-*{_MANIFEST}"):
        try:
            found.append(_read_manifest(_sibling(manifest, _CKPT)))
        except TornCheckpointError:
            continue
    return sorted(found, key=lambda checkpoint: -checkpoint.serial)


def _read_manifest(path: Path) -> Checkpoint:
    """Read the manifest of a `.ckpt` and compare the sizes of the files."""
    manifest = _manifest(path)
    for name, expected in manifest["files"].items():
        file = path.parent / name
        if not file.is_file():
            raise TornCheckpointError(f"{name} is missing")
        if file.stat().st_size != expected["bytes"]:
            raise TornCheckpointError(f"{name} has {file.stat().st_size} bytes, expected {expected['bytes']}")
    return Checkpoint(path, manifest["epoch"], manifest["step"], manifest["serial"], manifest["metadata"])


def _manifest(path: Path) -> dict:
    file = _sibling(path, _MANIFEST)
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
        stored = manifest.pop("crc32")
    except FileNotFoundError as error:
        raise TornCheckpointError(f"{file.name} is missing, the save was interrupted") from error
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise TornCheckpointError(f"{file.name} is not a whole manifest") from error
    except OSError as error:
        raise TornCheckpointError(f"cannot read {file.name}: {error.strerror}") from error
    if stored != _json_crc32(manifest):
        raise TornCheckpointError(f"{file.name} does not match its checksum")
    if manifest["format_version"] != FORMAT_VERSION:
        raise TornCheckpointError(f"{file.name} has format version {manifest['format_version']}, this program reads "
                                  f"{FORMAT_VERSION}")
    return manifest


def _verify(checkpoint: Checkpoint) -> None:
    """Compare the files with their checksums (about 0.5 s for a gigabyte)."""
    for name, expected in _manifest(checkpoint.path)["files"].items():
        try:
            if _crc32(checkpoint.path.parent / name) != expected["crc32"]:
                raise TornCheckpointError(f"{name} does not match its checksum")
        except OSError as error:
            raise TornCheckpointError(f"cannot read {name}: {error.strerror}") from error


def _crc32(path: Path) -> str:
    checksum = 0
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            checksum = zlib.crc32(block, checksum)
    return f"{checksum:08x}"


def _json_crc32(content: dict) -> str:
    return f"{zlib.crc32(json.dumps(content, sort_keys=True).encode()):08x}"


def _sibling(path: Path, ending: str) -> Path:
    stem = next((path.name.removesuffix(known) for known in (_STATE, _CKPT, _MANIFEST) if path.name.endswith(known)),
                path.name)
    return path.with_name(stem + ending)


# ---------------------------------------------------------------- exact resume

def restore_training(train_step_cell: ms.nn.Cell, checkpoint: Checkpoint) -> dict:
    """Put the network and the rest of the training's state back as they were saved; return the metadata.

    Nothing is changed unless everything fits.

    Raises:
        UserError: the training was set up differently (network, optimizer, …), or a file cannot be read.
    """
    network, state = _split_parameters(train_step_cell)
    parts = []
    for part, parameters, file in (("network", network, checkpoint.path),
                                   ("optimizer or loss scaling", state, checkpoint.state_path)):
        values = read_weights(file)
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


# ---------------------------------------------------------------- weights alone

@dataclass(frozen=True)
class LoadReport:
    """What became of a file's parameters and of the network's."""

    path: Path
    loaded: list[str]
    missing: list[str]  # in the network only: these keep their initial values
    unexpected: list[str]  # in the file only
    wrong_shape: dict[str, tuple[list[int], list[int]]]  # name -> shape in the file, shape in the network
    optimizer_entries: int  # left over in the file from its training
    renaming: str  # what was done to the file's names, "" if nothing

    def __str__(self) -> str:
        """A line for each class that is not empty."""
        lines = [f"loaded {len(self.loaded)} of the network's "
                 f"{len(self.loaded) + len(self.missing) + len(self.wrong_shape)} parameters from {self.path}"
                 + (f" ({self.renaming})" if self.renaming else "")]
        if self.missing:
            lines.append(f"  missing from the file, left at their initial values ({len(self.missing)}): "
                         f"{_some(self.missing)}")
        if self.wrong_shape:
            shapes = [f"{name} {there} in the file, {here} in the network"
                      for name, (there, here) in self.wrong_shape.items()]
            lines.append(f"  of another shape, left at their initial values ({len(shapes)}): {_some(shapes, '; ')}")
        if self.unexpected:
            lines.append(f"  unknown to the network, ignored ({len(self.unexpected)}): {_some(self.unexpected)}")
        if self.optimizer_entries:
            lines.append(f"  optimizer state in the file, ignored: {self.optimizer_entries} entries")
        return "\n".join(lines)


def load_weights(network: ms.nn.Cell, path: str | Path, prefix: str = PREFIX) -> LoadReport:
    """Load what fits from a `.ckpt` (MindSpore 1.x or later) or `.safetensors` file into a network.

    A directory stands for its `{prefix}_best.ckpt`, or else for the newest complete checkpoint in it.
    Names are taken as they are, or with one prefix removed from or added to all of them when that clearly fits
    better: the bare `BertModel` has the names of the pre-training network without `bert.bert.`.

    Raises:
        UserError: the file cannot be read, nothing in it belongs to the network, or most of it has another shape.
    """
    path = find_weights(path, prefix)
    values = read_weights(path)
    parameters = {parameter.name: parameter for parameter in network.get_parameters()}
    leftovers = [name for name in values if name not in parameters and is_optimizer_name(name)]
    given = {name: value for name, value in values.items() if name not in set(leftovers)}
    renaming, rename = _find_renaming(given, parameters)
    source = {rename(name): name for name in given if rename(name) in parameters}  # name in network -> name in file

    loaded, missing, wrong_shape = [], [], {}
    for name, parameter in parameters.items():
        value = given.get(source.get(name))
        if value is None:
            missing.append(name)
        elif value.shape != tuple(parameter.shape):
            wrong_shape[name] = (list(value.shape), list(parameter.shape))
        else:
            parameter.set_data(ms.Tensor(value, parameter.dtype))
            loaded.append(name)
    if not loaded or len(wrong_shape) > len(loaded):
        raise UserError(_nothing_fits(path, given, parameters, wrong_shape))
    used = set(source.values())
    unexpected = [name for name in given if name not in used]
    return LoadReport(path, loaded, missing, unexpected, wrong_shape, len(leftovers), renaming)


def find_weights(path: str | Path, prefix: str = PREFIX) -> Path:
    """The file of weights that a path means: of a directory its best checkpoint, or else the newest complete one.

    Raises:
        UserError: there is none in the directory.
    """
    path = Path(path)
    if not path.is_dir():
        return path
    best = path / f"{prefix}_best{_CKPT}"
    return best if best.is_file() else _newest_in(path, prefix).path


def read_weights(path: str | Path) -> dict[str, np.ndarray]:
    """All values of a `.ckpt` or `.safetensors` file by name.

    Raises:
        UserError: the file is missing, unreadable, damaged or no checkpoint.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"there is no checkpoint {path}; give a .ckpt or .safetensors file")
    if path.suffix not in (_CKPT, ".safetensors"):
        raise UserError(f"{path} is not a checkpoint by its name; give a .ckpt or .safetensors file")
    try:
        with _quiet_mindspore():
            values = {name: value.asnumpy()
                      for name, value in ms.load_checkpoint(str(path), format=path.suffix[1:]).items()}
    except OSError as error:
        raise UserError(f"cannot read the checkpoint {path}: {error.strerror or error}") from error
    except Exception as error:  # damaged bytes lead the parsers into errors of any kind
        reason = "the file is empty" if path.stat().st_size == 0 else "damaged, cut off, or not a checkpoint"
        raise UserError(f"cannot read the checkpoint {path}: {reason}; fetch or make it anew") from error
    if not values:
        raise UserError(f"the checkpoint {path} holds no parameter")
    return values


def is_optimizer_name(name: str) -> bool:
    """Whether a name in a checkpoint belongs to the optimizer or the loss scaling of a training."""
    return name in _OPTIMIZER_NAMES or name.startswith(_OPTIMIZER_PREFIXES)


def _find_renaming(given: Mapping[str, np.ndarray],
                   parameters: Mapping[str, ms.Parameter]) -> tuple[str, Callable[[str], str]]:
    """The prefix to remove or add so that most of the names fit: (its description, the function)."""
    fits = Counter({("", ""): sum(name in parameters for name in given)})  # (removed, added) -> names that fit
    for name in given:
        fits.update((name[:len(name) - len(tail)], "") for tail in _tails(name) if tail in parameters)
    for name in parameters:
        fits.update(("", name[:len(name) - len(tail)]) for tail in _tails(name) if tail in given)
    (best, count), *others = fits.most_common()
    tied = any(other == count for _, other in others)
    # A few names fit under many prefixes (every "dense.bias" ends like every other); that is no reason to rename.
    if best == ("", "") or tied or 2 * count < min(len(given), len(parameters)):
        return "", lambda name: name
    removed, added = best
    if removed:
        return f"without the prefix {removed}", lambda name: name[len(removed):] if name.startswith(removed) else ""
    return f"with the prefix {added} added", lambda name: added + name


def _tails(name: str) -> Iterator[str]:
    """What is left of a dotted name without its first part, its first two parts, …."""
    while "." in name:
        name = name.split(".", 1)[1]
        yield name


def _nothing_fits(path: Path, given: Mapping[str, np.ndarray], parameters: Mapping[str, ms.Parameter],
                  wrong_shape: Mapping[str, tuple[list[int], list[int]]]) -> str:
    if wrong_shape:
        name, (there, here) = next(iter(wrong_shape.items()))
        return (f"the checkpoint {path} is of a network of another size: {name} is {there} there and {here} in this "
                f"network; set the network's sizes to those of the checkpoint")
    return (f"the checkpoint {path} has nothing for this network: its parameters are {_some(list(given), count=3)}, "
            f"the network's are {_some(list(parameters), count=3)}; give a checkpoint of the same model")


# ---------------------------------------------------------------- load_checkpoint_path

def load_checkpoint_path(path: str | Path, train_step_cell: ms.nn.Cell,
                         prefix: str = PREFIX) -> Checkpoint | LoadReport:
    """Begin a training from what the user gave as `load_checkpoint_path`.

    A directory stands for the newest complete checkpoint in it. A checkpoint of training is restored exactly and
    returned; of any other `.ckpt` or `.safetensors` file the weights are loaded, and the report is returned.

    Raises:
        UserError: nothing there, or it cannot be read or does not fit.
    """
    path = Path(path)
    checkpoint = _newest_in(path, prefix) if path.is_dir() else open_checkpoint(path)
    if checkpoint is None:
        return load_weights(train_step_cell.network, path)
    restore_training(train_step_cell, checkpoint)
    return checkpoint


def _some(names: Iterable[str], separator: str = ", ", count: int = 6) -> str:
    names = list(names)
    more = len(names) - count
    return separator.join(names[:count]) + (f" and {more} more" if more > 0 else "")


def _warn(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr)


@contextmanager
def _quiet_mindspore() -> Iterator[None]:
    """Keep MindSpore from logging what the caller turns into an error of one line."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
