"""Export a network as one file that runs without this repository's code."""

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from src.bert_for_pre_training import BertPreTraining
from src.bert_model import BertConfig
from src.checkpoint import PREFIX
from src.cpu_kernels.library import plain_operators
from src.errors import UserError
from src.files import atomic_files, make_output_dir
from src.finetune_task import FinetuneTask
from src.finetuning import finetune_bert_config, load_finetuned
from src.model_utils.config import Config
from src.onnx_export import INPUTS, Head, classifier_head, ner_head, pretraining_head, squad_head, write_onnx
from src.onnx_graph import onnx_package
from src.pretraining import bert_config_of
from src.tasks import task_type

EXTENSIONS = {"MINDIR": ".mindir", "AIR": ".air", "ONNX": ".onnx"}


class Exported(NamedTuple):
    """A network without its loss, and what its model consists of."""

    network: nn.Cell
    bert_config: BertConfig
    head: Head
    checkpoint_name: str  # begins the names of its checkpoints
    num_class: int | None = None
    labels: list[str] | None = None


def export_model(config: Config, device_target: str) -> Path:
    """Write the network of `export_ckpt_file` as `export_file_name`; return the file.

    A JSON file beside it tells task, inputs, outputs and classes: `name.json`, of an ONNX model `name.onnx.json`, since
    its inputs have other shapes than those of a MINDIR model of the same name.

    Raises:
        UserError: an option is missing, the checkpoint does not fit, or the format needs another device.
    """
    file_format = config.file_format
    if not config.export_ckpt_file:
        raise UserError("export_ckpt_file is not set; give the checkpoint, or the directory of its training")
    if file_format == "AIR" and device_target != "Ascend":
        raise UserError(f"file_format: AIR can be exported on Ascend only, and device_target is {device_target}; use "
                        f"MINDIR or ONNX")
    if file_format == "ONNX":
        onnx_package("onnx", "file_format ONNX")
    path = model_path(config.export_file_name, file_format)
    exported = network_to_export(config, device_target)
    make_output_dir(path.parent, "export_file_name")
    load_finetuned(exported.network, config.export_ckpt_file, exported.checkpoint_name, "export_ckpt_file")
    return _write(exported, config, path)


def model_path(name: str, file_format: str) -> Path:
    """The file of a model, whose name may be given without its ending."""
    path = Path(name)
    extension = EXTENSIONS[file_format]
    return path if path.suffix == extension else path.with_name(path.name + extension)


def network_to_export(config: Config, device_target: str) -> Exported:
    """The network that the configuration describes, of operators that every MindSpore has."""
    with plain_operators():
        return _network_to_export(config, device_target)


def _network_to_export(config: Config, device_target: str) -> Exported:
    if config.description == "run_pretrain":
        bert_config = bert_config_of(config, device_target)
        return Exported(BertPreTraining(bert_config, False), bert_config, pretraining_head(bert_config), PREFIX)
    bert_config = finetune_bert_config(config, device_target)
    task = task_type(config.description)(config, bert_config)
    return Exported(task.evaluation_network(), bert_config, head_of(task), task.name, *classes_of(task))


def head_of(task: FinetuneTask) -> Head:
    """What follows the encoder in a task's network."""
    num_class, _ = classes_of(task)
    if task.name == "squad":
        return squad_head()
    if task.name == "ner":
        return ner_head(num_class, task.config.use_crf == "true", task.config.with_lstm == "true")
    return classifier_head(num_class)


def classes_of(task: FinetuneTask) -> tuple[int | None, list[str] | None]:
    """Number and names of a task's classes or tags; None where it has none, or no names for them."""
    if task.name == "ner":
        return len(task.labels.tags), list(task.labels.tags)
    return (task.config.num_class, task.labels) if task.name == "classifier" else (None, None)


def check_classes(task: FinetuneTask, about: Mapping, path: Path) -> None:
    """Make sure that a task has the classes of an exported model.

    Args:
        about: what the export wrote about the model.
        path: the model.

    Raises:
        UserError: it has another number of classes, or other names for them.
    """
    num_class, labels = classes_of(task)
    if about["num_class"] != num_class:
        raise UserError(f"{path} has {about['num_class']} classes, but the configuration has {num_class}; give the "
                        f"num_class or label_file_path that the network was trained with")
    if labels and about["labels"] and list(labels) != about["labels"]:
        there, here = next(pair for pair in zip(about["labels"], labels, strict=True) if pair[0] != pair[1])
        raise UserError(f"label_file_path: its labels are not those of {path}, such as {here!r} in place of {there!r}; "
                        f"give the label file that the network was trained with")


def _write(exported: Exported, config: Config, path: Path) -> Path:
    """Write model and description into a temporary directory first; return the model.

    A MINDIR model of more than 1 GB consists of `name_graph.mindir` and the weights in `name_variables/`.
    """
    is_onnx = config.file_format == "ONNX"
    shape = (None, None) if is_onnx else (config.export_batch_size or None, exported.bert_config.seq_length)  # B, S
    shapes = dict.fromkeys(INPUTS, shape)
    if exported.head.further_inputs:  # positions of masked words
        count = None if is_onnx else config.max_predictions_per_seq
        shapes |= dict.fromkeys(exported.head.further_inputs, (shape[0], count))
    about = _description(exported, config, shapes)
    try:
        with atomic_files(path.parent) as directory:
            if is_onnx:
                weights = _weights(exported.network)
                write_onnx(directory / path.name, exported.bert_config, weights, exported.head, about)
            else:
                _write_with_mindspore(exported.network, directory / path.stem, config.file_format, shapes)
            if not (directory / path.name).exists():
                path = path.with_name(f"{path.stem}_graph{path.suffix}")
            about_path = directory / f"{path.name if is_onnx else path.stem}.json"
            about_path.write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            _open_to_others(directory)
            for written in directory.iterdir():
                if written.is_dir():  # it cannot replace one that has files
                    shutil.rmtree(path.with_name(written.name), ignore_errors=True)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; free space or give another export_file_name"
                        ) from error
    return path


def _open_to_others(directory: Path) -> None:
    """Give everything in the directory ordinary permissions, for MindSpore takes them away."""
    umask = os.umask(0)
    os.umask(umask)
    for written in directory.rglob("*"):
        written.chmod((0o777 if written.is_dir() else 0o666) & ~umask)


def _description(exported: Exported, config: Config, shapes: dict[str, tuple[int | None, ...]]) -> dict:
    sizes = exported.bert_config
    about = {"task": config.description, "format": config.file_format, "inputs": list(shapes),
             "input_shape": list(shapes[INPUTS[0]]), "input_type": "int32", "outputs": list(exported.head.outputs),
             "num_class": exported.num_class, "labels": exported.labels, "vocab_size": sizes.vocab_size,
             "max_length": None if sizes.use_relative_positions else sizes.max_position_embeddings}
    if config.file_format == "ONNX" and exported.head.further_outputs:
        about["further_outputs"] = list(exported.head.further_outputs)
    if config.file_format != "ONNX":
        about["config"] = portable_values(config)
    return about | {f"{name}_shape": list(shapes[name]) for name in exported.head.further_inputs}


def portable_values(config: Config) -> dict:
    """What a configuration says of network and evaluation, without the names of files, which another place has not."""
    return {key: value for key, value in config.to_dict().items()
            if not key.endswith(("_path", "_file", "_file_name", "_dir", "_url")) and key != "optimizer_cfg"}


def _weights(network: nn.Cell) -> dict[str, np.ndarray]:
    """Parameters by the names that they have inside of a `src.tasks` network, see `write_onnx`."""
    prefix = "" if isinstance(network, BertPreTraining) else "bert."
    return {parameter.name.removeprefix(prefix): parameter.asnumpy().astype(np.float32, copy=False)
            for parameter in network.get_parameters()}


def _write_with_mindspore(network: nn.Cell, path: Path, file_format: str,
                          shapes: dict[str, tuple[int | None, ...]]) -> None:
    inputs = [Tensor(shape=shape, dtype=ms.int32) if None in shape else ms.ops.zeros(shape, ms.int32)
              for shape in shapes.values()]
    # MindSpore refuses spaces and most scripts of the world in a name, but not in what a link leads to.
    with tempfile.TemporaryDirectory() as temporary:
        link = Path(temporary) / "link"
        link.symlink_to(path.parent.resolve())
        ms.export(network.set_train(False), *inputs, file_name=str(link / path.name), file_format=file_format)
