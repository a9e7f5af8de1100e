"""Checkpoints of this repository: `.ckpt` or `.safetensors` with the YAML file of their sizes."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from src.bert_model import BertConfig
from src.errors import UserError
from src.exchange.model import SIZES, Model, Report, complete, take_weights
from src.exchange.names import WORD_TABLE, parameter_names, relative_table_names
from src.files import atomic_write
from src.model_utils.config import Config, load_config, load_task_config, select_network
from src.tasks.classifier.task import read_labels
from src.tasks.ner.labels import LabelScheme
from src.weights import find_weights, is_optimizer_name, read_weights, write_weights

STEMS = {"encoder": "checkpoint_bert", "pretrain": "checkpoint_bert", "classifier": "classifier", "ner": "ner",
         "squad": "squad"}
_HEADS = {"bert.dense1.weight": "squad", "bert.cls1.dense.weight": "pretrain"}
_SEQ_LENGTHS = {"squad": 384}  # what the task files have; 128 elsewhere


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
    sizes = _sizes(config)
    head = values.get("bert.dense_1.weight")
    model = Model(task, sizes, {}, 2 if head is None else len(head))
    _read_words(model, config, path, report)
    if task == "ner" and any(name.startswith("bert.lstm.") for name in values):
        raise UserError(f"{path} has an LSTM between encoder and classifier, which no other framework's BERT has; it "
                        f"cannot be converted")
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
    prefixes = [STEMS[task]] if task else sorted(set(STEMS.values()))
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
    task = task or next((task for name, task in _HEADS.items() if name in values), None)
    what = "Convert a checkpoint."
    if task is None and "bert.dense_1.weight" in values:  # of a classifier or of entity recognition
        config = load_task_config(what, options)
        return config.description.removeprefix("run_"), config
    task = task or "encoder"
    if task in ("pretrain", "encoder"):
        return task, load_config(what, "pretrain_config.yaml", options)
    return task, load_task_config(what, [*options, "--description", f"run_{task}"])


def _sizes(config: Config) -> dict[str, Any]:
    group = config.bert_net_cfg.to_dict() if "bert_net_cfg" in config else select_network(config)[0]
    return {key: group[key] for key in (*SIZES, "hidden_act", "use_relative_positions", "relative_position_kind")}


def _read_words(model: Model, config: Config, path: Path, report: Report) -> None:
    """Vocabulary and names of the classes: those that the configuration names, or else a vocabulary beside the file."""
    if config.get("vocab_file_path"):
        model.vocab_file = Path(config.vocab_file_path)
        model.do_lower_case = config.do_lower_case == "true" if "do_lower_case" in config else None
    elif path.with_name("vocab.txt").is_file():
        model.vocab_file = path.with_name("vocab.txt")
    if model.task in ("classifier", "ner") and config.get("label_file_path"):
        if model.task == "classifier":
            model.labels = read_labels(config.label_file_path, model.num_labels)
        else:
            tags = LabelScheme.from_file(config.label_file_path).tags
            states = ["<START>", "<STOP>"] if model.num_labels == len(tags) + 2 else []
            model.labels = [*tags, *states]
        if len(model.labels) != model.num_labels:
            raise UserError(f"label_file_path: {config.label_file_path} makes {len(model.labels)} classes, the "
                            f"checkpoint has {model.num_labels}; give the label file that it was trained with")
    elif model.task in ("classifier", "ner") and model.num_labels > 1:
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
    weights = f"{STEMS[model.task]}.{file_format}"
    write_weights(model.weights, directory / weights)
    longest = model.sizes["max_position_embeddings"]
    group = {"seq_length": seq_length or min(_SEQ_LENGTHS.get(model.task, 128), longest), **model.sizes}
    BertConfig(**group)  # refuses a seq_length that does not fit
    paths = {}
    if model.vocab_file:
        shutil.copyfile(model.vocab_file, directory / "vocab.txt")
        paths["vocab_file_path"] = str(home / "vocab.txt")
        if model.do_lower_case is not None:
            paths["do_lower_case"] = str(model.do_lower_case).lower()
    if _write_labels(model, directory / "labels.txt", report):
        paths["label_file_path"] = str(home / "labels.txt")
    checkpoint = str(home / weights)
    if model.task in ("encoder", "pretrain"):
        _write_yaml(directory / "pretrain.yaml", {
            "bert_network": "base", "load_checkpoint_path": checkpoint, "eval_ckpt": checkpoint,
            "base_net_cfg": group})
        _write_yaml(directory / "finetune.yaml", {
            "load_pretrain_checkpoint_path": checkpoint, **paths, "bert_net_cfg": group})
        return len(model.weights)
    head = {"num_class": model.num_labels} if model.task == "classifier" else {}
    _write_yaml(directory / f"{model.task}.yaml", {
        "description": f"run_{model.task}", **head, "load_finetune_checkpoint_path": checkpoint,
        "export_ckpt_file": checkpoint, **paths, "bert_net_cfg": group})
    return len(model.weights)


def _write_labels(model: Model, path: Path, report: Report) -> bool:
    """Write the label file of the task, if the classes have names that it can hold."""
    if model.labels is None:
        return False
    lines = model.labels
    if model.task == "ner":
        lines = _types(model.labels)
        if lines is None:
            report.note(f"the tags {', '.join(model.labels)} are not O followed by S, B, M and E of each type, which "
                        f"run_ner.py and predict.py expect: no label file; the network's outputs are in this order")
            return False
    elif any("\n" in label or not label.strip() for label in lines):
        report.note("some names of classes are empty or take several lines: no label file")
        return False
    with atomic_write(path) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return True


def _types(tags: Sequence[str]) -> list[str] | None:
    """The entity types whose tags these are in our order, however the tags are spelt; None when they are not."""
    types = [tag[2:] for tag in tags[1::4]]
    try:
        ours = LabelScheme(types).tags
    except UserError:
        return None
    spelt = [tag if tag == "O" else {"I": "M"}.get(tag[0], tag[0]) + "_" + tag[2:] for tag in tags]
    return types if spelt == ours else None


def _write_yaml(path: Path, values: dict) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(yaml.safe_dump(values, allow_unicode=True, sort_keys=False), encoding="utf-8")
