"""Pre-train BERT or BERT-NEZHA on masked-LM and next-sentence records.

    python run_pretrain.py --device_target CPU --data_dir /path/records --train_steps 1000 --batch_size 32

Options, their meaning and their defaults: `python run_pretrain.py --help` and pretrain_config.yaml.
"""

import sys
from pathlib import Path

from src.bert_for_pre_training import BertNetworkWithLoss, initialize_parameters
from src.bert_model import BertConfig
from src.callbacks import Callback, Checkpoints, Periodic, ProgressBar, RunPlan, StopOnDivergence, print_log_line
from src.dataset import BatchStream
from src.errors import UserError, run_script
from src.files import make_output_dir
from src.metrics_file import LossPlot, MetricsFile
from src.model_utils.config import Config, load_config, select_network
from src.model_utils.device_adapter import DeviceInfo, set_up_device
from src.model_utils.moxing_adapter import cloud_storage
from src.optimizer import create_optimizer
from src.pretraining import TrainingEvaluation, bert_config_of, limits_of, open_pretrain_records
from src.record_readers import Records
from src.train_step import TrainStep
from src.training import configured_step, operators_of, start_as_first_rank, starting_step, train


def main(argv: list[str] | None = None) -> None:
    """Read the configuration and train."""
    with cloud_storage(load_config("Pre-train BERT or BERT-NEZHA.", "pretrain_config.yaml", argv)) as config:
        pretrain(config)


def pretrain(config: Config) -> None:
    """Build data, network and optimizer from the configuration, then train."""
    device = set_up_device(config)
    bert_config = bert_config_of(config, device.target)
    records = open_pretrain_records(config, bert_config, "data_dir")
    output_dir = make_output_dir(config.save_checkpoint_path or ".", "save_checkpoint_path")
    total_steps, samples_per_step = run_length(config, device, records)

    step_cell = build_training_step(config, bert_config, device, total_steps)
    recipe = run_recipe(config, device, records, samples_per_step) | operators_of(device, bert_config)
    start_step = start_as_first_rank(step_cell, device, lambda: starting_step(
        step_cell, output_dir, config.resume == "true", config.load_checkpoint_path, recipe))
    plan = RunPlan(start_step, total_steps, samples_per_step, records.num_rows)
    if start_step >= total_steps:
        print(f"nothing left to do: {start_step} of {total_steps} steps are done", flush=True)
        return

    stream = BatchStream(
        records, select_network(config)[1], total_steps, start_step=start_step, seed=config.seed,
        shuffle=config.do_shuffle == "true", accumulation_steps=config.accumulation_steps,
        bucket_list=config.bucket_list, rank=device.rank, rank_size=device.rank_size, limits=limits_of(bert_config))
    callbacks = [StopOnDivergence(output_dir, start_step),
                 *reports(config, bert_config, device, step_cell, plan, output_dir, recipe)]
    sink_steps = config.data_sink_steps if config.enable_data_sink == "true" and device.target != "CPU" else 0
    try:
        train(step_cell, stream, plan, callbacks, sink_steps, device.rank_size)
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt(f"{str(interrupt) or 'interrupted'}; with --resume true the same command goes on from "
                                f"the newest checkpoint in {output_dir}") from None


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


def build_training_step(config: Config, bert_config: BertConfig, device: DeviceInfo, total_steps: int) -> TrainStep:
    """The network with its initial weights, its optimizer, and the step that trains it."""
    network = BertNetworkWithLoss(bert_config, is_training=True)
    initialize_parameters(network, bert_config.initializer_range, config.seed)
    optimizer = create_optimizer(config.optimizer, network, config[config.optimizer], total_steps)
    return configured_step(config, device, network, optimizer)


def run_recipe(config: Config, device: DeviceInfo, records: Records, samples_per_step: int) -> dict:
    """What a resumed run must share with the one it continues, for its losses to be the same digits."""
    recipe = {key: config[key] for key in ("seed", "do_shuffle", "accumulation_steps", "train_steps", "epoch_size")}
    return recipe | {"num_rows": records.num_rows, "samples_per_step": samples_per_step,
                     "ranks": device.rank_size, "bucket_list": list(config.bucket_list),
                     config.optimizer: config[config.optimizer].to_dict()}


def reports(config: Config, bert_config: BertConfig, device: DeviceInfo, step_cell: TrainStep, plan: RunPlan,
            output_dir: Path, recipe: dict) -> list[Callback]:
    """What happens around the steps: all ranks evaluate, rank 0 reports and saves."""
    metrics = MetricsFile(config.metrics_file or output_dir / "metrics.jsonl", plan) if device.rank == 0 else None
    evaluation = []
    if config.train_with_eval == "true":
        run = TrainingEvaluation(config, bert_config, device, step_cell, metrics).run
        evaluation.append(Periodic(run, config.save_checkpoint_steps, plan.start_step))
    if metrics is None:
        return evaluation
    callbacks = [metrics]
    if sys.stderr.isatty():
        callbacks.append(ProgressBar(plan, "pre-training"))
    if not (sys.stderr.isatty() and sys.stdout.isatty()):  # on one terminal the bar says it all
        callbacks.append(Periodic(print_log_line, config.log_steps, plan.start_step))
    if config.enable_save_ckpt == "true":
        callbacks.append(Checkpoints(output_dir, step_cell, plan, config.save_checkpoint_steps,
                                     config.save_checkpoint_num, recipe))
    return [*callbacks, *evaluation, LossPlot(metrics.path, config.plot_file or output_dir / "loss.png")]


if __name__ == "__main__":
    run_script(main)
