import json
import struct

import mindspore.dataset as ds
import numpy as np
import pytest
from mindspore.mindrecord import FileWriter

from src.errors import UserError
from src.records.mindrecord import MindRecordFile
from src.records.reader import open_records

NUMBERS = np.random.default_rng(0)
# name: (schema, type that we read, a row's values)
FIELDS = {
    "ids": ({"type": "int32", "shape": [13]}, "int32", lambda i: NUMBERS.integers(-40_000, 40_000, 13)),
    "wide": ({"type": "int64", "shape": [6]}, "int32", lambda i: NUMBERS.integers(-2**31, 2**31, 6) >> 8 * (i % 4)),
    "mask": ({"type": "int32", "shape": [8]}, "int32", lambda i: NUMBERS.integers(0, 2, 8)),
    "open": ({"type": "int32", "shape": [-1]}, "int32", lambda i: NUMBERS.integers(100, 300, 5)),
    "weights": ({"type": "float32", "shape": [3]}, "float32", lambda i: NUMBERS.normal(size=3)),
    "double": ({"type": "float64", "shape": [2]}, "float32", lambda i: NUMBERS.normal(size=2)),
    "matrix": ({"type": "int32", "shape": [2, 3]}, "int32", lambda i: NUMBERS.integers(0, 9, (2, 3))),
    "plain": ({"type": "int32"}, "int32", lambda i: [0, 5, 200, 70_000, -3, -200, -40_000, 2**31 - 1][i % 8]),
    "score": ({"type": "float64"}, "float32", lambda i: float(NUMBERS.normal())),
    "text": ({"type": "string"}, None, lambda i: "x" * (i % 40)),
    "blob": ({"type": "bytes"}, None, lambda i: b"y" * (i % 30)),
}


def write(path, names=tuple(FIELDS), count=700):
    """As others write them: MindSpore's own writer, small pages so that there are many."""
    writer = FileWriter(str(path), shard_num=1)
    writer.set_page_size(1 << 15)
    writer.add_schema({name: FIELDS[name][0] for name in names}, "test")
    rows = []
    for i in range(count):
        row = {name: FIELDS[name][2](i) for name in names}
        rows.append({name: np.asarray(value, FIELDS[name][0]["type"]) if isinstance(value, np.ndarray) else value
                     for name, value in row.items()})
    writer.write_raw_data(rows)
    writer.commit()
    return path


def columns_of(file):
    return {name: (FIELDS[name][1], length) for name, (_, length) in file.columns().items()}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write(tmp_path_factory.mktemp("mindrecord") / "all.mindrecord")


@pytest.mark.parametrize("names", [tuple(FIELDS), ("ids",), ("weights",), ("plain",), ("ids", "plain"),
                                   ("open", "mask")])
def test_reads_what_mindspore_reads(tmp_path, names):
    path = write(tmp_path / "some.mindrecord", names)
    file = MindRecordFile(path)
    columns = columns_of(file)
    expected = list(ds.MindDataset(str(path), shuffle=False).create_dict_iterator(num_epochs=1, output_numpy=True))
    assert len(file) == len(expected) == 700
    assert set(columns) == set(names) - {"text", "blob"}
    order = np.random.default_rng(1).permutation(700)
    for rows in (order, order[:9], order[:1], np.array([3, 3, 699, 0])):
        found = file.read(rows, columns)
        for name in columns:
            assert found[name].dtype == FIELDS[name][1]
            want = np.stack([expected[row][name].ravel() for row in rows]).astype(FIELDS[name][1])
            assert np.array_equal(found[name], want), name


def test_columns(path):
    assert MindRecordFile(path).columns() == {
        "ids": ("int32", 13), "wide": ("int64", 6), "mask": ("int32", 8), "open": ("int32", 5),
        "weights": ("float32", 3), "double": ("float64", 2), "matrix": ("int32", 6), "plain": ("int32", 1),
        "score": ("float64", 1)}


def test_several_shards_are_files_of_their_own(tmp_path):
    writer = FileWriter(str(tmp_path / "x.mindrecord"), shard_num=3)
    writer.add_schema({"ids": {"type": "int32", "shape": [2]}}, "test")
    writer.write_raw_data([{"ids": np.array([i, 1], np.int32)} for i in range(10)])
    writer.commit()
    files = [MindRecordFile(tmp_path / f"x.mindrecord{shard}") for shard in range(3)]
    assert sum(len(file) for file in files) == 10
    read = [file.read(np.arange(len(file)), {"ids": ("int32", 2)})["ids"][:, 0] for file in files]
    assert sorted(np.concatenate(read)) == list(range(10))


def test_a_set_with_an_empty_shard(tmp_path):
    writer = FileWriter(str(tmp_path / "x.mindrecord"), shard_num=4)
    writer.add_schema({"ids": {"type": "int32", "shape": [2]}}, "test")
    writer.write_raw_data([{"ids": np.array([i, 1], np.int32)} for i in range(3)])
    writer.commit()
    files = [MindRecordFile(tmp_path / f"x.mindrecord{shard}") for shard in range(4)]
    assert sorted(len(file) for file in files) == [0, 1, 1, 1]
    records = open_records(str(tmp_path), "mindrecord", {"ids": "int32"}, option="data_dir")
    assert sorted(records.read(np.arange(3), ["ids"])["ids"][:, 0]) == [0, 1, 2]


def told(call, *args):
    with pytest.raises(UserError) as caught:
        call(*args)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_number_that_is_too_large(tmp_path):
    writer = FileWriter(str(tmp_path / "x.mindrecord"), shard_num=1)
    writer.add_schema({"ids": {"type": "int64", "shape": [3]}}, "test")
    writer.write_raw_data([{"ids": np.array([1, 2, 2**40 + (i == 0) * 5])} for i in range(2)])
    writer.commit()
    file = MindRecordFile(tmp_path / "x.mindrecord")
    message = told(file.read, [1, 0], {"ids": ("int32", 3)})
    assert f"record 1: column ids holds {2**40}, which is no 32-bit integer" in message


def test_other_number_of_values(path):
    message = told(MindRecordFile(path).read, [4], {"ids": ("int32", 12)})
    assert "record 4: column ids has 13 values, expected 12" in message


def test_what_the_header_tells_about_damage(tmp_path):
    path = write(tmp_path / "x.mindrecord", count=90)
    content = path.read_bytes()
    assert "cannot read" in told(MindRecordFile, tmp_path / "absent")
    for size in (0, 5, 300):
        path.write_bytes(content[:size])
        assert f"{path}: not a MindRecord file" in told(MindRecordFile, path)
    path.write_bytes(content[:-1])
    assert f"{path}: truncated: {len(content) - 1} bytes, expected {len(content)}" in told(MindRecordFile, path)
    path.write_bytes(content)
    assert len(MindRecordFile(path)) == 90
    path.with_name("x.mindrecord.db").rename(tmp_path / "y.mindrecord.db")
    assert "its index x.mindrecord.db is missing" in told(MindRecordFile, path)
    path.rename(tmp_path / "y.mindrecord")
    assert "renamed from x.mindrecord" in told(MindRecordFile, tmp_path / "y.mindrecord")


def test_other_version(tmp_path):
    path = write(tmp_path / "x.mindrecord", count=9)
    path.write_bytes(path.read_bytes().replace(b'"version":"3.0"', b'"version":"9.0"', 1))
    assert "MindRecord of version 9.0; this program reads version 3.0" in told(MindRecordFile, path)


def test_index_that_does_not_fit(tmp_path):
    path = write(tmp_path / "x.mindrecord", count=90)
    index = tmp_path / "x.mindrecord.db"
    content = index.read_bytes()
    for bad in (content[:5000], b"no database", b"", write(tmp_path / "y.mindrecord", count=80).with_name(
            "y.mindrecord.db").read_bytes()):
        index.write_bytes(bad)
        message = told(MindRecordFile(path).read, [0], {"ids": ("int32", 13)})
        assert message.startswith(f"{index}: damaged")
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("x")) == [path.name, index.name]


def test_index_of_a_file_alike_is_noticed(tmp_path):
    columns = {"ids": ("int32", 13)}
    one, other = (write(tmp_path / name, ("ids",), count=90) for name in ("x.mindrecord", "y.mindrecord"))
    file = MindRecordFile(one)
    whole = file.read(np.arange(90), columns)["ids"]
    one.with_name("x.mindrecord.db").write_bytes(other.with_name("y.mindrecord.db").read_bytes())
    file = MindRecordFile(one)
    for row in range(90):
        try:
            assert np.array_equal(file.read([row], columns)["ids"][0], whole[row])
        except UserError as error:
            assert str(one) in str(error)


def test_damaged_records_are_an_error_or_other_values(tmp_path):
    """MindSpore's reader crashes the process on some of these."""
    path = write(tmp_path / "x.mindrecord", count=40)
    columns = columns_of(MindRecordFile(path))
    content = path.read_bytes()
    begin = json.loads(content[8:8 + struct.unpack_from("<Q", content)[0]])["header_size"]
    damage = np.random.default_rng(2)
    errors = 0
    for size in [1, 4, 50] * 20:
        damaged = bytearray(content)
        at = begin + int(damage.integers(40 * 300))
        damaged[at:at + size] = damage.bytes(size)
        path.write_bytes(damaged)
        try:
            file = MindRecordFile(path)
            file.columns()
            file.read(np.arange(40), columns)
        except UserError as error:
            assert str(path) in str(error)
            errors += 1
    assert 5 < errors < 60
