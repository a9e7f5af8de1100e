"""Export a fine-tuned or pre-trained network for use without this repository's Python code.

    python export.py --config_path classifier_config.yaml --export_ckpt_file classifier_best.ckpt \\
        --export_file_name bert_classifier --file_format MINDIR --export_batch_size 0
"""

from src.errors import run_script
from src.exchange.folders import open_model
from src.inference.export import export_model
from src.model_utils.config import WeightsOption
from src.model_utils.device_adapter import set_up_device
from src.model_utils.moxing_adapter import cloud_storage
from src.tasks.registry import load_task_config


def main(argv: list[str] | None = None) -> None:
    """Export the checkpoint and say where the model is."""
    weights = WeightsOption(lambda _: "export_ckpt_file", open_model)
    with cloud_storage(load_task_config("Export a fine-tuned or pre-trained network.", argv, weights)) as config:
        device = set_up_device(config)
        path = export_model(config, device.target)
        print(f"exported {config.export_ckpt_file} as {path}", flush=True)


if __name__ == "__main__":
    run_script(main)
