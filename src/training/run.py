"""One run for all trainings: data, network, optimizer and reports, from a configuration to the last checkpoint."""

import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import mindspore.train
import yaml
from mindspore import Tensor, float32, nn
from tqdm import tqdm

from src.bert_for_pre_training import initialize_parameters
from src.bert_model import BertConfig
from src.checkpoint_files import Checkpoint
from src.cpu_kernels.library import report_missing, usable
from src.dataset import BatchStream, Bucketing
from src.errors import UserError, outliving_output
from src.files import make_output_dir, write_text
from src.initialization import undrawn_weights
from src.model_utils.communication import MeanOfGradients
from src.model_utils.config import Config
from src.model_utils.device_adapter import DeviceInfo
from src.records.columns import Limit
from src.records.reader import RecordSource
from src.training.callbacks import (
    Callback,
    Checkpoints,
    LogLines,
    Periodic,
    Place,
    ProgressBar,
    Recorder,
    RunPlan,
    StepReport,
    StopOnDivergence,
)
from src.training.cost import MOMENTS, Workload
from src.training.earlier_result import move_aside, refuse_to_overwrite
from src.training.loop import end_again, train
from src.training.metrics_file import LossPlot, MetricsFile
from src.training.optimizer import Optimizer
from src.training.output_lock import locked_output
from src.training.profiling import Profiling
from src.training.resources import check_disk, check_memory, machine_memory
from src.training.start import start_as_first_rank
from src.training.start_summary import start_summary
from src.training.tensorboard import TensorBoard
from src.training.train_step import LossScale, TrainStep

METRICS, PLOT = "metrics.jsonl", "loss.png"  # beside the checkpoints, unless the user names other files
# What every resumed run must share with the one that it continues, besides `Job.recipe_keys`.
_RECIPE_KEYS = ("enable_lossscale", "scale_factor", "scale_window", "enable_global_norm", "max_grad_norm")
_LOG_PAUSE = 10.0  # seconds between two log lines, where the user did not say every how many steps


@dataclass(frozen=True)
class Run:
    """A run that is about to begin, as its evaluation sees it."""

    device: DeviceInfo
    step_cell: TrainStep
    plan: RunPlan
    steps_per_epoch: int
    output_dir: Path
    metrics_path: Path
    recorders: Sequence[Recorder]  # those of this rank
    writes: bool  # whether this rank writes files
    evaluated: Mapping[str, Any]  # `TrainingEvaluation.state` at the step that the run goes on from


class TrainingEvaluation(Periodic):
    """Evaluates while training. All ranks compute; `Run.writes` says which one writes.

    A checkpoint knows the evaluations up to its step, because every step is evaluated before it is saved. So a run that
    was killed at any moment makes up for what it lost.
    """

    place = Place.EVALUATE
    score: str  # what the plot shows

    def __init__(self, run: Run, network: nn.Cell, every: int) -> None:
        """The network evaluates the weights of the run, whose parameters have the same names."""
        super().__init__(every, run.plan.start_step)
        self.run = run
        self.network = network
        self.last: dict[str, Any] | None = run.evaluated.get("last")  # step, lines and results of the last evaluation
        self.was_shown = False  # by this process

    def state(self) -> dict[str, Any]:
        """What a resumed run needs to know, anything that JSON can hold."""
        return {"last": self.last}

    def on_step(self, report: StepReport) -> None:
        """Evaluate if it is time to; the last step before it is saved."""
        super().on_step(report)
        if report.step == self.run.plan.total_steps:
            self.on_end(report)

    def on_end(self, last: StepReport) -> None:
        """Evaluate the final weights, unless that is done."""
        if self.last is None or self.last["step"] != last.step:
            self._act(last)

    def take_weights(self) -> None:
        """Give the network the weights of the moment."""
        weights = {parameter.name: parameter for parameter in self.run.step_cell.network.get_parameters()}
        for parameter in self.network.get_parameters():
            parameter.set_data(Tensor(weights[parameter.name].asnumpy()))

    def show(self, report: StepReport, lines: Sequence[str], results: Mapping[str, float]) -> None:
        """Print the scores behind the reported step, and keep them with the numbers of the step."""
        self.last = {"step": report.step, "lines": list(lines), "results": dict(results)}
        self.was_shown = True
        tqdm.write("\n".join(lines))  # clears a progress bar first
        sys.stdout.flush()
        for recorder in self.run.recorders:
            recorder.write(report.step, **results)

    def finish(self) -> dict[str, float]:
        """Say at the end what came out, unless that was said; return the scores of the run."""
        if self.last is None:
            return {}
        if not self.was_shown:
            print("\n".join(self.last["lines"]), flush=True)
        return self.last["results"]


class Job(ABC):
    """What a training is of, for `run_training`.

    Args:
        config: the script's configuration.
        bert_config: sizes of the encoder.
    """

    what: ClassVar[str]  # what the user waits for
    output_option: ClassVar[str]  # names the directory of the checkpoints
    prefix: str  # of their names
    recipe_keys: ClassVar[Sequence[str]]  # what a resumed run must share with the one it continues
    batch_size: int  # rows of one rank in one accumulated batch
    shuffle: bool
    length_grouping: str = "none"
    limits: Mapping[str, Limit]  # bounds of the values in the records
    config_name: str  # of the file beside the checkpoints that keeps the configuration
    overwrite_advice: ClassVar[str] = ""  # for a user whose folder holds the result of an earlier training

    def __init__(self, config: Config, bert_config: BertConfig) -> None:
        self.config = config
        self.bert_config = bert_config

    @abstractmethod
    def records(self) -> RecordSource:
        """Open the records to train on."""

    @abstractmethod
    def total_steps(self, num_rows: int, samples_per_step: int) -> int:
        """Optimizer steps of the whole training."""

    @abstractmethod
    def network(self) -> nn.Cell:
        """A network that maps the columns of the records to the loss."""

    @abstractmethod
    def optimizer(self, network: nn.Cell, total_steps: int) -> Optimizer:
        """The optimizer of its weights."""

    @abstractmethod
    def optimizer_options(self) -> tuple[str, Config]:
        """Its name and its group of the configuration."""

    @abstractmethod
    def load(self, step_cell: TrainStep, output_dir: Path, recipe: Mapping[str, object]) -> Checkpoint | None:
        """Load what training starts from, and say what it was; return the checkpoint if a training goes on from it."""

    @abstractmethod
    def evaluation(self, run: Run) -> TrainingEvaluation | None:
        """What evaluates while training, if the user wants that."""

    @abstractmethod
    def describe(self, output_dir: Path, total_steps: int, scores: Mapping[str, float]) -> Mapping[str, Any]:
        """Write what the folder of the checkpoints says of its model; return what the saved configuration has of it."""

    @abstractmethod
    def save_steps(self, steps_per_epoch: int) -> int | None:
        """Steps between checkpoints; None for no checkpoints at all."""

    def goes_on(self, output_dir: Path) -> bool:
        """Whether a result that is in the directory is what the training goes on with."""
        return self.config.resume

    def other_results(self) -> tuple[str, ...]:
        """Names of what it leaves in the directory besides weights and checkpoints."""
        return METRICS, PLOT, self.config_name

    def shared_results(self) -> tuple[str, ...]:
        """Names of what it leaves there that may have been given to it."""
        return ()


def run_training(job: Job, device: DeviceInfo, callbacks: Sequence[mindspore.train.Callback] = ()) -> dict[str, float]:
    """Train, with evaluations in between as configured; return the scores of the evaluation, if there was one.

    Args:
        job: what is trained.
        device: where.
        callbacks: further ones, ours or MindSpore's.

    Raises:
        UserError: something in the configuration, the records or the checkpoint does not fit.
        KeyboardInterrupt: the user ended the run; the message says how it goes on.
    """
    output_dir = make_output_dir(job.config[job.output_option] or ".", job.output_option)
    lock = locked_output(output_dir, job.output_option) if device.rank == 0 else nullcontext()
    with lock, outliving_output("the training"):
        if device.rank == 0:
            _check_earlier_result(job, output_dir)
        return _run(job, device, output_dir, callbacks)


def _check_earlier_result(job: Job, output_dir: Path) -> None:
    if job.config.resume and job.config.overwrite:
        raise UserError("resume and overwrite are both true, and they contradict each other; set one of them to false")
    if not job.goes_on(output_dir):
        refuse_to_overwrite(output_dir, job.output_option, job.prefix, job.config.overwrite, job.overwrite_advice)


def _run(job: Job, device: DeviceInfo, output_dir: Path, callbacks: Sequence[mindspore.train.Callback]
         ) -> dict[str, float]:
    config = job.config
    writes = device.rank == 0
    describes = writes and job.save_steps(1) is not None  # without checkpoints there is no model
    sink_steps = sink_steps_of(job, device)
    records = job.records()
    samples_per_step = job.batch_size * config.accumulation_steps * device.rank_size
    total_steps = job.total_steps(records.num_rows, samples_per_step)
    steps_per_epoch = -(-records.num_rows // samples_per_step)
    _check_resources(job, device, records, output_dir, job.save_steps(steps_per_epoch), total_steps)

    step_cell = build_training_step(job, device, total_steps)
    recipe = recipe_of(job, device, records.num_rows, samples_per_step)
    start = start_as_first_rank(step_cell, device, lambda: job.load(step_cell, output_dir, recipe))
    plan = RunPlan(start.step, total_steps, samples_per_step, records.num_rows)
    if writes and config.overwrite and start.step < total_steps:  # not before everything is known to fit
        aside = move_aside(output_dir, job.prefix, job.other_results(), job.shared_results())
        if aside:
            print(f"moved the result of an earlier training to {aside}", flush=True)
    metrics_path = Path(config.metrics_file or output_dir / METRICS)
    recorders = _recorders(config, metrics_path, plan) if writes else []
    evaluation = job.evaluation(Run(device, step_cell, plan, steps_per_epoch, output_dir, metrics_path, recorders,
                                    writes, start.evaluated))
    own: list[Callback] = [StopOnDivergence(output_dir, start.step, job.prefix), *recorders]
    if config.enable_profiling:
        own.append(Profiling(output_dir / "profile", device.target))
    if evaluation:
        own.append(evaluation)
    if writes:
        own += [*_shown(job, plan), *_saved(job, plan, step_cell, output_dir, steps_per_epoch, recipe, evaluation),
                LossPlot(metrics_path, config.plot_file or output_dir / PLOT,
                         evaluation.score if evaluation else "")]
    if start.step >= total_steps or (evaluation and evaluation.wants_to_stop):
        print(f"nothing left to do: {start.step} of {total_steps} steps are done", flush=True)
        end_again(own, plan)
        return _finished(job, evaluation, output_dir, total_steps, describes)

    if describes:
        values = job.describe(output_dir, total_steps, {})
        _write_config(config.replaced(values), output_dir / job.config_name)
    if writes:
        print(start_summary(device, job.bert_config, step_cell.network, plan, config.accumulation_steps, output_dir),
              flush=True)
    stream = BatchStream(
        records, job.batch_size, total_steps, start_step=start.step, seed=config.seed, shuffle=job.shuffle,
        accumulation_steps=config.accumulation_steps, bucketing=Bucketing(config.bucket_list, job.length_grouping),
        rank=device.rank, rank_size=device.rank_size, limits=job.limits)
    try:
        train(step_cell, stream, plan, [*own, *callbacks], sink_steps, device.rank_size,
              _report_periods(job, device, evaluation, steps_per_epoch))
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt(f"{str(interrupt) or 'interrupted'}; with --resume true the same command goes on from "
                                f"the newest checkpoint in {output_dir}") from None
    return _finished(job, evaluation, output_dir, total_steps, describes)


def _finished(job: Job, evaluation: TrainingEvaluation | None, output_dir: Path, total_steps: int, describes: bool
              ) -> dict[str, float]:
    """Say what came out, to the user and in the folder; return the scores."""
    scores = evaluation.finish() if evaluation else {}
    if describes:
        job.describe(output_dir, total_steps, scores)
    return scores


def _check_resources(job: Job, device: DeviceInfo, records: RecordSource, output_dir: Path, save_steps: int | None,
                     total_steps: int) -> None:
    """Warn of what does not fit this machine, or refuse it; of the memory of other devices nothing is known here."""
    name, _ = job.optimizer_options()
    _, predictions = records.columns.get("masked_lm_positions", ("", 0))
    run = Workload(job.bert_config, job.batch_size, records.seq_length or job.bert_config.seq_length,
                   optimizer=name if name in MOMENTS else "Momentum", predictions=predictions)
    if device.target == "CPU":
        compute_bytes = 4 if job.bert_config.compute_type == float32 else 2
        check_memory(run, compute_bytes, _has_one_length(job), machine_memory())
    if device.rank == 0 and save_steps:
        # One more than are kept while the newest is unproven, and one that is being written.
        count = min(job.config.save_checkpoint_num + 2, -(-total_steps // save_steps))
        check_disk(run, count, output_dir, job.prefix)


def _has_one_length(job: Job) -> bool:
    return not job.config.bucket_list and job.length_grouping == "none"


def sink_steps_of(job: Job, device: DeviceInfo) -> int:
    """Steps that the device takes from its queue by itself; 0 on CPU, and where the batches are of several lengths.

    Raises:
        UserError: more than one step, whose batches would be of several lengths.
    """
    config = job.config
    if device.target == "CPU" or not config.enable_data_sink:
        return 0
    if _has_one_length(job):
        return config.data_sink_steps
    if config.data_sink_steps > 1:
        found = (f"bucket_list is {','.join(map(str, config.bucket_list))}" if config.bucket_list else
                 f"length_grouping is {job.length_grouping}")
        raise UserError(f"data_sink_steps: found {config.data_sink_steps}, but {found}, and the device's queue takes "
                        f"batches of one length; leave data_sink_steps at 1, or take all batches at full length")
    return 0


def _report_periods(job: Job, device: DeviceInfo, evaluation: TrainingEvaluation | None, steps_per_epoch: int
                    ) -> list[int]:
    """Steps between two reports that are wanted, the same on all ranks; on a CPU every step's, as they cost nothing."""
    if device.target == "CPU":
        return [1]
    periods = [job.config.log_steps, job.save_steps(steps_per_epoch), evaluation.every if evaluation else None]
    return [period for period in periods if period]


def build_training_step(job: Job, device: DeviceInfo, total_steps: int) -> TrainStep:
    """The network with random weights, its optimizer, and the step that trains it."""
    with undrawn_weights():
        network = job.network()
    initialize_parameters(network, job.bert_config.initializer_range, job.config.seed)
    return configured_step(job.config, device, network, job.optimizer(network, total_steps))


def configured_step(config: Config, device: DeviceInfo, network: nn.Cell, optimizer: Optimizer) -> TrainStep:
    """The step that trains the network: loss scale, accumulation, clipping and devices as configured."""
    if device.target == "CPU" and device.rank == 0 and sys.stderr.isatty():  # advice, which a log need not repeat
        report_missing()
    mean = MeanOfGradients(device.rank_size) if device.rank_size > 1 else None
    return TrainStep(
        network, optimizer,
        loss_scale=LossScale(float(config.loss_scale_value), config.scale_factor, config.scale_window)
        if config.enable_lossscale else None,
        accumulation_steps=config.accumulation_steps,
        clip_norm=config.max_grad_norm if config.enable_global_norm else None,
        grad_reducer=mean,
        allreduce_post_accumulation=config.allreduce_post_accumulation,
        seed=config.seed,
        rank=device.rank,
        loss_reducer=mean)


def recipe_of(job: Job, device: DeviceInfo, num_rows: int, samples_per_step: int) -> dict[str, Any]:
    """What a resumed run must share with the one it continues, for its losses to be the same digits."""
    recipe = {key: _as_words(job.config[key]) for key in (*job.recipe_keys, *_RECIPE_KEYS)}
    name, group = job.optimizer_options()
    network = {key: value if isinstance(value, int | float | str) else str(value)
               for key, value in asdict(job.bert_config).items()}
    uses_own_operators = device.target == "CPU" and usable()  # which draw dropout masks of their own
    return recipe | {
        "network": network, "cpu_operators": uses_own_operators, "num_rows": num_rows,
        "samples_per_step": samples_per_step, "ranks": device.rank_size, "bucket_list": list(job.config.bucket_list),
        name: group.to_dict()}


def _as_words(value: object) -> object:
    """A switch as the configuration has it, in which checkpoints keep it."""
    return str(value).lower() if isinstance(value, bool) else value


def _recorders(config: Config, metrics_path: Path, plan: RunPlan) -> list[Recorder]:
    recorders: list[Recorder] = [MetricsFile(metrics_path, plan)]
    if config.tensorboard_dir:
        recorders.append(TensorBoard(config.tensorboard_dir, plan))
    return recorders


def _shown(job: Job, plan: RunPlan) -> list[Callback]:
    """What the user sees while it runs."""
    shown: list[Callback] = []
    if sys.stderr.isatty():
        shown.append(ProgressBar(plan, job.what))
    if not (sys.stderr.isatty() and sys.stdout.isatty()):  # on one terminal the bar says it all
        pause = 0.0 if job.config.is_explicit("log_steps") else _LOG_PAUSE
        shown.append(LogLines(job.config.log_steps, plan.start_step, pause, plan.total_steps))
    return shown


def _saved(job: Job, plan: RunPlan, step_cell: TrainStep, output_dir: Path, steps_per_epoch: int,
           recipe: dict[str, Any], evaluation: TrainingEvaluation | None) -> list[Callback]:
    every = job.save_steps(steps_per_epoch)
    if every is None:
        return []

    def metadata() -> dict[str, Any]:
        return recipe | {"evaluated": evaluation.state() if evaluation else {}}

    return [Checkpoints(output_dir, step_cell, plan, every, job.config.save_checkpoint_num, metadata, job.prefix)]


def _write_config(config: Config, path: Path) -> None:
    config = config.replaced({"overwrite": False})  # who trains by the file may not mean to
    write_text(path, yaml.safe_dump(config.to_dict(), allow_unicode=True, sort_keys=False))
