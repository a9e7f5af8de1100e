"""Fine-tune a pre-trained network on sentence classification or regression, and evaluate it.

    python run_classifier.py --config_path task_classifier_cpu_config.yaml --do_train true --do_eval true \\
        --num_class 15 --train_data_file_path train.mindrecord --eval_data_file_path dev.mindrecord \\
        --load_pretrain_checkpoint_path checkpoint_bert-1_1000.ckpt

Options, their meaning and their defaults: `python run_classifier.py --help` and task_classifier_config.yaml.
"""

from src.errors import run_script
from src.exchange.folders import open_model
from src.generate_mindrecord.raw_data import prepared_data
from src.tasks.classifier.task import ClassifierTask
from src.tasks.finetuning import run_finetuning


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Train, evaluate or both; return the scores."""
    return run_finetuning("Fine-tune and evaluate sentence classification or regression.", ClassifierTask, argv,
                          prepared_data, open_model)


if __name__ == "__main__":
    run_script(main)
