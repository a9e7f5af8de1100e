"""What records tell about themselves: taken where the user says nothing, refused where the user says something else."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from src.checkpoint_files import crc32
from src.errors import UserError
from src.model_utils.config import Config, sizes_group
from src.records.about import kept_vocabulary, read_about
from src.records.raw_files import is_raw
from src.records.reader import open_records, record_files
from src.tasks.base import Task
from src.text_files import open_input

# What makes data ready for a run: the configuration, its task and the keys that name data, to the configuration to use.
PrepareData = Callable[[Config, type[Task], Sequence[str]], Config]
# May differ between records and what is done with them: a class may have another name.
_ONLY_FOR_WHO_SAYS_NOTHING = ("label_file_path",)


def settled_by_records(config: Config, task_type: type[Task], options: Sequence[str]) -> Config:
    """The configuration with what the records tell in the place of what it leaves open.

    Args:
        config: of the task.
        task_type: the task.
        options: the keys that name records; one that is empty or names raw data is passed over.

    Raises:
        UserError: the records contradict the configuration, or each other.
    """
    settled: dict[str, str] = {}  # key -> the record file that told it
    for option in options:
        path = config[option]
        if not path or not Path(path).exists() or is_raw(path):
            continue  # whoever opens it says what is wrong
        files = record_files(path, config.dataset_format, option)
        about = read_about(files)
        config = _with_vocabulary(config, files, about)
        told = task_type.told_by_records(config, about, files[0].parent)
        for key, value in told.items():
            if config.is_explicit(key) or config.is_of_model(key) or key in settled:
                _check(config, key, value, files[0], settled.get(key, ""), is_sure=bool(about))
            else:
                config = config.replaced({key: value})
                settled[key] = str(files[0])
        config = _with_length(config, sizes_group(config), files[0], about, settled)
    return config


def _check(config: Config, key: str, theirs: object, file: Path, other: str, is_sure: bool) -> None:
    ours = config[key]
    if not is_sure or key in _ONLY_FOR_WHO_SAYS_NOTHING or ours == theirs:
        return
    if other:
        source, advice = f"those of {other} with", "make one of them anew"
    elif config.is_of_model(key):
        source, advice = "the model has", "give records that were made for it"
    else:
        source, advice = f"{key} is", f"leave {key} out, or make the records anew"
    raise UserError(f"{key}: the records of {file} were made with {_word(theirs)}, but {source} {_word(ours)}; "
                    f"{advice}")


def _word(value: object) -> object:
    return str(value).lower() if isinstance(value, bool) else value


def _with_vocabulary(config: Config, files: list[Path], about: Mapping[str, Any]) -> Config:
    if not about:
        return config
    copy = kept_vocabulary(files, about)
    given = config.vocab_file_path
    if not given:
        return config.replaced({"vocab_file_path": str(copy)}) if copy else config
    with open_input(given, "vocab_file_path"):  # whoever cannot read it is told so
        checksum = crc32(Path(given))
    if checksum != about["vocab_crc32"]:
        theirs = copy or f"that of checksum {about['vocab_crc32']}"
        raise UserError(f"vocab_file_path: {given} is not the vocabulary that the records of {files[0]} were made "
                        f"with, {theirs}; give that one, or make the records anew")
    return config


def _with_length(config: Config, group: str, file: Path, about: Mapping[str, Any], settled: dict[str, str]) -> Config:
    """Take the length of the first records; whether others have another one is noticed where they are opened."""
    key = f"{group}.seq_length"
    if config.is_explicit(key) or key in settled:
        return config
    length = about.get("max_seq_length") or _length_of(file, config.dataset_format)
    settled[key] = str(file)
    return config.replaced({group: config[group].to_dict() | {"seq_length": length}}) if length else config


def _length_of(file: Path, dataset_format: str) -> int | None:
    return open_records(file, dataset_format, {"input_ids": "int32"}).seq_length
