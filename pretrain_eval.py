"""Evaluate a pre-trained BERT or NEZHA: masked-LM and next-sentence accuracy over every record of a data set.

    python pretrain_eval.py --device_target CPU --eval_data_dir RECORDS --eval_ckpt checkpoint_bert-1_100.ckpt
"""

from src.bert_for_pre_training import BertPretrainEval
from src.checkpoint import load_weights
from src.errors import UserError, run_script
from src.initialization import undrawn_weights
from src.model_utils.config import Config, load_config
from src.model_utils.device_adapter import set_up_device
from src.model_utils.moxing_adapter import cloud_storage
from src.pretraining import bert_config_of, evaluate, evaluation_batches


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Read the configuration and evaluate; return the scores."""
    with cloud_storage(load_config("Evaluate a pre-trained BERT or NEZHA.", "pretrain_config.yaml", argv)) as config:
        return evaluate_checkpoint(config)


def evaluate_checkpoint(config: Config) -> dict[str, float]:
    """Evaluate `eval_ckpt` on eval_data_dir, print the scores and return them."""
    if not config.eval_ckpt:
        raise UserError("eval_ckpt is not set; give the checkpoint to evaluate, --eval_ckpt /path/checkpoint.ckpt")
    device = set_up_device(config)
    bert_config = bert_config_of(config, device.target)
    batches = evaluation_batches(config, bert_config, device)
    with undrawn_weights():
        network = BertPretrainEval(bert_config)
    report = load_weights(network, config.eval_ckpt)
    print(report, flush=True)
    without_weights = [*report.missing, *report.wrong_shape]
    if without_weights:
        raise UserError(f"eval_ckpt: {config.eval_ckpt} has no weights for {len(without_weights)} parameters of the "
                        f"network, such as {without_weights[0]}; give a pre-training checkpoint of a network of the "
                        f"same sizes")
    score = evaluate(network, batches)
    print("\n".join(score.lines()))
    return score.results()


if __name__ == "__main__":
    run_script(main)
