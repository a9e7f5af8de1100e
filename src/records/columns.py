"""What both formats and their users agree on: the names of the formats, and the columns of records."""

from collections.abc import Mapping
from typing import NamedTuple

from src.errors import UserError

Columns = Mapping[str, tuple[str, int]]  # name -> ("int32" or "float32", values in a record)

ABOUT = ".about.json"  # what the name of the file about records ends in, see `src/records/about.py`
DATASET_FORMATS = ("mindrecord", "tfrecord")
SEQUENCE_COLUMNS = ("input_ids", "input_mask", "segment_ids")


class Limit(NamedTuple):
    """Values of a column lie in 0 <= value < bound; `reason` tells the user where the bound comes from."""

    bound: int
    reason: str


def pretrain_limits(vocab_size: int, type_vocab_size: int, seq_length: int) -> dict[str, Limit]:
    """Bounds of the integer columns of pre-training."""
    return {
        "input_ids": Limit(vocab_size, f"vocab_size is {vocab_size}"),
        "input_mask": Limit(2, "a mask is 0 or 1"),
        "segment_ids": Limit(type_vocab_size, f"type_vocab_size is {type_vocab_size}"),
        "next_sentence_labels": Limit(2, "a label is 0 or 1"),
        "masked_lm_positions": Limit(seq_length, f"seq_length is {seq_length}"),
        "masked_lm_ids": Limit(vocab_size, f"vocab_size is {vocab_size}"),
    }


def pretrain_columns(max_seq_length: int, max_predictions_per_seq: int) -> dict[str, tuple[str, int]]:
    """The columns of a pre-training record, in the order in which the network takes them."""
    S, P = max_seq_length, max_predictions_per_seq
    return {
        "input_ids": ("int32", S),
        "input_mask": ("int32", S),
        "segment_ids": ("int32", S),
        "next_sentence_labels": ("int32", 1),
        "masked_lm_positions": ("int32", P),
        "masked_lm_ids": ("int32", P),
        "masked_lm_weights": ("float32", P),
    }


def check_dataset_format(dataset_format: str) -> None:
    """Raise `UserError` unless the format is one that this project knows."""
    if dataset_format not in DATASET_FORMATS:
        raise UserError(f"dataset_format: {dataset_format!r} is unknown, expected {' or '.join(DATASET_FORMATS)}")
