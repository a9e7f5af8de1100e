"""MindRecord files, read by record number. Needs no MindSpore.

MindSpore's own reader opens a pipeline for every new order of records, is several times slower, and brings the whole
process down when a record is damaged; hence this one, the counterpart of `src/records/tfrecord.py`.

Layout of version 3.0: `uint64 length, JSON header`; then pages at `header_size + id * page_size`.
A BLOB page holds a record after another as `uint64 length, data`; the data is a column after another, in the order of
the header's `blob_fields`, each as `big-endian uint64 size, content` (the size is left out if there is one column).
Floats are stored plainly. Integers are narrowed: `big-endian uint32 count`, two bits for each value that give its width
as a power of two, then the values, little-endian. RAW pages hold the plain numbers of a record as a msgpack map.
The index beside the file, an SQLite database, says where in its page each record's blob ends.
"""

import sqlite3
import struct
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from src.errors import UserError
from src.json_files import parse_json
from src.records.columns import Columns
from src.records.mapped_file import MappedFile

_VERSION = "3.0"
_INTEGERS = {"int32": 4, "int64": 8}
_FLOATS = {"float32": 4, "float64": 8}
# Widths of the four values that a byte of two-bit codes describes, the first in the highest bits; [256, 4].
_WIDTHS = (1 << (np.arange(256)[:, None] >> np.array([6, 4, 2, 0]) & 3)).astype(np.uint8)


class MindRecordFile:
    """A MindRecord file whose records can be read in any order.

    Opening it reads the header and compares the size of the file with it. The file is mapped, not loaded.

    Raises:
        UserError: the file is missing, empty, truncated, renamed, without its index, or no MindRecord file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._database = self.path.with_name(self.path.name + ".db")
        self._file = MappedFile(self.path)
        self._map = self._file.content
        self._read_header()
        self._check_companions()
        self._bytes = np.frombuffer(self._map, np.uint8)
        self._rows: tuple[np.ndarray, np.ndarray] | None = None  # where each record's blob starts and ends

    def _read_header(self) -> None:
        try:
            (length,) = struct.unpack_from("<Q", self._map)
            text = self._map[8:8 + length].decode() if length < len(self._map) else ""
            header = parse_json(text, str(self.path), "a MindRecord header")
            (description,) = header["schema"]
            fields = description["schema"]
            self._types = {str(name): str(field["type"]) for name, field in fields.items()}
            self._blob_fields = [str(name) for name in description.get("blob_fields") or []]
            self._raw_fields = [name for name in self._types if name not in self._blob_fields]
            self._header_size, self._page_size = int(header["header_size"]), int(header["page_size"])
            self._pages = [(str(page["page_type"]), int(page["page_id"]), int(page["page_size"]),
                            int(page["start_row_id"]), int(page["end_row_id"]))
                           for page in header["page"] or []]  # null in a shard without records
            self._names = [str(name) for name in header.get("shard_addresses") or []]
        except (struct.error, ValueError, KeyError, TypeError, AttributeError, OverflowError, UserError) as error:
            raise UserError(f"{self.path}: not a MindRecord file: it does not begin with a MindRecord header; check "
                            f"the file and dataset_format") from error
        if header.get("version") != _VERSION:
            raise UserError(f"{self.path}: MindRecord of version {header.get('version')}; this program reads version "
                            f"{_VERSION}, which MindSpore 1.0 and later write: write the file anew")
        self._num_rows = max((end for kind, *_, end in self._pages if kind == "BLOB_DATA"), default=0)
        whole = max((self._place(page) + size for _, page, size, *_ in self._pages), default=0)
        if len(self._map) < whole:
            raise UserError(f"{self.path}: truncated: {len(self._map)} bytes, expected {whole}; make the file anew")

    def _check_companions(self) -> None:
        """MindSpore and its tools refuse a renamed file: so do we, with the reason."""
        if not self._database.is_file():
            raise UserError(f"{self.path}: its index {self._database.name} is missing; a MindRecord file needs it in "
                            f"the same directory")
        if self._names and self.path.name not in self._names:
            raise UserError(f"{self.path}: the file was renamed from {self._names[0]}, which MindRecord does not "
                            f"allow; give it (and its .db) the old name")

    def __len__(self) -> int:
        """Number of records."""
        return self._num_rows

    def columns(self) -> dict[str, tuple[str, int]]:
        """Types of the columns, and their lengths in the first record; columns of bytes and text are left out."""
        columns = {name: (kind, 1) for name, kind in self._types.items() if kind in _INTEGERS | _FLOATS}
        if len(self):
            first = self._place(min(page for kind, page, *_ in self._pages if kind == "BLOB_DATA"))
            (size,) = struct.unpack_from("<Q", self._map, first)
            end = min(first + 8 + size, len(self._map))
            for name, begins, sizes in self._walk(np.array([0]), np.array([first + 8]), np.array([end])):
                kind = self._types.get(name)
                if kind in _INTEGERS:
                    columns[name] = (kind, int(self._counts(begins)[0]))
                elif kind in _FLOATS:
                    columns[name] = (kind, int(sizes[0]) // _FLOATS[kind])
        return columns

    def read(self, rows: Sequence[int] | np.ndarray, columns: Columns) -> dict[str, np.ndarray]:
        """Columns of the given records, in the given order: int32 or float32 [len(rows), length].

        Raises:
            UserError: a record is damaged, or holds another number of values.
        """
        self._file.check_size()
        rows = np.asarray(rows, np.int64)
        begins, ends = (places[rows] for places in self._index())
        sound = self._gather(begins - 8, 8).view("<u8")[:, 0] == (ends - begins).astype(np.uint64)
        if not sound.all():
            self._damaged(rows[~sound][0])
        out = {}
        for name, at, sizes in self._walk(rows, begins, ends):
            if name in columns:
                decode = self._decode_integers if self._types[name] in _INTEGERS else self._decode_floats
                out[name] = decode(rows, name, columns[name][1], at, sizes)
        plain = [name for name in columns if name in self._raw_fields]
        if plain:
            out |= self._read_plain(rows, {name: columns[name][0] for name in plain})
        return {name: out[name] for name in columns}

    # ------------------------------------------------------------ places

    def _place(self, page: int) -> int:
        return self._header_size + page * self._page_size

    def _index(self) -> tuple[np.ndarray, np.ndarray]:
        """Where each record's columns start and end; read once, about a microsecond a record.

        It comes from the `.db`: walking over the lengths in the pages would read the whole file from the disk.
        """
        if self._rows is None:
            offsets = self._read_database()
            begins = np.concatenate([np.zeros(1, np.int64), offsets[:-1]])
            sound = len(offsets) == len(self)
            for kind, page, size, first, end in self._pages:
                if kind == "BLOB_DATA" and sound and end > first:
                    begins[first] = 0
                    sound = (begins[first:end] + 8 <= offsets[first:end]).all() and offsets[end - 1] <= size
                    begins[first:end] += self._place(page) + 8
                    offsets[first:end] += self._place(page)
            if not sound:
                raise UserError(f"{self._database}: damaged, or the index of another file: it does not fit "
                                f"{self.path.name}; make both anew")
            self._rows = begins, offsets
        return self._rows

    def _read_database(self) -> np.ndarray:
        """Where in its page each record's blob ends; one text is ten times smaller than as many Python numbers."""
        query = ("SELECT group_concat(PAGE_OFFSET_BLOB_END) FROM "
                 "(SELECT PAGE_OFFSET_BLOB_END FROM INDEXES ORDER BY ROW_ID)")
        try:
            with closing(sqlite3.connect(f"{self._database.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as db:
                (text,) = db.execute(query).fetchone()
            return np.fromstring(text or "", np.int64, sep=",")
        except (sqlite3.Error, ValueError, TypeError) as error:
            raise UserError(f"{self._database}: damaged index of {self.path.name} ({error}); make both anew") from error

    def _walk_raw_pages(self) -> tuple[np.ndarray, np.ndarray]:
        """Where each record's plain numbers start and end."""
        begins, ends = array("q"), array("q")
        read_length = struct.Struct("<Q").unpack_from
        for kind, page, size, *_ in sorted(self._pages, key=lambda page: page[1]):
            if kind != "RAW_DATA":
                continue
            at = self._place(page)
            last = at + size
            while at + 8 <= last:
                begin = at + 8
                at = begin + read_length(self._map, at)[0]
                if at > last:
                    self._damaged(len(begins))
                begins.append(begin)
                ends.append(at)
        if len(begins) != len(self):
            raise UserError(f"{self.path}: damaged: {len(begins)} records found, the header says {len(self)}; make the "
                            f"file anew")
        return np.frombuffer(begins, np.int64), np.frombuffer(ends, np.int64)

    def _walk(self, rows: np.ndarray, at: np.ndarray,
              ends: np.ndarray) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
        """Walk over the columns of all the records together: name, where the contents begin, their sizes."""
        if len(self._blob_fields) == 1:
            yield self._blob_fields[0], at, ends - at
            return
        for name in self._blob_fields:
            sizes = self._gather(at, 8).view(">u8")[:, 0].astype(np.int64)
            at = at + 8
            sound = (sizes >= 0) & (sizes <= ends - at)
            if not sound.all():
                self._damaged(rows[~sound][0])
            yield name, at, sizes
            at = at + sizes

    def _gather(self, at: np.ndarray, count: int) -> np.ndarray:
        """`count` bytes from each place, [n, count]; past the file's end comes nonsense, for the caller to check."""
        return self._bytes[np.minimum(at[:, None] + np.arange(count), len(self._bytes) - 1)]

    def _damaged(self, row: int) -> NoReturn:
        raise UserError(f"{self.path}: record {row}: damaged; make the file anew")

    # ------------------------------------------------------------ contents

    def _counts(self, begins: np.ndarray) -> np.ndarray:
        return self._gather(begins, 4).view(">u4")[:, 0].astype(np.int64)

    def _check_lengths(self, rows: np.ndarray, name: str, length: int, found: np.ndarray) -> None:
        wrong = np.flatnonzero(found != length)
        if len(wrong):
            raise UserError(f"{self.path}: record {rows[wrong[0]]}: column {name} has {found[wrong[0]]} values, "
                            f"expected {length}; is the file damaged, or made for another length?")

    def _decode_floats(self, rows: np.ndarray, name: str, length: int, begins: np.ndarray,
                       sizes: np.ndarray) -> np.ndarray:
        width = _FLOATS[self._types[name]]
        self._check_lengths(rows, name, length, sizes / width)
        values = self._gather(begins, length * width).view(f"<f{width}")
        with np.errstate(over="ignore"):  # out of float32's range is infinite
            return values.astype(np.float32, copy=False)

    def _decode_integers(self, rows: np.ndarray, name: str, length: int, begins: np.ndarray,
                         sizes: np.ndarray) -> np.ndarray:
        self._check_lengths(rows, name, length, self._counts(begins))
        codes = -(-length // 4)
        widths = _WIDTHS[self._gather(begins + 4, codes)].reshape(len(rows), -1)[:, :length]  # [n, length]
        sound = widths.sum(axis=1, dtype=np.int64) == sizes - 4 - codes
        if not sound.all():
            self._damaged(rows[~sound][0])
        pieces = zip((begins + 4 + codes).tolist(), (begins + sizes).tolist(), strict=True)
        packed = np.frombuffer(b"".join([self._map[begin:end] for begin, end in pieces]), np.uint8)
        values = _widen(packed, widths.ravel()).reshape(len(rows), length)
        narrow = values.astype(np.int32, copy=False)
        if narrow is not values and not np.array_equal(narrow, values):
            row, place = np.argwhere(narrow != values)[0]
            raise UserError(f"{self.path}: record {rows[row]}: column {name} holds {values[row, place]}, which is no "
                            f"32-bit integer")
        return narrow

    def _read_plain(self, rows: np.ndarray, types: Mapping[str, str]) -> dict[str, np.ndarray]:
        """Columns that were declared without a shape: [n, 1]."""
        begins, ends = self._walk_raw_pages()
        out = {name: np.empty((len(rows), 1), dtype) for name, dtype in types.items()}
        for number, row in enumerate(rows.tolist()):
            try:
                numbers = _numbers(self._map[begins[row]:ends[row]])
                for name, values in out.items():
                    values[number] = numbers[name]
            except (IndexError, KeyError, ValueError, TypeError, OverflowError, struct.error):
                self._damaged(row)
        return out


def _widen(packed: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """Little-endian signed integers of 1, 2, 4 or 8 bytes, one after another, as int32 (int64 if one has 8 bytes)."""
    widest = int(widths.max(initial=1))
    if int(widths.min(initial=widest)) == widest:
        return packed.view(f"<i{widest}").astype(np.int64 if widest == 8 else np.int32)
    ends = np.cumsum(widths, dtype=np.int64)
    begins = ends - widths
    dtype, bits = (np.int64, 64) if widest == 8 else (np.int32, 32)
    values = packed[begins].astype(dtype)
    for k in range(1, widest):
        longer = np.flatnonzero(widths > k)
        values[longer] |= packed[begins[longer] + k].astype(dtype) << dtype(8 * k)
    unused = (bits - 8 * widths.astype(np.int64)).astype(dtype)
    return (values << unused) >> unused  # spreads the sign


def _numbers(packed: bytes) -> dict[float | str, float | str]:
    """The numbers in a msgpack map of text to numbers and texts."""
    fixed = {0xCA: ">f", 0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q", 0xD0: ">b", 0xD1: ">h", 0xD2: ">i",
             0xD3: ">q"}
    text_sizes = {0xD9: ">B", 0xDA: ">H", 0xDB: ">I"}
    at = 0

    def take(code: str) -> Any:  # an int or a float, as the code says
        nonlocal at
        (value,) = struct.unpack_from(code, packed, at)
        at += struct.calcsize(code)
        return value

    def item() -> float | str:
        nonlocal at
        kind = take(">B")
        if kind < 0x80 or kind >= 0xE0:
            return kind if kind < 0x80 else kind - 256
        if kind in fixed:
            return take(fixed[kind])
        if kind & 0xE0 == 0xA0 or kind in text_sizes:
            size = take(text_sizes[kind]) if kind in text_sizes else kind & 0x1F
            at += size
            return packed[at - size:at].decode()
        raise ValueError(f"msgpack type {kind:#x}")

    head = take(">B")
    entries = take(">H") if head == 0xDE else head & 0x0F
    return {item(): item() for _ in range(entries)}
