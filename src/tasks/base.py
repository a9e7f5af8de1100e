"""What a task is: everything that differs between pre-training, classification, NER and question answering.

Whoever works with tasks (training, evaluation, prediction, export, exchange of checkpoints, the C++ program) asks the
task and never its name. `src/tasks/registry.py` lists the tasks.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from mindspore import nn

from src.bert_model import BertConfig
from src.model_folder import DESCRIPTION, LABELS, VOCABULARY, ModelFolder
from src.model_utils.config import Config, sizes_group
from src.model_utils.device_adapter import resolve_compute_type
from src.onnx_graph import Head
from src.tasks.prediction import InferenceModel, Predictor
from src.weights import LoadReport

if TYPE_CHECKING:
    from typing_extensions import Self


class ExchangeHead(NamedTuple):
    """How other frameworks know what a network has behind its encoder."""

    modules: tuple[tuple[str, str, str, str, str], ...]  # the rows of `src/exchange/names.py`
    transformers_class: str  # without the name of the encoder that it begins with
    has_classes: bool = False  # the head is as wide as there are classes, which may have names
    uses_pooler: bool = True


class Task(ABC):
    """A network with what belongs to it, as a configuration describes it.

    Args:
        config: the task's configuration.
        bert_config: sizes of the encoder.
    """

    name: ClassVar[str]
    description: ClassVar[str]  # the value of this key in its configuration
    config_file: ClassVar[str]  # its YAML file, from the repository's root
    weights_option: ClassVar[str]  # names the checkpoint to predict with
    model_options: ClassVar[tuple[str, ...]] = ("do_lower_case",)  # what a model folder says besides the sizes
    file_synonyms: ClassVar[tuple[str, ...]] = ()  # further options by whose names the user may give its files
    pipeline_tag: ClassVar[str]  # what model hubs call the task
    example: ClassVar[Mapping[str, str]] = {"text": "Any sentence."}  # of an item to predict on
    why_no_model: ClassVar[str] = ""  # why no exported model can take the checkpoint's place, where that is so
    exchange_head: ClassVar[ExchangeHead]

    def __init__(self, config: Config, bert_config: BertConfig) -> None:
        self.config = config
        self.bert_config = bert_config

    @classmethod
    def from_config(cls, config: Config, device_target: str = "") -> "Self":
        """The task that a configuration describes; see `encoder_config`."""
        return cls(config, cls.encoder_config(config, device_target))

    @classmethod
    def encoder_config(cls, config: Config, device_target: str = "") -> BertConfig:
        """Sizes of the encoder, computing in a type that suits the device; without a device as configured."""
        group = sizes_group(config)
        options = config[group].to_dict()
        if device_target:
            asked_for = config.was_given(f"{group}.compute_type")
            options["compute_type"] = resolve_compute_type(device_target, options["compute_type"], asked_for)
        return BertConfig(**options)

    @classmethod
    def checkpoint_prefix(cls) -> str:
        """What the names of its checkpoints begin with."""
        return cls.name

    # ------------------------------------------------------------ using the result

    @abstractmethod
    def inference_network(self) -> nn.Cell:
        """The network without its loss: what is exported, and what predicts."""

    @abstractmethod
    def load(self, network: nn.Cell, path: str, option: str) -> LoadReport:
        """Load the weights of `inference_network` from what `option` names.

        Raises:
            UserError: the checkpoint cannot be read, or lacks a weight.
        """

    @abstractmethod
    def head(self) -> Head:
        """What follows the encoder: inputs, outputs, and their computation in ONNX."""

    @abstractmethod
    def predictor(self, open_model: Callable[[], InferenceModel]) -> Predictor:
        """What predicts on new texts; it calls `open_model` when everything else is in order."""

    @property
    def untried_on_ascend(self) -> str:
        """What of the exported network has not run on an Ascend, and what to do about it; empty for nothing."""
        return ""

    @property
    def num_class(self) -> int | None:
        """Number of classes or tags; None where there are none."""
        return None

    @property
    def class_names(self) -> list[str] | None:
        """Their names in the order of their ids, if known."""
        return None

    # ------------------------------------------------------------ model folders

    def model_folder(self, path: Path) -> ModelFolder:
        """What `path`, the folder of its weights, says about them; its files are those of `model_files`."""
        sizes = self.config[sizes_group(self.config)]
        network = {key: sizes[key] for key in sizes if key not in ("dtype", "compute_type")}
        return self.folder_of(path, network, {key: self.config[key] for key in self.model_options})

    @classmethod
    def folder_of(cls, path: Path, network: Mapping[str, Any], options: Mapping[str, Any]) -> ModelFolder:
        """A folder of weights of this task, with their sizes and `model_options`."""
        return ModelFolder(path, cls.description, cls.checkpoint_prefix(), network, options,
                           source=path / DESCRIPTION, weights=path)

    def model_files(self) -> dict[str, Path | Sequence[str]]:
        """The files of a model folder by the option that names them: what to copy, or the lines to write."""
        files: dict[str, Path | Sequence[str]] = {}
        if self.config.vocab_file_path:
            files[VOCABULARY] = Path(self.config.vocab_file_path)
        if self.class_names:
            files[LABELS] = self.label_lines(self.class_names)
        return files
    # ------------------------------------------------------------ what records tell

    @classmethod
    def told_by_records(cls, config: Config, about: Mapping[str, Any], folder: Path) -> dict[str, Any]:
        """The values of configuration keys that records in a folder settle; `about` is empty for older ones."""
        return {key: about[key] for key in ("do_lower_case", "text_unit") if key in about and key in config}

    # ------------------------------------------------------------ exchange of checkpoints

    @classmethod
    def read_class_names(cls, label_file: str, num_class: int) -> list[str]:
        """The names of `num_class` classes that a label file gives. Only for tasks whose head has classes.

        Raises:
            UserError: the file cannot be read or does not fit.
        """
        raise NotImplementedError

    @classmethod
    def label_lines(cls, class_names: Sequence[str]) -> list[str]:
        """The lines of a label file for these classes. Only for tasks whose head has classes.

        Raises:
            UserError: no label file can hold them.
        """
        raise NotImplementedError

    @classmethod
    def exchanged_class_names(cls, class_names: Sequence[str]) -> tuple[list[str], list[str]]:
        """What transformers calls these classes, of which the last may be left out, and notes for the user."""
        return list(class_names), []

    @classmethod
    def converted_configs(cls, checkpoint: str, num_class: int, words: Mapping[str, Any], sizes: Mapping[str, Any]
                          ) -> dict[str, dict[str, Any]]:
        """What the YAML files of a converted checkpoint say, by file name.

        Args:
            checkpoint: its path.
            num_class: width of its head.
            words: the options of vocabulary and labels.
            sizes: the sizes of its encoder.
        """
        return {f"{cls.name}.yaml": {"description": cls.description, cls.weights_option: checkpoint,
                                     "export_ckpt_file": checkpoint, **words, "bert_net_cfg": sizes}}

    # ------------------------------------------------------------ the C++ program

    @classmethod
    def cpp_names(cls) -> dict[str, list[str]]:
        """What the documented commands of the C++ program call the task: {name: the options that it stands for}.

        Empty where the program has nothing to do.
        """
        return {}

    @classmethod
    def cpp_name(cls, config: Config) -> str:
        """Which of `cpp_names` a configuration is of."""
        return cls.name
