"""Writing record files of either format; `src/records/mindrecord.py` and `src/records/tfrecord.py` read them.

A schema is `{column: (dtype, length)}`, dtype "int32" or "float32"; every record holds `length` values of each column.
"""

import json
import math
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
# Before the pages there is room for the header, which lists them: 16 MB by default, nearly all of it a hole, which
# takes no room on most disks, but counts as size and in copies. How many pages there will be is not known at the
# beginning. So a file is begun when as much data is there; one that never gets so far has small pages and header.
_MINDRECORD_HEADER_SIZE = 1 << 24
_SMALLEST_HEADER_SIZE, _SMALLEST_PAGE_SIZE = 1 << 14, 1 << 15  # that MindRecord allows
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
                self._backend.write({name: np.array(batch[name][rows], dtype, order="C")  # a copy, which may be kept
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
        self._name = path.name
        self._columns = columns
        self._waiting: list[Mapping[str, np.ndarray]] = []  # what was written before the file is begun
        self._waiting_bytes = 0
        self._writer: FileWriter | None = None
        self._shortcut: _Shortcut | None = None

    def write(self, arrays: Mapping[str, np.ndarray]) -> None:
        if self._writer is None:
            self._waiting.append(arrays)
            self._waiting_bytes += sum(values.nbytes for values in arrays.values())
            if self._waiting_bytes >= _MINDRECORD_HEADER_SIZE:
                self._begin(_MINDRECORD_HEADER_SIZE, _MINDRECORD_PAGE_SIZE)
        elif self._shortcut:
            self._shortcut.write(arrays)
        else:
            _write_publicly(self._writer, arrays)

    def _begin(self, header_size: int, page_size: int) -> None:
        """Open the file and write what was waiting."""
        # Imported here: it loads all of MindSpore, which writing TFRecord does not need.
        from mindspore.mindrecord import FileWriter

        self._writer = writer = FileWriter(str(self._directory / self._name), shard_num=1, overwrite=True)
        writer.set_header_size(header_size)
        writer.set_page_size(page_size)
        writer.add_schema({name: {"type": dtype, "shape": [length]}
                           for name, (dtype, length) in self._columns.items()})
        first, *others = self._waiting
        self._waiting = []
        # The first row opens the file, and is checked against the schema.
        _write_publicly(writer, {name: values[:1] for name, values in first.items()})
        self._shortcut = _Shortcut.find(writer)
        for arrays in ({name: values[1:] for name, values in first.items()}, *others):
            self.write(arrays)

    def finish(self) -> None:
        if self._writer is None:
            num_rows = sum(len(next(iter(arrays.values()))) for arrays in self._waiting)
            self._begin(*_sizes_of_small_file(self._columns, num_rows, len(self._waiting)))
        assert self._writer  # noqa: S101 - for pyright
        self._writer.commit()
        open_to_others(self._directory.iterdir())

    def abandon(self) -> None:
        """Nothing to close: the writer releases its files when it is collected."""


def _write_publicly(writer: "FileWriter", arrays: Mapping[str, np.ndarray]) -> None:
    rows = [dict(zip(arrays, values, strict=True)) for values in zip(*arrays.values(), strict=True)]
    if rows:
        writer.write_raw_data(rows)


def _sizes_of_small_file(columns: Columns, num_rows: int, num_calls: int) -> tuple[int, int]:
    """Room for the header, and size of a page, that such a file surely does with; measured, and doubled."""
    row_size = sum(24 + 4.25 * length for _, length in columns.values()) + 32
    page_size = _power_of_two(max(_SMALLEST_PAGE_SIZE, 4 * row_size, num_rows * row_size / 64))
    page_size = min(_MINDRECORD_PAGE_SIZE, page_size)
    num_pages = 4 + num_rows * (row_size * 4 / 3 + 13) / page_size  # up to a quarter of a page stays empty
    listed = 1024 + 256 * len(columns) + 256 * num_pages + 64 * (num_calls + num_pages)
    return min(_MINDRECORD_HEADER_SIZE, _power_of_two(max(_SMALLEST_HEADER_SIZE, 2 * listed))), page_size


def _power_of_two(least: float) -> int:
    """The smallest that is not less."""
    return 1 << (math.ceil(least) - 1).bit_length()


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


def write_schema_json(path: str | Path, columns: Columns, num_rows: int | None) -> None:
    """Write the schema file that describes TFRecord files to MindSpore (`schema_dir`, `schema_file_path`).

    Without a number of rows it sets the readers no limit.
    """
    schema = {
        "datasetType": "TF",
        **({} if num_rows is None else {"numRows": num_rows}),
        # TFRecord has no int32: the files hold int64.
        "columns": {name: {"type": "int64" if dtype == "int32" else dtype, "rank": 1, "shape": [length]}
                    for name, (dtype, length) in columns.items()},
    }
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(schema, indent=4) + "\n", encoding="utf-8")
