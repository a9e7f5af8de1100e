"""Pre-training in miniature: records, options and processes that several test files use."""

import subprocess
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
from command_line import command_line
from paths import REPOSITORY

import run_pretrain
from src.checkpoint_files import find_newest
from src.records.columns import pretrain_columns
from src.records.writer import RecordWriter, write_schema_json
from src.training.metrics_file import read_metrics
from src.weights import read_weights

VOCAB_SIZE, SEQ_LENGTH, PREDICTIONS = 64, 16, 3
PAD, CLS, MASK = 0, 2, 4
TINY = {
    "device_target": "CPU", "batch_size": 8, "optimizer": "AdamWeightDecay", "AdamWeightDecay.learning_rate": 0.01,
    "AdamWeightDecay.warmup_steps": 4, "base_net_cfg.seq_length": SEQ_LENGTH, "base_net_cfg.vocab_size": VOCAB_SIZE,
    "base_net_cfg.hidden_size": 16, "base_net_cfg.num_hidden_layers": 1, "base_net_cfg.num_attention_heads": 2,
    "base_net_cfg.intermediate_size": 32, "base_net_cfg.max_position_embeddings": 32,
    "base_net_cfg.compute_type": "float32",
}


def toy_batch(num_rows: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Pre-training records that a tiny network learns in a few dozen steps.

    A word follows from its position and from whether the second segment, which begins in the middle, is the next
    sentence (label 0, words 20 and up) or not (label 1, words 40 and up). A third of the records has one masked
    position less, padded with weight 0.
    """
    rng = np.random.default_rng(seed)
    position = np.arange(SEQ_LENGTH)
    length = rng.integers(6, SEQ_LENGTH + 1, num_rows)
    label = rng.integers(0, 2, num_rows)
    used = position < length[:, None]
    second = used & (position >= length[:, None] // 2)
    ids = np.where(second, np.where(label == 1, 40, 20)[:, None], 5) + position
    ids[:, 0] = CLS
    ids[~used] = PAD
    positions = np.stack([np.sort(1 + rng.choice(n - 1, PREDICTIONS, replace=False)) for n in length])
    weights = np.ones((num_rows, PREDICTIONS), np.float32)
    weights[rng.random(num_rows) < 1 / 3, -1] = 0
    positions[weights == 0] = 0
    words = np.where(weights > 0, np.take_along_axis(ids, positions, 1), 0)
    for row, masked in enumerate(positions):
        ids[row, masked[masked > 0]] = MASK
    return {"input_ids": ids, "input_mask": used, "segment_ids": second, "next_sentence_labels": label[:, None],
            "masked_lm_positions": positions, "masked_lm_ids": words, "masked_lm_weights": weights}


def write_records(directory: Path, batch: dict[str, np.ndarray], dataset_format: str = "mindrecord",
                  without: str = "") -> Path:
    """Write a batch as one record file of a new directory, leaving out the column `without`."""
    directory.mkdir(parents=True)
    columns = pretrain_columns(batch["input_ids"].shape[1], batch["masked_lm_positions"].shape[1])
    columns.pop(without, None)
    with RecordWriter(directory / f"toy.{dataset_format}", columns, dataset_format) as writer:
        writer.write(batch)
    if dataset_format == "tfrecord":
        write_schema_json(directory / "schema.json", columns, len(batch["input_ids"]))
    return directory


def tiny_options(**options: object) -> list[str]:
    """A command line for pre-training or its evaluation with a tiny network; `__` in a name stands for the dot."""
    return command_line(TINY, options)


def start_script(script: str, argv: list[str], cwd: Path, **arguments: object) -> subprocess.Popen:
    """Start one of the repository's scripts as the user does; output is captured as text."""
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | arguments
    return subprocess.Popen([sys.executable, str(REPOSITORY / script), *argv], cwd=cwd, text=True, **streams)


class Printed(StringIO):
    """What goes to standard output."""


def pretrain(output_dir: Path, **options: object) -> str:
    """Run the command in this process; return what it printed."""
    printed = Printed()
    with redirect_stdout(printed):
        run_pretrain.main(tiny_options(save_checkpoint_path=output_dir, **options))
    return printed.getvalue()


def steps_of(output_dir: Path) -> list[dict]:
    """The metrics of each step, without the rate, which is never the same twice."""
    return [{key: value for key, value in line.items() if key != "samples_per_second"}
            for line in read_metrics(output_dir / "metrics.jsonl") if "loss" in line]


def assert_same_training(output_dir: Path, expected_dir: Path, start: int = 0) -> None:
    """Losses, learning rates and loss scales behind step `start`, and the final state, are the same bits."""
    assert steps_of(output_dir) == steps_of(expected_dir)[start:]
    final, expected = find_newest(output_dir), find_newest(expected_dir)
    assert final.step == expected.step
    for of_run, of_expected in ((final.path, expected.path), (final.state_path, expected.state_path)):
        values, expected_values = read_weights(of_run), read_weights(of_expected)
        assert values.keys() == expected_values.keys()
        for name, value in values.items():
            assert value.tobytes() == expected_values[name].tobytes(), name
