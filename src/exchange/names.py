"""The two-way map between the parameter names of this repository, of transformers and of Google's BERT.

One table serves every direction: a row is a module with its kind, its shape and its three names. The kind says how the
parameters of the module are called and whether TensorFlow stores them transposed.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from src.tasks.base import Task
from src.tasks.registry import all_tasks

ENCODER = "encoder"  # a network without a head, which is no task of its own

# The last part of a parameter's name: here, in transformers, in TensorFlow. A TensorFlow kernel is [in, out], our
# weight [out, in] as in PyTorch; `output_weights` are not transposed.
_LEAVES = {
    "dense": ((".weight", ".weight", "/kernel"), (".bias", ".bias", "/bias")),
    "layernorm": ((".gamma", ".weight", "/gamma"), (".beta", ".bias", "/beta")),
    "table": ((".embedding_table", ".weight", ""),),
    "bias": ((".output_bias", ".bias", "/output_bias"),),
    "output": ((".weight", ".weight", "/output_weights"), (".bias", ".bias", "/output_bias")),
}

# kind, shape of its first parameter (V vocabulary, H hidden, …; the second has the first of these), names.
_EMBEDDINGS = (
    ("table", "VH", "bert.bert.bert_embedding_lookup", "bert.embeddings.word_embeddings",
     "bert/embeddings/word_embeddings"),
    ("table", "TH", "bert.bert.bert_embedding_postprocessor.token_type_embedding",
     "bert.embeddings.token_type_embeddings", "bert/embeddings/token_type_embeddings"),
    ("table", "PH", "bert.bert.bert_embedding_postprocessor.full_position_embedding",
     "bert.embeddings.position_embeddings", "bert/embeddings/position_embeddings"),
    ("layernorm", "H", "bert.bert.bert_embedding_postprocessor.layernorm", "bert.embeddings.LayerNorm",
     "bert/embeddings/LayerNorm"),
)
_LAYER = tuple(
    (kind, shape, "bert.bert.bert_encoder.layers.{}." + ours, "bert.encoder.layer.{}." + huggingface,
     "bert/encoder/layer_{}/" + huggingface.replace(".", "/"))
    for kind, shape, ours, huggingface in (
        ("dense", "HH", "attention.attention.query_layer", "attention.self.query"),
        ("dense", "HH", "attention.attention.key_layer", "attention.self.key"),
        ("dense", "HH", "attention.attention.value_layer", "attention.self.value"),
        ("dense", "HH", "attention.output.dense", "attention.output.dense"),
        ("layernorm", "H", "attention.output.layernorm", "attention.output.LayerNorm"),
        ("dense", "IH", "intermediate", "intermediate.dense"),
        ("dense", "HI", "output.dense", "output.dense"),
        ("layernorm", "H", "output.layernorm", "output.LayerNorm"),
    ))
_POOLER = (("dense", "HH", "bert.bert.dense", "bert.pooler.dense", "bert/pooler/dense"),)
_RELATIVE_TABLE = ".attention.attention._generate_relative_positions_embeddings.embeddings_table"

POSITION_TABLE = "bert.bert.bert_embedding_postprocessor.full_position_embedding.embedding_table"
WORD_TABLE = "bert.bert.bert_embedding_lookup.embedding_table"
POOLER = ("bert.bert.dense.weight", "bert.bert.dense.bias")


class Name(NamedTuple):
    """A parameter: its names, its shape as we store it, and whether TensorFlow stores it transposed."""

    ours: str
    huggingface: str
    tensorflow: str
    shape: tuple[int, ...]
    transposed: bool


def heads() -> dict[str, type[Task] | None]:
    """The tasks by their names, whose heads can be exchanged, and None for the bare encoder."""
    return {ENCODER: None} | {task.name: task for task in all_tasks()}


def head_modules(task: str) -> tuple[tuple[str, str, str, str, str], ...]:
    """The rows of the table that belong to the head of a task."""
    found = heads()[task]
    return found.exchange_head.modules if found else ()


def tasks_with_head_in(names: Iterable[str], framework: str) -> list[type[Task]]:
    """The tasks of whose heads there are parameters among these; `framework` is a field of `Name`."""
    names, column = set(names), Name._fields.index(framework)
    return [task for task in all_tasks() if any(
        own[column].lstrip("/") in names
        for kind, shape, *modules in task.exchange_head.modules for *own, _, _ in _parameters(kind, shape, modules))]


def num_classes_in(values: Mapping[str, np.ndarray], framework: str) -> int:
    """The classes of the head among these parameters, whichever task it is of; 2 where there is none."""
    column = Name._fields.index(framework)
    for task in all_tasks():
        for kind, shape, *modules in task.exchange_head.modules:
            for *names, axes, transposed in _parameters(kind, shape, modules):
                value = values.get(names[column].lstrip("/"))
                if value is not None and axes.startswith("C"):
                    return value.shape[-1 if transposed and framework == "tensorflow" else 0]
    return 2


def parameter_names(sizes: Mapping[str, Any], task: str, num_labels: int = 2,
                    base: str = "bert") -> list[Name]:
    """Every parameter that all three frameworks have.

    Args:
        sizes: the network's sizes, as in a `*_net_cfg` group.
        task: a key of `heads()`.
        num_labels: classes of a classifier.
        base: what transformers calls the encoder: "bert" or "nezha".
    """
    letters = {"V": sizes["vocab_size"], "H": sizes["hidden_size"], "T": sizes["type_vocab_size"], "2": 2,
               "P": sizes["max_position_embeddings"], "I": sizes["intermediate_size"], "C": num_labels}
    return [Name(ours, _with_base(huggingface, base), tensorflow.lstrip("/"), tuple(letters[a] for a in shape), turned)
            for ours, huggingface, tensorflow, shape, turned in _names(sizes["num_hidden_layers"], task)]


def _names(num_layers: int, task: str) -> Iterator[tuple[str, str, str, str, bool]]:
    for kind, shape, *modules in (*_EMBEDDINGS, *_POOLER, *head_modules(task)):
        yield from _parameters(kind, shape, modules)
    for layer in range(num_layers):
        for kind, shape, *modules in _LAYER:
            yield from _parameters(kind, shape, [module.format(layer) for module in modules])


def _parameters(kind: str, shape: str, modules: list[str]) -> Iterator[tuple[str, str, str, str, bool]]:
    for number, leaves in enumerate(_LEAVES[kind]):
        names = [module + leaf for module, leaf in zip(modules, leaves, strict=True)]
        yield *names, shape if number == 0 else shape[0], kind == "dense" and number == 0


def _with_base(name: str, base: str) -> str:
    return base + name[len("bert"):] if name.startswith("bert.") else name


def relative_table_names(num_layers: int) -> list[str]:
    """Our names of NEZHA's learned tables, which no other framework has."""
    return [f"bert.bert.bert_encoder.layers.{i}{_RELATIVE_TABLE}" for i in range(num_layers)]
