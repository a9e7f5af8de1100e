"""Raw data straight into the scripts: records are made of them when they are needed, and kept for the next time.

    config = prepared_data(config, ClassifierTask, ["train_data_file_path", "eval_data_file_path"])

An option that names text (CSV, TSV, JSON lines, token and tag lines, a data set's folder) afterwards names the record
file that the same code made of it as the generators run. A task that is not in `MAKERS` reads its raw data by itself,
or takes records only.
"""

import importlib
import io
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from src.errors import UserError
from src.generate_mindrecord.options import RecordOptions
from src.model_utils.config import Config, sizes_group
from src.records.cache import OPTION, cached_records, fingerprint
from src.records.raw_files import is_raw
from src.records.writer import EXTENSIONS
from src.tasks.base import Task
from src.tasks.record_facts import settled_by_records

TRAIN_OPTIONS = ("train_data_file_path", "data_dir")
# By the `description` of the configuration: what gives a `Maker`; imported when it is needed.
MAKERS = {
    "run_classifier": "src.generate_mindrecord.raw_classification:ClassificationMaker",
    "run_ner": "src.generate_mindrecord.raw_entities:EntityMaker",
    "run_pretrain": "src.generate_mindrecord.raw_corpus:CorpusMaker",
}


class Maker:
    """Makes the records of one task; one object serves the options of one configuration in turn.

    Args:
        config: the configuration.
        vocab_file: the vocabulary.
        max_seq_length: tokens of a record.
    """

    def __init__(self, config: Config, vocab_file: str, max_seq_length: int) -> None:
        self.config = config
        self.vocab_file = vocab_file
        self.max_seq_length = max_seq_length

    def options(self, folder: Path) -> RecordOptions:
        """What the configuration says about the records."""
        return RecordOptions(self.vocab_file, str(folder), self.config.do_lower_case, self.max_seq_length,
                             self.config.dataset_format)

    def takes(self, option: str) -> bool:
        """Whether it makes records of raw data at this option; else the task reads them."""
        return True

    def plan(self, path: Path, option: str, is_training: bool) -> tuple[Mapping[str, Any], Callable[[Path], None]]:
        """What the records of raw data depend on besides vocabulary, case and length; and what writes them.

        Args:
            path: the raw data.
            option: the key that names them.
            is_training: whether labels that nobody named are those that occur here.
        """
        raise NotImplementedError

    def made(self, folder: Path, is_training: bool) -> None:
        """Take note of what became of raw data; the labels of training data count for those of the evaluation."""


def prepared_data(config: Config, task_type: type[Task], options: Iterable[str]) -> Config:
    """The configuration with record files in the place of raw data, and with what records tell about themselves.

    Args:
        config: of the task.
        task_type: the task.
        options: the keys that name the data of this run, those to train on first.

    Raises:
        UserError: raw data cannot be read, or something about them is not known; or as of `settled_by_records`.
    """
    options = list(options)
    config = settled_by_records(config, task_type, options)
    raw = [option for option in options if config[option] and Path(config[option]).exists() and is_raw(config[option])]
    if not raw or config.description not in MAKERS:
        return config
    module, _, name = MAKERS[config.description].partition(":")
    make = getattr(importlib.import_module(module), name)
    group = sizes_group(config)
    maker = make(config, config.vocab_file_path, config[group].seq_length)
    for option in filter(maker.takes, raw):
        config = config.replaced({option: str(_records(config, maker, option))})
    return settled_by_records(config, task_type, options)


def _records(config: Config, maker: Maker, option: str) -> Path:
    path, is_training = Path(config[option]), option in TRAIN_OPTIONS
    if not config.vocab_file_path:
        raise UserError(f"vocab_file_path is not set; {option} names raw data, {path}, of which records are made with "
                        f"the vocab.txt of the checkpoint")
    name = "train" if is_training else "dev"
    depends_on, write = maker.plan(path, option, is_training)

    def make(folder: Path) -> None:
        print(f"{option}: making records of {path}", flush=True)
        with redirect_stdout(io.StringIO()) as told:
            write(folder)
        print(told.getvalue().replace(f"{folder}{os.sep}", ""), end="")  # they do not stay where they are written

    folder = cached_records(config[OPTION], path.name, {
        "task": config.description, "vocabulary": fingerprint(config.vocab_file_path), "split": name,
        "do_lower_case": config.do_lower_case, "max_seq_length": maker.max_seq_length,
        "dataset_format": config.dataset_format, **depends_on}, make)
    print(f"{option}: the records of {path} are in {folder}", flush=True)
    maker.made(folder, is_training)
    return folder / f"{name}.{EXTENSIONS[config.dataset_format]}"


def find_split(path: Path, option: str, is_training: bool, endings: Iterable[str], prefix: str = "") -> Path:
    """The raw file at a path: itself, or of a folder the one for training or evaluation.

    Raises:
        UserError: a folder holds none.
    """
    if not path.is_dir():
        return path
    stems = ("train",) if is_training else ("dev", "valid", "validation", "eval", "test")
    names = [f"{prefix}{stem}{ending}" for stem in stems for ending in endings]
    found = next((path / name for name in names if (path / name).is_file()), None)
    if found is None:
        raise UserError(f"{option}: the folder {path} holds neither record files nor {', '.join(names[:4])} or the "
                        f"like; give the file itself")
    return found
