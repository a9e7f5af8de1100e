"""TFRecord files of `tf.train.Example`: encoding, checksums, and reading by record number. Needs no TensorFlow.

A file is a sequence of `uint64 length, uint32 crc(length), data, uint32 crc(data)`; the data is a map from column name
to a packed list of int64 varints or of little-endian floats. Everything here works on thousands of records at once
in numpy, a few microseconds a record.
"""

import array
import mmap
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np

from src.errors import UserError
from src.records.columns import Columns
from src.text_files import check_regular

_LENGTH_HEADER = 12  # bytes: uint64 length, uint32 masked crc of it
_DATA_FOOTER = 4  # bytes: uint32 masked crc of the data
_PACKED_LIST_TAGS = {"int32": 0x1A, "float32": 0x12}  # Feature.int64_list, Feature.float_list


# ---------------------------------------------------------------- encoding

def encode_tfrecords(arrays: Mapping[str, np.ndarray], columns: Columns) -> bytes:
    """Serialise rows as TFRecord, framing and checksums included. `arrays[column]` is [n, length], n >= 1.

    Every row is laid out in a byte matrix with a fixed place for each possible byte; the places that a row does not
    use are dropped in one step at the end.
    """
    encoded = [_encode_column(name, arrays[name]) for name in columns]
    entries = [piece for pieces, _ in encoded for piece in pieces]
    entry_sizes = np.sum([size for _, size in encoded], axis=0)  # [n]
    example = [_constant(b"\x0a", len(entry_sizes)), _varints(entry_sizes[:, None]), *entries]  # Example.features
    cells = np.concatenate([cell for cell, _ in example], axis=1)  # [n, W]
    used = np.concatenate([mask for _, mask in example], axis=1)
    sizes = used.sum(axis=1)
    data = cells[used]

    n, starts = len(sizes), np.cumsum(sizes) - sizes
    headers = np.empty((n, _LENGTH_HEADER), np.uint8)
    headers[:, :8] = sizes.astype("<u8")[:, None].view(np.uint8)
    headers[:, 8:] = mask_crc(crc32c(headers[:, :8].ravel(), np.arange(n) * 8, np.full(n, 8)))[:, None].view(np.uint8)
    footers = mask_crc(crc32c(data, starts, sizes))[:, None].view(np.uint8)
    out = np.empty(n * (_LENGTH_HEADER + _DATA_FOOTER) + len(data), np.uint8)
    frame_starts = starts + np.arange(n) * (_LENGTH_HEADER + _DATA_FOOTER)
    is_data = np.ones(len(out), bool)
    for block, at in ((headers, frame_starts), (footers, frame_starts + _LENGTH_HEADER + sizes)):
        places = at[:, None] + np.arange(block.shape[1])
        out[places] = block
        is_data[places] = False
    out[is_data] = data
    return out.tobytes()


def _encode_column(name: str, values: np.ndarray) -> tuple[list[tuple[np.ndarray, np.ndarray]], np.ndarray]:
    """One map entry of Features as (bytes [n, W], used [n, W]) pieces, and its total size [n]."""
    n = len(values)
    if values.dtype == np.float32:
        packed = values.astype("<f4").view(np.uint8)
        payload, kind = (packed, np.ones(packed.shape, bool)), "float32"
    else:
        payload, kind = _varints(values), "int32"
    size = payload[1].sum(axis=1)
    pieces = [payload]
    key = name.encode()
    # From the inside out: packed field 1 of the list, the list as a field of Feature, Feature as the entry's value
    # (after the key), the entry as field 1 of Features.
    for before in (b"\x0a", bytes([_PACKED_LIST_TAGS[kind]]), b"\x0a" + _varint(len(key)) + key + b"\x12", b"\x0a"):
        length = _varints(size[:, None])
        pieces = [_constant(before, n), length, *pieces]
        size = size + length[1].sum(axis=1) + len(before)
    return pieces, size


def _constant(text: bytes, n: int) -> tuple[np.ndarray, np.ndarray]:
    shape = (n, len(text))
    return np.broadcast_to(np.frombuffer(text, np.uint8), shape), np.ones(shape, bool)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes(out) + bytes([number])


def _varints(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Varints of `values` [n, L] as (bytes [n, L*W], used [n, L*W]), W bytes being enough for the largest."""
    values = values.astype(np.int64).view(np.uint64)  # a negative number takes ten bytes, as protobuf demands
    width = max(1, (int(values.max(initial=0)).bit_length() + 6) // 7)
    cells = np.empty((*values.shape, width), np.uint8)
    used = np.empty(cells.shape, bool)
    for k in range(width):
        rest = values >> np.uint64(7 * k)
        more = rest > 0x7F
        cells[:, :, k] = (rest & np.uint64(0x7F)).astype(np.uint8) | (more.astype(np.uint8) << 7)
        used[:, :, k] = (rest > 0) | (k == 0)
    n = len(values)
    return cells.reshape(n, -1), used.reshape(n, -1)


# ---------------------------------------------------------------- checksums

def crc32c(data: np.ndarray, starts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """CRC-32C (Castagnoli) of each piece `data[start:start + size]` of a uint8 array, size >= 4; uint32 [n].

    All pieces advance together, four bytes a step. They are aligned at their ends with zeros in front: a checksum
    that starts from 0 ignores leading zeros, and the customary start from 0xFFFFFFFF is the same as inverting a
    piece's first four bytes.
    """
    n, width = len(sizes), -(-int(sizes.max(initial=4)) // 4) * 4
    aligned = np.zeros((n, width), np.uint8)
    for row, start, size in zip(aligned, starts.tolist(), sizes.tolist(), strict=True):
        row[-size:] = data[start:start + size]
    first = (width - sizes)[:, None]  # column where each piece begins
    aligned[np.arange(n)[:, None], first + np.arange(4)] ^= 0xFF
    high, low = _crc_tables()
    crc = np.zeros(n, np.uint32)
    for word in np.ascontiguousarray(aligned.view("<u4").T):  # [width / 4, n]
        crc ^= word
        crc = high[crc & 0xFFFF] ^ low[crc >> 16]
    return ~crc


@lru_cache(maxsize=1)
def _crc_tables() -> tuple[np.ndarray, np.ndarray]:
    """Effect on the checksum of two bytes that have two (high) or no (low) bytes after them; uint32 [65536] each."""
    def two_bytes_on(crc: np.ndarray) -> np.ndarray:
        for _ in range(16):
            crc = (crc >> 1) ^ np.where(crc & 1, np.uint32(0x82F63B78), np.uint32(0))
        return crc

    low = two_bytes_on(np.arange(1 << 16, dtype=np.uint32))
    return two_bytes_on(low), low


def mask_crc(crc: np.ndarray) -> np.ndarray:
    """TFRecord's masked form of a checksum (rotated and offset, so that it may itself be checksummed)."""
    return ((crc >> 15) | (crc << 17)) + np.uint32(0xA282EAD8)


# ---------------------------------------------------------------- reading

class TFRecordFile:
    """A TFRecord file whose records can be read in any order.

    Opening it walks over the length headers (about a microsecond a record) and checks them, so a truncated file is
    found at once. The file is mapped, not loaded.

    Raises:
        UserError: the file is missing, empty, truncated or no TFRecord file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            with check_regular(self.path).open("rb") as file:
                if os.fstat(file.fileno()).st_size == 0:
                    raise UserError(f"{path}: the file is empty; expected TFRecord records")
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror}") from error
        self._bytes = np.frombuffer(self._map, np.uint8)
        self._starts, self._sizes = self._index()  # of each record's data

    def __len__(self) -> int:
        """Number of records."""
        return len(self._starts)

    def _index(self) -> tuple[np.ndarray, np.ndarray]:
        starts, sizes = array.array("q"), array.array("q")
        end, at, read_length = len(self._bytes), 0, struct.Struct("<Q").unpack_from
        self._check_length_crcs(np.zeros(1, np.int64))  # before believing any length: is it TFRecord at all?
        while at < end:
            needed = _LENGTH_HEADER
            if at + needed <= end:
                (size,) = read_length(self._map, at)
                starts.append(at + _LENGTH_HEADER)
                sizes.append(min(size, end))
                needed += size + _DATA_FOOTER
            if at + needed > end:
                self._check_length_crcs(np.array(starts) - _LENGTH_HEADER)  # or is a length wrong?
                record = len(starts) - (needed > _LENGTH_HEADER)
                raise UserError(f"{self.path}: truncated: record {record} needs {needed} bytes, {end - at} are left in "
                                f"the file; make the file anew")
            at += needed
        starts = np.frombuffer(starts, np.int64)
        self._check_length_crcs(starts - _LENGTH_HEADER)
        return starts, np.frombuffer(sizes, np.int64)

    def _check_length_crcs(self, at: np.ndarray) -> None:
        for begin in range(0, len(at), 1 << 16):
            some = at[begin:begin + (1 << 16)]
            if some[-1] + _LENGTH_HEADER > len(self._bytes):
                raise UserError(f"{self.path}: not a TFRecord file: {len(self._bytes)} bytes are too few for a record; "
                                f"check the file and dataset_format")
            stored = self._bytes[some[:, None] + np.arange(8, _LENGTH_HEADER)].view("<u4")[:, 0]
            bad = np.flatnonzero(mask_crc(crc32c(self._bytes, some, np.full(len(some), 8))) != stored)
            if len(bad):
                record = begin + int(bad[0])
                raise UserError(
                    f"{self.path}: not a TFRecord file: it does not begin with a record; check dataset_format"
                    if record == 0 else
                    f"{self.path}: record {record}: damaged length (its checksum does not match); make the file anew")

    def check_data(self) -> None:
        """Compare every record's data with its checksum (about 2 us a record), as reading does.

        Raises:
            UserError: a record is damaged.
        """
        for begin in range(0, len(self), 4096):
            self._check_data_crcs(np.arange(begin, min(begin + 4096, len(self))))

    def _check_data_crcs(self, rows: np.ndarray) -> None:
        starts, sizes = self._starts[rows], self._sizes[rows]
        short = sizes < 4  # shorter than any Example that has a column; reading will refuse it
        stored = self._bytes[(starts + sizes)[:, None] + np.arange(_DATA_FOOTER)].view("<u4")[:, 0]
        bad = mask_crc(crc32c(self._bytes, np.where(short, 0, starts), np.where(short, 4, sizes))) != stored
        bad = np.flatnonzero(bad & ~short)
        if len(bad):
            raise UserError(f"{self.path}: record {rows[bad[0]]}: damaged data (its checksum does not match); make the "
                            f"file anew")

    def columns(self) -> dict[str, tuple[str, int]]:
        """Names, types and lengths of the first record's columns; those of byte strings are left out."""
        columns = {}
        for entry in self._entries(np.zeros(1, np.int64)):
            begin, size = int(entry.key_starts[0]), int(entry.key_sizes[0])
            name = bytes(self._bytes[begin:begin + size]).decode("utf-8", "replace")
            place = entry.starts[0], entry.sizes[0], entry.packed[0]
            payload = np.frombuffer(self._list(0, int(entry.kinds[0]), *place), np.uint8)
            if entry.kinds[0] == _PACKED_LIST_TAGS["int32"]:
                columns[name] = ("int32", int((payload < 0x80).sum()))
            elif entry.kinds[0] == _PACKED_LIST_TAGS["float32"]:
                columns[name] = ("float32", len(payload) // 4)
        return columns

    def read(self, rows: Sequence[int] | np.ndarray, columns: Columns) -> dict[str, np.ndarray]:
        """Columns of the given records, in the given order: int32 or float32 [len(rows), length].

        Raises:
            UserError: a record is damaged, lacks a column, or holds another type or number of values.
        """
        rows = np.asarray(rows, np.int64)
        self._check_data_crcs(rows)
        found = {name: np.zeros((4, len(rows)), np.int64) for name in columns}  # kind, start, size, packed
        for entry in self._entries(rows):
            for name, place in found.items():
                hit = self._named(entry, name.encode())
                place[:, entry.rows[hit]] = (entry.kinds[hit], entry.starts[hit], entry.sizes[hit],
                                              entry.packed[hit])
        out = {}
        for name, (dtype, length) in columns.items():
            self._check_kinds(rows, name, dtype, found[name][0])
            lists = [self._list(row, *place) for row, place in zip(rows, found[name].T.tolist(), strict=True)]
            decode = self._decode_floats if dtype == "float32" else self._decode_integers
            out[name] = decode(rows, name, length, lists)
        return out

    def _list(self, row: int, kind: int, start: int, size: int, packed: bool) -> bytes:
        """The values of a list: the one packed chunk that nearly all have, or all chunks and single values together."""
        content = self._map[start:start + size]
        if packed or kind not in _PACKED_LIST_TAGS.values():
            return content
        values = _repack(content)
        if values is None:
            self._refuse(row)
        return values

    def _entries(self, rows: np.ndarray) -> Iterator["_Entries"]:
        """Walk over the maps of all the records together: their first entries, their second entries, and so on.

        On the wire a record is nested fields of a tag byte, a length and content. The names are those of the arrays
        below, which hold a number for each record:

            0A n  Features                                       (tags, at, sizes; ends: behind it)
            └ 0A n  entry of the map                              (tags, entry, size; at: behind it)
              ├ 0A n  key, the column's name                       (key_tags, key_starts, key_sizes)
              └ 12 n  Feature                                      (value_tags, feature, feature_sizes)
                └ 0A | 12 | 1A n  list of bytes, floats, integers  (kinds, values, value_sizes)
                  └ 0A n  packed numbers                           (list_tags, starts, sizes)
        """
        numbers = np.arange(len(rows))
        tags, at, sizes = self._field(self._starts[rows])
        ends = at + sizes
        sound = ((tags == 0x0A) & (ends == self._starts[rows] + self._sizes[rows])) | (self._sizes[rows] == 0)
        while True:
            self._check_sound(rows, numbers, sound)
            left = at < ends
            numbers, at, ends = numbers[left], at[left], ends[left]
            if not len(numbers):
                return
            tags, entry, size = self._field(at)
            at = entry + size
            key_tags, key_starts, key_sizes = self._field(entry)
            value_tags, feature, feature_sizes = self._field(key_starts + key_sizes)
            kinds, values, value_sizes = self._field(feature)
            list_tags, starts, sizes = self._field(values)
            empty = feature_sizes == 0
            # A list fills its feature, which fills its entry: what is behind it would be lost.
            sound = ((tags == 0x0A) & (key_tags == 0x0A) & (value_tags == 0x12) & (at <= ends)
                     & (feature + feature_sizes == at) & (empty | (values + value_sizes == at)))
            packed = (list_tags == 0x0A) & (starts + sizes == at) & ~empty
            value_sizes = np.where(empty, 0, np.minimum(value_sizes, np.maximum(at - values, 0)))
            yield _Entries(numbers, key_starts, key_sizes, np.where(empty, 0, kinds), np.where(packed, starts, values),
                           np.where(packed, sizes, value_sizes), packed)

    def _field(self, at: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Read a tag byte and a length at each place; return tags, where the content starts, content lengths."""
        last = len(self._bytes) - 1  # reading past the end gives nonsense, which the caller's bounds check refuses
        tags = self._bytes[np.minimum(at, last)]
        at = at + 1
        lengths, more = np.zeros(len(at), np.int64), np.ones(len(at), bool)
        for shift in range(0, 35, 7):
            byte = self._bytes[np.minimum(at, last)].astype(np.int64)
            lengths |= np.where(more, (byte & 0x7F) << shift, 0)
            at = at + more
            more &= byte > 0x7F
            if not more.any():
                break
        return tags, at, lengths

    def _named(self, entry: "_Entries", key: bytes) -> np.ndarray:
        """Numbers (into the entry's arrays) of those entries that have this key."""
        hit = np.flatnonzero(entry.key_sizes == len(key))
        keys = self._bytes[entry.key_starts[hit][:, None] + np.arange(len(key))]
        return hit[(keys == np.frombuffer(key, np.uint8)).all(axis=1)]

    def _check_sound(self, rows: np.ndarray, numbers: np.ndarray, sound: np.ndarray) -> None:
        if not sound.all():
            self._refuse(rows[numbers[~sound][0]])

    def _refuse(self, row: int) -> NoReturn:
        raise UserError(f"{self.path}: record {row}: not a tf.train.Example; expected the records that a generator of "
                        f"this project or TensorFlow wrote")

    def _check_kinds(self, rows: np.ndarray, name: str, dtype: str, kinds: np.ndarray) -> None:
        wrong = np.flatnonzero(kinds != _PACKED_LIST_TAGS[dtype])
        if not len(wrong):
            return
        found = {0: None, 0x0A: "byte strings", 0x12: "floats", 0x1A: "integers"}[int(kinds[wrong[0]])]
        expected = "floats" if dtype == "float32" else "integers"
        if found is None:
            names = ", ".join(self.columns())
            raise UserError(f"{self.path}: record {rows[wrong[0]]}: no column {name}; the file's columns are {names}")
        raise UserError(f"{self.path}: record {rows[wrong[0]]}: column {name} holds {found}, expected {expected}")

    def _check_lengths(self, rows: np.ndarray, name: str, length: int, found: np.ndarray) -> None:
        wrong = np.flatnonzero(found != length)
        if len(wrong):
            raise UserError(f"{self.path}: record {rows[wrong[0]]}: column {name} has {found[wrong[0]]:g} values, "
                            f"expected {length}; the records were made for another length")

    def _decode_floats(self, rows: np.ndarray, name: str, length: int, lists: Sequence[bytes]) -> np.ndarray:
        self._check_lengths(rows, name, length, np.array([len(values) / 4 for values in lists]))
        return np.frombuffer(b"".join(lists), "<f4").astype(np.float32).reshape(len(rows), length)

    def _decode_integers(self, rows: np.ndarray, name: str, length: int, lists: Sequence[bytes]) -> np.ndarray:
        packed = np.frombuffer(b"".join(lists), np.uint8)
        sizes = np.array([len(values) for values in lists])
        last = np.flatnonzero(packed < 0x80)  # of each varint
        self._check_lengths(rows, name, length, np.diff(np.searchsorted(last, np.cumsum(sizes)), prepend=0))
        widths = np.diff(last, prepend=-1)
        values = packed[last].astype(np.int64)
        for k in range(1, min(10, int(widths.max(initial=0)))):
            longer = np.flatnonzero(widths > k)
            values[longer] = (values[longer] << 7) | (packed[last[longer] - k] & 0x7F)
        values = values.reshape(len(rows), length)
        narrow = values.astype(np.int32)
        if not np.array_equal(narrow, values):
            row, column = np.argwhere(narrow != values)[0]
            raise UserError(f"{self.path}: record {rows[row]}: column {name} holds {values[row, column]}, which is no "
                            f"32-bit integer")
        return narrow


def _repack(content: bytes) -> bytes | None:
    """The packed values of an Int64List or FloatList, which may be cut into chunks or not be packed; None if damaged.

    Protobuf lets a writer do so, and demands that every reader takes it.
    """
    values, at = [], 0
    while at < len(content):
        tag = content[at]
        if tag == 0x0D:  # one float
            begin, end = at + 1, at + 5
        else:  # one varint, or that of a chunk's length
            begin = end = at + 1
            while end < len(content) and content[end] > 0x7F:
                end += 1
            end += 1
            if tag == 0x0A:
                size = sum((byte & 0x7F) << 7 * place for place, byte in enumerate(content[begin:end]))
                begin, end = end, end + size
            elif tag != 0x08:
                return None
        if end > len(content):
            return None
        values.append(content[begin:end])
        at = end
    return b"".join(values)


class _Entries(NamedTuple):
    """One map entry of each of some records: whose, its key, its list's type tag and place.

    The place is that of the one packed chunk of values which makes up the list, or, if not `packed`, of the whole list.
    """

    rows: np.ndarray
    key_starts: np.ndarray
    key_sizes: np.ndarray
    kinds: np.ndarray
    starts: np.ndarray
    sizes: np.ndarray
    packed: np.ndarray
