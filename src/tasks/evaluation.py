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
from src.tasks.report import evaluation_parts, report_path, text_completion, write_report


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
    """Evaluate a network, or what answers in its place, and print the scores; write predictions and a report.

    The files are written if this rank `writes`, and if the user or the task wants predictions.
    """
    writes = writes and bool(task.config.predictions_file or task.always_writes_predictions)
    path = predictions_path(task, Path()) if writes else None
    report = report_path(path) if path else None
    evaluation = task.evaluate(network, batches)
    print("\n".join(evaluation.lines), flush=True)
    if path:
        items = list(evaluation.items()) if evaluation.items else []
        evaluation.write(path, items)
        parts = evaluation_parts(evaluation, items, text_completion(task, batches.records))
        write_report(report, f"{task.description}: evaluation", parts)
    return evaluation.results
