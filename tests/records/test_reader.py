import json
import os
import shutil

import numpy as np
import pytest

from src.dataset import PRETRAIN_TYPES
from src.errors import UserError
from src.records.columns import pretrain_columns
from src.records.reader import open_records
from src.records.writer import RecordWriter, write_schema_json

S, P = 16, 4
COLUMNS = pretrain_columns(S, P)
FORMATS = ("mindrecord", "tfrecord")


def rows_of(first, count, columns=COLUMNS):
    """Records whose first value in each column is their number."""
    batch = {}
    for name, (dtype, length) in columns.items():
        values = np.random.default_rng((first, length)).integers(0, 70_000, (count, length))
        values[:, 0] = np.arange(first, first + count)
        batch[name] = values.astype(dtype)
    return batch


def write(path, dataset_format, batch, columns=COLUMNS):
    with RecordWriter(path, columns, dataset_format) as writer:
        writer.write(batch)
    return path


@pytest.fixture(scope="session")
def directories(tmp_path_factory):
    """The same 25 records in both formats; in natural order the files hold 10, 3 and 12 of them."""
    root = tmp_path_factory.mktemp("records")
    for dataset_format in FORMATS:
        (root / dataset_format).mkdir()
        for number, first, count in ((2, 0, 10), (9, 10, 3), (10, 13, 12)):
            write(root / dataset_format / f"part{number}.{dataset_format}", dataset_format, rows_of(first, count))
    write_schema_json(root / "tfrecord" / "tfrecord_schema.json", COLUMNS, 20)
    return {dataset_format: root / dataset_format for dataset_format in FORMATS}


@pytest.fixture(params=FORMATS)
def dataset_format(request):
    return request.param


@pytest.fixture
def copy(directories, dataset_format, tmp_path):
    """A copy of the records that a test may damage."""
    return shutil.copytree(directories[dataset_format], tmp_path / "copy")


def told(call, *args, **kwargs):
    with pytest.raises(UserError) as caught:
        call(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_facts_without_reading(directories, dataset_format):
    records = open_records(directories[dataset_format], dataset_format, PRETRAIN_TYPES)
    assert records.num_rows == 25
    assert records.seq_length == S
    assert records.columns == COLUMNS
    assert [file.name for file in records.files] == [f"part{number}.{dataset_format}" for number in (2, 9, 10)]


def test_rows_come_in_the_order_asked_for(directories, dataset_format):
    records = open_records(directories[dataset_format], dataset_format, PRETRAIN_TYPES)
    everything = {name: np.concatenate([rows_of(first, count)[name] for first, count in ((0, 10), (10, 3), (13, 12))])
                  for name in COLUMNS}
    asked = [np.array([24, 0, 12]), np.array([9, 10, 13, 9]), np.random.default_rng(0).permutation(25)]
    for rows in asked:
        batch = records.read(rows)
        assert list(batch) == list(COLUMNS)
        for name, values in everything.items():
            assert batch[name].dtype == COLUMNS[name][0]
            assert np.array_equal(batch[name], values[rows]), name
    assert records.read(asked[0], ["next_sentence_labels"]).keys() == {"next_sentence_labels"}


def test_where_names_file_and_record(directories, dataset_format):
    records = open_records(directories[dataset_format], dataset_format, PRETRAIN_TYPES)
    for row, place in ((0, "part2.{}: record 0"), (9, "part2.{}: record 9"), (10, "part9.{}: record 0"),
                       (24, "part10.{}: record 11")):
        assert records.where(row) == str(directories[dataset_format] / place.format(dataset_format))


def test_num_samples_and_schema_limit_the_rows(directories, dataset_format):
    directory = directories[dataset_format]
    for given, rows in ((7, 7), (1000, 25), (None, 25), (-1, 25)):
        assert open_records(directory, dataset_format, PRETRAIN_TYPES, num_samples=given).num_rows == rows
    if dataset_format == "tfrecord":
        for schema in (directory, directory / "tfrecord_schema.json"):
            assert open_records(directory, dataset_format, PRETRAIN_TYPES, schema_path=schema).num_rows == 20


def test_the_other_spelling_of_tfrecord_counts(directories, tmp_path):
    source = directories["tfrecord"]
    shutil.copy(source / "part9.tfrecord", tmp_path / "train.tf_record")
    assert open_records(tmp_path, "tfrecord", PRETRAIN_TYPES).files == [tmp_path / "train.tf_record"]
    assert "holds tfrecord files (such as train.tf_record)" in told(open_records, tmp_path, "mindrecord",
                                                                    PRETRAIN_TYPES)


def test_one_file_may_be_given(directories, dataset_format):
    records = open_records(directories[dataset_format] / f"part9.{dataset_format}", dataset_format, PRETRAIN_TYPES)
    assert records.num_rows == 3


# ---------------------------------------------------------------- what users get wrong

def test_missing_and_empty_directories(tmp_path, dataset_format):
    assert "eval_data_dir: there is no" in told(open_records, tmp_path / "absent", dataset_format, PRETRAIN_TYPES,
                                                option="eval_data_dir")
    assert "data_dir is not set" in told(open_records, "", dataset_format, PRETRAIN_TYPES)
    (tmp_path / "README").write_text("nothing here")
    (tmp_path / f"x.{dataset_format}.db").write_text("an index alone")
    assert f"no {dataset_format} file in {tmp_path}" in told(open_records, tmp_path, dataset_format, PRETRAIN_TYPES)


def test_other_format_in_the_directory(directories, dataset_format):
    other = next(name for name in FORMATS if name != dataset_format)
    message = told(open_records, directories[other], dataset_format, PRETRAIN_TYPES)
    assert f"holds {other} files (such as part2.{other})" in message
    assert f"set dataset_format to {other}" in message
    assert "expected" in told(open_records, directories[other], "csv", PRETRAIN_TYPES)


def test_other_format_under_the_wrong_name(directories, dataset_format, tmp_path):
    other = next(name for name in FORMATS if name != dataset_format)
    wrong = tmp_path / f"x.{dataset_format}"
    shutil.copy(directories[other] / f"part2.{other}", wrong)
    message = told(open_records, tmp_path, dataset_format, PRETRAIN_TYPES)
    assert str(wrong) in message
    assert "dataset_format" in message


def test_missing_column(tmp_path, dataset_format):
    columns = {name: column for name, column in COLUMNS.items() if name != "masked_lm_ids"}
    path = write(tmp_path / f"x.{dataset_format}", dataset_format, rows_of(0, 2, columns), columns)
    message = told(open_records, tmp_path, dataset_format, PRETRAIN_TYPES)
    assert f"{path}: no column masked_lm_ids; the file's columns are input_ids, input_mask" in message


def test_column_of_another_type(tmp_path, dataset_format):
    columns = {**COLUMNS, "masked_lm_weights": ("int32", P)}
    write(tmp_path / f"x.{dataset_format}", dataset_format, rows_of(0, 2, columns), columns)
    assert "column masked_lm_weights holds int" in told(open_records, tmp_path, dataset_format, PRETRAIN_TYPES)


def test_other_sequence_length(directories, dataset_format, tmp_path):
    message = told(open_records, directories[dataset_format], dataset_format, PRETRAIN_TYPES, seq_length=32)
    assert message.startswith("seq_length is 32, but the records of ")
    assert "have 16 tokens; set seq_length to 16" in message
    for number, length in enumerate((S, 2 * S)):
        columns = pretrain_columns(length, P)
        write(tmp_path / f"{number}.{dataset_format}", dataset_format, rows_of(0, 2, columns), columns)
    assert "cannot be mixed" in told(open_records, tmp_path, dataset_format, PRETRAIN_TYPES)


def test_columns_that_disagree(tmp_path, dataset_format):
    columns = {**COLUMNS, "input_mask": ("int32", S - 1)}
    write(tmp_path / f"x.{dataset_format}", dataset_format, rows_of(0, 2, columns), columns)
    assert "column input_mask has 15 values" in told(open_records, tmp_path, dataset_format, PRETRAIN_TYPES)


def test_a_file_that_is_cut_while_it_is_in_use_is_one_line(copy, dataset_format):
    records = open_records(copy, dataset_format, PRETRAIN_TYPES)
    file = records.files[-1]
    size = file.stat().st_size
    records.read(np.array([24]))
    os.truncate(file, 100)  # in place, as a program does that writes it anew
    assert f"{file}: was cut from {size} to 100 bytes while it was in use" in told(records.read, np.array([24]))
    records.read(np.array([0]))  # of another file


def test_truncated_file(copy, dataset_format):
    path = copy / f"part10.{dataset_format}"
    path.write_bytes(path.read_bytes()[:-20])
    message = told(open_records, copy, dataset_format, PRETRAIN_TYPES)
    assert str(path) in message
    assert "truncated" in message


@pytest.mark.parametrize("content", [b"", b"hello", b"some text of a README\n" * 30, bytes(4000)])
def test_file_of_something_else(copy, dataset_format, content):
    path = copy / f"part9.{dataset_format}"
    path.write_bytes(content)
    assert str(path) in told(open_records, copy, dataset_format, PRETRAIN_TYPES)


def test_damaged_record(copy, dataset_format):
    """Damage in the middle of the data is an error or other values, never a crash."""
    path = copy / f"part2.{dataset_format}"
    content = bytearray(path.read_bytes())
    content[-300:-200] = bytes(100)
    path.write_bytes(content)
    try:
        records = open_records(copy, dataset_format, PRETRAIN_TYPES)
        assert len(records.read(np.arange(25))["input_ids"]) == 25
    except UserError as error:
        assert str(path) in str(error)


def test_flipped_bit_of_a_tfrecord(directories, tmp_path):
    copy = shutil.copytree(directories["tfrecord"], tmp_path / "copy")
    content = bytearray((copy / "part9.tfrecord").read_bytes())
    content[-10] ^= 1  # in a value of the last record
    (copy / "part9.tfrecord").write_bytes(content)
    records = open_records(copy, "tfrecord", PRETRAIN_TYPES)
    records.read(np.arange(12))
    message = told(records.read, np.arange(9, 15))
    assert message.startswith(f"{copy / 'part9.tfrecord'}: record 2: damaged data")


@pytest.mark.parametrize("change, words", [
    (lambda schema: schema["columns"].pop("input_ids"), "has no column input_ids"),
    (lambda schema: schema["columns"]["input_ids"].update(shape=[32]), "says int64 [32] for column input_ids, but"),
    (lambda schema: schema["columns"]["input_ids"].update(type="float32"), "says float32 [16] for column input_ids"),
    (lambda schema: schema.pop("columns"), "is no schema of TFRecord files"),
    (lambda schema: schema.update(numRows="many"), "is no schema of TFRecord files"),
])
def test_schema_that_does_not_fit(directories, tmp_path, change, words):
    directory = directories["tfrecord"]
    schema = json.loads((directory / "tfrecord_schema.json").read_text())
    change(schema)
    path = tmp_path / "schema.json"
    path.write_text(json.dumps(schema))
    message = told(open_records, directory, "tfrecord", PRETRAIN_TYPES, schema_path=path)
    assert message.startswith(f"schema_dir: {path} ")
    assert words in message


def test_schema_that_is_missing(directories, tmp_path):
    open_with = {"path": directories["tfrecord"], "dataset_format": "tfrecord", "columns": PRETRAIN_TYPES}
    assert "there is no" in told(open_records, **open_with, schema_path=tmp_path / "absent.json")
    assert "expected one .json file" in told(open_records, **open_with, schema_path=tmp_path)
    (tmp_path / "a.json").write_text("{not json")
    assert "column 2: no JSON" in told(open_records, **open_with, schema_path=tmp_path)
