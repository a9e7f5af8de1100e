"""Pre-training as a training: from records to checkpoints, with evaluations in between."""

from collections.abc import Mapping
from pathlib import Path

from mindspore import nn

from src.checkpoint_files import Checkpoint
from src.errors import UserError
from src.initialization import undrawn_weights
from src.model_utils.config import Config
from src.model_utils.device_adapter import DeviceInfo
from src.records.reader import Records
from src.tasks.job import TaskJob
from src.tasks.pretraining.task import PretrainTask, evaluate
from src.training.callbacks import StepReport
from src.training.checkpoint import load_checkpoint_path
from src.training.create_optimizer import create_optimizer
from src.training.optimizer import Optimizer
from src.training.run import Run, TrainingEvaluation
from src.training.start import report_resumption, resume_newest
from src.training.train_step import TrainStep


class Pretraining(TaskJob[PretrainTask]):
    """What run_pretrain.py runs."""

    start_option = "load_checkpoint_path"
    data_option = "data_dir"
    eval_options = ("eval_data_dir",)
    what = "pre-training"
    output_option = "save_checkpoint_path"
    recipe_keys = ("seed", "do_shuffle", "accumulation_steps", "train_steps", "epoch_size")

    def __init__(self, config: Config, device: DeviceInfo, asked: Config | None = None) -> None:
        super().__init__(PretrainTask.from_config(config, device.target), asked)
        self.batch_size = self.task.batch_size
        self.shuffle = config.do_shuffle
        self.limits = self.task.limits

    def records(self) -> Records:
        """Those of data_dir."""
        return self.task.records("data_dir")

    def total_steps(self, num_rows: int, samples_per_step: int) -> int:
        """As many as `train_steps` says, or else as fill `epoch_size` epochs."""
        config = self.config
        if config.train_steps > 0:
            return config.train_steps
        total_steps = config.epoch_size * num_rows // samples_per_step
        if not total_steps:
            raise UserError(f"{config.epoch_size} epochs of the {num_rows} records in {config.data_dir} do not fill "
                            f"one step of {samples_per_step} samples; lower batch_size or raise epoch_size")
        return total_steps

    def network(self) -> nn.Cell:
        """The network with its loss."""
        return self.task.training_network()

    def optimizer_options(self) -> tuple[str, Config]:
        """The chosen one."""
        return self.config.optimizer, self.config[self.config.optimizer]

    def optimizer(self, network: nn.Cell, total_steps: int) -> Optimizer:
        """The chosen one, as its group says."""
        name, group = self.optimizer_options()
        return create_optimizer(name, network, group, total_steps)

    def load(self, step_cell: TrainStep, output_dir: Path, recipe: Mapping[str, object]) -> Checkpoint | None:
        """The newest checkpoint of the run if it is to resume, or else `load_checkpoint_path`.

        Of a checkpoint of training everything is taken; of weights alone the training starts at step 0.
        """
        done = resume_newest(step_cell, output_dir, recipe) if self.config.resume else None
        if done is not None or not self.config.load_checkpoint_path:
            return done
        found = load_checkpoint_path(self.config.load_checkpoint_path, step_cell)
        if isinstance(found, Checkpoint):
            report_resumption(found, recipe)
            return found
        print(found, flush=True)
        return None

    def evaluation(self, run: Run) -> TrainingEvaluation | None:
        """With each checkpoint, if `train_with_eval` says so."""
        return PretrainEvaluation(self.task, run) if self.config.train_with_eval else None

    def save_steps(self, steps_per_epoch: int) -> int | None:
        """As configured."""
        return self.config.save_checkpoint_steps if self.config.enable_save_ckpt else None

    def goes_on(self, output_dir: Path) -> bool:
        """Also where it starts from a checkpoint in the directory."""
        if super().goes_on(output_dir) or not self.config.load_checkpoint_path:
            return super().goes_on(output_dir)
        path, directory = Path(self.config.load_checkpoint_path).resolve(), output_dir.resolve()
        return path == directory or (path.parent == directory and path.name.startswith(f"{self.prefix}-"))


class PretrainEvaluation(TrainingEvaluation):
    """Evaluate the weights of the moment on every record of eval_data_dir."""

    score = "masked_lm_accuracy"

    def __init__(self, task: PretrainTask, run: Run) -> None:
        with undrawn_weights():
            network = task.evaluation_network()
        super().__init__(run, network, task.config.save_checkpoint_steps)
        self.batches = task.evaluation_batches(run.device.rank, run.device.rank_size)

    def act(self, report: StepReport) -> None:
        """Evaluate after the reported step."""
        self.take_weights()
        score = evaluate(self.network, self.batches)
        self.show(report, score.lines(), score.results())
