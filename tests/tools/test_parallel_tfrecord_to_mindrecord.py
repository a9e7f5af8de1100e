"""TFRecord files become MindRecord files with the same contents, all of them or none."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from toy_pretraining import REPOSITORY

from src.errors import UserError
from src.records.columns import pretrain_columns
from src.records.mindrecord import MindRecordFile
from src.records.tfrecord import TFRecordFile, crc32c, encode_tfrecords, mask_crc
from src.records.writer import RecordWriter
from src.tools import parallel_tfrecord_to_mindrecord as tool
from src.tools.parallel_tfrecord_to_mindrecord import convert, main

S = 8
TOKENS = dict.fromkeys(("input_ids", "input_mask", "segment_ids"), ("int32", S))
LABEL = dict.fromkeys(("start_positions", "end_positions", "is_impossible"), ("int32", 1))
TASKS = {
    "pretrain": pretrain_columns(S, 3),
    "classifier": TOKENS | {"label_ids": ("int32", 1), "is_real_example": ("int32", 1)},
    "ner": TOKENS | {"label_ids": ("int32", S)},
    "squad_train": {"unique_ids": ("int32", 1)} | TOKENS | LABEL,
    "squad_dev": {"unique_ids": ("int32", 1)} | TOKENS,
    "regression": TOKENS | {"label_ids": ("float32", 1)},
    "one_column": {"input_ids": ("int32", S)},
}


def batch_of(columns, count=20, seed=0):
    rng = np.random.default_rng(seed)
    batch = {name: rng.integers(0, 2**31, (count, length), np.int32) >> rng.integers(0, 31, (count, length), np.int32)
             if dtype == "int32" else rng.normal(size=(count, length)).astype(np.float32)
             for name, (dtype, length) in columns.items()}
    batch["input_ids"][0, :3] = -1, -2**31, 2**31 - 1
    for values in batch.values():
        if values.dtype == np.float32:
            values[:3, 0] = (np.nan, -0.0, np.inf)[:count]
    return batch


def write(path, columns=TASKS["classifier"], count=20, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    batch = batch_of(columns, count, seed)
    path.write_bytes(encode_tfrecords(batch, columns))
    return batch


def append(path, *batches):
    """Add records that need not have the columns of those before them."""
    for batch in batches:
        columns = {name: (values.dtype.name, values.shape[1]) for name, values in batch.items()}
        with path.open("ab") as file:
            file.write(encode_tfrecords(batch, columns))


def framed(data):
    header = len(data).to_bytes(8, "little")
    crcs = [mask_crc(crc32c(np.frombuffer(part, np.uint8), np.array([0]), np.array([len(part)]))).tobytes()
            for part in (header, data)]
    return header + crcs[0] + data + crcs[1]


def damage(path, record):
    """Change a byte of a record's data, and not its length, so that only reading the record finds it."""
    content = bytearray(path.read_bytes())
    at = 0
    for _ in range(record):
        at += int.from_bytes(content[at:at + 8], "little") + 16
    content[at + 40] ^= 1
    path.write_bytes(content)


def everything_below(directory):
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


def assert_holds(path, batch):
    """MindSpore's own reader finds the batch in the file, bit by bit."""
    import mindspore.dataset as ds  # not above: the worker processes of some tests import this file

    rows = list(ds.MindDataset(str(path), shuffle=False, num_parallel_workers=1)
                .create_dict_iterator(num_epochs=1, output_numpy=True))
    for name, values in batch.items():
        found = np.stack([row[name] for row in rows])
        assert found.dtype == values.dtype
        np.testing.assert_array_equal(found.view(np.int32), values.view(np.int32))
    assert set(rows[0]) == set(batch)


@pytest.mark.parametrize("task", TASKS)
def test_every_task_keeps_its_columns_and_values(tmp_path, task):
    batch = write(tmp_path / "in" / "a.tfrecord", TASKS[task])
    summary = convert(tmp_path / "in", tmp_path / "out")
    assert summary.num_rows == 20
    assert summary.outputs == [tmp_path / "out" / "a.mindrecord"]
    assert_holds(tmp_path / "out" / "a.mindrecord", batch)
    assert everything_below(tmp_path / "out") == ["a.mindrecord", "a.mindrecord.db"]


def test_records_of_several_batches_keep_their_order(tmp_path, monkeypatch):
    monkeypatch.setattr(tool, "ROWS_AT_ONCE", 6)
    batch = write(tmp_path / "a.tfrecord")
    convert(tmp_path, tmp_path / "out")
    assert_holds(tmp_path / "out" / "a.mindrecord", batch)


def test_what_tensorflow_wrote(tmp_path, capsys):
    tf = pytest.importorskip("tensorflow")
    with tf.io.TFRecordWriter(str(tmp_path / "a.tfrecord")) as writer:
        for i in range(3):
            feature = {"input_ids": tf.train.Feature(int64_list=tf.train.Int64List(value=[i, -i, 70_000])),
                       "score": tf.train.Feature(float_list=tf.train.FloatList(value=[i / 3])),
                       "text": tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"x"] * i))}
            writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())
    convert(tmp_path, tmp_path / "out")
    assert "a.tfrecord: byte strings are of no use in training; left out: text" in capsys.readouterr().out
    assert_holds(tmp_path / "out" / "a.mindrecord",
                 {"input_ids": np.array([[0, 0, 70_000], [1, -1, 70_000], [2, -2, 70_000]], np.int32),
                  "score": np.array([[0], [1 / 3], [2 / 3]], np.float32)})


# ---------------------------------------------------------------- which files, and their names

@pytest.mark.parametrize(("name", "expected"), [
    ("train.tfrecord", "train.mindrecord"),
    ("train.tf_record", "train.mindrecord"),
    ("train.tf-record", "train.mindrecord"),
    ("TRAIN.TFRecord", "TRAIN.mindrecord"),
    ("train.tfrecords", "train.mindrecord"),
    ("wiki.tfrecord-00003-of-00010", "wiki.mindrecord-00003-of-00010"),
    ("train_tfrecord_v2", "train_mindrecord_v2"),
    ("tfrecord_1.tf_record", "mindrecord_1.mindrecord"),
])
def test_names(tmp_path, name, expected):
    targets = tool._name_targets(*tool._find_sources(write_empty(tmp_path / "sub" / name)))
    assert [str(target) for target in targets.values()] == [f"sub/{expected}"]


def write_empty(path):
    path.parent.mkdir(parents=True)
    path.touch()
    return path.parents[1]


def test_folders_are_kept_and_other_files_passed_over(tmp_path):
    first = write(tmp_path / "in" / "a.tfrecord", seed=1)
    second = write(tmp_path / "in" / "dev" / "a.tf_record", seed=2)
    for name in ("tfrecord.json", "b.mindrecord", "from_tfrecord.mindrecord.db", ".c.tfrecord", "readme.txt"):
        (tmp_path / "in" / name).write_text("no record")
    convert(tmp_path / "in", tmp_path / "out")
    assert everything_below(tmp_path / "out") == ["a.mindrecord", "a.mindrecord.db", "dev", "dev/a.mindrecord",
                                                  "dev/a.mindrecord.db"]
    assert_holds(tmp_path / "out" / "a.mindrecord", first)
    assert_holds(tmp_path / "out" / "dev" / "a.mindrecord", second)


def test_a_single_file_of_any_name_and_the_same_directory(tmp_path):
    batch = write(tmp_path / "train")
    convert(tmp_path / "train", tmp_path)
    assert_holds(tmp_path / "train.mindrecord", batch)


def test_older_output_is_replaced(tmp_path):
    for seed in (1, 2):
        batch = write(tmp_path / "in" / "a.tfrecord", count=20 + seed, seed=seed)
        convert(tmp_path / "in", tmp_path / "out")
    assert_holds(tmp_path / "out" / "a.mindrecord", batch)


# ---------------------------------------------------------------- mistakes

def test_mistakes_in_the_options(tmp_path):
    write(tmp_path / "in" / "a.tfrecord")
    (tmp_path / "empty").mkdir()
    with RecordWriter(tmp_path / "empty" / "b.mindrecord", LABEL, "mindrecord") as writer:
        writer.write(dict.fromkeys(LABEL, np.zeros((1, 1), np.int32)))
    write(tmp_path / "two" / "a.tfrecord")
    write(tmp_path / "two" / "a.tf_record")
    write(tmp_path / "taken" / "a.tfrecord")
    (tmp_path / "taken" / "a.mindrecord").mkdir()
    for source, target, options, message in (
            ("missing", "out", {}, "--input_tfrecord_dir: there is no .*missing; give the directory"),
            ("empty", "out", {}, "no TFRecord file in .*empty; expected .*; b.mindrecord is a MindRecord file already"),
            ("two", "out", {}, "a.tf_record and a.tfrecord would both become a.mindrecord; rename one"),
            ("taken", "taken", {}, "--output_mindrecord_dir: .*a.mindrecord is a directory"),
            ("in", "in/a.tfrecord", {}, "--output_mindrecord_dir: cannot write to the directory"),
            ("in", "out", {"num_workers": 0}, "--num_workers is 0, expected at least 1")):
        with pytest.raises(UserError, match=message):
            convert(tmp_path / source, tmp_path / target, **options)
    assert not (tmp_path / "out").exists()


def cut(path):
    path.write_bytes(path.read_bytes()[:-5])


def other_format(path):
    path.write_text('{"columns": "this is something else"}')


def more_values(path):
    append(path, batch_of({name: (dtype, 9) for name, (dtype, _) in TASKS["classifier"].items()}, 1))


def more_columns(path):
    append(path, batch_of(TASKS["classifier"], 2), batch_of(TASKS["classifier"] | {"weight": ("float32", 1)}, 1))


def fewer_columns(path):
    append(path, batch_of(TOKENS, 1))


def other_kind(path):
    append(path, batch_of(TASKS["classifier"] | {"label_ids": ("float32", 1)}, 1))


def large_number(path):
    append(path, batch_of(TASKS["classifier"], 1) | {"label_ids": np.array([[2**31]])})


def no_columns(path):
    # Example { features { feature { key "a"; value { bytes_list {} } } } }
    path.write_bytes(framed(b"\x0a\x09\x0a\x07\x0a\x01a\x12\x02\x0a\x00"))


def empty_column(path):
    # Example { features { feature { key "a"; value { int64_list {} } } } }
    path.write_bytes(framed(b"\x0a\x09\x0a\x07\x0a\x01a\x12\x02\x1a\x00"))


def odd_name(path):
    path.write_bytes(encode_tfrecords({"a/b": np.zeros((1, 1), np.int32)}, {"a/b": ("int32", 1)}))


@pytest.mark.parametrize(("spoil", "message"), [
    (cut, "truncated: record 19 needs"),
    (other_format, "not a TFRecord file"),
    (lambda path: path.write_bytes(b""), "the file is empty"),
    (lambda path: damage(path, 7), "record 7: damaged data"),
    (more_values, "record 20: column input_ids has 9 values, expected 8"),
    (more_columns, "record 22: has the columns .*, weight, but record 0 .*is_real_example; all records"),
    (fewer_columns, "record 20: no column label_ids"),
    (other_kind, "record 20: column label_ids holds floats, expected integers"),
    (large_number, "record 20: column label_ids holds 2147483648, which is no 32-bit integer"),
    (no_columns, "record 0: no column of numbers"),
    (empty_column, "record 0: column a is empty"),
    (odd_name, "MindRecord does not allow the column name 'a/b'"),
])
def test_an_unfit_file_is_named_and_leaves_nothing(tmp_path, spoil, message):
    write(tmp_path / "in" / "good.tfrecord", count=30)  # larger, hence converted first
    write(tmp_path / "in" / "bad.tfrecord")
    spoil(tmp_path / "in" / "bad.tfrecord")
    with pytest.raises(UserError, match=f"bad.tfrecord: {message}") as error:
        convert(tmp_path / "in", tmp_path / "out", num_workers=1)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists() or everything_below(tmp_path / "out") == []


def test_a_value_that_changed_on_the_disk_is_found(tmp_path, monkeypatch):
    batch = write(tmp_path / "in" / "a.tfrecord")

    class Forgetful(RecordWriter):
        def write(self, rows):
            rows["label_ids"][13] += 1
            super().write(rows)

    monkeypatch.setattr(tool, "RecordWriter", Forgetful)
    with pytest.raises(UserError, match="a.tfrecord: record 13: column label_ids was read back with other values"):
        convert(tmp_path / "in", tmp_path / "out")
    assert everything_below(tmp_path / "out") == []
    monkeypatch.undo()
    convert(tmp_path / "in", tmp_path / "out")
    assert_holds(tmp_path / "out" / "a.mindrecord", batch)


def test_a_lost_record_is_found(tmp_path, monkeypatch):
    write(tmp_path / "in" / "a.tfrecord")

    class Losing(RecordWriter):
        def write(self, rows):
            super().write({name: values[1:] for name, values in rows.items()})

    monkeypatch.setattr(tool, "RecordWriter", Losing)
    with pytest.raises(UserError, match="a.tfrecord: 20 records, but 19 in the MindRecord file"):
        convert(tmp_path / "in", tmp_path / "out")
    assert everything_below(tmp_path / "out") == []


# ---------------------------------------------------------------- several processes

def test_several_workers_make_the_same_and_a_failed_one_fails_the_command(tmp_path):
    batches = {name: write(tmp_path / "in" / f"{name}.tfrecord", TASKS[name], seed=i)
               for i, name in enumerate(("pretrain", "ner", "squad_dev"))}
    command = [sys.executable, "src/tools/parallel_tfrecord_to_mindrecord.py", "--input_tfrecord_dir",
               str(tmp_path / "in"), "--output_mindrecord_dir", str(tmp_path / "out"), "--num_workers", "2"]
    run = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.endswith(f"Wrote 60 records to 3 MindRecord files in {tmp_path / 'out'}, each compared with its "
                               f"original\n")
    for name, batch in batches.items():
        assert_holds(tmp_path / "out" / f"{name}.mindrecord", batch)

    before = {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    write(tmp_path / "in" / "pretrain.tfrecord", TASKS["pretrain"], seed=9)
    damage(tmp_path / "in" / "squad_dev.tfrecord", 11)
    run = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert run.returncode == 2
    assert run.stderr.startswith(f"error: {tmp_path / 'in' / 'squad_dev.tfrecord'}: record 11: damaged data")
    assert run.stderr.count("\n") == 1
    assert {path: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def dying_converter():
    def convert_and_die(task):
        yield 1
        os.kill(os.getpid(), 9)

    return convert_and_die


def failing_converter():
    return None  # and calling that is a TypeError


@pytest.mark.parametrize(("work", "error", "message"), [
    (dying_converter, UserError, r"[ab].tfrecord: a worker process ended too early \(exit code -9"),
    (failing_converter, RuntimeError, "(?s)[ab].tfrecord: in a worker process:.*TypeError"),
])
def test_a_worker_that_dies_fails_the_command(tmp_path, monkeypatch, work, error, message):
    for name in ("a", "b"):
        write(tmp_path / "in" / f"{name}.tfrecord")
    monkeypatch.setattr(tool, "_converter", work)
    with pytest.raises(error, match=message):
        convert(tmp_path / "in", tmp_path / "out", num_workers=2)
    assert everything_below(tmp_path / "out") == []


@pytest.mark.parametrize("stop", [
    lambda process: os.killpg(process.pid, signal.SIGINT),  # Ctrl-C in a terminal: the workers get it too
    lambda process: process.terminate(),
])
def test_stopping_it_leaves_nothing(tmp_path, stop):
    for name in ("a", "b"):
        write(tmp_path / "in" / f"{name}.tfrecord")
    out = tmp_path / "out"
    process = subprocess.Popen([sys.executable, tool.__file__, "--input_tfrecord_dir", tmp_path / "in",
                                "--output_mindrecord_dir", out, "--num_workers", "2"], stdout=subprocess.DEVNULL,
                               stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 60
    while len(list(out.glob(".writing-*/.writing-*"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)  # until both workers have begun; they spend the next second on loading MindSpore
    stop(process)
    _, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (130, "interrupted\n")
    assert list(out.iterdir()) == []


def test_the_command(tmp_path, capsys):
    write(tmp_path / "in" / "a.tfrecord")
    main(["--input_tfrecord_dir", str(tmp_path / "in"), "--output_mindrecord_dir", str(tmp_path / "out")])
    output = capsys.readouterr()
    assert output.out.startswith(f"Wrote 20 records to 1 MindRecord file in {tmp_path / 'out'}, each compared")
    assert output.err == ""  # progress is for terminals
    with pytest.raises(SystemExit):
        main(["--input_tfrecord_dir", str(tmp_path / "in")])
    assert "--output_mindrecord_dir" in capsys.readouterr().err
    assert len(TFRecordFile(tmp_path / "in" / "a.tfrecord")) == len(MindRecordFile(tmp_path / "out" / "a.mindrecord"))
