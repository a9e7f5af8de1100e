"""Checkpoints of this repository: `.ckpt` or `.safetensors` with the YAML file of their sizes."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from src.bert_model import BertConfig
from src.errors import UserError
from src.exchange.model import SIZES, Model, Report, check_depth, complete, take_weights
from src.exchange.names import (
    ENCODER,
    WORD_TABLE,
    heads,
    num_classes_in,
    parameter_names,
    relative_table_names,
    tasks_with_head_in,
)
from src.files import atomic_write
from src.model_utils.config import Config, load_config
from src.tasks.base import Task
from src.tasks.finetune_task import FinetuneTask
from src.tasks.registry import PRETRAINING, all_tasks, load_task_config, task_type
from src.weights import find_weights, is_optimizer_name, read_weights, write_weights

# ---------------------------------------------------------------- reading

def read(path: Path, task: str | None, options: Sequence[str], report: Report) -> Model:
    """Read a checkpoint, its sizes from the configuration that it was trained with.

    Args:
        path: a `.ckpt` or `.safetensors` file, or a directory of checkpoints.
        task: which head it has; None to see from the file.
        options: command-line options of the script that trained it, such as `--config_path`.
        report: receives what was left out.

    Raises:
        UserError: the file or the configuration cannot be read, or they do not belong together.
    """
    path = _weights_file(path, task)
    values = _full_names(read_weights(path), path)
    optimizer = [name for name in values if is_optimizer_name(name)]
    if optimizer:
        report.note(f"optimizer state is left out: {len(optimizer)} entries")
    values = {name: value for name, value in values.items() if name not in set(optimizer)}
    task, config = _task_and_config(values, task, options)
    sizes = _sizes(task, config)
    model = Model(task, sizes, {}, num_classes_in(values, "ours"))
    _read_words(model, config, path, report)
    if any(name.startswith("bert.lstm.") for name in values):
        raise UserError(f"{path} has an LSTM between encoder and classifier, which no other framework's BERT has; it "
                        f"cannot be converted")
    check_depth(sizes, values, path)
    names = parameter_names(sizes, task, model.num_labels)
    model.weights = take_weights(values, names, "ours", sizes, path, report)
    complete(model, names, path, report)
    if model.positions == "learned":
        for name in set(relative_table_names(sizes["num_hidden_layers"])) & set(values):
            model.weights[name] = values.pop(name)
    if any("relative_positions" in name for name in values):
        raise UserError(f"{path} has learned relative positions, but its configuration says {model.positions} ones; "
                        f"give the configuration that it was trained with")
    report.add(f"left out: no counterpart in the network for {task}", list(values))
    return model


def _weights_file(path: Path, task: str | None) -> Path:
    """The file that a directory of checkpoints stands for."""
    if not path.is_dir():
        return path
    prefixes = [_task_of(task).checkpoint_prefix()] if task else [known.checkpoint_prefix() for known in all_tasks()]
    found = [prefix for prefix in prefixes if next(path.glob(f"{prefix}[-_]*.ckpt"), None)]
    if len(found) != 1:
        raise UserError(f"{path}: {'checkpoints of several tasks' if found else 'no checkpoint'} in this directory; "
                        f"give a .ckpt or .safetensors file")
    return find_weights(path, found[0])


def _full_names(values: dict[str, np.ndarray], path: Path) -> dict[str, np.ndarray]:
    """Bring the names of a bare encoder, or of a network without its loss, to those of the whole."""
    for missing in ("", "bert.", "bert.bert."):
        if WORD_TABLE.removeprefix(missing) in values:
            return {name if is_optimizer_name(name) else missing + name: value for name, value in values.items()}
    if any(name.endswith("embeddings.word_embeddings.weight") for name in values):
        raise UserError(f"{path} is a file of transformers; give the directory that holds it and its config.json")
    raise UserError(f"{path}: no {WORD_TABLE} among its parameters ({', '.join(list(values)[:3])}, …); expected a "
                    f"checkpoint of this repository")


def _task_and_config(values: dict[str, np.ndarray], task: str | None, options: Sequence[str]) -> tuple[str, Config]:
    """The name of the task, and the configuration; of tasks with the same head the one that the options are of."""
    what = "Convert a checkpoint."
    candidates = [] if task else tasks_with_head_in(values, "ours")
    if len(candidates) > 1:
        config = load_task_config(what, options)
        return task_type(config.description).name, config
    task = task or (candidates[0].name if candidates else ENCODER)
    if issubclass(_task_of(task), FinetuneTask):
        return task, load_task_config(what, [*options, "--description", _task_of(task).description])
    return task, load_config(what, _task_of(task).config_file, options)


def _task_of(name: str) -> type[Task]:
    """The task of this name; a bare encoder has the configuration and the file names of pre-training."""
    return heads()[name] or task_type(PRETRAINING)


def _sizes(task: str, config: Config) -> dict[str, Any]:
    group = config[_task_of(task).sizes_group(config)].to_dict()
    return {key: group[key] for key in (*SIZES, "hidden_act", "use_relative_positions", "relative_position_kind")}


def _read_words(model: Model, config: Config, path: Path, report: Report) -> None:
    """Vocabulary and names of the classes: those that the configuration names, or else a vocabulary beside the file."""
    if config.get("vocab_file_path"):
        model.vocab_file = Path(config.vocab_file_path)
        model.do_lower_case = config.get("do_lower_case")
    elif path.with_name("vocab.txt").is_file():
        model.vocab_file = path.with_name("vocab.txt")
    if not model.has_classes:
        return
    if config.get("label_file_path"):
        model.labels = _task_of(model.task).read_class_names(config.label_file_path, model.num_labels)
        if len(model.labels) != model.num_labels:
            raise UserError(f"label_file_path: {config.label_file_path} makes {len(model.labels)} classes, the "
                            f"checkpoint has {model.num_labels}; give the label file that it was trained with")
    elif model.num_labels > 1:
        report.note("the classes get numbers for names: give --label_file_path for their names")


# ---------------------------------------------------------------- writing

def write(model: Model, directory: Path, home: Path, file_format: str, seq_length: int | None, report: Report) -> int:
    """Write a checkpoint and the YAML files that the scripts here take as `--config_path`; return the parameter count.

    Args:
        model: what to write.
        directory: where to write it.
        home: where it will lie, for the paths in the YAML files.
        file_format: "ckpt" or "safetensors".
        seq_length: tokens of a sequence, which belongs to the data; None for what is usual.
        report: receives what was left out.
    """
    task = _task_of(model.task)
    weights = f"{task.checkpoint_prefix()}.{file_format}"
    write_weights(model.weights, directory / weights)
    usual = load_config("", task.config_file, [])
    seq_length = seq_length or min(usual[task.sizes_group(usual)].seq_length, model.sizes["max_position_embeddings"])
    sizes = {"seq_length": seq_length, **model.sizes}
    BertConfig(**sizes)  # refuses a seq_length that does not fit
    words = {}
    if model.vocab_file:
        shutil.copyfile(model.vocab_file, directory / "vocab.txt")
        words["vocab_file_path"] = str(home / "vocab.txt")
        if model.do_lower_case is not None:
            words["do_lower_case"] = str(model.do_lower_case).lower()
    if _write_labels(model, directory / "labels.txt", report):
        words["label_file_path"] = str(home / "labels.txt")
    for name, values in task.converted_configs(str(home / weights), model.num_labels, words, sizes).items():
        _write_yaml(directory / name, {"device_target": "auto", **values})
    return len(model.weights)


def _write_labels(model: Model, path: Path, report: Report) -> bool:
    """Write the label file of the task, if the classes have names that it can hold."""
    if model.labels is None:
        return False
    try:
        lines = _task_of(model.task).label_lines(model.labels)
    except UserError as error:
        report.note(str(error))
        return False
    with atomic_write(path) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return True


def _write_yaml(path: Path, values: dict) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(yaml.safe_dump(values, allow_unicode=True, sort_keys=False), encoding="utf-8")
