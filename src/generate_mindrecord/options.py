"""Command-line options that the generators share, and which raw files those options ask for."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from src.errors import UserError
from src.model_utils.switch import SWITCH
from src.records.columns import DATASET_FORMATS

SPLIT_OPTIONS = {"train": "do_train", "dev": "do_eval", "test": "do_predict"}


@dataclass(frozen=True)
class RecordOptions:
    """What the user says about the record files of a fine-tuning task; the fields are options of the command."""

    vocab_file: str
    output_dir: str
    do_lower_case: bool = True
    max_seq_length: int = 128
    dataset_format: str = "mindrecord"

    def about(self) -> dict[str, Any]:
        """What is written about the records beside them."""
        return {"do_lower_case": self.do_lower_case, "max_seq_length": self.max_seq_length}


class DataFile(NamedTuple):
    """A raw file of a data set and what is made of it."""

    split: str  # train, dev or test
    record_name: str  # of the record file, without extension
    names: tuple[str, ...]  # the raw file's possible names, the first that exists counts


def add_data_set_options(parser: argparse.ArgumentParser, files: str) -> None:
    """Add where the raw data is and which splits to take, for `choose_files`; `files` names the three raw files."""
    add = parser.add_argument
    add("--data_dir", required=True, metavar="DIR", help=f"directory with {files}")
    add("--do_train", **SWITCH, help="make the training records; without any --do_… option, those files are taken "
                                     "that exist of the training and development data")
    add("--do_eval", **SWITCH, help="make the records of the development data")
    add("--do_predict", **SWITCH, help="make the records of the test data, in the order of the file")


def add_record_options(parser: argparse.ArgumentParser, long_texts: str = "longer texts are cut") -> None:
    """Add the fields of `RecordOptions`; `long_texts` tells the user what becomes of what does not fit."""
    add = parser.add_argument
    add("--vocab_file", required=True, metavar="FILE", help="vocabulary of the checkpoint to fine-tune")
    add("--output_dir", required=True, metavar="DIR", help="where the record files go")
    add("--do_lower_case", default=RecordOptions.do_lower_case, **SWITCH,
        help="for an uncased vocabulary (default true)")
    add("--max_seq_length", type=int, default=RecordOptions.max_seq_length, metavar="N",
        help=f"tokens of a record, [CLS] and [SEP] included; {long_texts} (default %(default)s)")
    add("--dataset_format", choices=DATASET_FORMATS, default=RecordOptions.dataset_format,
        help="default %(default)s; tfrecord also writes the schema file dataset.json")


def choose_files(data_dir: str | Path, files: Sequence[DataFile],
                 wanted: Mapping[str, bool | None]) -> dict[DataFile, Path]:
    """Find the raw files to convert, in the order of `files`.

    Args:
        data_dir: the option of this name.
        files: the files that the data set may consist of.
        wanted: the options `do_train`, `do_eval` and `do_predict`; None where the user said nothing.

    Raises:
        UserError: a file that was asked for does not exist, or there is nothing to do.
    """
    directory = Path(data_dir)
    if not directory.is_dir():
        raise UserError(f"--data_dir: there is no directory {directory}; give the one with {files[0].names[0]}")
    is_explicit = any(wanted[option] for option in SPLIT_OPTIONS.values())
    chosen = {}
    for file in files:
        option = SPLIT_OPTIONS[file.split]
        if wanted[option] or (not is_explicit and wanted[option] is None and file.split != "test"):
            path = next((directory / name for name in file.names if (directory / name).is_file()), None)
            if path:
                chosen[file] = path
            elif is_explicit:
                raise UserError(f"--{option}: there is no {' or '.join(file.names)} in {directory}")
    if not chosen:
        expected = " or ".join(name for file in files if file.split != "test" for name in file.names)
        raise UserError(f"--data_dir: nothing to convert in {directory}; expected {expected}, or ask for other data "
                        f"with {', '.join(f'--{option}' for option in SPLIT_OPTIONS.values())}")
    return chosen
