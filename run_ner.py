"""Fine-tune a pre-trained network on named-entity recognition, and evaluate it.

    python run_ner.py --config_path task_ner_cpu_config.yaml --do_train true --do_eval true --use_crf true \\
        --label_file_path label_file --train_data_file_path train.mindrecord --eval_data_file_path dev.mindrecord \\
        --load_pretrain_checkpoint_path checkpoint_bert-1_1000.ckpt

Options, their meaning and their defaults: `python run_ner.py --help` and task_ner_config.yaml.
"""

from src.errors import run_script
from src.exchange.folders import open_model
from src.generate_mindrecord.raw_data import prepared_data
from src.tasks.finetuning import run_finetuning
from src.tasks.ner.task import NerTask


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Train, evaluate or both; return the scores."""
    return run_finetuning("Fine-tune and evaluate named-entity recognition.", NerTask, argv, prepared_data, open_model)


if __name__ == "__main__":
    run_script(main)
