"""Pre-train BERT or BERT-NEZHA on masked-LM and next-sentence records.

    python run_pretrain.py --device_target CPU --data_dir /path/records --train_steps 1000 --batch_size 32

Options, their meaning and their defaults: `python run_pretrain.py --help` and pretrain_config.yaml.
"""

import math
import sys
from collections.abc import Callable
from pathlib import Path

from mindspore import Tensor, nn
from mindspore.train import Callback

from src.bert_for_pre_training import BertNetworkWithLoss, BertPretrainEval, initialize_parameters
from src.bert_model import BertConfig
from src.callbacks import (
    LogLines,
    LossPlot,
    MetricsFile,
    Periodic,
    ProgressBar,
    RunPlan,
    StepReporter,
    StopOnDivergence,
)
from src.checkpoint import Checkpoint, find_newest, load_checkpoint_path, restore_training, save_training_checkpoint
from src.dataset import BatchStream, EvaluationBatches
from src.errors import UserError, run_script
from src.files import make_output_dir
from src.model_utils.config import Config, load_config, select_network
from src.model_utils.device_adapter import DeviceInfo, set_up_device
from src.optimizer import create_optimizer
from src.pretraining import bert_config_of, evaluate, limits_of, open_pretrain_records
from src.record_readers import Records
from src.train_step import LossScale, TrainStep
from src.training import train


def main(argv: list[str] | None = None) -> None:
    """Build network, optimizer and data from the configuration, then train."""
    config = load_config("Pre-train BERT or BERT-NEZHA.", "pretrain_config.yaml", argv)
    device = set_up_device(config)
    bert_config = bert_config_of(config, device.target)
    records = open_pretrain_records(config, bert_config, "data_dir")
    output_dir = make_output_dir(config.save_checkpoint_path or ".", "save_checkpoint_path")
    total_steps, samples_per_step = run_length(config, device, records)

    network = BertNetworkWithLoss(bert_config, is_training=True)
    initialize_parameters(network, bert_config.initializer_range, config.seed)
    optimizer = create_optimizer(config.optimizer, network, config[config.optimizer], total_steps)
    step_cell = TrainStep(
        network, optimizer,
        loss_scale=LossScale(config.loss_scale_value, config.scale_factor, config.scale_window)
        if config.enable_lossscale == "true" else None,
        accumulation_steps=config.accumulation_steps,
        clip_norm=config.max_grad_norm if config.enable_global_norm == "true" else None,
        grad_reducer=nn.DistributedGradReducer(optimizer.parameters) if device.rank_size > 1 else None,
        allreduce_post_accumulation=config.allreduce_post_accumulation == "true",
        seed=config.seed * device.rank_size + device.rank)  # ranks drop different elements

    recipe = run_recipe(config, records, samples_per_step)
    start_step = starting_step(config, step_cell, output_dir, recipe)
    plan = RunPlan(start_step, total_steps, samples_per_step, records.num_rows)
    stream = BatchStream(
        records, select_network(config)[1], total_steps, start_step=start_step, seed=config.seed,
        shuffle=config.do_shuffle == "true", accumulation_steps=config.accumulation_steps,
        bucket_list=config.bucket_list, rank=device.rank, rank_size=device.rank_size, limits=limits_of(bert_config))
    callbacks = [StepReporter(plan, optimizer), StopOnDivergence(output_dir)]
    if device.rank == 0:
        callbacks += reports(config, bert_config, step_cell, plan, output_dir, recipe)
    sink_steps = config.data_sink_steps if config.enable_data_sink == "true" and device.target != "CPU" else 0
    train(step_cell, stream, callbacks, sink_steps)


def run_length(config: Config, device: DeviceInfo, records: Records) -> tuple[int, int]:
    """Optimizer steps of the whole training, and samples that a step takes over all ranks."""
    _, batch_size = select_network(config)
    samples_per_step = batch_size * config.accumulation_steps * device.rank_size
    if config.train_steps > 0:
        return config.train_steps, samples_per_step
    total_steps = config.epoch_size * records.num_rows // samples_per_step
    if not total_steps:
        raise UserError(f"{config.epoch_size} epochs of the {records.num_rows} records in {config.data_dir} do not "
                        f"fill one step of {samples_per_step} samples; lower batch_size or raise epoch_size")
    return total_steps, samples_per_step


def run_recipe(config: Config, records: Records, samples_per_step: int) -> dict:
    """What a resumed run must share with the one it continues, for its losses to be the same digits."""
    recipe = {key: config[key] for key in ("seed", "do_shuffle", "accumulation_steps", "train_steps", "epoch_size")}
    return recipe | {"num_rows": records.num_rows, "samples_per_step": samples_per_step,
                     "bucket_list": list(config.bucket_list), config.optimizer: config[config.optimizer].to_dict()}


def starting_step(config: Config, step_cell: TrainStep, output_dir: Path, recipe: dict) -> int:
    """Load what the configuration asks for; return the number of optimizer steps that are done already."""
    found = find_newest(output_dir) if config.resume == "true" else None
    if found:
        restore_training(step_cell, found)
    elif config.load_checkpoint_path:
        found = load_checkpoint_path(config.load_checkpoint_path, step_cell)
    if not isinstance(found, Checkpoint):
        if found:
            print(found, flush=True)  # weights alone: what was loaded and what not
        return 0
    print(f"resumed from {found.path} after step {found.step}", flush=True)
    changed = [f"{key} {found.metadata.get(key)} -> {value}" for key, value in recipe.items()
               if found.metadata.get(key) != value]
    if changed:
        print(f"continues differently from the run that saved it: {', '.join(changed)}", file=sys.stderr, flush=True)
    return found.step


def reports(config: Config, bert_config: BertConfig, step_cell: TrainStep, plan: RunPlan, output_dir: Path,
            recipe: dict) -> list[Callback]:
    """What rank 0 does around the steps: it reports, evaluates and saves."""
    metrics = MetricsFile(config.metrics_file or output_dir / "metrics.jsonl", plan)
    callbacks = [metrics]
    if sys.stderr.isatty():
        callbacks.append(ProgressBar(plan, "pre-training"))
    if not sys.stdout.isatty():
        callbacks.append(LogLines(config.log_steps))
    if config.train_with_eval == "true":
        callbacks.append(Periodic(evaluation_action(config, bert_config, step_cell, metrics),
                                  config.save_checkpoint_steps, plan.start_step))
    if config.enable_save_ckpt == "true":
        def save(step: int) -> None:
            epoch = max(1, math.ceil(plan.epochs_at(step)))
            save_training_checkpoint(output_dir, epoch, step, step_cell, recipe, config.save_checkpoint_num)
        callbacks.append(Periodic(save, config.save_checkpoint_steps, plan.start_step))
    callbacks.append(LossPlot(metrics.path, config.plot_file or output_dir / "loss.png"))
    return callbacks


def evaluation_action(config: Config, bert_config: BertConfig, step_cell: TrainStep,
                      metrics: MetricsFile) -> Callable[[int], None]:
    """An action that evaluates the weights of the moment, prints the scores and adds them to the metrics file."""
    records = open_pretrain_records(config, bert_config, "eval_data_dir")
    batch_size = min(select_network(config)[1], records.num_rows)
    batches = EvaluationBatches(records, batch_size, limits=limits_of(bert_config))
    network = BertPretrainEval(bert_config)
    targets = {parameter.name: parameter for parameter in network.get_parameters()}

    def act(step: int) -> None:
        for parameter in step_cell.network.get_parameters():
            targets[parameter.name].set_data(Tensor(parameter.asnumpy()))
        score = evaluate(network, batches)
        print("\n".join(score.lines()), flush=True)
        metrics.write(step, **score.results())
    return act


if __name__ == "__main__":
    run_script(main)
