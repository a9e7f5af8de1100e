"""Record files as text: every value of every record, and plain words for what is not a record file."""

import subprocess
import sys
from itertools import islice

import numpy as np
import pytest
from toy_pretraining import REPOSITORY

from src.errors import UserError
from src.records.writer import RecordWriter
from src.tools import vis_tfrecord_or_mindrecord as tool
from src.tools.vis_tfrecord_or_mindrecord import describe, main

COLUMNS = {"input_ids": ("int32", 5), "weights": ("float32", 2), "label_ids": ("int32", 1)}
COUNT = 10


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(1)
    return {"input_ids": rng.integers(-2**31, 2**31, (COUNT, 5)).astype(np.int32),
            "weights": rng.normal(size=(COUNT, 2)).astype(np.float32),
            "label_ids": np.arange(COUNT, dtype=np.int32)[:, None]}


@pytest.fixture(scope="module", params=["tfrecord", "mindrecord"])
def path(request, tmp_path_factory, batch):
    path = tmp_path_factory.mktemp("records") / f"train.{request.param}"
    with RecordWriter(path, COLUMNS, request.param) as writer:
        writer.write(batch)
    return path


def option_for(path):
    return f"vis_{path.suffix[1:]}"


def parse(lines):
    """The records back from their text."""
    records = []
    for line in lines:
        if line.startswith("record "):
            assert line == f"record {len(records)}"
            records.append({})
        else:
            name, *values = line.split()
            records[-1][name] = np.array(values, COLUMNS[name][0])  # exactly, as floats are printed so
    return records


@pytest.mark.parametrize("rows_at_once", [3, 1024])
def test_the_text_holds_every_value(path, batch, monkeypatch, rows_at_once):
    monkeypatch.setattr(tool, "ROWS_AT_ONCE", rows_at_once)
    head, *lines = describe(path, option_for(path))
    assert head.startswith(f"{path}: number of records: 10; columns: ")
    assert all(f"{name} {kind}[{length}]" in head for name, (kind, length) in COLUMNS.items())
    records = parse(lines)
    assert len(records) == COUNT
    for name, values in batch.items():
        np.testing.assert_array_equal(np.stack([record[name] for record in records]), values)


def test_long_records_are_not_shortened(tmp_path):
    path = tmp_path / "long.tfrecord"
    with RecordWriter(path, {"input_ids": ("int32", 3000)}, "tfrecord") as writer:
        writer.write({"input_ids": np.arange(3000)[None]})
    _, _, line = describe(path, "vis_tfrecord")
    assert line.split() == ["input_ids", *map(str, range(3000))]


@pytest.mark.parametrize(("num_samples", "expected"), [(1, 1), (4, 4), (99, COUNT), (None, COUNT)])
def test_number_of_samples(path, num_samples, expected):
    assert len(parse(islice(describe(path, option_for(path), num_samples), 1, None))) == expected


def test_records_are_read_as_they_are_printed(path, monkeypatch):
    monkeypatch.setattr(tool, "ROWS_AT_ONCE", 2)
    reader = tool.READERS[option_for(path)]
    read, numbers = reader.read, []
    monkeypatch.setattr(reader, "read", lambda file, rows, columns: numbers.extend(rows) or read(file, rows, columns))
    lines = describe(path, option_for(path))
    while not next(lines).startswith("record 2"):
        pass
    assert numbers == [0, 1, 2, 3]


# ---------------------------------------------------------------- mistakes

def test_file_of_the_other_format(path):
    (other,) = {"vis_tfrecord", "vis_mindrecord"} - {option_for(path)}
    with pytest.raises(UserError, match=f"--vis_option is {other}, but .*{path.name} is of the other format; set "
                                        f"--vis_option to {option_for(path)}"):
        list(describe(path, other))


@pytest.mark.parametrize("option", ["vis_tfrecord", "vis_mindrecord"])
def test_what_is_no_record_file(tmp_path, option):
    (tmp_path / "text").write_text("this is neither a TFRecord nor a MindRecord file")
    for name, message in (("missing", "cannot read .*missing: No such file"), ("text", "text: not a (TF|Mind)Record"),
                          (".", "Is a directory")):
        with pytest.raises(UserError, match=message):
            list(describe(tmp_path / name, option))


def test_records_before_a_damaged_one_are_shown(tmp_path, batch):
    path = tmp_path / "a.tfrecord"
    with RecordWriter(path, COLUMNS, "tfrecord") as writer:
        writer.write(batch)
    content = bytearray(path.read_bytes())
    at = sum(int(size) + 16 for size in tool.TFRecordFile(path)._sizes[:6])
    content[at + 30] ^= 1
    path.write_bytes(content)
    lines = []
    with pytest.raises(UserError, match="a.tfrecord: record 6: damaged data"):
        lines.extend(describe(path, "vis_tfrecord"))  # appends what comes before the error
    records = parse(lines[1:])
    assert [int(record["label_ids"][0]) for record in records] == [0, 1, 2, 3, 4, 5]


def test_truncated_file(path, tmp_path):
    whole = path.read_bytes()
    (tmp_path / path.name).write_bytes(whole[:-3] if path.suffix == ".tfrecord" else whole[:-len(whole) // 2])
    with pytest.raises(UserError, match="truncated"):
        list(describe(tmp_path / path.name, option_for(path)))


def test_number_of_samples_below_one(path):
    with pytest.raises(UserError, match="--num_samples is 0, expected at least 1"):
        list(describe(path, option_for(path), 0))


# ---------------------------------------------------------------- the command

def command(path, *options):
    return [sys.executable, "src/tools/vis_tfrecord_or_mindrecord.py", "--file_name", str(path), *options]


def test_unknown_option_value(path, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["--file_name", str(path), "--vis_option", "vis_parquet"])
    assert exit_.value.code == 2
    error = capsys.readouterr().err
    assert "vis_parquet" in error
    assert "vis_tfrecord" in error
    assert "vis_mindrecord" in error


def test_the_command_prints_to_a_file(path, tmp_path):
    text = tmp_path / "records.txt"
    with text.open("w") as file:
        run = subprocess.run(command(path, "--vis_option", option_for(path)), cwd=REPOSITORY, stdout=file,
                             stderr=subprocess.PIPE, text=True)
    assert (run.returncode, run.stderr) == (0, "")
    assert text.read_text().splitlines() == list(describe(path, option_for(path)))


def test_a_pipe_that_closes_is_no_error(tmp_path):
    path = tmp_path / "large.tfrecord"
    with RecordWriter(path, {"input_ids": ("int32", 500)}, "tfrecord") as writer:
        writer.write({"input_ids": np.zeros((2000, 500), np.int32)})
    with subprocess.Popen(command(path, "--vis_option", "vis_tfrecord"), cwd=REPOSITORY, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline().startswith(str(path))
        process.stdout.close()
        assert process.stderr.read() == ""


def test_needs_neither_tensorflow_nor_mindspore():
    check = ("import sys; import src.tools.vis_tfrecord_or_mindrecord; "
             "print(*({'mindspore', 'tensorflow'} & set(sys.modules)))")
    run = subprocess.run([sys.executable, "-c", check], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""
