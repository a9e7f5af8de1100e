"""Export a fine-tuned or pre-trained network for use without this repository's Python code.

    python export.py --config_path classifier_config.yaml --export_ckpt_file classifier_best.ckpt \\
        --export_file_name bert_classifier --file_format MINDIR --export_batch_size 0

With `--file_format ONNX --quantization int8 --eval_data_file_path dev.mindrecord` the scores before and after the
quantization are printed.
"""

from pathlib import Path

from src.errors import run_script
from src.exchange.folders import open_model
from src.generate_mindrecord.raw_data import prepared_data
from src.inference.export import Score, export_model
from src.inference.exported import check_classes
from src.inference.onnx_inference import OnnxNetwork
from src.model_utils.config import Config, WeightsOption
from src.model_utils.device_adapter import set_up_device
from src.model_utils.moxing_adapter import cloud_storage
from src.tasks.evaluation import task_to_evaluate
from src.tasks.finetune_task import FinetuneTask
from src.tasks.registry import load_task_config, task_type


def main(argv: list[str] | None = None) -> None:
    """Export the checkpoint and say where the model is."""
    weights = WeightsOption(lambda _: "export_ckpt_file", open_model)
    with cloud_storage(load_task_config("Export a fine-tuned or pre-trained network.", argv, weights)) as config:
        device = set_up_device(config)
        path = export_model(config, device.target, scores_printed(config, device.target == "CPU"))
        print(f"exported {config.export_ckpt_file} as {path}", flush=True)


def scores_printed(config: Config, on_cpu: bool) -> Score | None:
    """What evaluates a model and prints its scores; None unless it is quantized and the user gives data for it now.

    The configuration of a training names its data too, and an export alone shall not need them.
    """
    task_class = task_type(config.description)
    if config.quantization == "none" or not issubclass(task_class, FinetuneTask) or not any(
            config.was_given(option) and config[option] for option in task_class.eval_data_options):
        return None
    task = task_to_evaluate(config, prepared_data)

    def score(state: str, model: Path) -> None:
        network = OnnxNetwork(model, config.description, on_cpu)
        check_classes(task, network.about, model)
        for line in task.evaluate(network, task.evaluation_batches()).lines:
            print(f"{state}: {line}", flush=True)

    return score


if __name__ == "__main__":
    run_script(main)
