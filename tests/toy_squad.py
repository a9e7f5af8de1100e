"""Question answering in miniature: files and options that several test files use."""

import json
import random
from pathlib import Path

from command_line import command_line

from src.tokenization import SPECIAL_TOKENS

COLOURS = ["red", "green", "blue", "white", "black", "brown"]
THINGS = ["cat", "dog", "car", "house", "ship", "tree"]
VOCABULARY = [*SPECIAL_TOKENS, "the", "is", ".", "which", "colour", "has", "?", "and", *COLOURS, *THINGS]
SEQ_LENGTH = 40
TINY = {
    "device_target": "CPU", "do_train": "true", "do_eval": "true", "train_batch_size": 8, "eval_batch_size": 16,
    "epoch_num": 2, "load_pretrain_checkpoint_path": "none", "doc_stride": 12, "max_query_length": 8,
    "optimizer_cfg.AdamWeightDecay.learning_rate": 0.01, "bert_net_cfg.seq_length": SEQ_LENGTH,
    "bert_net_cfg.vocab_size": len(VOCABULARY), "bert_net_cfg.hidden_size": 32, "bert_net_cfg.num_hidden_layers": 2,
    "bert_net_cfg.num_attention_heads": 2, "bert_net_cfg.intermediate_size": 64,
    "bert_net_cfg.max_position_embeddings": 64, "bert_net_cfg.initializer_range": 0.1,
    "bert_net_cfg.hidden_dropout_prob": 0.0, "bert_net_cfg.attention_probs_dropout_prob": 0.0,
    "bert_net_cfg.compute_type": "float32", "log_steps": 5,
}


def toy_squad(count: int, seed: int = 0, *, longest: int = 4, impossible: bool = False) -> dict:
    """Contexts such as "The cat has the dog. The ship is blue." with the question "Which colour has the ship?".

    One sentence of at most `longest` is about a colour; more than 5 sentences need more than one window. With
    `impossible`, every third context has no colour.
    """
    rng = random.Random(seed)
    paragraphs = []
    for number in range(count):
        sentences = [f"The {rng.choice(THINGS)} has the {rng.choice(THINGS)}." for _ in range(rng.randrange(longest))]
        thing, colour = rng.choice(THINGS), rng.choice(COLOURS)
        question = {"id": f"{seed}-{number}", "question": f"Which colour has the {thing}?", "answers": [],
                    "is_impossible": impossible and number % 3 == 0}
        if not question["is_impossible"]:
            sentences.insert(rng.randrange(len(sentences) + 1), f"The {thing} is {colour}.")
            question["answers"].append({"text": colour, "answer_start": " ".join(sentences).index(f" {colour}.") + 1})
        paragraphs.append({"context": " ".join(sentences) or "The cat.", "qas": [question]})
    return {"version": "2.0" if impossible else "1.1", "data": [{"title": "toy", "paragraphs": paragraphs}]}


def write_toy(folder: Path, **files: dict) -> Path:
    """Write the vocabulary and, as `<name>.json`, the files."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def tiny_options(data: Path, output: Path, **options: object) -> list[str]:
    """A command line for a tiny network on the files of `data`; `__` in a name stands for the dot."""
    paths = {"train_data_file_path": data / "train.json", "eval_json_path": data / "dev.json",
             "vocab_file_path": data / "vocab.txt", "save_finetune_checkpoint_path": output}
    return command_line(TINY, paths, options)
