"""Evaluate an exported ONNX model on the records of its task, with ONNX Runtime.

    python run_eval_onnx.py --config_path classifier_config.yaml --eval_data_file_path dev.mindrecord \\
        --export_file_name bert_classifier.onnx
"""

import sys

from src.errors import run_script
from src.generate_mindrecord.raw_data import prepared_data
from src.inference.export import model_path
from src.inference.exported import check_classes
from src.inference.onnx_inference import OnnxNetwork
from src.model_utils.config import WeightsOption
from src.model_utils.device_adapter import target_of
from src.tasks.evaluation import report_evaluation, task_to_evaluate
from src.tasks.registry import load_task_config


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Read the configuration, evaluate, print the scores and return them."""
    weights = WeightsOption(lambda _: "export_file_name")  # which describes itself, as a model folder does
    config = load_task_config("Evaluate an ONNX model.", with_two_dashes(sys.argv[1:] if argv is None else argv),
                              weights)
    task = task_to_evaluate(config, prepared_data)
    network = OnnxNetwork(model_path(config.export_file_name, "ONNX"), config.description,
                          target_of(config) == "CPU")
    check_classes(task, network.about, network.path)
    return report_evaluation(task, network, task.evaluation_batches())


def with_two_dashes(argv: list[str]) -> list[str]:
    """Take `-export_file_name` as well, which commands of the original were written with."""
    return [f"-{argument}" if argument.partition("=")[0] == "-export_file_name" else argument for argument in argv]


if __name__ == "__main__":
    run_script(main)
