"""What prediction computes with: a checkpoint, or a model that export.py wrote."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import mindspore as ms
from mindspore import Tensor, nn

from src.bert_model import BertConfig
from src.errors import UserError
from src.exporting import check_classes
from src.finetuning import load_finetuned
from src.initialization import undrawn_weights
from src.model_utils.config import Config
from src.onnx_inference import OnnxNetwork
from src.tasks import task_type


class InferenceModel(NamedTuple):
    """A network to call with input columns [B,S], and the sizes that it is bound to, None where it takes any."""

    network: Callable[..., Tensor | tuple[Tensor, ...]]
    batch_size: int | None = None
    length: int | None = None


class MindirNetwork:
    """A MINDIR model in the place of the network that it was made from.

    Args:
        path: the model, with its description beside it.
        task: the `description` that it must have been exported for.

    Raises:
        UserError: the file is missing, damaged or of another task.
    """

    def __init__(self, path: Path, task: str) -> None:
        if not path.is_file():
            raise UserError(f"--model: there is no MINDIR model {path}; make it with export.py, or give another name")
        about_path = path.with_suffix(".json")
        try:
            self.about = json.loads(about_path.read_text(encoding="utf-8"))
            found = self.about["task"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"--model: {about_path}, which describes {path}, is missing or damaged; export the model "
                            f"anew and keep the two together") from error
        if found != task:
            raise UserError(f"--model: {path} is of {found}, but the configuration is of {task}; give the "
                            f"configuration and the model of one task")
        try:
            self.graph = nn.GraphCell(ms.load(str(path)))
            shape = self.about["input_shape"]
            # Without this every batch size has a graph of its own, and a second one fails where a CRF's loop is in it.
            self.graph.set_inputs(*[Tensor(shape=shape, dtype=ms.int32)] * len(self.about["inputs"]))
        except Exception as error:  # damaged bytes lead to errors of any kind
            raise UserError(f"--model: cannot read {path}: damaged, cut off, or not a MINDIR model; export it anew"
                            ) from error

    def __call__(self, *columns: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Map input columns to the outputs of the network."""
        return self.graph(*columns)


def open_model(config: Config, bert_config: BertConfig, name: str, network: Callable[[], nn.Cell],
               model: Path | None) -> InferenceModel:
    """What to predict with.

    Args:
        config: of a fine-tuning task.
        bert_config: sizes of its encoder.
        name: of the task, begins the names of its checkpoints.
        network: makes the network for a checkpoint.
        model: a `.onnx` or `.mindir` file of export.py; None takes `load_finetune_checkpoint_path`.

    Raises:
        UserError: checkpoint or model are missing, damaged, or do not fit the configuration.
    """
    if model is None:
        if not config.load_finetune_checkpoint_path:
            raise UserError("load_finetune_checkpoint_path is not set; give the fine-tuned checkpoint or its "
                            "directory, or an exported model with --model")
        with undrawn_weights():
            loaded = network().set_train(False)
        load_finetuned(loaded, config.load_finetune_checkpoint_path, name)
        return InferenceModel(loaded)
    if model.suffix not in (".onnx", ".mindir"):
        raise UserError(f"--model: {model} is neither .onnx nor .mindir; give a model that export.py wrote")
    is_onnx = model.suffix == ".onnx"
    exported = (OnnxNetwork(model, config.description, config.device_target == "CPU") if is_onnx
                else MindirNetwork(model, config.description))
    check_classes(task_type(config.description)(config, bert_config), exported.about, model)
    batch_size, length = exported.about["input_shape"]
    if not is_onnx and length != bert_config.seq_length:
        raise UserError(f"--model: {model} has sequences of {length} tokens, but seq_length is "
                        f"{bert_config.seq_length}; give the configuration that it was exported with")
    return InferenceModel(exported, batch_size, length)
