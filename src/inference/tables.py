"""Texts to predict on in the columns of a table."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from src.errors import UserError
from src.records.text_columns import choose_columns
from src.records.text_rows import read_csv, read_tsv
from src.text_files import read_lines


def is_table(path: str, fields: Sequence[str], given: Mapping[str, str]) -> bool:
    """Whether a .csv or .tsv file begins with a header line: the first always does.

    The other does if its first line has a column that the user names, or columns of usual names.
    """
    if path.lower().endswith(".csv"):
        return True
    first = next((line for _, line in read_lines(path, "--input_file")), "").rstrip("\r\n").split("\t")
    if set(given.values()) & set(first):
        return True
    try:
        _columns(first, fields, {}, path)
    except UserError:
        return False
    return True


def read_cells(path: str, fields: Sequence[str], given: Mapping[str, str]) -> Iterator[tuple[str, dict | None]]:
    """The place of each row, and its texts by field; None for a row without any.

    Args:
        path: the table.
        fields: of an item.
        given: see `src.inference.texts.read_items`.

    Raises:
        UserError: the file cannot be read, a row is wrong, or it is not known which column holds a field.
    """
    columns = None
    for row in (read_csv if path.lower().endswith(".csv") else read_tsv)(Path(path), keeps_blank=True):
        if not row.fields:
            yield row.where, None
            continue
        columns = columns or _columns(list(row.fields), fields, given, path)
        values = {field: row.fields[name] for field, name in columns.items()}
        yield row.where, values if any(value.strip() for value in values.values()) else None


def _columns(names: Sequence[str], fields: Sequence[str], given: Mapping[str, str], where: str) -> dict[str, str]:
    """The column of each field."""
    by_lower = {name.lower(): name for name in names}
    if len(fields) > 1 and not given and all(field in by_lower for field in fields):
        return {field: by_lower[field] for field in fields}
    chosen = choose_columns(names, given, where, wants_label=False)
    return {field: name for field, name in zip(fields, (chosen.text, chosen.pair), strict=False) if name is not None}
