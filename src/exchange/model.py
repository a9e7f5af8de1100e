"""What an exchange passes on: a network with its weights under our names, and the report of what became of it all."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from src.bert_model import BertConfig
from src.errors import UserError
from src.exchange.names import POOLER, POSITION_TABLE, Name, heads, relative_table_names
from src.json_files import member

# The sizes that all frameworks call the same.
SIZES = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
         "hidden_dropout_prob", "attention_probs_dropout_prob", "max_position_embeddings", "type_vocab_size",
         "initializer_range")
SINUSOIDAL_CLIP = 64  # the distance at which NEZHA's sinusoids are clipped, here and in its paper
UNUSED = "this network does not use them"
DEFAULTS = {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1, "max_position_embeddings": 512,
            "type_vocab_size": 2, "initializer_range": 0.02}  # where an older configuration is silent
_PROBABILITIES = ("hidden_dropout_prob", "attention_probs_dropout_prob", "initializer_range")
_LAYER_NUMBER = re.compile(r"layers?[._](\d+)")


@dataclass
class Model:
    """A network on its way from one framework to another.

    Attributes:
        task: which head it has, a key of `names.heads()`.
        sizes: the keys of a `*_net_cfg` group that belong to the network, not to data or device.
        weights: float32 by our names; what the source lacked is not in it.
        num_labels: classes of the head.
        labels: names of the classes in the order of their ids, if known.
        vocab_file: the vocabulary, if known.
        do_lower_case: whether that is an uncased one, if known.
    """

    task: str
    sizes: dict[str, Any]
    weights: dict[str, np.ndarray]
    num_labels: int = 2
    labels: list[str] | None = None
    vocab_file: Path | None = None
    do_lower_case: bool | None = None

    @property
    def has_classes(self) -> bool:
        """Whether its head has classes."""
        task = heads()[self.task]
        return task is not None and task.exchange_head.has_classes

    @property
    def positions(self) -> str:
        """How tokens know their places: absolute, learned or sinusoidal."""
        return self.sizes["relative_position_kind"] if self.sizes["use_relative_positions"] else "absolute"

    def __str__(self) -> str:
        """One line."""
        sizes = self.sizes
        classes = f", {self.num_labels} classes" if self.has_classes else ""
        return (f"{self.task}{classes}: {sizes['num_hidden_layers']} layers, {sizes['hidden_size']} wide, "
                f"{sizes['num_attention_heads']} heads, {sizes['vocab_size']} tokens, {self.positions} positions, "
                f"hidden_act {sizes['hidden_act']}")


@dataclass
class Report:
    """What was converted, what was not, and why."""

    notes: list[str] = field(default_factory=list)
    _groups: dict[str, list[str]] = field(default_factory=dict)

    def add(self, what: str, names: str | Iterable[str]) -> None:
        """Say of these parameters or keys what became of them."""
        names = [names] if isinstance(names, str) else list(names)
        if names:
            self._groups.setdefault(what, []).extend(names)

    def note(self, line: str) -> None:
        """Say something about the whole."""
        self.notes.append(line)

    def __str__(self) -> str:
        """A line for each reason, with every name."""
        lines = [f"  {what} ({len(names)}): {', '.join(sorted(names))}" for what, names in self._groups.items()]
        return "\n".join(lines + [f"  note: {note}" for note in self.notes])


def take_weights(values: MutableMapping[str, np.ndarray], names: Iterable[Name], framework: str, sizes: Mapping,
                 source: Path, report: Report) -> dict[str, np.ndarray]:
    """Move what `names` lists out of `values` and return it by our names, in float32 and our orientation.

    Raises:
        UserError: a parameter has another shape than the sizes say, is not of a floating type, or there are more
            layers than the sizes say.
    """
    taken, types = {}, Counter()
    for name in names:
        theirs = getattr(name, framework)
        value = values.pop(theirs, None)
        if value is None:
            continue
        if value.dtype.kind != "f":
            raise UserError(f"{source}: {theirs} is of type {value.dtype}, expected floating-point weights; quantised "
                            f"checkpoints cannot be converted")
        if framework == "tensorflow" and name.transposed:
            value = value.T
        if value.shape != name.shape:
            raise UserError(f"{source}: {theirs} is {list(value.shape)}, but the sizes of its configuration make it "
                            f"{list(name.shape)} (as stored here); give the configuration that belongs to it")
        types[str(value.dtype)] += 1
        taken[name.ours] = np.ascontiguousarray(value, np.float32)
    deeper = [found for found in values if (match := _LAYER_NUMBER.search(found))
              and int(match[1]) >= sizes["num_hidden_layers"] and not is_optimizer_state(found)]
    if deeper:
        raise UserError(f"{source} has {min(deeper)}, but its configuration says num_hidden_layers "
                        f"{sizes['num_hidden_layers']}; give the configuration that belongs to it")
    for kind, count in types.items():
        if kind != "float32":
            report.note(f"{count} parameters in {kind} became float32")
    return taken


def check_depth(sizes: Mapping[str, Any], values: Mapping[str, np.ndarray], source: Path) -> None:
    """Refuse more layers than there are parameters, before the names of all are made.

    Raises:
        UserError: there are.
    """
    if sizes["num_hidden_layers"] > len(values):
        raise UserError(f"{source} has {len(values)} parameters, but its configuration says num_hidden_layers "
                        f"{sizes['num_hidden_layers']}; give the configuration that belongs to it")


def complete(model: Model, names: Iterable[Name], source: Path, report: Report) -> None:
    """Fill up with zeros what the source lacks and the network here does not use; report what else is missing.

    Raises:
        UserError: the encoder is not whole.
    """
    unused = unused_parameters(model)
    for name in names:
        if name.ours in model.weights:
            continue
        if name.ours in unused:
            model.weights[name.ours] = np.zeros(name.shape, np.float32)
            report.add(f"absent from the source, filled with zeros: {UNUSED}", name.ours)
        elif name.ours.startswith("bert.bert.") and name.ours not in POOLER:
            raise UserError(f"{source} has no {name.ours} under any name; the encoder is not whole, so this is no "
                            f"BERT of the size that its configuration says, or it was cut")
        else:
            report.add("absent from the source and left out: starts from its initial value when loaded", name.ours)


def unused_parameters(model: Model) -> set[str]:
    """Parameters that the network here holds, because the published checkpoints do, but does not use."""
    task = heads()[model.task]
    unused: set[str] = set() if task is None or task.exchange_head.uses_pooler else set(POOLER)
    if model.sizes["use_relative_positions"]:
        unused.add(POSITION_TABLE)
    return unused


def give_weights(model: Model, names: Iterable[Name], framework: str, report: Report) -> dict[str, np.ndarray]:
    """The weights by the names and in the orientation of a framework; reports what has no name there."""
    given, left = {}, dict(model.weights)
    for name in names:
        value = left.pop(name.ours, None)
        if value is not None:
            turned = framework == "tensorflow" and name.transposed
            given[getattr(name, framework)] = np.ascontiguousarray(value.T if turned else value)
    report.add("left out: the network there has no such parameter, and this one does not use it", left)
    return given


def check_exportable(model: Model, where: str) -> None:
    """Refuse a network that only this repository can compute.

    Raises:
        UserError: it has learned relative positions.
    """
    if model.positions == "learned" or any(name in model.weights
                                           for name in relative_table_names(model.sizes["num_hidden_layers"])):
        raise UserError(f"this network has learned relative positions, for which {where} has no counterpart (its NEZHA "
                        f"has fixed sinusoids); only networks with absolute or sinusoidal positions can be converted")


def is_optimizer_state(name: str) -> bool:
    """Whether a name in a TensorFlow checkpoint belongs to the optimizer."""
    last = name.rpartition("/")[2]
    return name == "global_step" or last in ("adam_m", "adam_v", "lamb_m", "lamb_v", "Adam", "Adam_1", "Momentum")


def read_sizes(config: dict[str, Any], hidden_act: str, sinusoidal: bool, source: Path) -> dict[str, Any]:
    """The sizes in another framework's configuration, whose names are the same everywhere, as a `*_net_cfg` group.

    Raises:
        UserError: one is missing or out of range.
    """
    sizes = {}
    for key in SIZES:
        kind = float if key in _PROBABILITIES else int
        default = {"default": DEFAULTS[key]} if key in DEFAULTS else {}
        sizes[key] = member(config, key, kind, f"{source}: ", hint="expected the configuration of a BERT", **default)
    sizes |= {"hidden_act": hidden_act, "use_relative_positions": sinusoidal,
              "relative_position_kind": "sinusoidal" if sinusoidal else "learned"}
    try:
        BertConfig(seq_length=1, **sizes)
    except UserError as error:
        raise UserError(f"{source}: {error}") from error
    return sizes
