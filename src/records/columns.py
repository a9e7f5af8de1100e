"""What both formats and their users agree on: the names of the formats, and the columns of records."""

from collections.abc import Mapping

from src.errors import UserError

Columns = Mapping[str, tuple[str, int]]  # name -> ("int32" or "float32", values in a record)

ABOUT = ".about.json"  # what the name of the file about records ends in, see `src/records/about.py`
DATASET_FORMATS = ("mindrecord", "tfrecord")


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
