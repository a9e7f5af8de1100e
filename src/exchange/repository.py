"""Checkpoints of this repository: `.ckpt` or `.safetensors` with the YAML file of their sizes."""

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
from src.files import write_text
from src.model_folder import LABELS, VOCABULARY, ModelFolder
from src.model_utils.config import Config, WeightsOption, load_config, sizes_group
from src.tasks.base import Task
from src.tasks.finetune_task import FinetuneTask
from src.tasks.model_card import Training, write_card
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
    folder = ModelFolder.find(path)
    path = _weights_file(path, task, folder)
    values = _full_names(read_weights(path), path)
    optimizer = [name for name in values if is_optimizer_name(name)]
    if optimizer:
        report.note(f"optimizer state is left out: {len(optimizer)} entries")
    values = {name: value for name, value in values.items() if name not in set(optimizer)}
    task, config = _task_and_config(values, task, options, folder)
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


def _weights_file(path: Path, task: str | None, folder: ModelFolder | None) -> Path:
    """The file that a directory of checkpoints stands for."""
    if folder or not path.is_dir():
        return find_weights(path)
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


def _task_and_config(values: dict[str, np.ndarray], task: str | None, options: Sequence[str],
                     folder: ModelFolder | None) -> tuple[str, Config]:
    """The name of the task, and the configuration; of tasks with the same head the one that the options are of."""
    what = "Convert a checkpoint."
    candidates = [] if task else tasks_with_head_in(values, "ours")
    if folder and not task:
        of_folder = task_type(folder.task)
        option = of_folder.weights_option
        weights = WeightsOption(lambda _: option, lambda _: folder)
        config = load_config(what, of_folder.config_file, [*options, f"--{option}", str(folder.weights)], weights)
        return (of_folder.name if candidates else ENCODER), config
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
    group = config[sizes_group(config)].to_dict()
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
    """Write a model folder, with YAML files that the scripts here take as `--config_path`; return the parameter count.

    Args:
        model: what to write.
        directory: where to write it.
        home: where it will lie, for its card.
        file_format: "ckpt" or "safetensors".
        seq_length: tokens of a sequence, which belongs to the data; None for what is usual.
        report: receives what was left out.
    """
    task_class = _task_of(model.task)
    weights = f"{task_class.checkpoint_prefix()}.{file_format}"
    write_weights(model.weights, directory / weights, {})
    usual = load_config("", task_class.config_file, [])
    seq_length = seq_length or min(usual[sizes_group(usual)].seq_length, model.sizes["max_position_embeddings"])
    sizes = {"seq_length": seq_length, **model.sizes}
    BertConfig(**sizes)  # refuses a seq_length that does not fit
    options = {"num_class": model.num_labels, "do_lower_case": model.do_lower_case}
    options = {key: value for key, value in options.items() if key in task_class.model_options and value is not None}
    folder = task_class.folder_of(directory, sizes, options).write(_files(model, report))
    words = dict(folder.files)
    if "do_lower_case" in options:
        words["do_lower_case"] = str(model.do_lower_case).lower()
    for name, values in task_class.converted_configs(weights, model.num_labels, words, sizes).items():
        values = {"device_target": "auto", **values}
        write_text(directory / name, yaml.safe_dump(values, allow_unicode=True, sort_keys=False))
    write_card(task_class, folder, Training({"converted": "from another framework"}), home)
    return len(model.weights)


def _files(model: Model, report: Report) -> dict[str, Path | Sequence[str]]:
    """Vocabulary and label file, as far as they are known; the classes may have names that no label file can hold."""
    files: dict[str, Path | Sequence[str]] = {}
    if model.vocab_file:
        files[VOCABULARY] = model.vocab_file
    if model.labels is not None:
        try:
            files[LABELS] = _task_of(model.task).label_lines(model.labels)
        except UserError as error:
            report.note(str(error))
    return files
