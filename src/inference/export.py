"""Export a network as one file that runs without this repository's code."""

import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Container
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from src.checkpoint_files import crc32
from src.cpu_kernels.library import plain_operators
from src.device_forms import built_for
from src.errors import UserError
from src.files import atomic_files, check_output, open_to_others
from src.inference.lite_config import BATCH_SIZES, SUFFIX, lite_config
from src.inference.onnx_export import INPUT_NAMES, INPUTS, write_onnx
from src.inference.quantization import PURPOSE, quantize
from src.initialization import undrawn_weights
from src.lstm import BidirectionalLSTM
from src.model_utils.config import Config
from src.onnx_graph import Head, onnx_package
from src.tasks.base import Task
from src.tasks.registry import task_type

EXTENSIONS = {"MINDIR": ".mindir", "AIR": ".air", "ONNX": ".onnx"}


# Is told a state of an ONNX model, before or after its quantization, and the file.
Score = Callable[[str, Path], None]


def export_model(config: Config, device_target: str, score: Score | None = None) -> Path:
    """Write the network of `export_ckpt_file` as `export_file_name`; return the file.

    A JSON file beside it tells task, inputs, outputs and classes: `name.json`, of an ONNX model `name.onnx.json`, since
    its inputs have other shapes than those of a MINDIR model of the same name.

    Args:
        config: of the task.
        device_target: what this process computes on; `export_target` may name another device for the model.
        score: called with the float32 model and with the int8 one, if the model is quantized.

    Raises:
        UserError: an option is missing, the checkpoint does not fit, or the format needs another device.
    """
    file_format = config.file_format
    if not config.export_ckpt_file:
        raise UserError("export_ckpt_file is not set; give the checkpoint, or the directory of its training")
    if file_format == "AIR" and device_target != "Ascend":
        raise UserError(f"file_format: AIR can be exported on Ascend only, and device_target is {device_target}; use "
                        f"MINDIR or ONNX")
    if config.quantization != "none" and file_format != "ONNX":
        raise UserError(f"quantization: found {config.quantization}, but file_format is {file_format}, and only ONNX "
                        f"models can be quantized; give --file_format ONNX, or leave quantization out")
    if file_format == "ONNX":
        onnx_package("onnx", "file_format ONNX")
    if config.quantization != "none":
        onnx_package("onnxruntime", PURPOSE)
    path = check_output(model_path(config.export_file_name, file_format), "export_file_name")
    target = _target(config, device_target)
    task = task_type(config.description).from_config(config, target)
    with built_for(target):
        with undrawn_weights(), plain_operators():  # that every MindSpore has
            network = task.inference_network()
        task.load(network, config.export_ckpt_file, "export_ckpt_file")
        if target == "Ascend" and task.untried_on_ascend:
            print(f"export_target: {task.untried_on_ascend}", file=sys.stderr, flush=True)
        return _write(task, network, path, target, score)


def _target(config: Config, device_target: str) -> str:
    """The device that the model is for."""
    asked_for, file_format = config.export_target, config.file_format
    if asked_for == "auto":
        return device_target
    if file_format == "ONNX":
        print(f"export_target: {asked_for} is not used, since an ONNX model is the same for every device",
              file=sys.stderr, flush=True)
        return device_target
    if file_format == "AIR" and asked_for != "Ascend":
        raise UserError(f"export_target: found {asked_for}, but file_format AIR is for Ascend only; use MINDIR or ONNX")
    return asked_for


def model_path(name: str, file_format: str) -> Path:
    """The file of a model, whose name may be given without its ending."""
    path = Path(name)
    extension = EXTENSIONS[file_format]
    return path if path.suffix == extension else path.with_name(path.name + extension)


def _write(task: Task, network: nn.Cell, path: Path, target: str, score: Score | None) -> Path:
    """Write the model and what describes it into a temporary directory first; return the model.

    A MINDIR model of more than 1 GB consists of `name_graph.mindir` and the weights in `name_variables/`.
    """
    config, head = task.config, task.head()
    is_onnx = config.file_format == "ONNX"
    shape = (None, None) if is_onnx else (config.export_batch_size or None, task.bert_config.seq_length)  # B, S
    names, kind = INPUT_NAMES[config.onnx_input_names if is_onnx else "original"]
    shapes: dict[str, tuple[int | None, ...]] = dict.fromkeys(names, shape)
    if head.further_inputs:  # positions of masked words
        count = None if is_onnx else config.max_predictions_per_seq
        shapes |= dict.fromkeys(head.further_inputs, (shape[0], count))
    about = _description(task, head, shapes, kind.lower())
    if not is_onnx:
        about |= _about_target(network, shapes, target)
    for_lite = config.file_format == "MINDIR" and target == "Ascend"
    with atomic_files(path.parent) as directory:
        words = task.model_folder(directory).with_files(task.model_files(), f"{path.stem}.")
        about["model"] = words.described()
        if is_onnx:
            write_onnx(directory / path.name, task.bert_config, _weights(network), head, about,
                       config.onnx_input_names)
            if config.quantization != "none":
                _quantize(directory / path.name, score)
        else:
            _write_with_mindspore(network, directory / path.stem, config.file_format, shapes)
        if not (directory / path.name).exists():
            path = path.with_name(f"{path.stem}_graph{path.suffix}")
        about_path = directory / f"{path.name if is_onnx else path.stem}.json"
        about = checksums(directory, path.name, words.files.values()) | about
        about_path.write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        if for_lite:
            (directory / path.with_suffix(SUFFIX).name).write_text(lite_config(shapes), encoding="utf-8")
        open_to_others(directory.rglob("*"))
        for written in directory.iterdir():
            if written.is_dir():  # it cannot replace one that has files
                shutil.rmtree(path.with_name(written.name), ignore_errors=True)
    if config.file_format == "MINDIR" and not for_lite:
        path.with_suffix(SUFFIX).unlink(missing_ok=True)  # of an earlier model of this name
    return path


def _quantize(model: Path, score: Score | None) -> None:
    if score:
        score("float32", model)
    quantize(model)
    if score:
        score("int8", model)


def checksums(directory: Path, model: str, others: Container[str] = ()) -> dict:
    """The checksum of a model in a directory, and those of the files that it cannot do without; see `verify_model`.

    Args:
        directory: where they lie.
        model: its name.
        others: names of files that do not belong to it.
    """
    further = [path for path in sorted(directory.rglob("*"))
               if path.is_file() and path.name != model and path.name not in others]
    of_further = {str(path.relative_to(directory)): crc32(path) for path in further}
    return {"crc32": crc32(directory / model)} | ({"further_files": of_further} if further else {})


def _description(task: Task, head: Head, shapes: dict[str, tuple[int | None, ...]], input_type: str) -> dict:
    config, sizes = task.config, task.bert_config
    about = {"task": config.description, "format": config.file_format, "inputs": list(shapes),
             "input_shape": list(shapes[INPUTS[0]]), "input_type": input_type, "outputs": list(head.outputs),
             "num_class": task.num_class, "labels": task.class_names, "vocab_size": sizes.vocab_size,
             "max_length": None if sizes.use_relative_positions else sizes.max_position_embeddings}
    if config.file_format == "ONNX" and head.further_outputs:
        about["further_outputs"] = list(head.further_outputs)
    if config.quantization != "none":
        about["quantization"] = config.quantization
    if config.file_format != "ONNX":
        about["config"] = portable_values(config)
    return about | {f"{name}_shape": list(shapes[name]) for name in head.further_inputs}


def _about_target(network: nn.Cell, shapes: dict[str, tuple[int | None, ...]], target: str) -> dict:
    about: dict = {"target": target}
    if any(isinstance(cell, BidirectionalLSTM) for _, cell in network.cells_and_names()):
        about["target_only"] = True  # the CPU would take the LSTM of a GPU, and read its weights in another order
    if target == "Ascend" and None in shapes[INPUTS[0]]:
        about["batch_sizes"] = list(BATCH_SIZES)
    return about


def portable_values(config: Config) -> dict:
    """What a configuration says of network and evaluation, without the names of files, which another place has not."""
    return {key: value for key, value in config.to_dict().items()
            if not key.endswith(("_path", "_file", "_file_name", "_dir", "_url")) and key != "optimizer_cfg"}


def _weights(network: nn.Cell) -> dict[str, np.ndarray]:
    """Parameters by the names that they have beside the encoder `bert`, see `write_onnx`."""
    table = "bert.bert_embedding_lookup.embedding_table"
    prefix = next(name.removesuffix(table) for name in network.parameters_dict() if name.endswith(table))
    return {parameter.name.removeprefix(prefix): parameter.asnumpy().astype(np.float32, copy=False)
            for parameter in network.get_parameters()}


def _write_with_mindspore(network: nn.Cell, path: Path, file_format: str,
                          shapes: dict[str, tuple[int | None, ...]]) -> None:
    inputs = [Tensor(shape=shape, dtype=ms.int32) if None in shape else ops.zeros(shape, ms.int32)
              for shape in shapes.values()]
    # MindSpore refuses spaces and most scripts of the world in a name, but not in what a link leads to.
    with tempfile.TemporaryDirectory() as temporary:
        link = Path(temporary) / "link"
        link.symlink_to(path.parent.resolve())
        ms.export(network.set_train(False), *inputs, file_name=str(link / path.name), file_format=file_format)
