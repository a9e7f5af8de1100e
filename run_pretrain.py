"""Pre-train BERT or BERT-NEZHA on masked-LM and next-sentence records.

    python run_pretrain.py --device_target CPU --data_dir /path/records --train_steps 1000 --batch_size 32

Options, their meaning and their defaults: `python run_pretrain.py --help` and pretrain_config.yaml.
"""

from src.errors import run_script
from src.exchange.folders import open_model
from src.generate_mindrecord.raw_data import prepared_data
from src.model_utils.config import WeightsOption, load_config
from src.model_utils.device_adapter import set_up_device
from src.model_utils.moxing_adapter import cloud_storage
from src.tasks.pretraining.task import PretrainTask
from src.tasks.pretraining.training import Pretraining
from src.training.run import run_training


def main(argv: list[str] | None = None) -> None:
    """Read the configuration and train."""
    weights = WeightsOption(Pretraining.weights_in_use, open_model)
    with cloud_storage(load_config("Pre-train BERT or BERT-NEZHA.", PretrainTask.config_file, argv, weights)) as asked:
        options = ["data_dir", *(["eval_data_dir"] if asked.train_with_eval else [])]
        device = set_up_device(asked)  # before records are made: that may take its time
        config = prepared_data(asked, PretrainTask, options)
        run_training(Pretraining(config, device, asked), device)


if __name__ == "__main__":
    run_script(main)
