"""A model as a folder that knows itself: what its weights mean lies beside them, and may be moved with them.

    model.json      task, sizes and options of the network, and the names and checksums of the files below
    vocab.txt       the vocabulary
    labels.txt      the names of the classes, where there are classes
    README.md       a model card
    *.ckpt          weights; the checksum of each stands beside it, see `src/checkpoint_files.py`

An exported model is described in the same way, inside the `.json` file beside it.
"""

import json
import shutil
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from src.checkpoint_files import CKPT, crc32
from src.errors import UserError
from src.files import atomic_write, write_text
from src.json_files import check_kind, member, read_json_object
from src.text_files import check_path

DESCRIPTION = "model.json"
FORMAT_VERSION = 1
# The sizes without which weights do not fit, or mean something else. Whatever else is said of a network, such as
# dropout, is about a training: another task has its own.
WEIGHTS_KEYS = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
                "hidden_act", "max_position_embeddings", "type_vocab_size", "use_relative_positions",
                "relative_position_kind")
VOCABULARY, LABELS = "vocab_file_path", "label_file_path"
FILE_NAMES = {VOCABULARY: "vocab.txt", LABELS: "labels.txt"}
_OF_ANY_TASK = ("do_lower_case", VOCABULARY)
# Where export.py describes what it writes, by the ending of the model.
EXPORTED = {".onnx": lambda model: model.with_name(f"{model.name}.json"),
            ".mindir": lambda model: model.with_suffix(".json")}
_HINT = f"fetch or make the folder anew, or remove {DESCRIPTION} and give the options of the network"


@dataclass(frozen=True)
class ModelFolder:
    """What a folder says about the model in it.

    Attributes:
        path: the folder.
        task: the `description` of its configuration.
        prefix: what the names of its weights begin with.
        network: the keys of a `*_net_cfg` group.
        options: further keys of the task's configuration.
        files: options that name a file of the folder, with the name of that file.
        checksums: by the name of the file.
        source: the file that says it.
        weights: what an option that names weights shall have as its value: the folder, or one of its files.
    """

    path: Path
    task: str
    prefix: str
    network: Mapping[str, Any]
    options: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    checksums: Mapping[str, str] = field(default_factory=dict)
    source: Path = Path()
    weights: Path = Path()

    @classmethod
    def find(cls, path: str | Path) -> "ModelFolder | None":
        """The folder that `path` is, or that it is a model or a file of weights of; None where nothing describes it.

        Raises:
            UserError: the description is damaged.
        """
        path = Path(path)
        if path.is_dir():
            return cls.read(path) if (path / DESCRIPTION).is_file() else None
        if path.suffix in EXPORTED:
            return cls._of_exported(path)
        if not path.is_file() or not (path.parent / DESCRIPTION).is_file():
            return None
        found = cls.read(path.parent)
        is_its_own = path.suffix in (CKPT, ".safetensors") and path.name.startswith(found.prefix)
        return replace(found, weights=path) if is_its_own else None

    @classmethod
    def read(cls, path: Path) -> "ModelFolder":
        """Read the description in a folder.

        Raises:
            UserError: there is none, or it is damaged.
        """
        source = path / DESCRIPTION
        return cls.parse(read_json_object(source, f"the description of a model; {_HINT}"), source)

    @classmethod
    def _of_exported(cls, model: Path) -> "ModelFolder | None":
        """What `export.py` wrote beside a model, if that says more than its inputs and outputs."""
        source = EXPORTED[model.suffix](model)
        if not source.is_file():
            return None
        about = read_json_object(source, f"the description of a model; {_HINT}").get("model")
        if about is None:  # exported by an older version
            return None
        check_kind(about, dict, f"{source}: model", _HINT)
        return replace(cls.parse(about, source), weights=model)

    @classmethod
    def parse(cls, about: dict[str, Any], source: Path) -> "ModelFolder":
        """A description, `source` being the file that it stands in and the files beside it those that it names.

        Raises:
            UserError: something is missing in it, or of another kind.
        """
        where = f"{source}: "
        version = member(about, "format_version", int, where, hint=_HINT)
        if version != FORMAT_VERSION:
            raise UserError(f"{where}format_version is {version}, this program reads {FORMAT_VERSION}; use the version "
                            f"of this repository that wrote it")
        files, checksums = {}, {}
        for option, entry in member(about, "files", dict, where, hint=_HINT).items():
            check_kind(entry, dict, f"{where}files.{option}", _HINT)
            files[option] = _own_name(member(entry, "name", str, f"{where}files.{option}.", hint=_HINT), where)
            checksums[files[option]] = member(entry, "crc32", str, f"{where}files.{option}.", hint=_HINT)
        return cls(source.parent, member(about, "task", str, where, hint=_HINT),
                   member(about, "weights", str, where, hint=_HINT), member(about, "network", dict, where, hint=_HINT),
                   member(about, "options", dict, where, hint=_HINT), files, checksums, source, source.parent)

    def described(self) -> dict[str, Any]:
        """What `parse` reads."""
        return {"format_version": FORMAT_VERSION, "task": self.task, "weights": self.prefix,
                "network": dict(self.network), "options": dict(self.options),
                "files": {option: {"name": name, "crc32": self.checksums[name]}
                          for option, name in self.files.items()}}

    def with_files(self, sources: Mapping[str, Path | Sequence[str]], before: str = "") -> "ModelFolder":
        """Write files into the folder; return it with their names and checksums.

        Args:
            sources: options with the files to copy, or the lines to write.
            before: what the names shall begin with.

        Raises:
            UserError: a file cannot be read or written.
        """
        files = {option: before + FILE_NAMES[option] for option in sources}
        for option, source in sources.items():
            _write_file(source, self.path / files[option], option)
        return replace(self, files=files, checksums={name: crc32(self.path / name) for name in files.values()})

    def write(self, sources: Mapping[str, Path | Sequence[str]]) -> "ModelFolder":
        """Write files into the folder, and the description; see `with_files`."""
        written = self.with_files(sources)
        write_text(self.source, json.dumps(written.described(), indent=1, ensure_ascii=False) + "\n")
        return written

    # ------------------------------------------------------------ what a configuration takes from it

    def values(self, task: str, group: str, known: Container[str]) -> dict[str, Any]:
        """The values of a configuration that follow from the model.

        Args:
            task: the `description` of the configuration; another one takes over only what the encoder needs.
            group: its group of the sizes.
            known: the keys that it has; those in a group are dotted.
        """
        same = task == self.task
        network = {f"{group}.{key}": value for key, value in self.network.items() if same or key in WEIGHTS_KEYS}
        files = {option: str(self.path / name) for option, name in self.files.items()}
        others = {"device_target": "auto"} | dict(self.options) | files
        others = {key: value for key, value in others.items() if same or key in _OF_ANY_TASK}
        return {key: value for key, value in (network | others).items() if key in known}

    def check_agreement(self, explicit: Mapping[str, Any], group: str, places: Callable[[str], str]) -> None:
        """Make sure that what the user says of the network is what the weights are of, and the vocabulary theirs.

        Args:
            explicit: dotted keys with the values that the user gave.
            group: the group of the sizes.
            places: names the place of a key to the user.

        Raises:
            UserError: they contradict each other.
        """
        for key in WEIGHTS_KEYS:
            here = explicit.get(f"{group}.{key}")
            if here is not None and key in self.network and here != self.network[key]:
                raise UserError(f"{places(f'{group}.{key}')}: {group}.{key} is {here}, but the weights in "
                                f"{self.weights} have {self.network[key]} ({self.source}); leave the option out, or "
                                f"give other weights")
        for option, name in self.files.items():
            if not explicit.get(option):
                self._check_file(name)
        if explicit.get(VOCABULARY):
            self.check_vocabulary(Path(explicit[VOCABULARY]), f"{places(VOCABULARY)}: {VOCABULARY}")

    def _check_file(self, name: str) -> None:
        path = self.path / name
        if not path.is_file():
            raise UserError(f"{path} is missing, which {self.source} names; {_HINT}")
        if crc32(path) != self.checksums[name]:
            raise UserError(f"{path} does not match its checksum in {self.source}: it was changed after the model was "
                            f"written; {_HINT}")

    def check_vocabulary(self, path: Path, where: str) -> None:
        """Make sure that a file is the model's vocabulary; one that does not exist is left to its reader.

        Raises:
            UserError: it is another one.
        """
        name = self.files.get(VOCABULARY)
        if name and path.is_file() and crc32(path) != self.checksums[name]:
            raise UserError(f"{where}: {path} is not the vocabulary of {self.weights}, which is {self.path / name}; "
                            f"leave the option out, or give other weights")


def _write_file(source: Path | Sequence[str], path: Path, option: str) -> None:
    if not isinstance(source, Path):
        write_text(path, "".join(f"{line}\n" for line in source))
        return
    if not source.is_file():
        raise UserError(f"{option}: there is no file {source}")
    if path.is_file() and crc32(path) == crc32(source):
        return
    with atomic_write(path) as temporary:
        shutil.copyfile(source, temporary)


def _own_name(name: str, where: str) -> str:
    """A name that cannot lead out of the folder."""
    check_path(name, f"{where}files")
    if Path(name).name != name:
        raise UserError(f"{where}files: found {name!r}, expected the name of a file in the folder; {_HINT}")
    return name
