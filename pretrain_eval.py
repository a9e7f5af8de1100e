"""Evaluate a pre-trained BERT or NEZHA: masked-LM and next-sentence accuracy over every record of a data set.

    python pretrain_eval.py --device_target CPU --eval_data_dir RECORDS --eval_ckpt checkpoint_bert-1_100.ckpt
"""

from src.errors import UserError, run_script
from src.exchange.folders import open_model
from src.generate_mindrecord.raw_data import prepared_data
from src.initialization import undrawn_weights
from src.model_utils.config import Config, WeightsOption, load_config
from src.model_utils.device_adapter import set_up_device
from src.model_utils.moxing_adapter import cloud_storage
from src.tasks.pretraining.task import PretrainTask, evaluate


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Read the configuration and evaluate; return the scores."""
    weights = WeightsOption(lambda _: "eval_ckpt", open_model)
    with cloud_storage(load_config("Evaluate a pre-trained BERT or NEZHA.", PretrainTask.config_file, argv, weights)
                       ) as config:
        return evaluate_checkpoint(prepared_data(config, PretrainTask, ["eval_data_dir"]))


def evaluate_checkpoint(config: Config) -> dict[str, float]:
    """Evaluate `eval_ckpt` on eval_data_dir, print the scores and return them."""
    if not config.eval_ckpt:
        raise UserError("eval_ckpt is not set; give the checkpoint to evaluate, --eval_ckpt /path/checkpoint.ckpt")
    device = set_up_device(config)
    task = PretrainTask.from_config(config, device.target)
    batches = task.evaluation_batches(device.rank, device.rank_size)
    with undrawn_weights():
        network = task.evaluation_network()
    print(task.load(network, config.eval_ckpt, "eval_ckpt"), flush=True)
    score = evaluate(network, batches)
    print("\n".join(score.lines()))
    return score.results()


if __name__ == "__main__":
    run_script(main)
