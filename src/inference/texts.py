"""What prediction on new texts shares: reading the texts, batches that waste little padding, the predictors by task."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from src.errors import UserError
from src.model_utils.config import Config

SHORTEST = 16  # tokens; twice, four times … as many are the other lengths that graphs are compiled for


class Predictor(Protocol):
    """Predicts for one task, from a checkpoint and its configuration."""

    def predict(self, items: Sequence[Mapping]) -> list[dict]:
        """One result for each item, in order; what an item holds depends on the task.

        Raises:
            UserError: an item lacks something.
        """


def create_predictor(config: Config, model: Path | None = None) -> Predictor:
    """The predictor of the task that the configuration describes.

    Args:
        config: of a fine-tuning task, or of pre-training (words for [MASK]).
        model: an exported `.onnx` or `.mindir` file to compute with in place of the checkpoint.

    Raises:
        UserError: checkpoint, model, vocabulary or labels are missing or do not fit.
    """
    # Imported here, so that a task's prediction does not load the others.
    if config.description == "run_classifier":
        from src.tasks.classifier.predictor import ClassifierPredictor

        return ClassifierPredictor(config, model)
    if config.description == "run_ner":
        from src.tasks.ner.predictor import NerPredictor

        return NerPredictor(config, model)
    if config.description == "run_squad":
        from src.tasks.squad.predictor import SquadPredictor

        return SquadPredictor(config, model)
    if config.description == "run_pretrain":
        from src.tasks.pretraining.predictor import MaskPredictor

        if model is not None:
            raise UserError("--model: words for [MASK] are predicted from a checkpoint; give --load_checkpoint_path")
        return MaskPredictor(config)
    raise UserError(f"description: there is no prediction for {config.description}")


def required(config: Config, option: str, what: str) -> str:
    """The value of an option that prediction cannot do without.

    Raises:
        UserError: it is not set.
    """
    if not config[option]:
        raise UserError(f"{option} is not set; give {what}")
    return config[option]


def batches_by_length(columns: Mapping[str, np.ndarray], batch_size: int, fixed_length: int | None = None
                      ) -> Iterator[tuple[tuple[np.ndarray, ...], np.ndarray]]:
    """Cut texts into batches of similar length: yields (arrays [batch_size, L], numbers of the texts in them).

    Lengths L are few, because a graph is compiled for each. The last rows of a batch that the texts do not fill are
    copies, beyond the numbers that are yielded.

    Args:
        columns: arrays [n, S], among them input_mask; the arrays of a batch are in the same order.
        batch_size: rows of every batch.
        fixed_length: the one length that the model takes; None for any.
    """
    mask = columns["input_mask"]
    lengths = mask.shape[1] - (mask[:, ::-1] != 0).argmax(axis=1)  # [n]
    order = np.argsort(lengths, kind="stable")
    for first in range(0, len(order), batch_size):
        numbers = order[first:first + batch_size]
        length = fixed_length or SHORTEST
        while length < lengths[numbers].max():
            length *= 2
        rows = np.resize(numbers, batch_size)
        yield tuple(np.ascontiguousarray(values[rows, :length]) for values in columns.values()), numbers


def read_items(path: str, fields: Sequence[str]) -> Iterator[dict]:
    """Items of a file, or of standard input for "-": JSON objects a line, or plain lines with `fields` between tabs.

    The first line decides: when it begins with a brace, all are JSON. Empty lines are passed over.

    Raises:
        UserError: the file cannot be read, or a line is not of its kind.
    """
    is_json = None
    for number, line in enumerate(_lines(path), start=1):
        line = line.rstrip("\r\n")
        if not line.strip():
            continue
        if is_json is None:
            is_json = line.lstrip().startswith("{")
        yield _json_item(path, number, line) if is_json else _plain_item(path, number, line, fields)


def _lines(path: str) -> Iterator[str]:
    if path == "-":
        yield from sys.stdin
        return
    try:
        with Path(path).open(encoding="utf-8-sig") as file:
            yield from file
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--input_file: cannot read {path}: {getattr(error, 'strerror', None) or 'not UTF-8'}; "
                        f"give a text file in UTF-8") from error


def _json_item(path: str, number: int, line: str) -> dict:
    try:
        item = json.loads(line)
    except ValueError as error:
        raise UserError(f"{path}, line {number}: found {line[:40]!r}, expected a JSON object as in the lines before "
                        f"({error})") from error
    if not isinstance(item, dict):
        raise UserError(f"{path}, line {number}: found {line[:40]!r}, expected a JSON object")
    return item


def _plain_item(path: str, number: int, line: str, fields: Sequence[str]) -> dict:
    parts = line.split("\t") if len(fields) > 1 else [line]
    if len(parts) > len(fields):
        raise UserError(f"{path}, line {number}: {len(parts)} fields between tabs, expected at most {len(fields)} "
                        f"({', '.join(fields)})")
    return dict(zip(fields, parts, strict=False))
