"""Fine-tuning in miniature: records and options that several test files use."""

from pathlib import Path

import numpy as np
from command_line import command_line

from src.records.writer import RecordWriter, write_schema_json

VOCAB_SIZE, SEQ_LENGTH, CLASSES = 40, 16, 3
CLS, SEP = 2, 3
TINY = {
    "device_target": "CPU", "do_train": "true", "do_eval": "true", "num_class": CLASSES, "train_batch_size": 8,
    "eval_batch_size": 16, "epoch_num": 2, "load_pretrain_checkpoint_path": "none",
    "optimizer_cfg.optimizer": "AdamWeightDecay", "optimizer_cfg.AdamWeightDecay.learning_rate": 0.01,
    "bert_net_cfg.seq_length": SEQ_LENGTH, "bert_net_cfg.vocab_size": VOCAB_SIZE, "bert_net_cfg.hidden_size": 16,
    "bert_net_cfg.num_hidden_layers": 1, "bert_net_cfg.num_attention_heads": 2, "bert_net_cfg.intermediate_size": 32,
    "bert_net_cfg.max_position_embeddings": 32, "bert_net_cfg.initializer_range": 0.1,
    "bert_net_cfg.compute_type": "float32", "log_steps": 5,
}


def toy_rows(count: int, seed: int = 0, *, regression: bool = False) -> dict[str, np.ndarray]:
    """Sentences of 4 to 16 tokens whose class is that of their words: class c has the words 10 c + 10 to 10 c + 17.

    For regression the label is half of the class.
    """
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, CLASSES, (count, 1))
    lengths = generator.integers(4, SEQ_LENGTH + 1, (count, 1))
    position = np.arange(SEQ_LENGTH)
    ids = 10 * labels + 10 + generator.integers(0, 8, (count, SEQ_LENGTH))
    ids[:, 0] = CLS
    ids[position == lengths - 1] = SEP
    mask = (position < lengths).astype(np.int32)
    return {"input_ids": ids * mask, "input_mask": mask, "segment_ids": np.zeros_like(mask),
            "label_ids": (labels / 2).astype(np.float32) if regression else labels}


def write_rows(path: Path, rows: dict[str, np.ndarray]) -> Path:
    """Write a record file, of the format that its name says, with a schema for TFRecord."""
    dataset_format = "tfrecord" if "tf_record" in path.name else "mindrecord"
    columns = {name: ("float32" if values.dtype == np.float32 else "int32", values.shape[1])
               for name, values in rows.items()}
    with RecordWriter(path, columns, dataset_format) as writer:
        writer.write(rows)
    if dataset_format == "tfrecord":
        write_schema_json(path.with_name("dataset.json"), columns, len(rows["input_ids"]))
    return path


def tiny_options(data: Path, output: Path, **options: object) -> list[str]:
    """A command line for a tiny classifier on `data`; `__` in a name stands for the dot."""
    paths = {"train_data_file_path": data / "train.mindrecord", "eval_data_file_path": data / "dev.mindrecord",
             "save_finetune_checkpoint_path": output}
    return command_line(TINY, paths, options)
