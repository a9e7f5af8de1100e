"""Models that export.py wrote, in the place of the networks that they were made from."""

from collections.abc import Mapping
from itertools import zip_longest
from pathlib import Path

import mindspore as ms
from mindspore import Tensor, nn

from src.errors import UserError, quoted
from src.inference.description import check_task, read_description
from src.inference.onnx_inference import OnnxNetwork, verify_model
from src.model_utils.device_adapter import target_of
from src.tasks.base import Task
from src.tasks.prediction import InferenceModel


class MindirNetwork:
    """A MINDIR model in the place of the network that it was made from.

    Args:
        path: the model, with its description beside it.
        task: the `description` that it must have been exported for.

    Raises:
        UserError: the file is missing, damaged, of another task, or for another device only.
    """

    def __init__(self, path: Path, task: str) -> None:
        if not path.is_file():
            raise UserError(f"--model: there is no MINDIR model {path}; make it with export.py, or give another name")
        self.about = read_description(path.with_suffix(".json"), "the description that export.py writes beside the "
                                                                  "model; export it anew and keep the two together")
        check_task(self.about, task, path, "--model")
        device, target = ms.get_context("device_target"), self.about.get("target")
        if self.about.get("target_only") and target != device:
            raise UserError(f"--model: {path} has a kernel for {target} only, and this is a {device}; export it with "
                            f"--export_target {device}")
        verify_model(path, self.about, "--model")
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
        return self.graph(*columns)  # pyright: ignore[reportReturnType] - GraphCell does not declare its result


def check_classes(task: Task, about: Mapping, path: Path) -> None:
    """Make sure that a task has the classes of an exported model.

    Args:
        about: what the export wrote about the model.
        path: the model.

    Raises:
        UserError: it has another number of classes, or other names for them.
    """
    labels = task.class_names
    if about["num_class"] != task.num_class:
        raise UserError(f"{path} has {about['num_class']} classes, but the configuration has {task.num_class}; give "
                        f"the num_class or label_file_path that the network was trained with")
    if labels and about["labels"] and list(labels) != about["labels"]:
        there, here = next(pair for pair in zip_longest(about["labels"], labels) if pair[0] != pair[1])
        raise UserError(f"label_file_path: its labels are not those of {path}, such as {quoted(here)} in place of "
                        f"{quoted(there)}; give the label file that the network was trained with")


def open_exported(task: Task, model: Path) -> InferenceModel:
    """A `.onnx` or `.mindir` file to predict with.

    Raises:
        UserError: it is missing, damaged, or does not fit the configuration.
    """
    if task.why_no_model:
        raise UserError(f"--model: {task.why_no_model}; give --{task.weights_option}")
    if model.suffix not in (".onnx", ".mindir"):
        raise UserError(f"--model: {model} is neither .onnx nor .mindir; give a model that export.py wrote")
    is_onnx = model.suffix == ".onnx"
    exported = (OnnxNetwork(model, task.description, target_of(task.config) == "CPU") if is_onnx
                else MindirNetwork(model, task.description))
    check_classes(task, exported.about, model)
    batch_size, length = exported.about["input_shape"]
    seq_length = task.bert_config.seq_length
    if not is_onnx and length != seq_length:
        raise UserError(f"--model: {model} has sequences of {length} tokens, but seq_length is {seq_length}; give the "
                        f"configuration that it was exported with")
    return InferenceModel(exported, batch_size, length)
