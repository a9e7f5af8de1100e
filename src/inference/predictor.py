"""The predictor of a configuration: its task, and the checkpoint or exported model that it computes with."""

from pathlib import Path

from src.errors import UserError
from src.initialization import undrawn_weights
from src.model_utils.config import Config
from src.model_utils.device_adapter import target_of
from src.tasks.base import Task
from src.tasks.prediction import InferenceModel, Predictor
from src.tasks.registry import task_type


def create_predictor(config: Config, model: Path | None = None) -> Predictor:
    """The predictor of the task that the configuration describes.

    Args:
        config: of a fine-tuning task, or of pre-training (words for [MASK]).
        model: an exported `.onnx` or `.mindir` file to compute with in place of the checkpoint.

    Raises:
        UserError: checkpoint, model, vocabulary or labels are missing or do not fit.
    """
    task = task_type(config.description).from_config(config, target_of(config))
    return task.predictor(lambda: _open_checkpoint(task) if model is None else _open_exported(task, model))


def _open_checkpoint(task: Task) -> InferenceModel:
    option = task.weights_option
    if not task.config[option]:
        exported = "" if task.why_no_model else ", or an exported model with --model"
        raise UserError(f"{option} is not set; give the checkpoint or its directory{exported}")
    with undrawn_weights():
        network = task.inference_network().set_train(False)
    task.load(network, task.config[option], option)
    return InferenceModel(network)


def _open_exported(task: Task, model: Path) -> InferenceModel:
    from src.inference.exported import open_exported  # only such models need what reads them

    return open_exported(task, model)
