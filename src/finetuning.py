"""What the fine-tuning scripts share: from a configuration to a trained, evaluated and saved network.

A script names its task, a subclass of `FinetuneTask`: which records, which network, which scores. `run_finetuning`
does the rest: training from a pre-trained checkpoint, evaluation after every epoch, the best weights, resume.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import yaml
from mindspore import nn

from src.bert_for_pre_training import initialize_parameters
from src.bert_model import BertConfig
from src.callbacks import Callback, Checkpoints, Periodic, ProgressBar, RunPlan, StopOnDivergence, print_log_line
from src.checkpoint import LoadReport, find_newest, load_weights, restore_training
from src.dataset import BatchStream, EvaluationBatches
from src.errors import UserError
from src.files import atomic_write, make_output_dir
from src.finetune_evaluation import TrainingEvaluation
from src.finetune_task import FinetuneTask
from src.metrics_file import LossPlot, MetricsFile
from src.model_utils.config import Config, load_config
from src.model_utils.device_adapter import DeviceInfo, resolve_compute_type, set_up_device
from src.model_utils.moxing_adapter import cloud_storage
from src.optimizer import Optimizer, create_optimizer
from src.record_readers import Records
from src.train_step import TrainStep
from src.training import configured_step, operators_of, report_resumption, start_as_first_rank, train

_PARTS_OF_HEADS = ("bert.lstm.", "loss.")  # a network without them would work, and give other results
FROM_SCRATCH = "none"  # as load_pretrain_checkpoint_path: no pre-trained weights


def finetune_bert_config(config: Config, device_target: str) -> BertConfig:
    """Sizes of the encoder in `bert_net_cfg`, computing in a type that suits the device."""
    options = config.bert_net_cfg.to_dict()
    asked_for = config.was_given("bert_net_cfg.compute_type")
    options["compute_type"] = resolve_compute_type(device_target, options["compute_type"], asked_for)
    return BertConfig(**options)


def run_finetuning(description: str, default_yaml: str, task_type: type[FinetuneTask],
                   argv: list[str] | None = None) -> dict[str, float]:
    """Read the configuration, then train, evaluate or both.

    Returns:
        The scores of the evaluation, when there was one: after training those of the best weights.

    Raises:
        UserError: something in the configuration, the records or the checkpoint does not fit.
    """
    with cloud_storage(load_config(description, default_yaml, argv)) as config:
        _check_what_to_do(config, task_type)
        device = set_up_device(config)
        task = task_type(config, finetune_bert_config(config, device.target))
        return finetune(task, device) if config.do_train == "true" else evaluate_checkpoint(task, device)


def _check_what_to_do(config: Config, task_type: type[FinetuneTask]) -> None:
    if "true" not in (config.do_train, config.do_eval):
        raise UserError("do_train and do_eval are both false; set at least one of them to true")
    if config.do_train == "true":
        require_data(config, ("train_data_file_path",), "train")
    if config.do_eval == "true":
        require_data(config, task_type.eval_data_options, "evaluate")
    if config.do_train == "true" and not config.load_pretrain_checkpoint_path:
        raise UserError(f"load_pretrain_checkpoint_path is not set, and fine-tuning starts from a pre-trained "
                        f"checkpoint; give one, or {FROM_SCRATCH} to train from random weights")
    if config.do_train != "true" and not config.load_finetune_checkpoint_path:
        raise UserError("load_finetune_checkpoint_path is not set, and evaluation needs a fine-tuned checkpoint; give "
                        "one, or train with --do_train true")


def require_data(config: Config, options: Sequence[str], what_for: str) -> None:
    """Make sure that one of the options names data.

    Raises:
        UserError: none does.
    """
    if not any(config[option] for option in options):
        raise UserError(f"{options[0]} is not set; give the data to {what_for} on")


# ---------------------------------------------------------------- evaluation alone

def load_finetuned(network: nn.Cell, path: str, name: str, option: str = "load_finetune_checkpoint_path") -> LoadReport:
    """Load every weight of a fine-tuned network; of a directory the best, or else the newest checkpoint.

    Raises:
        UserError: the checkpoint cannot be read, or lacks a weight of the network.
    """
    report = load_weights(network, path, prefix=name)
    without_weights = [*report.missing, *report.wrong_shape]
    if without_weights:
        shapes = report.wrong_shape.get(without_weights[0])
        detail = f" ({shapes[0]} there, {shapes[1]} here)" if shapes else ""
        raise UserError(f"{option}: {report.path} has no fitting weights for {len(without_weights)} parameters of the "
                        f"network, such as {without_weights[0]}{detail}; give a checkpoint of this task, and the "
                        f"network's sizes, classes or label file that it was trained with")
    not_taken = [given for given in report.unexpected if given.startswith(_PARTS_OF_HEADS)]
    if not_taken:
        raise UserError(f"{option}: {report.path} was trained with {not_taken[0]}, which this network does not have; "
                        f"set use_crf and with_lstm as in its training")
    return report


def evaluate_checkpoint(task: FinetuneTask, device: DeviceInfo) -> dict[str, float]:
    """Evaluate `load_finetune_checkpoint_path`; see `report_evaluation`."""
    batches = task.evaluation_batches(device.rank, device.rank_size)
    network = task.evaluation_network()
    report = load_finetuned(network, task.config.load_finetune_checkpoint_path, task.name)
    print(report, flush=True)
    return report_evaluation(task, network.set_train(False), batches, writes=device.rank == 0)


def report_evaluation(task: FinetuneTask, network: Callable, batches: EvaluationBatches,
                      writes: bool = True) -> dict[str, float]:
    """Evaluate a network, or what answers in its place, print the scores and write the predictions if it `writes`."""
    evaluation = task.evaluate(network, batches)
    print("\n".join(evaluation.lines), flush=True)
    if writes and evaluation.write_predictions and (task.config.predictions_file or task.always_writes_predictions):
        path = Path(task.config.predictions_file or task.predictions_name)
        if path.is_dir():
            path /= task.predictions_name
        make_output_dir(path.parent, "predictions_file")
        evaluation.write_predictions(path)
    return evaluation.results


# ---------------------------------------------------------------- training

def finetune(task: FinetuneTask, device: DeviceInfo) -> dict[str, float]:
    """Train, with evaluations in between when `do_eval` is true; return the scores of the best weights."""
    config = task.config
    output_dir = make_output_dir(config.save_finetune_checkpoint_path or ".", "save_finetune_checkpoint_path")
    records = task.train_records()
    batch_size = config.train_batch_size
    samples_per_step = batch_size * config.accumulation_steps * device.rank_size
    total_steps = config.train_steps if config.train_steps > 0 else -(-config.epoch_num * records.num_rows
                                                                       // samples_per_step)
    step_cell = build_training_step(task, device, total_steps)
    recipe = _recipe(config, device, records, samples_per_step) | operators_of(device, task.bert_config)
    start_step = start_as_first_rank(step_cell, device, lambda: _starting_step(task, step_cell, output_dir, recipe))
    plan = RunPlan(start_step, total_steps, samples_per_step, records.num_rows)
    steps_per_epoch = -(-records.num_rows // samples_per_step)

    metrics = MetricsFile(config.metrics_file or output_dir / "metrics.jsonl", plan) if device.rank == 0 else None
    evaluation = None
    if config.do_eval == "true":
        every = (config.eval_steps or steps_per_epoch) if config.train_with_eval == "true" else total_steps
        evaluation = TrainingEvaluation(task, device, step_cell, output_dir, every, plan, metrics)
    if start_step >= total_steps or (evaluation and evaluation.wants_to_stop):
        print(f"nothing left to do: {start_step} of {total_steps} steps are done", flush=True)
        return evaluation.finish() if evaluation else {}

    stream = BatchStream(
        records, batch_size, total_steps, start_step=start_step, seed=config.seed,
        shuffle=config.train_data_shuffle == "true", accumulation_steps=config.accumulation_steps,
        bucket_list=config.bucket_list, length_grouping=task.length_grouping, rank=device.rank,
        rank_size=device.rank_size, limits=task.limits)
    callbacks: list[Callback] = [StopOnDivergence(output_dir, start_step, task.name)]
    if device.rank == 0:
        _write_config(config, output_dir / f"{task.name}_config.yaml")
        callbacks += _reports(task, plan, metrics)
    if evaluation:  # before the checkpoint: a run killed in between then evaluates this step again
        callbacks.append(evaluation)
    if device.rank == 0:
        callbacks += [Checkpoints(output_dir, step_cell, plan, config.save_checkpoint_steps or steps_per_epoch,
                                  config.save_checkpoint_num, recipe, task.name),
                      LossPlot(metrics.path, config.plot_file or output_dir / "loss.png",
                               task.best_metric if evaluation else "")]
    try:
        train(step_cell, stream, plan, callbacks, rank_size=device.rank_size)
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt(f"{str(interrupt) or 'interrupted'}; with --resume true the same command goes on from "
                                f"the newest checkpoint in {output_dir}") from None
    return evaluation.finish() if evaluation else {}


def build_training_step(task: FinetuneTask, device: DeviceInfo, total_steps: int) -> TrainStep:
    """The network with random weights, its optimizer, and the step that trains it."""
    config = task.config
    network = task.training_network()
    initialize_parameters(network, task.bert_config.initializer_range, config.seed)
    optimizer = finetune_optimizer(config, network, total_steps)
    return configured_step(config, device, network, optimizer)


def finetune_optimizer(config: Config, network: nn.Cell, total_steps: int) -> Optimizer:
    """The optimizer of `optimizer_cfg`, warming up over `warmup_ratio` of the steps."""
    name = config.optimizer_cfg.optimizer
    group = config.optimizer_cfg[name].to_dict()
    if "power" in group:  # a schedule
        group["warmup_steps"] = int(total_steps * config.warmup_ratio)
    return create_optimizer(name, network, group | {"layer_decay": config.layerwise_lr_decay}, total_steps)


def _starting_step(task: FinetuneTask, step_cell: TrainStep, output_dir: Path, recipe: Mapping[str, object]) -> int:
    """Go on from the newest checkpoint if asked to and there is one, or else start from the pre-trained weights."""
    config = task.config
    found = find_newest(output_dir, task.name) if config.resume == "true" else None
    if found:
        restore_training(step_cell, found)
        report_resumption(found, recipe)
        return found.step
    if config.load_pretrain_checkpoint_path != FROM_SCRATCH:
        print(load_weights(step_cell.network, config.load_pretrain_checkpoint_path), flush=True)
    return 0


def _recipe(config: Config, device: DeviceInfo, records: Records, samples_per_step: int) -> dict:
    """What a resumed run must share with the one it continues, for its losses to be the same digits."""
    keys = ("seed", "train_data_shuffle", "accumulation_steps", "train_steps", "epoch_num", "length_grouping",
            "warmup_ratio", "layerwise_lr_decay")
    name = config.optimizer_cfg.optimizer
    return {key: config[key] for key in keys} | {
        "num_rows": records.num_rows, "samples_per_step": samples_per_step, "ranks": device.rank_size,
        "bucket_list": list(config.bucket_list), name: config.optimizer_cfg[name].to_dict()}


def _reports(task: FinetuneTask, plan: RunPlan, metrics: MetricsFile) -> list[Callback]:
    callbacks: list[Callback] = [metrics]
    if sys.stderr.isatty():
        callbacks.append(ProgressBar(plan, "fine-tuning"))
    if not (sys.stderr.isatty() and sys.stdout.isatty()):  # on one terminal the bar says it all
        callbacks.append(Periodic(print_log_line, task.config.log_steps, plan.start_step))
    return callbacks


def _write_config(config: Config, path: Path) -> None:
    """Keep the configuration beside the checkpoints: evaluation, prediction and export take it as --config_path."""
    with atomic_write(path) as temporary:
        temporary.write_text(yaml.safe_dump(config.to_dict(), allow_unicode=True, sort_keys=False), encoding="utf-8")
