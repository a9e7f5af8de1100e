"""Records that are made of raw data once, and found again by what they were made of."""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from src.checkpoint_files import crc32, json_crc32
from src.errors import UserError
from src.files import flush, make_output_dir, open_to_others, temporary_directory
from src.json_files import read_json_object
from src.model_utils.once_per_host import once_per_host

OPTION, CACHE = "data_cache_dir", "BERT_CACHE"
_KEY = "key.json"
_VERSION = 1  # grows when the same raw data become other records


def cached_records(cache_dir: str, name: str, key: Mapping[str, Any], make: Callable[[Path], None]) -> Path:
    """A folder with what `make` writes into an empty one; of the processes of a host one makes it, the others wait.

    Args:
        cache_dir: the option `data_cache_dir`; empty for the user's cache directory.
        name: what the folder's name begins with.
        key: all that the records depend on, as JSON can hold it; contents of files by `fingerprint`.
        make: writes the records.

    Raises:
        UserError: `make` raised it, or the directory cannot be written.
    """
    cache = make_output_dir(cache_dir or user_cache("records"), OPTION)
    whole_key = json.loads(json.dumps({"version": _VERSION, **key}))
    folder = cache / f"{name}-{json_crc32(whole_key)}"

    def make_unless_there() -> None:
        if not _is_of(folder, whole_key):
            _make(folder, whole_key, make)

    with once_per_host(cache / ".turns" / folder.name, f"make {folder}", make_unless_there):
        return folder


def fingerprint(path: str | Path) -> list[str | int]:
    """What tells a file from others, however it is called.

    Raises:
        UserError: it cannot be read.
    """
    try:
        return [crc32(Path(path)), Path(path).stat().st_size]
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; give an existing file") from error


def user_cache(kind: str) -> Path:
    """Where what is made once goes, such as "records" or "models", if the user names no directory.

    The environment variable `BERT_CACHE` may name the directory of them all.
    """
    usual = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser(), "bert_mindspore")
    return Path(os.environ.get(CACHE) or usual, kind)


def _is_of(folder: Path, key: dict[str, Any]) -> bool:
    """Whether the folder holds the records of this key; the checksum in its name may be that of another one, too."""
    try:
        return read_json_object(folder / _KEY, "what the records were made of") == key
    except UserError:
        return False


def _make(folder: Path, key: dict[str, Any], make: Callable[[Path], None]) -> None:
    with temporary_directory(folder.parent) as temporary:
        written = temporary / folder.name
        written.mkdir()
        make(written)
        (written / _KEY).write_text(json.dumps(key, ensure_ascii=False) + "\n", encoding="utf-8")
        flush(written / _KEY)
        open_to_others([written, written / _KEY])
        if folder.exists():
            shutil.rmtree(folder)
        written.rename(folder)
