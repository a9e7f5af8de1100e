"""Fine-tuning as a training: from pre-trained weights to the best ones, evaluated after every epoch."""

from collections.abc import Callable, Mapping
from pathlib import Path

from mindspore import nn

from src.checkpoint_files import Checkpoint
from src.errors import UserError
from src.model_folder import ModelFolder
from src.model_utils.config import ENCODER_OPTION, Config, WeightsOption, load_config
from src.model_utils.device_adapter import set_up_device
from src.model_utils.moxing_adapter import cloud_storage
from src.records.reader import RecordSource
from src.tasks.best_weights import BestWeights
from src.tasks.evaluation import evaluate_checkpoint
from src.tasks.finetune_task import FinetuneTask, require_data
from src.tasks.job import TaskJob
from src.tasks.record_facts import PrepareData, settled_by_records
from src.tasks.report import REPORT_NAME
from src.training.create_optimizer import create_optimizer
from src.training.optimizer import Optimizer
from src.training.run import Run, TrainingEvaluation, run_training
from src.training.start import resume_newest
from src.training.train_step import TrainStep
from src.weights import load_weights

DATA_OPTIONS = {"do_train": "train_data_file_path", "do_eval": "eval_data_file_path"}  # used when the switch is on
FROM_SCRATCH = "none"  # as load_pretrain_checkpoint_path: no pre-trained weights
_ENCODER = "bert.bert."  # what the names of its parameters begin with, in pre-trained and fine-tuned networks


def run_finetuning(help_text: str, task_type: type[FinetuneTask], argv: list[str] | None = None,
                   prepare: PrepareData = settled_by_records,
                   open_model: Callable[[str], ModelFolder | None] = ModelFolder.find) -> dict[str, float]:
    """Read the configuration, then train, evaluate or both.

    Args:
        help_text: what the script does, shown by `--help`.
        task_type: what is trained.
        argv: the command line; None means that of the process.
        prepare: makes records of raw data; without it only records are taken.
        open_model: the model folder that a path stands for, if any.

    Returns:
        The scores of the evaluation, when there was one: after training those of the best weights.

    Raises:
        UserError: something in the configuration, the records or the checkpoint does not fit.
    """
    weights = WeightsOption(Finetuning.weights_in_use, open_model)
    with cloud_storage(load_config(help_text, task_type.config_file, argv, weights)) as asked:
        _check_what_to_do(asked, task_type)
        device = set_up_device(asked)  # before records are made: that may take its time
        config = prepare(asked, task_type, _data_in_use(asked))
        task = task_type.from_config(config, device.target)
        task.check()
        return run_training(Finetuning(task, asked), device) if config.do_train else evaluate_checkpoint(task, device)


def _check_what_to_do(config: Config, task_type: type[FinetuneTask]) -> None:
    if not (config.do_train or config.do_eval):
        raise UserError("do_train and do_eval are both false; set at least one of them to true")
    if config.do_train:
        require_data(config, ("train_data_file_path",), "train")
    if config.do_eval:
        require_data(config, task_type.eval_data_options, "evaluate")
    if config.do_train and not config.load_pretrain_checkpoint_path:
        raise UserError(f"load_pretrain_checkpoint_path is not set, and fine-tuning starts from a pre-trained "
                        f"checkpoint; give one, or {FROM_SCRATCH} to train from random weights")
    if not config.do_train and not config.load_finetune_checkpoint_path:
        raise UserError("load_finetune_checkpoint_path is not set, and evaluation needs a fine-tuned checkpoint; give "
                        "one, or train with --do_train true")


def _data_in_use(config: Config) -> list[str]:
    return [option for switch, option in DATA_OPTIONS.items() if config[switch]]


class Finetuning(TaskJob[FinetuneTask]):
    """What run_classifier.py, run_ner.py and run_squad.py run."""

    what = "fine-tuning"
    start_option = ENCODER_OPTION
    data_option = "train_data_file_path"
    output_option = "save_finetune_checkpoint_path"
    recipe_keys = ("seed", "train_data_shuffle", "accumulation_steps", "train_steps", "epoch_num", "length_grouping",
                   "warmup_ratio", "layerwise_lr_decay")
    overwrite_advice = "; to evaluate it only, give --do_train false"

    @classmethod
    def weights_in_use(cls, config: Config) -> str:
        """Without a training the fine-tuned weights."""
        return super().weights_in_use(config) if config.do_train else "load_finetune_checkpoint_path"

    def __init__(self, task: FinetuneTask, asked: Config | None = None) -> None:
        super().__init__(task, asked)
        self.eval_options = task.eval_data_options
        self.scored_weights = f"{task.name}_best.ckpt"
        self.batch_size = self.config.train_batch_size
        self.shuffle = self.config.train_data_shuffle
        self.length_grouping = task.length_grouping
        self.limits = task.limits

    def records(self) -> RecordSource:
        """The task's."""
        return self.task.train_records()

    def total_steps(self, num_rows: int, samples_per_step: int) -> int:
        """As many as `train_steps` says, or else as `epoch_num` epochs begin."""
        config = self.config
        return config.train_steps if config.train_steps > 0 else -(-config.epoch_num * num_rows // samples_per_step)

    def network(self) -> nn.Cell:
        """The task's."""
        return self.task.training_network()

    def optimizer_options(self) -> tuple[str, Config]:
        """The one of `optimizer_cfg`."""
        name = self.config.optimizer_cfg.optimizer
        return name, self.config.optimizer_cfg[name]

    def optimizer(self, network: nn.Cell, total_steps: int) -> Optimizer:
        """The one of `optimizer_cfg`, warming up over `warmup_ratio` of the steps."""
        name, group = self.optimizer_options()
        options = group.to_dict()
        if "power" in options:  # a schedule
            options["warmup_steps"] = int(total_steps * self.config.warmup_ratio)
        return create_optimizer(name, network, options | {"layer_decay": self.config.layerwise_lr_decay}, total_steps)

    def load(self, step_cell: TrainStep, output_dir: Path, recipe: Mapping[str, object]) -> Checkpoint | None:
        """The newest checkpoint of the run if it is to resume and there is one, or else the pre-trained weights."""
        done = resume_newest(step_cell, output_dir, recipe, self.prefix) if self.config.resume else None
        if done is not None:
            return done
        if self.config.load_pretrain_checkpoint_path != FROM_SCRATCH:
            pretrained = self.config.load_pretrain_checkpoint_path
            print(load_weights(step_cell.network, pretrained, body=_ENCODER), flush=True)
        return None

    def evaluation(self, run: Run) -> TrainingEvaluation | None:
        """Keeps the best weights, if `do_eval` says so."""
        config = self.config
        if not config.do_eval:
            return None
        every = (config.eval_steps or run.steps_per_epoch) if config.train_with_eval else run.plan.total_steps
        return BestWeights(self.task, run, every)

    def save_steps(self, steps_per_epoch: int) -> int | None:
        """As configured, by default after each epoch."""
        return self.config.save_checkpoint_steps or steps_per_epoch

    def other_results(self) -> tuple[str, ...]:
        """The predictions too."""
        return *super().other_results(), *self.task.predictions_names, REPORT_NAME
