"""What is known of record files beside their records: how they were made, and with which vocabulary.

    train.mindrecord, train.mindrecord.db     the records
    train.about.json                          {"vocab_file", "vocab_crc32", "do_lower_case", "max_seq_length", …}
    vocab.txt                                 a copy of the vocabulary; vocab-<crc32>.txt where that name is taken

Records without it, of version 0.1.0 or of other tools, are as good; then the user says what is not known.
"""

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from src.checkpoint_files import crc32
from src.errors import UserError
from src.files import atomic_write, is_passed_on, write_text
from src.json_files import member, read_json_object
from src.records.columns import ABOUT
from src.text_files import check_regular

VOCABULARY = "vocab.txt"
_KINDS = {"vocab_file": str, "vocab_crc32": str, "do_lower_case": bool, "max_seq_length": int, "text_unit": str,
          "label_file": str, "sentences_file": str, "source": str, "shard": str, "task": str, "num_class": int}
_ALWAYS_THERE = ("vocab_file", "vocab_crc32")


def write_about(record_path: str | Path, about: Mapping[str, Any]) -> None:
    """Write what is known of a record file beside it."""
    write_text(_about_path(Path(record_path)), json.dumps(dict(about), indent=2, ensure_ascii=False) + "\n")


def accompany(record_paths: Iterable[Path], vocab_file: str | Path, about: Mapping[str, Any],
              sources: Sequence[str | Path] = ()) -> None:
    """Write what is known beside each of some record files, and copy their vocabulary there.

    Args:
        record_paths: the files; what goes to a device or a pipe has nothing beside it.
        vocab_file: the vocabulary that they were made with.
        about: what is the same for all of them.
        sources: the raw file of each, as given.
    """
    for number, path in enumerate(record_paths):
        if not is_passed_on(path):
            source = {"source": str(sources[number])} if sources else {}
            write_about(path, {**_keep_vocabulary(Path(vocab_file), path.parent), **about, **source})


def read_about(files: Iterable[str | Path]) -> dict[str, Any]:
    """What is known of the record files of one set: of the first of them that has such a file; empty if none has.

    Raises:
        UserError: such a file is damaged, or the files were made with different vocabularies.
    """
    found: dict[Path, dict[str, Any]] = {}
    for path in dict.fromkeys(_about_path(Path(file)) for file in files):
        if path.is_file():
            found[path] = about = read_json_object(check_regular(path), "what a generator wrote about the records")
            for key, kind in _KINDS.items():
                if key in about or key in _ALWAYS_THERE:
                    member(about, key, kind, f"{path}: ", hint="make the records anew")
            first = next(iter(found))
            if about["vocab_crc32"] != found[first]["vocab_crc32"]:
                raise UserError(f"{path} and {first} are of records made with different vocabularies; make the records "
                                f"anew with one of them")
    return next(iter(found.values()), {})


def kept_vocabulary(files: Iterable[str | Path], about: Mapping[str, Any]) -> Path | None:
    """The copy of the vocabulary beside record files of which `about` is known; None where it is gone or another."""
    for directory in dict.fromkeys(Path(file).parent for file in files):
        copy = directory / Path(about.get("vocab_file", VOCABULARY)).name
        if "vocab_crc32" in about and _is_copy(copy, about["vocab_crc32"]):
            return copy
    return None


def _about_path(record_path: Path) -> Path:
    return record_path.with_name(record_path.stem + ABOUT)


def _keep_vocabulary(vocab_file: Path, directory: Path) -> dict[str, str]:
    """Copy the vocabulary into a directory; return how the copy is called, and its checksum."""
    checksum = crc32(vocab_file)
    copy = directory / VOCABULARY
    if copy.exists() and not _is_copy(copy, checksum):
        copy = directory / f"vocab-{checksum}.txt"
    if not _is_copy(copy, checksum):
        with atomic_write(copy) as temporary:
            shutil.copyfile(vocab_file, temporary)
    return {"vocab_file": copy.name, "vocab_crc32": checksum}


def _is_copy(path: Path, checksum: str) -> bool:
    return path.is_file() and crc32(path) == checksum
