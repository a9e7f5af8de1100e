"""TFRecord: what we write is read by others, what others write is read by us, and damage is named."""

import numpy as np
import pytest

from src.errors import UserError
from src.records.columns import pretrain_columns
from src.records.tfrecord import TFRecordFile, crc32c, encode_tfrecords, mask_crc
from src.records.writer import RecordWriter

COLUMNS = {"ids": ("int32", 5), "weights": ("float32", 3), "label": ("int32", 1)}
FLOATS = np.array([1.5, -2.0], "<f4").tobytes()


@pytest.fixture
def batch():
    rng = np.random.default_rng(1)
    ids = rng.integers(0, 2**31, (40, 5), np.int32) >> rng.integers(0, 31, (40, 5), np.int32)  # varints of 1 to 5 bytes
    ids[3] = [0, -1, -(2**31), 2**31 - 1, 127]
    return {"ids": ids, "weights": rng.normal(size=(40, 3)).astype(np.float32),
            "label": rng.integers(0, 2, (40, 1)).astype(np.int32)}


@pytest.fixture
def path(tmp_path, batch):
    path = tmp_path / "a.tfrecord"
    path.write_bytes(encode_tfrecords(batch, COLUMNS))
    return path


def varint(number):
    return bytes([number]) if number < 128 else bytes([number & 127 | 128]) + varint(number >> 7)


def field(tag, content):
    return bytes([tag]) + varint(len(content)) + content


def framed(data):
    """A record with its checksums; TensorFlow's own reader checks the same ones in another test."""
    header = len(data).to_bytes(8, "little")
    crcs = [mask_crc(crc32c(np.frombuffer(part, np.uint8), np.array([0]), np.array([len(part)]))).tobytes()
            for part in (header, data)]
    return header + crcs[0] + data + crcs[1]


def test_crc32c_gives_the_published_values():
    # RFC 3720, appendix B.4; and pieces of all lengths modulo 4 side by side.
    data = np.concatenate([np.zeros(32, np.uint8), np.full(32, 0xFF, np.uint8), np.arange(32, dtype=np.uint8)])
    assert crc32c(data, np.array([0, 32, 64]), np.full(3, 32)).tolist() == [0x8A9136AA, 0x62A8AB43, 0x46DD794E]
    check = np.frombuffer(b"123456789", np.uint8)
    assert crc32c(check, np.array([0]), np.array([9])).tolist() == [0xE3069283]
    together = crc32c(data, np.full(8, 60), np.arange(4, 12))
    assert together.tolist() == [int(crc32c(data, np.array([60]), np.array([size]))[0]) for size in range(4, 12)]


def test_what_was_written_is_read_back_in_any_order(path, batch):
    file = TFRecordFile(path)
    assert len(file) == 40
    assert file.columns() == COLUMNS
    file.check_data()
    rows = [39, 3, 3, 0]
    read = file.read(rows, COLUMNS)
    for name, values in batch.items():
        np.testing.assert_array_equal(read[name], values[rows])
        assert read[name].dtype == values.dtype
    assert set(file.read(rows, {"label": ("int32", 1)})) == {"label"}


def test_tensorflow_reads_what_we_write_and_we_read_what_it_writes(tmp_path, path, batch):
    tf = pytest.importorskip("tensorflow")
    features = {name: tf.io.FixedLenFeature([length], tf.int64 if dtype == "int32" else tf.float32)
                for name, (dtype, length) in COLUMNS.items()}
    rows = [tf.io.parse_single_example(record, features) for record in tf.data.TFRecordDataset(str(path))]
    assert len(rows) == 40
    for name, values in batch.items():
        np.testing.assert_array_equal(np.stack([row[name].numpy() for row in rows]), values)

    theirs = tmp_path / "theirs.tfrecord"
    with tf.io.TFRecordWriter(str(theirs)) as writer:
        for index in range(40):
            ints = {name: tf.train.Feature(int64_list=tf.train.Int64List(value=batch[name][index].tolist()))
                    for name in ("label", "ids")}
            floats = {"weights": tf.train.Feature(float_list=tf.train.FloatList(value=batch["weights"][index]))}
            text = {"text": tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"not for us", b"x" * index]))}
            example = tf.train.Example(features=tf.train.Features(feature={**text, **ints, **floats}))
            writer.write(example.SerializeToString())
    file = TFRecordFile(theirs)
    file.check_data()
    assert file.columns() == COLUMNS
    read = file.read(np.arange(40), COLUMNS)
    for name, values in batch.items():
        np.testing.assert_array_equal(read[name], values)


def test_mindspore_reads_what_we_write(tmp_path):
    ds = pytest.importorskip("mindspore.dataset")
    columns = pretrain_columns(16, 4)
    rng = np.random.default_rng(2)
    batch = {name: rng.integers(0, 300, (7, length)).astype(dtype) for name, (dtype, length) in columns.items()}
    path = tmp_path / "a.tfrecord"
    with RecordWriter(path, columns, "tfrecord") as writer:
        writer.write(batch)
    rows = ds.TFRecordDataset([str(path)], shuffle=False, num_parallel_workers=1)
    for index, row in enumerate(rows.create_dict_iterator(num_epochs=1, output_numpy=True)):
        assert set(row) == set(columns)
        for name, values in batch.items():
            np.testing.assert_array_equal(row[name], values[index])
    assert index == 6


def entry(name, tag, content):
    return field(0x0A, field(0x0A, name.encode()) + field(0x12, field(tag, content)))


@pytest.mark.parametrize("lists", [
    ("packed", field(0x0A, b"\x01\x02\x83\x04"), field(0x0A, FLOATS)),
    ("in two chunks", field(0x0A, b"\x01\x02") + field(0x0A, b"\x83\x04"),
     field(0x0A, FLOATS[:4]) + field(0x0A, FLOATS[4:])),
    ("an empty chunk", field(0x0A, b"") + field(0x0A, b"\x01\x02\x83\x04"), field(0x0A, FLOATS) + field(0x0A, b"")),
    ("not packed", b"\x08\x01\x08\x02\x08\x83\x04", b"\x0d" + FLOATS[:4] + b"\x0d" + FLOATS[4:]),
    ("both", b"\x08\x01" + field(0x0A, b"\x02\x83\x04"), field(0x0A, FLOATS[:4]) + b"\x0d" + FLOATS[4:]),
], ids=lambda lists: lists[0])
def test_a_list_is_read_however_it_is_cut(tmp_path, lists):
    _, integers, floats = lists
    whole = entry("ids", 0x1A, field(0x0A, b"\x05\x06\x07")) + entry("weights", 0x12, field(0x0A, FLOATS))
    path = tmp_path / "a.tfrecord"
    path.write_bytes(framed(field(0x0A, entry("ids", 0x1A, integers) + entry("weights", 0x12, floats)))
                     + framed(field(0x0A, whole)))
    file = TFRecordFile(path)
    columns = {"ids": ("int32", 3), "weights": ("float32", 2)}
    assert file.columns() == columns
    read = file.read([0, 1, 0], columns)
    np.testing.assert_array_equal(read["ids"], [[1, 2, 515], [5, 6, 7], [1, 2, 515]])
    np.testing.assert_array_equal(read["weights"], np.tile(np.frombuffer(FLOATS, "<f4"), (3, 1)))


@pytest.mark.parametrize("integers", [
    field(0x0A, b"\x01\x02\x03") + b"\x0a\x05\x01",  # a second chunk that is longer than the list
    field(0x0A, b"\x01\x02\x03") + b"\x12\x01\x01",  # a field that such a list does not have
    b"\x08\x81",
])
def test_a_damaged_list_is_named(tmp_path, integers):
    path = tmp_path / "a.tfrecord"
    path.write_bytes(framed(field(0x0A, entry("ids", 0x1A, integers))))
    with pytest.raises(UserError, match=r"record 0: not a tf.train.Example"):
        TFRecordFile(path).read([0], {"ids": ("int32", 3)})


@pytest.mark.parametrize("behind", ["the feature", "the list", "the map"])
def test_nothing_is_silently_left_out_of_a_record(tmp_path, behind):
    more = field(0x1A, field(0x0A, b"\x04"))
    value = field(0x1A, field(0x0A, b"\x01\x02\x03")) + (more if behind == "the list" else b"")
    pair = field(0x0A, b"ids") + field(0x12, value) + (field(0x12, more) if behind == "the feature" else b"")
    record = field(0x0A, field(0x0A, pair))
    record += field(0x0A, entry("label", 0x1A, field(0x0A, b"\x01"))) if behind == "the map" else b""
    path = tmp_path / "a.tfrecord"
    path.write_bytes(framed(record))
    with pytest.raises(UserError, match=r"record 0: not a tf.train.Example"):
        TFRecordFile(path).read([0], {"ids": ("int32", 3)})


@pytest.mark.parametrize("cut", [1, 4, 30])
def test_a_truncated_file_is_named_with_the_record(path, cut):
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(UserError, match=r"a\.tfrecord: truncated: record 39 needs \d+ bytes, \d+ are left"):
        TFRecordFile(path)


def test_a_file_cut_inside_a_length_header_is_truncated(path, batch):
    last = len(encode_tfrecords({name: values[39:] for name, values in batch.items()}, COLUMNS))
    path.write_bytes(path.read_bytes()[:-last + 5])
    with pytest.raises(UserError, match="truncated: record 39 needs 12 bytes, 5 are left"):
        TFRecordFile(path)


def test_damage_is_found(path):
    sound = bytearray(path.read_bytes())
    second = int(TFRecordFile(path)._starts[1])
    for byte, bit in ((0, 1), (3, 1)):  # of the second record's length: it grows a little, or beyond the file
        damaged = sound.copy()
        damaged[second - 12 + byte] ^= bit
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="record 1: damaged length"):
            TFRecordFile(path)
    damaged = sound.copy()
    damaged[second + 30] ^= 1  # its data
    path.write_bytes(damaged)
    with pytest.raises(UserError, match="record 1: damaged data"):
        TFRecordFile(path).check_data()


@pytest.mark.parametrize(("content", "message"), [
    (b"", "the file is empty"),
    (b"short", "not a TFRecord file"),
    (b"one sentence a line, as text files have it\n" * 9, "not a TFRecord file: .* check dataset_format"),
])
def test_another_file_is_not_taken_for_tfrecord(tmp_path, content, message):
    path = tmp_path / "a.tfrecord"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        TFRecordFile(path)
    with pytest.raises(UserError, match="cannot read .*No such file"):
        TFRecordFile(tmp_path / "absent.tfrecord")


@pytest.mark.parametrize(("columns", "message"), [
    ({"other": ("int32", 5)}, "record 7: no column other; the file's columns are ids, weights, label"),
    ({"ids": ("int32", 6)}, "record 7: column ids has 5 values, expected 6"),
    ({"weights": ("float32", 2)}, "record 7: column weights has 3 values, expected 2"),
    ({"ids": ("float32", 5)}, "record 7: column ids holds integers, expected floats"),
])
def test_columns_that_the_records_do_not_have(path, columns, message):
    with pytest.raises(UserError, match=message):
        TFRecordFile(path).read([7, 8], columns)


def test_one_odd_record_among_sound_ones_is_named(tmp_path, batch):
    columns = {"ids": ("int32", 5)}
    sound = encode_tfrecords({"ids": batch["ids"][:3]}, columns)
    shorter = encode_tfrecords({"ids": batch["ids"][:1, :4].copy()}, columns)
    path = tmp_path / "a.tfrecord"
    path.write_bytes(sound + shorter + sound)
    with pytest.raises(UserError, match="record 3: column ids has 4 values, expected 5"):
        TFRecordFile(path).read(np.arange(7), columns)


def test_a_number_beyond_32_bits_is_refused(tmp_path):
    entry = field(0x0A, field(0x0A, b"x") + field(0x12, field(0x1A, field(0x0A, varint(2**40)))))
    path = tmp_path / "a.tfrecord"
    path.write_bytes(framed(field(0x0A, entry)))
    with pytest.raises(UserError, match="record 0: column x holds 1099511627776, which is no 32-bit integer"):
        TFRecordFile(path).read([0], {"x": ("int32", 1)})


@pytest.mark.parametrize("data", [b"free text, not an Example", field(0x0A, b"\x0a\x7f\x0a\x01x"), b"\x0a\xff\xff\x03"])
def test_records_that_are_no_examples(tmp_path, data):
    path = tmp_path / "a.tfrecord"
    path.write_bytes(framed(data))
    with pytest.raises(UserError, match=r"record 0: not a tf\.train\.Example"):
        TFRecordFile(path).read([0], {"x": ("int32", 1)})
