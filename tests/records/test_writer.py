"""Record files: both formats hold what was written, appear whole or not at all, and say what they hold."""

import json
import os
import stat
import struct

import numpy as np
import pytest

import src.records.writer as writer_module
from src.errors import UserError
from src.records.columns import DATASET_FORMATS, pretrain_columns
from src.records.mindrecord import MindRecordFile
from src.records.tfrecord import TFRecordFile
from src.records.writer import RecordWriter, write_schema_json

COLUMNS = pretrain_columns(8, 2)
READERS = {"mindrecord": MindRecordFile, "tfrecord": TFRecordFile}


def make_batch(n, seed=0, columns=COLUMNS):
    rng = np.random.default_rng(seed)
    return {name: rng.integers(0, 1000, (n, length)).astype(dtype) for name, (dtype, length) in columns.items()}


def write(path, dataset_format, *batches, columns=COLUMNS):
    with RecordWriter(path, columns, dataset_format) as writer:
        for batch in batches:
            writer.write(batch)
    return path


def read_mindrecord(path):
    import mindspore.dataset as ds

    rows = ds.MindDataset(str(path), shuffle=False, num_parallel_workers=1)
    rows = list(rows.create_dict_iterator(num_epochs=1, output_numpy=True))
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def test_the_column_order_is_that_of_the_network():
    assert tuple(pretrain_columns(128, 20)) == ("input_ids", "input_mask", "segment_ids", "next_sentence_labels",
                                "masked_lm_positions", "masked_lm_ids", "masked_lm_weights")


@pytest.mark.parametrize("columns", [COLUMNS, {"only": ("int32", 3)}, {"a": ("float32", 1), "b": ("int32", 2)}])
def test_mindspore_reads_the_mindrecord(tmp_path, columns):
    first, second = make_batch(3, 1, columns), make_batch(4, 2, columns)
    path = write(tmp_path / "a.mindrecord", "mindrecord", first, second, columns=columns)
    read = read_mindrecord(path)
    assert set(read) == set(columns)
    for name, (dtype, _) in columns.items():
        np.testing.assert_array_equal(read[name], np.concatenate([first[name], second[name]]))
        assert read[name].dtype == dtype


@pytest.mark.parametrize("dataset_format", DATASET_FORMATS)
def test_a_file_holds_what_was_written(tmp_path, dataset_format):
    path = write(tmp_path / f"a.{dataset_format}", dataset_format, make_batch(3), make_batch(4))
    file = READERS[dataset_format](path)
    assert len(file) == 7 and file.columns() == COLUMNS
    read = file.read(np.arange(7), COLUMNS)
    for name, values in make_batch(4).items():
        np.testing.assert_array_equal(read[name][3:], values)
    umask = os.umask(0)
    os.umask(umask)
    for file in tmp_path.iterdir():  # readable for those for whom files usually are
        assert stat.S_IMODE(file.stat().st_mode) == 0o666 & ~umask, file
    assert len(list(tmp_path.iterdir())) == (2 if dataset_format == "mindrecord" else 1)


def test_many_pages_of_mindrecord(tmp_path):
    columns = {"a": ("int32", 1024), "b": ("int32", 1)}
    rng = np.random.default_rng(0)
    batch = {"a": rng.integers(-2**31, 2**31, (3000, 1024)).astype(np.int32),
             "b": np.arange(3000, dtype=np.int32)[:, None]}
    path = write(tmp_path / "a.mindrecord", "mindrecord", batch, columns=columns)
    assert len(MindRecordFile(path)) == 3000
    read = read_mindrecord(path)
    np.testing.assert_array_equal(read["a"], batch["a"])
    np.testing.assert_array_equal(read["b"], batch["b"])


@pytest.mark.parametrize(("columns", "num_rows", "calls", "largest"), [
    ({"a": ("int32", 128), "b": ("int32", 128), "c": ("int32", 128), "d": ("int32", 1)}, 504, 1, 600_000),  # as TNEWS
    (COLUMNS, 2, 1, 100_000),
    ({"a": ("int32", 1)}, 20_000, 400, 2_000_000),  # more is listed in the header than there is data
    ({"a": ("float32", 60_000)}, 30, 1, 10_000_000),  # rows that fill a page
])
def test_a_small_mindrecord_file_is_small(tmp_path, columns, num_rows, calls, largest):
    batch = make_batch(num_rows, columns=columns)
    parts = [{name: values[part::calls] for name, values in batch.items()} for part in range(calls)]
    path = write(tmp_path / "a.mindrecord", "mindrecord", *parts, columns=columns)
    assert path.stat().st_size < largest
    assert struct.unpack("<Q", path.read_bytes()[:8])[0] < json.loads(
        path.read_bytes()[8:].split(b"\0", 1)[0])["header_size"] // 2
    read = read_mindrecord(path)
    ours = MindRecordFile(path).read(np.arange(num_rows), columns)
    for name in columns:
        expected = np.concatenate([part[name] for part in parts])
        np.testing.assert_array_equal(read[name], expected)
        np.testing.assert_array_equal(ours[name], expected)


def test_a_large_mindrecord_file_keeps_room_for_its_pages(tmp_path, monkeypatch):
    monkeypatch.setattr(writer_module, "_MINDRECORD_HEADER_SIZE", 1 << 17)  # reached by the third batch
    batches = [make_batch(1000, seed) for seed in range(5)]
    path = write(tmp_path / "a.mindrecord", "mindrecord", *batches)
    assert (1 << 17) + (1 << 20) < path.stat().st_size < (1 << 17) + 3 * (1 << 20)
    read = MindRecordFile(path).read(np.arange(5000), COLUMNS)
    for name in COLUMNS:
        np.testing.assert_array_equal(read[name], np.concatenate([batch[name] for batch in batches]))


def test_what_is_written_may_change_afterwards(tmp_path):
    batch = make_batch(3)
    expected = {name: values.copy() for name, values in batch.items()}
    with RecordWriter(tmp_path / "a.mindrecord", COLUMNS, "mindrecord") as writer:
        writer.write(batch)
        for values in batch.values():
            values[:] = 0
    read = MindRecordFile(tmp_path / "a.mindrecord").read(np.arange(3), COLUMNS)
    for name in COLUMNS:
        np.testing.assert_array_equal(read[name], expected[name])


@pytest.mark.parametrize("dataset_format", DATASET_FORMATS)
@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_nothing_is_left_of_a_failed_file_and_an_older_one_stays(tmp_path, dataset_format, error):
    path = write(tmp_path / f"a.{dataset_format}", dataset_format, make_batch(2))
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(error), RecordWriter(path, COLUMNS, dataset_format) as writer:
        writer.write(make_batch(5, seed=9))
        raise error
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before
    write(path, dataset_format, make_batch(5, seed=9))
    assert len(READERS[dataset_format](path)) == 5


@pytest.mark.parametrize("dataset_format", DATASET_FORMATS)
def test_wrong_outputs(tmp_path, dataset_format):
    with pytest.raises(UserError, match="no record to write to .*a.x: the input gave none"):
        write(tmp_path / "a.x", dataset_format)
    with pytest.raises(UserError, match="cannot write .*: No such file or directory"):
        write(tmp_path / "absent" / "a.x", dataset_format, make_batch(1))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match="dataset_format: 'csv' is unknown, expected mindrecord or tfrecord"):
        RecordWriter(tmp_path / "a.x", COLUMNS, "csv")


def test_a_name_that_mindrecord_refuses(tmp_path):
    with pytest.raises(UserError, match="MindRecord does not allow & in a file name"):
        write(tmp_path / "a&b.mindrecord", "mindrecord", make_batch(1))


def test_a_path_with_spaces_and_chinese(tmp_path):
    directory = tmp_path / "my data 数据"
    directory.mkdir()
    batch = make_batch(2)
    read = read_mindrecord(write(directory / "a 维基.mindrecord", "mindrecord", batch))
    np.testing.assert_array_equal(read["input_ids"], batch["input_ids"])


@pytest.mark.parametrize("dataset_format", DATASET_FORMATS)
def test_columns_of_unequal_height_or_length_are_a_programming_error(tmp_path, dataset_format):
    batch = make_batch(3)
    with pytest.raises(ValueError, match="differ in their number of rows"):
        write(tmp_path / "a.x", dataset_format, {**batch, "input_mask": batch["input_mask"][:2]})
    with pytest.raises(ValueError, match=r"column input_mask: shape \(3, 7\), expected \[n, 8\]"):
        write(tmp_path / "a.x", dataset_format, {**batch, "input_mask": batch["input_mask"][:, :7]})
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_other_format_is_named(tmp_path):
    mindrecord = write(tmp_path / "a.mindrecord", "mindrecord", make_batch(2))
    tfrecord = write(tmp_path / "a.tfrecord", "tfrecord", make_batch(2))
    with pytest.raises(UserError, match="a.tfrecord: not a MindRecord file.*dataset_format"):
        MindRecordFile(tfrecord)
    with pytest.raises(UserError, match="a.mindrecord: not a TFRecord file.*dataset_format"):
        TFRecordFile(mindrecord)


def test_the_schema_file_has_the_documented_form(tmp_path):
    write_schema_json(tmp_path / "schema.json", pretrain_columns(128, 20), 7680)
    schema = json.loads((tmp_path / "schema.json").read_text())
    assert schema["datasetType"] == "TF"
    assert schema["numRows"] == 7680
    assert list(schema["columns"]) == list(pretrain_columns(128, 20))
    assert schema["columns"]["input_ids"] == {"type": "int64", "rank": 1, "shape": [128]}
    assert schema["columns"]["masked_lm_weights"] == {"type": "float32", "rank": 1, "shape": [20]}
