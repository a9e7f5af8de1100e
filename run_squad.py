"""Fine-tune a pre-trained network on question answering (SQuAD 1.1 and 2.0), and evaluate it.

    python run_squad.py --device_target CPU --do_train true --do_eval true --vocab_file_path vocab.txt \\
        --train_data_file_path train.mindrecord --eval_json_path dev-v1.1.json \\
        --load_pretrain_checkpoint_path checkpoint_bert-1_1000.ckpt

Options, their meaning and their defaults: `python run_squad.py --help` and task_squad_config.yaml.
"""

from src.errors import run_script
from src.exchange.folders import open_model
from src.generate_mindrecord.raw_data import prepared_data
from src.tasks.finetuning import run_finetuning
from src.tasks.squad.task import SquadTask


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Train, evaluate or both; return the scores."""
    return run_finetuning("Fine-tune and evaluate question answering.", SquadTask, argv, prepared_data, open_model)


if __name__ == "__main__":
    run_script(main)
