"""Named-entity recognition in miniature: sentences whose entities their characters give away, and options."""

import json
import random
from pathlib import Path

from command_line import command_line
from toy_finetuning import TINY

from src.generate_mindrecord import generate_cluener_mindrecord
from src.tokenization import SPECIAL_TOKENS

NAMES, PLACES, OTHERS = "甲乙丙丁", "东西南北", "的了在是，。"
VOCAB = [*SPECIAL_TOKENS, *NAMES, *PLACES, *OTHERS]
SEQ_LENGTH = 24


def toy_sentence(generator: random.Random, pieces: int) -> dict:
    """A sentence in CLUENER's form; names are of one to three characters, addresses too."""
    text, label = "", {}
    for _ in range(pieces):
        text += "".join(generator.choices(OTHERS, k=generator.randint(1, 3)))
        kind, letters = generator.choice([("name", NAMES), ("address", PLACES)])
        mention = "".join(generator.choices(letters, k=generator.randint(1, 3)))
        label.setdefault(kind, {}).setdefault(mention, []).append([len(text), len(text) + len(mention) - 1])
        text += mention
    return {"text": text, "label": label}


def write_toy_data(folder: Path) -> Path:
    """Raw files, vocabulary, and records of both formats in `folder`."""
    generator = random.Random(0)
    for name, count in (("train", 120), ("dev", 21)):
        lines = [toy_sentence(generator, generator.randint(1, 4)) for _ in range(count)]
        (folder / f"{name}.json").write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines),
                                             encoding="utf-8")
    (folder / "vocab.txt").write_text("\n".join(VOCAB), encoding="utf-8")
    (folder / "types.txt").write_text("address\nname\n", encoding="utf-8")
    for dataset_format in ("mindrecord", "tfrecord"):
        generate_cluener_mindrecord.main([
            "--data_dir", str(folder), "--vocab_file", str(folder / "vocab.txt"), "--output_dir", str(folder),
            "--max_seq_length", str(SEQ_LENGTH), "--label_file", str(folder / "types.txt"),
            "--dataset_format", dataset_format])
    return folder


def ner_options(data: Path, output: Path, **options: object) -> list[str]:
    """A command line for a tiny network on `data`; `__` in a name stands for the dot."""
    tiny = {name: value for name, value in TINY.items() if name != "num_class"}
    own = {"bert_net_cfg.seq_length": SEQ_LENGTH, "bert_net_cfg.vocab_size": len(VOCAB), "epoch_num": 12,
           "optimizer_cfg.AdamWeightDecay.learning_rate": 0.01, "use_crf": "true", "with_lstm": "true",
           "label_file_path": data / "label_file", "vocab_file_path": data / "vocab.txt",
           "train_data_file_path": data / "train.mindrecord", "eval_data_file_path": data / "dev.mindrecord",
           "save_finetune_checkpoint_path": output}
    return command_line(tiny, own, options)
