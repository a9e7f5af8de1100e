"""Predictors: of a configuration, and of whatever holds a model."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from src.errors import UserError
from src.initialization import undrawn_weights
from src.model_folder import EXPORTED, ModelFolder
from src.model_utils.config import Config, WeightsOption
from src.model_utils.device_adapter import set_up_device, target_of
from src.tasks.base import Task
from src.tasks.prediction import InferenceModel, Predictor
from src.tasks.registry import load_task_config, task_type

WHAT = "Predict on new text with a fine-tuned network."


def load_predictor(path: str | Path, **options: object) -> "LoadedPredictor":
    """Load a model to predict with: `load_predictor("folder")(["A sentence."])`.

    Args:
        path: a model folder, as trainings and conversions write it, one of transformers, or a model that export.py
            wrote, `.onnx` or `.mindir`.
        options: keys of the task's configuration, such as `device_target="CPU"` or `eval_batch_size=8`.

    Raises:
        UserError: there is no model, it is damaged, or an option does not fit.
    """
    from src.exchange.folders import open_model  # loaded when a model is

    words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    config, model = predictor_config(str(path), words, open_model)
    set_up_device(config)
    return LoadedPredictor(create_predictor(config, model))


class LoadedPredictor:
    """Predicts on texts; see `load_predictor`.

    Attributes:
        fields: the fields of an item, of which a mere text is the first.
    """

    def __init__(self, predictor: Predictor) -> None:
        self.fields = predictor.fields
        self._predictor = predictor

    def __call__(self, items: str | Mapping[str, str] | Sequence[str | Mapping[str, str]]) -> list[Any]:
        """One result for each item, in order: a named tuple whose type depends on the task.

        Args:
            items: texts, or dictionaries with `fields`; a single one stands for a list of one.

        Raises:
            UserError: an item lacks a field.
        """
        some = [items] if isinstance(items, str | Mapping) else items
        named = [{self.fields[0]: item} if isinstance(item, str) else item for item in some]
        return [self._predictor.typed(result) for result in self._predictor.predict(named)]


def predictor_config(model: str, options: Sequence[str], open_model: Callable[[str], ModelFolder | None]
                     ) -> tuple[Config, Path | None]:
    """The configuration to predict with, and the exported model that is to compute, if it is one.

    Args:
        model: a model folder or an exported model; empty where the options name the weights.
        options: the command line.
        open_model: the model folder that a path stands for, if any.

    Raises:
        UserError: there is no such model, or the options do not fit it.
    """
    if not model:
        return load_task_config(WHAT, options, WeightsOption(_weights_option, open_model)), None
    if Path(model).suffix in EXPORTED:
        described = ModelFolder.find(model)
        return load_task_config(WHAT, options, WeightsOption(lambda _: "", open_model, described)), Path(model)
    folder = open_model(model)
    if folder is None:
        raise UserError(f"--model: {model} is neither .onnx nor .mindir nor the folder of a model; give what a "
                        f"training, a conversion or export.py wrote, or the checkpoint and its --config_path")
    return load_task_config(WHAT, options, WeightsOption(_weights_option, model=folder)), None


def _weights_option(config: Config) -> str:
    return task_type(config.description).weights_option


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
        exported = "" if task.why_no_model else ", or an exported one"
        raise UserError(f"{option} is not set; give the folder of a model{exported} with --model")
    with undrawn_weights():
        network = task.inference_network().set_train(False)
    task.load(network, task.config[option], option)
    return InferenceModel(network)


def _open_exported(task: Task, model: Path) -> InferenceModel:
    from src.inference.exported import open_exported  # only such models need what reads them

    return open_exported(task, model)
