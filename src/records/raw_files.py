"""Telling raw data, which is text, from record files."""

from pathlib import Path

from src.records.columns import DATASET_FORMATS
from src.records.reader import RECORD_FILE_NAMES, files_of_format

TEXT_ENDINGS = (".csv", ".tsv", ".txt", ".json", ".jsonl")
_BEGINNING = 1 << 12  # bytes; either record format begins with numbers that have zeros in it


def is_raw(path: str | Path) -> bool:
    """Whether a path that data are read from is a text file, or a directory of files none of which has records."""
    path = Path(path)
    if path.is_dir():
        has_records = any(next(files_of_format(path, kind), None) for kind in DATASET_FORMATS)
        return not has_records and any(file.is_file() for file in path.rglob("[!.]*"))
    if not path.is_file():
        return False
    if any(name.search(path.name) for name in RECORD_FILE_NAMES.values()):
        return False
    if path.suffix.lower() in TEXT_ENDINGS:
        return True
    with path.open("rb") as file:
        return b"\0" not in file.read(_BEGINNING)
