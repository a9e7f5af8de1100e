"""Checkpoints of training as files: which are complete, and which is the newest.

A checkpoint of training is three files, of which the manifest is written last:

    checkpoint_bert-{epoch}_{step}.ckpt                the network's parameters, MindSpore's own format
    checkpoint_bert-{epoch}_{step}.state.safetensors   the rest of the training's state: optimizer, loss scale, …
    checkpoint_bert-{epoch}_{step}.json                manifest: metadata, sizes and checksums of the other two

Each file appears under its name only when it is whole, so a process killed at any moment leaves complete checkpoints
and at most one without a manifest. Nothing is ever unpickled. `src/training/checkpoint.py` writes them.
"""

import json
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path

from src.errors import UserError
from src.json_files import read_json_object

PREFIX = "checkpoint_bert"
FORMAT_VERSION = 1
CKPT, STATE, MANIFEST = ".ckpt", ".state.safetensors", ".json"
ABOUT = ".about.json"  # beside weights alone


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
        return sibling(self.path, STATE)


def find_newest(directory: str | Path, prefix: str = PREFIX) -> Checkpoint | None:
    """The newest complete checkpoint in a directory, None if there is none; a torn one costs a line on stderr."""
    directory = Path(directory)
    stems = {path.name.removesuffix(ending) for ending in (MANIFEST, STATE)
             for path in directory.glob(f"{prefix}-*{ending}")}
    found = []
    for stem in sorted(stems):
        path = directory / (stem + CKPT)
        try:
            found.append(read_manifest(path))
        except TornCheckpointError as error:
            _warn(f"skipping the checkpoint {path}: {error}")
    for checkpoint in sorted(found, key=lambda checkpoint: -checkpoint.serial):
        try:
            _verify(checkpoint)
            return checkpoint
        except TornCheckpointError as error:
            _warn(f"skipping the checkpoint {checkpoint.path}: {error}")
    return None


def newest_in(directory: Path, prefix: str = PREFIX) -> Checkpoint:
    """The newest complete checkpoint in a directory.

    Raises:
        UserError: there is none.
    """
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
    if path.suffix != CKPT or not _has_state(path):
        return None
    try:
        checkpoint = read_manifest(path)
        _verify(checkpoint)
    except TornCheckpointError as error:
        raise UserError(f"the checkpoint {path} is damaged: {error}; give an older one, or the directory "
                        f"{path.parent} to have the newest complete one found") from error
    return checkpoint


def _has_state(path: Path) -> bool:
    """Whether a `.ckpt` is part of a checkpoint of training: a state is beside it, or a manifest that wants one."""
    if sibling(path, STATE).exists():
        return True
    try:
        return bool(_manifest(path))
    except TornCheckpointError:  # no manifest; another program's .json, perhaps
        return False


def list_checkpoints(directory: str | Path, prefix: str = PREFIX) -> list[Checkpoint]:
    """Checkpoints whose manifest is sound and whose files have the right sizes, the newest first."""
    found = []
    for manifest in Path(directory).glob(f"{prefix}-*{MANIFEST}"):
        try:
            found.append(read_manifest(sibling(manifest, CKPT)))
        except TornCheckpointError:
            continue
    return sorted(found, key=lambda checkpoint: -checkpoint.serial)


def read_manifest(path: Path) -> Checkpoint:
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
    file = sibling(path, MANIFEST)
    if not file.exists():
        raise TornCheckpointError(f"{file.name} is missing, the save was interrupted")
    try:
        manifest = read_json_object(file, "a whole manifest")
    except UserError as error:
        raise TornCheckpointError(f"{file.name} is not a whole manifest") from error
    stored = manifest.pop("crc32", None)
    if stored != json_crc32(manifest):
        raise TornCheckpointError(f"{file.name} does not match its checksum")
    if manifest["format_version"] != FORMAT_VERSION:
        raise TornCheckpointError(f"{file.name} has format version {manifest['format_version']}, this program reads "
                                  f"{FORMAT_VERSION}")
    return manifest


def _verify(checkpoint: Checkpoint) -> None:
    """Compare the files with their checksums (about 0.5 s for a gigabyte)."""
    for name, expected in _manifest(checkpoint.path)["files"].items():
        verify_file(checkpoint.path.parent / name, expected["crc32"])


def verify_weights(path: Path) -> None:
    """Compare a file of weights with the checksum that a training stored beside it, if there is one.

    It is in the manifest of a checkpoint of training, or in what is said `about` weights alone.

    Raises:
        UserError: they differ, or the manifest is damaged.
    """
    try:
        if path.suffix == CKPT and sibling(path, MANIFEST).exists() and _has_state(path):
            verify_file(path, _manifest(path)["files"].get(path.name, {}).get("crc32"))
        about = read_about(path) or {}
        # Of a writer that was killed between the two files, this one is still what the new one was to replace.
        verify_file(path, about.get("crc32"), about.get("replaces"))
    except TornCheckpointError as error:
        raise UserError(f"the checkpoint {path} is damaged: {error}; give another one, or make it anew") from error


def read_about(path: str | Path) -> dict | None:
    """What was said about the weights in `path` when they were written; None when nothing is there to read."""
    try:
        return read_json_object(Path(path).with_suffix(ABOUT), "what was said about the weights")
    except UserError:
        return None


def verify_file(path: Path, *checksums: str | None) -> None:
    """Compare a file with its checksum, of which there may be several; None is one that nobody stored.

    Raises:
        TornCheckpointError: it has another one, or cannot be read.
    """
    known = [checksum for checksum in checksums if checksum]
    try:
        if known and crc32(path) not in known:
            raise TornCheckpointError(f"{path.name} does not match its checksum")
    except OSError as error:
        raise TornCheckpointError(f"cannot read {path.name}: {error.strerror}") from error


def crc32(path: Path) -> str:
    """The checksum of a file."""
    checksum = 0
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            checksum = zlib.crc32(block, checksum)
    return f"{checksum:08x}"


def json_crc32(content: dict) -> str:
    """The checksum of what JSON can hold, whatever the order of its keys."""
    return f"{zlib.crc32(json.dumps(content, sort_keys=True).encode()):08x}"


def sibling(path: Path, ending: str) -> Path:
    """The file of a checkpoint that has this ending, given any of its files."""
    stem = next((path.name.removesuffix(known) for known in (STATE, CKPT, MANIFEST) if path.name.endswith(known)),
                path.name)
    return path.with_name(stem + ending)


def _warn(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr)
