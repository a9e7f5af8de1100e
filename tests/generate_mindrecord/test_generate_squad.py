"""The command that makes question-answering records: files, columns, options, mistakes."""

import json
import subprocess
import sys

import numpy as np
import pytest
from paths import FIXTURES, REPOSITORY

from src.errors import UserError
from src.generate_mindrecord.generate_squad_mindrecord import main
from src.records.reader import open_records
from src.tasks.squad.examples import read_squad
from src.tasks.squad.features import FeatureOptions, SquadFeatures, squad_columns
from src.tokenization import FullTokenizer

REFERENCES = FIXTURES / "squad"
QUESTIONS = REFERENCES / "questions.json"


def run(output_dir, *options, **files):
    files = files or {"train_file": QUESTIONS, "predict_file": QUESTIONS}
    main(["--vocab_file", str(REFERENCES / "vocab.txt"), "--output_dir", str(output_dir), "--max_seq_length", "48",
          "--doc_stride", "10", "--max_query_length", "8", "--version_2_with_negative", *options,
          *(part for name, file in files.items() for part in (f"--{name}", str(file)))])


def records_of(path, dataset_format, is_training, **arguments):
    types = {name: dtype for name, (dtype, _) in squad_columns(48, is_training).items()}
    return open_records(path, dataset_format, types, seq_length=48, **arguments)


@pytest.mark.parametrize(("dataset_format", "suffix"), [("mindrecord", "mindrecord"), ("tfrecord", "tf_record")])
def test_files_hold_the_records(tmp_path, dataset_format, suffix, capsys):
    run(tmp_path, "--dataset_format", dataset_format)
    squad = read_squad(QUESTIONS, option="x", version_2_with_negative=True)
    for name, is_training in (("train", True), ("dev", False)):
        schema = {"schema_path": tmp_path / f"{name}_schema.json"} if dataset_format == "tfrecord" else {}
        written = records_of(tmp_path / f"{name}.{suffix}", dataset_format, is_training, **schema)
        features = SquadFeatures(squad, FullTokenizer(REFERENCES / "vocab.txt"), FeatureOptions(48, 10, 8), is_training)
        rows = np.arange(features.num_rows)
        assert written.num_rows == len(rows)
        for column, values in features.read(rows).items():
            np.testing.assert_array_equal(written.read(rows)[column], values)
    printed = capsys.readouterr().out
    assert "questions.json: 64 questions, 16 contexts, " in printed
    assert "8 questions have a bad annotation or an empty context; 8 are left out:" in printed
    assert f"records to {tmp_path / f'dev.{suffix}'}: " in printed


def test_schema_describes_the_columns(tmp_path):
    run(tmp_path, "--dataset_format", "tfrecord", train_file=QUESTIONS)
    schema = json.loads((tmp_path / "train_schema.json").read_text())
    assert schema["columns"]["start_positions"] == {"type": "int64", "rank": 1, "shape": [1]}
    assert schema["columns"]["input_ids"]["shape"] == [48]
    assert list(schema["columns"]) == ["unique_ids", "input_ids", "input_mask", "segment_ids", "start_positions",
                                       "end_positions", "is_impossible"]


@pytest.mark.parametrize(("options", "expected"), [
    ([], {"train.tf_record", "dev.tf_record"}), (["--do_train", "false"], {"dev.tf_record"}),
    (["--do_predict", "false"], {"train.tf_record"})])
def test_switches_choose_the_files(tmp_path, options, expected):
    run(tmp_path, "--dataset_format", "tfrecord", *options)
    assert {path.name for path in tmp_path.glob("*.tf_record")} == expected


def test_file_to_predict_on_needs_no_answers(tmp_path):
    file = tmp_path / "test.json"
    file.write_text(json.dumps({"data": [{"paragraphs": [
        {"context": "the king", "qas": [{"id": "1", "question": "the?"}]}]}]}))
    run(tmp_path / "out", "--version_2_with_negative", "false", predict_file=file)
    assert records_of(tmp_path / "out" / "dev.mindrecord", "mindrecord", is_training=False).num_rows == 1


@pytest.mark.parametrize(("options", "message"), [
    (["--version_2_with_negative", "false", "--train_file", str(QUESTIONS)],
     r"questions\.json: data\[0\]\.paragraphs\[0\]\.qas\[3\] has no answer; if this is a file of SQuAD 2\.0"),
    ([], "nothing to do: give --train_file, --predict_file or both"),
    (["--do_train", "true"], "--train_file is not set"),
    (["--predict_file", "/nowhere.json"], "--predict_file: cannot read /nowhere.json"),
    (["--predict_file", str(QUESTIONS), "--max_query_length", "60"], "max_seq_length is 48, which a question of"),
])
def test_mistake_leaves_no_file(tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        main(["--vocab_file", str(REFERENCES / "vocab.txt"), "--output_dir", str(tmp_path), "--max_seq_length", "48",
              "--max_query_length", "8", *options])
    assert list(tmp_path.iterdir()) == []


def test_nothing_but_empty_contexts_is_an_error(tmp_path):
    file = tmp_path / "empty.json"
    file.write_text(json.dumps({"data": [{"paragraphs": [{"context": " ", "qas": [{"id": "1", "question": "?"}]}]}]}))
    with pytest.raises(UserError, match=r"no record to write to .*dev.mindrecord"):
        run(tmp_path / "out", predict_file=file)
    assert list((tmp_path / "out").iterdir()) == []


def test_documented_command_runs_by_path(tmp_path):
    """From any directory; an error ends it with status 2."""
    command = [sys.executable, REPOSITORY / "src/generate_mindrecord/generate_squad_mindrecord.py",
               "--vocab_file", REFERENCES / "vocab.txt", "--train_file", QUESTIONS, "--output_dir", "out",
               "--dataset_format", "tfrecord"]
    failed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (failed.returncode, failed.stderr[:7]) == (2, "error: ")
    subprocess.run([*command, "--version_2_with_negative", "True"], cwd=tmp_path, check=True, timeout=60)
    assert (tmp_path / "out" / "train.tf_record").stat().st_size > 1000
