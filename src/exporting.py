"""Export a fine-tuned network as one file that runs without this repository's code."""

import json
import os
from pathlib import Path

import mindspore as ms
from mindspore import Tensor, nn

from src.classification import ClassifierWithPrefix, read_labels
from src.errors import UserError
from src.files import atomic_files, make_output_dir
from src.finetuning import finetune_bert_config, load_finetuned
from src.model_utils.config import Config

INPUTS = ("input_ids", "input_mask", "token_type_id")  # in this order, int32 [batch, seq_length]
EXTENSIONS = {"MINDIR": ".mindir", "AIR": ".air"}


def export_model(config: Config, device_target: str) -> Path:
    """Write the network of `export_ckpt_file` as `export_file_name`; return the file.

    A `.json` file of the same name tells task, inputs, outputs and classes.

    Raises:
        UserError: an option is missing, the checkpoint does not fit, or the format needs another device.
    """
    file_format = config.file_format
    if not config.export_ckpt_file:
        raise UserError("export_ckpt_file is not set; give the fine-tuned checkpoint, or the directory of its training")
    if file_format == "AIR" and device_target != "Ascend":
        raise UserError(f"file_format: AIR can be exported on Ascend only, and device_target is {device_target}; use "
                        f"MINDIR")
    if file_format not in EXTENSIONS:
        raise UserError(f"file_format: {file_format} cannot be exported yet; use MINDIR")
    labels = read_labels(config.label_file_path, config.num_class) if config.label_file_path else None
    path = Path(config.export_file_name)
    if path.suffix != EXTENSIONS[file_format]:
        path = path.with_name(path.name + EXTENSIONS[file_format])
    make_output_dir(path.parent, "export_file_name")

    network, outputs = inference_network(config, device_target)
    load_finetuned(network, config.export_ckpt_file, config.description.removeprefix("run_"), "export_ckpt_file")
    batch_size = config.export_batch_size or None
    seq_length = config.bert_net_cfg.seq_length
    about = {"task": config.description, "format": file_format, "inputs": list(INPUTS),
             "input_shape": [batch_size, seq_length], "input_type": "int32", "outputs": outputs, "labels": labels}
    _write(network.set_train(False), path, file_format, (batch_size, seq_length), about)
    return path


def inference_network(config: Config, device_target: str) -> tuple[nn.Cell, list[str]]:
    """The network of the configured task without its loss, and the names of what it returns."""
    bert_config = finetune_bert_config(config, device_target)
    if config.description == "run_classifier":
        return ClassifierWithPrefix(bert_config, config.num_class), ["logits"]
    raise UserError(f"description: {config.description} cannot be exported")


def _write(network: nn.Cell, path: Path, file_format: str, shape: tuple[int | None, int], about: dict) -> None:
    """Export into a temporary directory, of which MindSpore closes the directory and the files to others."""
    inputs = [Tensor(shape=shape, dtype=ms.int32) if None in shape else ms.ops.zeros(shape, ms.int32) for _ in INPUTS]
    umask = os.umask(0)
    os.umask(umask)
    try:
        with atomic_files(path.parent) as directory:
            ms.export(network, *inputs, file_name=str(directory / path.stem), file_format=file_format)
            (directory / f"{path.stem}.json").write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n",
                                                         encoding="utf-8")
            for written in directory.iterdir():
                written.chmod(0o666 & ~umask)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; free space or give another export_file_name"
                        ) from error
