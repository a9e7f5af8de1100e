"""What the trainings of all tasks share: they leave a folder that describes the model in it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from src.model_folder import DESCRIPTION, FILE_NAMES, ModelFolder
from src.model_utils.config import Config
from src.tasks.base import Task
from src.tasks.model_card import CARD, Training, names_of_files, write_card, write_model_folder
from src.training.run import Job

AnyTask = TypeVar("AnyTask", bound=Task)


class TaskJob(Job, Generic[AnyTask]):
    """A training of a task.

    Args:
        task: what is trained.
        asked: its configuration as the user gave it, where `task` has records in the place of raw data.
    """

    start_option: ClassVar[str]  # names the weights that it starts from
    data_option: str  # names the data to train on
    eval_options: tuple[str, ...]  # of which the first that is set names the data of the scores
    scored_weights: str = ""  # the file that the scores are of, where it is not the newest

    def __init__(self, task: AnyTask, asked: Config | None = None) -> None:
        super().__init__(task.config, task.bert_config)
        self.asked = asked or task.config
        self.task = task
        self.prefix = task.checkpoint_prefix()
        self.config_name = f"{task.name}_config.yaml"  # evaluation, prediction and export take it as --config_path

    @classmethod
    def weights_in_use(cls, config: Config) -> str:
        """The option that names what a training begins with: for `resume` the folder of its own checkpoints."""
        goes_on = config.resume and ModelFolder.find(config[cls.output_option])
        return cls.output_option if goes_on else cls.start_option

    def other_results(self) -> tuple[str, ...]:
        """The description of the model too."""
        return *super().other_results(), DESCRIPTION

    def shared_results(self) -> tuple[str, ...]:
        """The files that the description names, and the card, which may be somebody else's."""
        return *FILE_NAMES.values(), CARD

    def describe(self, output_dir: Path, total_steps: int, scores: Mapping[str, float]) -> Mapping[str, Any]:
        """Write model.json, the files that it names, and the card."""
        folder = write_model_folder(self.task, output_dir)
        config = self.config
        data = {option: self.asked[option] for option in (self.data_option, *self.eval_options)}
        evaluated_on = next((data[option] for option in self.eval_options if data[option]), "")
        name, options = self.optimizer_options()
        settings = {"steps": total_steps, "batch": self.batch_size * config.accumulation_steps, "optimizer": name,
                    "learning rate": options.learning_rate, "seed": config.seed,
                    "started from": config[self.start_option]}
        plot = "" if config.plot_file else "loss.png"
        training = Training(settings, data[self.data_option], evaluated_on, scores, plot, self.scored_weights)
        write_card(type(self.task), folder, training)
        return data | names_of_files(self.task, folder)
