"""Writing record files of either format; `src/records/mindrecord.py` and `src/records/tfrecord.py` read them.

A schema is `{column: (dtype, length)}`, dtype "int32" or "float32"; every record holds `length` values of each column.
"""

import json
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

from src.errors import UserError
from src.files import atomic_files, atomic_write, is_passed_on, open_to_others
from src.records.columns import Columns, check_dataset_format
from src.records.tfrecord import encode_tfrecords

if TYPE_CHECKING:
    from mindspore.mindrecord import FileWriter

# What the generators of fine-tuning records write; readers know a format by such a name.
EXTENSIONS = {"mindrecord": "mindrecord", "tfrecord": "tf_record"}
SCHEMA_NAME = "dataset.json"  # for TFRecord

# MindRecord builds its index at the end, from as many rows at a time as have their 13-byte entries on one page, with
# more than a kilobyte of memory for each row: gigabytes with the default pages of 32 MB, 0.1 GB with 1 MB.
_MINDRECORD_PAGE_SIZE = 1 << 20
_SHORTCUT_VERSIONS = "2.10."  # of MindSpore, see `_Shortcut`
_ROWS_AT_ONCE = 2048  # converted and written; bounds memory and stays in the processor's cache


# ---------------------------------------------------------------- writing

class RecordWriter:
    """Writes one record file, whole or not at all: it appears under its name when the `with` block ends well.

    A MindRecord file is accompanied by its index, `<name>.db`. An existing file is replaced.

    Raises:
        UserError: the file cannot be written, its name is one that MindRecord refuses, or no record was written.
    """

    _stack: ExitStack  # both from the beginning of the `with` block on
    _backend: "_MindRecordBackend | _TFRecordBackend"

    def __init__(self, path: str | Path, columns: Columns, dataset_format: str) -> None:
        check_dataset_format(dataset_format)
        self.path = Path(path)
        self.columns = dict(columns)
        self.num_rows = 0
        self._backend_type = _MindRecordBackend if dataset_format == "mindrecord" else _TFRecordBackend

    def __enter__(self) -> "RecordWriter":
        """Create the temporary file."""
        with ExitStack() as stack, self._failing_clearly():
            self._backend = self._backend_type(self.path, self.columns, stack)
            self._stack = stack.pop_all()  # the temporary files live on until the end of the `with` block
        return self

    def write(self, batch: Mapping[str, np.ndarray]) -> None:
        """Append records: `batch[column]` is [n, length] for every column of the schema."""
        for name, (_, length) in self.columns.items():
            if batch[name].ndim != 2 or batch[name].shape[1] != length:
                raise ValueError(f"column {name}: shape {batch[name].shape}, expected [n, {length}]")
        sizes = {len(batch[name]) for name in self.columns}
        if len(sizes) != 1:
            raise ValueError(f"columns differ in their number of rows: {sorted(sizes)}")
        n = sizes.pop()
        with self._failing_clearly():
            for begin in range(0, n, _ROWS_AT_ONCE):
                rows = slice(begin, begin + _ROWS_AT_ONCE)
                self._backend.write({name: np.ascontiguousarray(batch[name][rows], dtype)
                                     for name, (dtype, _) in self.columns.items()})
        self.num_rows += n

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        """Give the file its name, or remove it after an error."""
        if kind is not None:
            with suppress(Exception):
                self._backend.abandon()
            self._stack.__exit__(kind, error, traceback)
            return
        with self._stack, self._failing_clearly():
            if self.num_rows == 0:
                self._backend.abandon()
                raise UserError(f"no record to write to {self.path}: the input gave none; check the input files")
            self._backend.finish()

    @contextmanager
    def _failing_clearly(self) -> Iterator[None]:
        try:
            yield
        except (OSError, RuntimeError) as error:  # MindRecord's writer raises RuntimeError with a page of text
            reason = error.strerror if isinstance(error, OSError) else "MindRecord's writer failed"
            raise UserError(f"cannot write {self.path}: {reason}; is there room, and may you write there?") from error


class _TFRecordBackend:
    """Appends encoded records to a plain file."""

    def __init__(self, path: Path, columns: Columns, stack: ExitStack) -> None:
        self._columns = columns
        self._file = stack.enter_context(atomic_write(path)).open("wb")

    def write(self, arrays: Mapping[str, np.ndarray]) -> None:
        self._file.write(encode_tfrecords(arrays, self._columns))

    def finish(self) -> None:
        self._file.close()

    abandon = finish


class _MindRecordBackend:
    """Hands rows to MindSpore's FileWriter inside a temporary directory.

    The writer stores the file's own base name in the header and the index, so it must work under the final name.
    """

    def __init__(self, path: Path, columns: Columns, stack: ExitStack) -> None:
        forbidden = set(path.name) & set(r'\/:*?"<>|`&;' + "'")
        if forbidden or path.name != path.name.strip():
            raise UserError(f"{path}: MindRecord does not allow {' '.join(sorted(forbidden)) or 'outer spaces'} in a "
                            f"file name; choose another name")
        if is_passed_on(path):
            raise UserError(f"{path}: a MindRecord file has an index beside it, so it must be a regular file; give one "
                            f"or dataset_format tfrecord")
        self._directory = stack.enter_context(atomic_files(path.parent))
        # Imported here: it loads all of MindSpore, which writing TFRecord does not need.
        from mindspore.mindrecord import FileWriter

        self._writer = FileWriter(str(self._directory / path.name), shard_num=1, overwrite=True)
        self._writer.set_page_size(_MINDRECORD_PAGE_SIZE)
        self._writer.add_schema({name: {"type": dtype, "shape": [length]} for name, (dtype, length) in columns.items()})
        self._opened, self._shortcut = False, None

    def write(self, arrays: Mapping[str, np.ndarray]) -> None:
        if not self._opened:  # the first row opens the file, and is checked against the schema
            self._write_publicly({name: values[:1] for name, values in arrays.items()})
            arrays = {name: values[1:] for name, values in arrays.items()}
            self._opened, self._shortcut = True, _Shortcut.find(self._writer)
        (self._shortcut.write if self._shortcut else self._write_publicly)(arrays)

    def _write_publicly(self, arrays: Mapping[str, np.ndarray]) -> None:
        rows = [dict(zip(arrays, values, strict=True)) for values in zip(*arrays.values(), strict=True)]
        if rows:
            self._writer.write_raw_data(rows)

    def finish(self) -> None:
        self._writer.commit()
        open_to_others(self._directory.iterdir())

    def abandon(self) -> None:
        """Nothing to close: the writer releases its files when it is collected."""


class _Shortcut:
    """Whole arrays straight to the C++ writer beneath MindSpore's FileWriter.

    FileWriter.write_raw_data builds and checks each row in Python, 150 us a record; our rows are built and checked as
    whole arrays, and take 13 us a record here. What it uses is not public: see `find`.
    """

    def __init__(self, write_rows: Callable[[dict, list[bytes], bool, bool], object], columns: list[str]) -> None:
        self._write_rows = write_rows
        self._columns = columns  # in the order of the file's header

    @classmethod
    def find(cls, writer: "FileWriter") -> "_Shortcut | None":
        """The shortcut of a writer; None where MindSpore is not one that it was tested with."""
        from mindspore import __version__

        inner = getattr(getattr(writer, "_writer", None), "_writer", None)
        columns = getattr(getattr(writer, "_header", None), "blob_fields", None)
        is_known = __version__.startswith(_SHORTCUT_VERSIONS) and hasattr(inner, "write_raw_data")
        if inner is None or not is_known or not columns:
            return None
        return cls(inner.write_raw_data, columns)

    def write(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Write rows: byte strings of the columns, each after its size as a big-endian uint64.

        A single column goes without the size.
        """
        parts = []
        for name in self._columns:
            values = arrays[name].view(np.uint8)
            size = np.frombuffer(struct.pack(">Q", values.shape[1]), np.uint8)
            parts += [np.broadcast_to(size, (len(values), 8)), values]
        merged = np.concatenate(parts if len(arrays) > 1 else parts[1:], axis=1)
        if len(merged):
            self._write_rows({}, [row.tobytes() for row in merged], False, False)


def write_schema_json(path: str | Path, columns: Columns, num_rows: int) -> None:
    """Write the schema file that describes TFRecord files to MindSpore (`schema_dir`, `schema_file_path`)."""
    schema = {
        "datasetType": "TF",
        "numRows": num_rows,
        # TFRecord has no int32: the files hold int64.
        "columns": {name: {"type": "int64" if dtype == "int32" else dtype, "rank": 1, "shape": [length]}
                    for name, (dtype, length) in columns.items()},
    }
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(schema, indent=4) + "\n", encoding="utf-8")
