"""Where records come from: `<stem>.sentences.jsonl` beside a record file, a line for each sentence or example.

    {"file": "dev.tsv", "line": 3, "text": "…", "records": 1}

`records` is how many of the file's records it became, 0 for a sentence without a token and 2 or more for one that was
cut; their order is that of the lines. What a task needs besides stands in fields of its own. The columns of the records
are not touched, so that files of others, which have no such line, are read as well.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from src.errors import UserError
from src.files import atomic_write
from src.json_files import member, parse_json
from src.records.reader import Records, RecordSource
from src.text_files import read_lines

SUFFIX = ".sentences.jsonl"
_EXAMPLE = 'a line such as {"text": "…", "records": 1}'


class Place(str):
    """A place in a file, as messages name it: "dev.txt, line 3"; it still knows the file and the number.

    Args:
        file: the file.
        number: of the line, or of what `unit` says, from 1.
        unit: one of `UNITS`.
    """

    UNITS = ("line", "sentence")
    _fields: dict[str, str | int]

    def __new__(cls, file: str | Path, number: int, unit: str = "line") -> "Place":
        """Make the text of the message."""
        place = super().__new__(cls, f"{file}, {unit} {number}")
        place._fields = {"file": str(file), unit: number}
        return place

    def fields(self) -> dict[str, str | int]:
        """For programs: {"file": "dev.txt", "line": 3}."""
        return self._fields


class Source(NamedTuple):
    """A sentence or example, and the numbers of the records that it became."""

    records: range
    fields: dict[str, Any]  # text, file, line and what else the task wrote
    where: str  # the line that says it, for messages

    @property
    def text(self) -> str:
        """The sentence, or the first text of an example."""
        return self.fields["text"]

    @property
    def place(self) -> dict[str, Any]:
        """Its file and line (of XML its sentence), as far as they are known."""
        return {name: self.fields[name] for name in ("file", *Place.UNITS) if name in self.fields}


def sentences_path(record_file: str | Path) -> Path:
    """The file of the sentences of a record file."""
    path = Path(record_file)
    return path.with_name(path.stem + SUFFIX)


@contextmanager
def writing_sentences(record_file: str | Path) -> Iterator[Callable[..., None]]:
    """Give what writes a line; the file is whole or absent.

    It is called with the place (a `Place`, or a text that names none), the text, the number of records, and what else
    the task needs by name: `add(sentence.where, sentence.text, 1, text_pair="…")`.

    Raises:
        UserError: the file cannot be written.
    """
    with atomic_write(sentences_path(record_file)) as temporary, temporary.open("w", encoding="utf-8") as file:
        def add(where: str, text: str, num_records: int, **fields: Any) -> None:  # noqa: ANN401
            place = where.fields() if isinstance(where, Place) else {}
            file.write(json.dumps(place | {"text": text, "records": num_records} | fields, ensure_ascii=False) + "\n")

        yield add


def read_sentences(records: RecordSource) -> list[Source] | None:
    """The sentences of record files in their order; None where a file has none beside it, or only a part is read.

    Raises:
        UserError: a file of sentences is damaged, or does not belong to its record file.
    """
    if not isinstance(records, Records) or sum(records.rows_of_files) != records.num_rows:
        return None
    paths = [sentences_path(file) for file in records.files]
    if not all(path.is_file() for path in paths):
        return None
    sources, first = [], 0
    for path, file, num_rows in zip(paths, records.files, records.rows_of_files, strict=True):
        end = first + num_rows
        for number, line in read_lines(path):
            where = Place(path, number)
            fields = _parse(line, where)
            sources.append(Source(range(first, first + fields["records"]), fields, where))
            first += fields["records"]
        if first != end:
            raise UserError(f"{path}: its sentences became {num_rows + first - end} records, but {file} has "
                            f"{num_rows}; make the records anew, or remove {path.name}")
    return sources


def _parse(line: str, where: Place) -> dict[str, Any]:
    fields = parse_json(line, where, _EXAMPLE)
    if not isinstance(fields, dict):
        raise UserError(f"{where}: found no JSON object, expected {_EXAMPLE}")
    hint = "make the records anew"
    member(fields, "text", str, f"{where}: ", hint=hint)
    if member(fields, "records", int, f"{where}: ", hint=hint) < 0:
        raise UserError(f"{where}: records is {fields['records']}, expected 0 or more; {hint}")
    return fields
