"""Evaluating a fine-tuned network by itself: its scores, and a file of its predictions."""

from collections.abc import Callable
from pathlib import Path

from src.dataset import EvaluationBatches
from src.initialization import undrawn_weights
from src.model_utils.config import Config
from src.model_utils.device_adapter import DeviceInfo
from src.tasks.finetune_task import FinetuneTask, predictions_path, require_data
from src.tasks.record_facts import PrepareData, settled_by_records
from src.tasks.registry import finetune_task_type


def task_to_evaluate(config: Config, prepare: PrepareData = settled_by_records) -> FinetuneTask:
    """The task of a configuration, for an evaluation by something else than its network.

    Args:
        config: the configuration.
        prepare: makes records of raw data; without it only records are taken.

    Raises:
        UserError: it is no fine-tuning task, the configuration does not fit together, or it names no data.
    """
    task_class = finetune_task_type(config)
    require_data(config, task_class.eval_data_options, "evaluate")
    task = task_class.from_config(prepare(config, task_class, ["eval_data_file_path"]))
    task.check()
    return task


def evaluate_checkpoint(task: FinetuneTask, device: DeviceInfo) -> dict[str, float]:
    """Evaluate `load_finetune_checkpoint_path`; see `report_evaluation`."""
    batches = task.evaluation_batches(device.rank, device.rank_size)
    with undrawn_weights():
        network = task.inference_network()
    report = task.load(network, task.config[task.weights_option], task.weights_option)
    print(report, flush=True)
    return report_evaluation(task, network.set_train(False), batches, writes=device.rank == 0)


def report_evaluation(task: FinetuneTask, network: Callable, batches: EvaluationBatches,
                      writes: bool = True) -> dict[str, float]:
    """Evaluate a network, or what answers in its place, print the scores and write the predictions if it `writes`."""
    writes = writes and bool(task.config.predictions_file or task.always_writes_predictions)
    path = predictions_path(task, Path()) if writes else None
    evaluation = task.evaluate(network, batches)
    print("\n".join(evaluation.lines), flush=True)
    if path and evaluation.write_predictions:
        evaluation.write_predictions(path)
    return evaluation.results
