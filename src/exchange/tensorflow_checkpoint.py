"""Checkpoints of Google's BERT: TensorFlow 1 format, `bert_model.ckpt.index` and `.data-*`, with `bert_config.json`.

TensorFlow is imported only when such a file is read or written.
"""

import json
import os
import shutil
from pathlib import Path
from types import ModuleType

import numpy as np

from src.errors import UserError
from src.exchange.activations import activation_for, activation_from
from src.exchange.model import (
    SINUSOIDAL_CLIP,
    SIZES,
    Model,
    Report,
    check_depth,
    check_exportable,
    complete,
    give_weights,
    is_optimizer_state,
    read_sizes,
    take_weights,
    unused_parameters,
)
from src.exchange.names import ENCODER, POSITION_TABLE, num_classes_in, parameter_names, tasks_with_head_in
from src.json_files import json_shown, member, read_json_object

STEM, CONFIG = "bert_model.ckpt", "bert_config.json"

_INDEX = ".index"
# What Google's code writes into its configuration without ever reading it, or says that the layers are dense.
_KNOWN_KEYS = {*SIZES, "hidden_act", "use_relative_position", "max_relative_position"}


def find_prefix(path: Path) -> Path | None:
    """The prefix of the checkpoint that `path` means, as TensorFlow wants it; None when there is none.

    `path` is the prefix itself, its `.index` or `.data-…` file, or a directory with one checkpoint.

    Raises:
        UserError: the directory holds several.
    """
    if path.is_dir():
        found = sorted(path.glob("*" + _INDEX))
        if len(found) > 1:
            raise UserError(f"{path} holds several checkpoints ({', '.join(file.name for file in found[:3])}); name "
                            f"one of them, such as {found[-1].with_suffix('')}")
        return found[0].with_suffix("") if found else None
    name = path.name.removesuffix(_INDEX).partition(".data-")[0]
    prefix = path.with_name(name)
    return prefix if prefix.with_name(name + _INDEX).is_file() else None


def read(prefix: Path, task: str | None, report: Report) -> Model:
    """Read a checkpoint of Google's code, or of NEZHA's, which has no position table.

    Args:
        prefix: see `find_prefix`; `bert_config.json` and, if there is one, `vocab.txt` lie beside it.
        task: which head to take; None to see from the file.
        report: receives what was left out.

    Raises:
        UserError: something is missing, damaged, or cannot be expressed here, or TensorFlow is not installed.
    """
    values = _read_variables(prefix)
    config_file = prefix.with_name(CONFIG)
    config = read_json_object(config_file, "the configuration of Google's BERT, which lies beside its checkpoint")
    sizes = _sizes(config, config_file, has_positions="bert/embeddings/position_embeddings" in values)
    report.add(f"keys of {CONFIG} without a counterpart", sorted(set(config) - _KNOWN_KEYS))
    task = task or _task(values)
    num_labels = num_classes_in(values, "tensorflow")
    vocab_file = prefix.with_name("vocab.txt")
    model = Model(task, sizes, {}, num_labels, None, vocab_file if vocab_file.is_file() else None)
    if model.vocab_file is None:
        report.note(f"no vocab.txt beside {prefix}; tokenizing needs it")
    optimizer = [name for name in values if is_optimizer_state(name)]
    if optimizer:
        report.note(f"optimizer state is left out: {len(optimizer)} entries (moments and global_step)")
    for name in optimizer:
        del values[name]
    check_depth(sizes, values, prefix)
    names = parameter_names(sizes, task, num_labels)
    model.weights = take_weights(values, names, "tensorflow", sizes, prefix, report)
    report.add(f"left out: no counterpart in the network for {task}", list(values))
    complete(model, names, prefix, report)
    return model


def write(model: Model, directory: Path, report: Report) -> int:
    """Write what Google's code takes as `--init_checkpoint` and `--bert_config_file`; return the number of parameters.

    Raises:
        UserError: the network has no counterpart there, or TensorFlow is not installed.
    """
    check_exportable(model, "Google's BERT")
    config = {key: model.sizes[key] for key in SIZES}
    if model.sizes["hidden_act"] == "gelu_erf":
        report.note("hidden_act gelu_erf is written as gelu, of which Google's code has the tanh form only: outputs "
                    "differ by about 1e-3")
        config["hidden_act"] = "gelu"
    else:
        config["hidden_act"] = activation_for("tensorflow", model.sizes["hidden_act"])
    if model.sizes["use_relative_positions"]:
        config |= {"use_relative_position": True, "max_relative_position": SINUSOIDAL_CLIP}
    absent = unused_parameters(model) & {POSITION_TABLE}
    names = [name for name in parameter_names(model.sizes, model.task, model.num_labels) if name.ours not in absent]
    values = give_weights(model, names, "tensorflow", report)
    _write_variables(values, directory / STEM)
    (directory / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    if model.vocab_file:
        shutil.copyfile(model.vocab_file, directory / "vocab.txt")
    if model.labels:
        report.note(f"names of the classes have no place in {CONFIG}: {', '.join(model.labels)}")
    return len(values)


def _sizes(config: dict, source: Path, has_positions: bool) -> dict:
    where = f"{source}: "
    relative = member(config, "use_relative_position", bool, where, not has_positions)
    if relative == has_positions:
        raise UserError(f"{source}: use_relative_position is {str(relative).lower()}, but the checkpoint "
                        f"{'has' if has_positions else 'lacks'} position_embeddings; correct the configuration")
    clip = config.get("max_relative_position", SINUSOIDAL_CLIP)
    if relative and clip != SINUSOIDAL_CLIP:
        raise UserError(f"{source}: max_relative_position {json_shown(clip)}, but the sinusoids here are clipped at "
                        f"{SINUSOIDAL_CLIP}; such a network cannot be converted")
    hidden_act = activation_from("tensorflow", member(config, "hidden_act", str, where, "gelu"), source)
    return read_sizes(config, hidden_act, relative, source)


def _task(values: dict[str, np.ndarray]) -> str:
    """The task whose head is there; of tasks with the same head the first, for which Google's code has it."""
    found = tasks_with_head_in(values, "tensorflow")
    return found[0].name if found else ENCODER


# ---------------------------------------------------------------- TensorFlow

def _tensorflow() -> ModuleType:
    # Read once, when TensorFlow is imported: only errors, and no remark about rounding.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    try:
        import tensorflow
    except ImportError as error:
        raise UserError("checkpoints of TensorFlow need TensorFlow: pip install -r requirements-tensorflow.txt"
                        ) from error
    return tensorflow


def _read_variables(prefix: Path) -> dict[str, np.ndarray]:
    tensorflow = _tensorflow()
    try:
        reader = tensorflow.train.load_checkpoint(str(prefix))
        names = sorted(reader.get_variable_to_shape_map())
        if "_CHECKPOINTABLE_OBJECT_GRAPH" in names:
            raise UserError(f"{prefix} is a checkpoint of TensorFlow 2; expected one of Google's BERT, in the format "
                            f"of TensorFlow 1 with names such as bert/embeddings/word_embeddings")
        values = {name: reader.get_tensor(name) for name in names}
    except UserError:
        raise
    except Exception as error:  # the reader raises errors of many kinds
        raise UserError(f"cannot read the checkpoint {prefix}: missing, damaged or cut off; expected "
                        f"{prefix.name}.index and all of its .data files") from error
    if "bert/embeddings/word_embeddings" not in values:
        raise UserError(f"{prefix}: no bert/embeddings/word_embeddings among its variables "
                        f"({', '.join(names[:3])}, …); expected a checkpoint of Google's BERT")
    return values


def _write_variables(values: dict[str, np.ndarray], prefix: Path) -> None:
    tensorflow = _tensorflow()
    names = sorted(values)
    try:
        tensorflow.raw_ops.SaveV2(prefix=str(prefix), tensor_names=names, shape_and_slices=[""] * len(names),
                                  tensors=[tensorflow.constant(values[name]) for name in names])
    except tensorflow.errors.OpError as error:
        raise OSError(error.message) from error
