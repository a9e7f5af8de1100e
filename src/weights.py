"""Weights by name: reading, writing, and loading into a network what fits."""

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import nn

from src.checkpoint_files import ABOUT, CKPT, PREFIX, crc32, newest_in, read_about, verify_weights
from src.errors import UserError
from src.files import atomic_write, flush, open_to_others
from src.model_folder import ModelFolder

# What other trainings leave in a .ckpt beside the weights.
_OPTIMIZER_NAMES = {"learning_rate", "global_step", "beta1_power", "beta2_power", "epoch_num", "step_num", "loss_scale",
                    "scale_sense", "current_iterator_step", "last_overflow_iterator_step", "momentum"}
_OPTIMIZER_PREFIXES = ("adam_m.", "adam_v.", "lamb_m.", "lamb_v.", "moments.", "moment1.", "moment2.", "accum.",
                       "matrix_a", "matrix_g", "optimizer.", "learning_rate.")


# ---------------------------------------------------------------- reading and writing

def read_weights(path: str | Path, is_verified: bool = False) -> dict[str, np.ndarray]:
    """All values of a `.ckpt` or `.safetensors` file by name.

    Args:
        path: the file.
        is_verified: it was compared with its checksum just now.

    Raises:
        UserError: the file is missing, unreadable, damaged or no checkpoint.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"there is no checkpoint {path}; give a .ckpt or .safetensors file")
    if path.suffix not in (CKPT, ".safetensors"):
        raise UserError(f"{path} is not a checkpoint by its name; give a .ckpt or .safetensors file")
    if not is_verified:
        verify_weights(path)
    try:
        with quiet_mindspore():
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


def save_weights(network: nn.Cell, path: str | Path, **about: object) -> None:
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
    # The weights last: whoever reads both never finds weights without what is said about them.
    with atomic_write(path) as weights, \
            nullcontext() if about is None else atomic_write(path.with_suffix(ABOUT)) as description:
        _write_values(values, weights, path.suffix)
        if description:
            flush(weights)  # so that the two renames follow each other at once
            checksums = {"crc32": crc32(weights), "replaces": (read_about(path) or {}).get("crc32")}
            description.write_text(json.dumps({**(about or {}), **checksums}, indent=1) + "\n", encoding="utf-8")


def _write_values(values: Mapping[str, ms.Tensor | np.ndarray], path: Path, ending: str) -> None:
    written = path.with_name(path.name + ending)  # MindSpore adds the ending
    parameters = [{"name": name, "data": ms.Tensor(value) if isinstance(value, np.ndarray) else value}
                  for name, value in values.items()]
    try:
        with quiet_mindspore():
            ms.save_checkpoint(parameters, str(path), format=ending[1:])
        open_to_others([written])
        written.replace(path)
    finally:
        written.unlink(missing_ok=True)


def is_optimizer_name(name: str) -> bool:
    """Whether a name in a checkpoint belongs to the optimizer or the loss scaling of a training."""
    return name in _OPTIMIZER_NAMES or name.startswith(_OPTIMIZER_PREFIXES)


@contextmanager
def quiet_mindspore() -> Iterator[None]:
    """Keep MindSpore from logging what the caller turns into an error of one line."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


# ---------------------------------------------------------------- loading into a network

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
    body: str = ""  # what the names of the part begin with that the file is for; the rest of the network is new

    def __str__(self) -> str:
        """A line for each class that is not empty."""
        lines = [f"loaded {len(self.loaded)} of the network's "
                 f"{len(self.loaded) + len(self.missing) + len(self.wrong_shape)} parameters from {self.path}"
                 + (f" ({self.renaming})" if self.renaming else "")]
        new = [name for name in self.missing if not name.startswith(self.body)]
        missing = [name for name in self.missing if name.startswith(self.body)]
        if new:
            lines.append(f"  new head, to be trained from its initial values ({len(new)}): {_some(new)}")
        if missing:
            lines.append(f"  missing from the file, left at their initial values ({len(missing)}): {_some(missing)}")
        if self.wrong_shape:
            shapes = [f"{name} {there} in the file, {here} in the network"
                      for name, (there, here) in self.wrong_shape.items()]
            lines.append(f"  of another shape, left at their initial values ({len(shapes)}): {_some(shapes, '; ')}")
        if self.unexpected:
            lines.append(f"  unknown to the network, ignored ({len(self.unexpected)}): {_some(self.unexpected)}")
        if self.optimizer_entries:
            lines.append(f"  optimizer state in the file, ignored: {self.optimizer_entries} entries")
        return "\n".join(lines)


def load_weights(network: nn.Cell, path: str | Path, prefix: str = PREFIX, body: str = "") -> LoadReport:
    """Load what fits from a `.ckpt` (MindSpore 1.x or later) or `.safetensors` file into a network.

    A directory stands for its `{prefix}_best.ckpt`, or else for the newest complete checkpoint in it.
    Names are taken as they are, or with one prefix removed from or added to all of them when that clearly fits
    better: the bare `BertModel` has the names of the pre-training network without `bert.bert.`.

    Args:
        network: what gets the weights.
        path: the file or directory.
        prefix: what the names of the checkpoints in a directory begin with.
        body: what the names of the part begin with that the file is for, where the rest of the network is new.

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
        value = given[source[name]] if name in source else None
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
    return LoadReport(path, loaded, missing, unexpected, wrong_shape, len(leftovers), renaming, body)


def find_weights(path: str | Path, prefix: str = PREFIX) -> Path:
    """The file of weights that a path means: of a directory its best checkpoint, or else the newest complete one.

    Args:
        path: a file or a directory.
        prefix: what the names of checkpoints begin with, where no model folder says so.

    Raises:
        UserError: there is none in the directory.
    """
    path = Path(path)
    if not path.is_dir():
        return path
    folder = ModelFolder.find(path)
    prefix = folder.prefix if folder else prefix
    alone = [path / name for name in (f"{prefix}_best{CKPT}", f"{prefix}{CKPT}", f"{prefix}.safetensors")]
    return next((file for file in alone if file.is_file()), None) or newest_in(path, prefix).path


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


def _some(names: Iterable[str], separator: str = ", ", count: int = 6) -> str:
    names = list(names)
    more = len(names) - count
    return separator.join(names[:count]) + (f" and {more} more" if more > 0 else "")
