"""Raw data straight into the scripts: the records are those of the generators, made once, and say what they are of."""

import json
import threading
from pathlib import Path

import pytest
from paths import REPOSITORY

from src.errors import UserError
from src.generate_mindrecord import (
    generate_cluener_mindrecord,
    generate_conll_mindrecord,
    generate_glue_mindrecord,
    generate_pretrain_mindrecord,
    generate_tnews_mindrecord,
)
from src.generate_mindrecord.raw_data import prepared_data
from src.model_utils.config import load_config, sizes_group
from src.records.about import read_about
from src.records.cache import cached_records
from src.tasks.registry import task_type
from src.tokenization import SPECIAL_TOKENS

EXAMPLES = REPOSITORY / "examples"
ROWS = [("good", "a b"), ("bad", "b b"), ("good", "b a a")]
S = 16


@pytest.fixture
def vocab(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("\n".join([*SPECIAL_TOKENS, "a", "b", ".", ","]) + "\n")
    return path


@pytest.fixture
def prepare(tmp_path, vocab):
    """Prepares the data of a task; gives the configuration."""
    def run(description, train="", evaluated="", *argv):
        task = task_type(description)
        options = ["data_dir", "eval_data_dir"] if description == "run_pretrain" else [
            "train_data_file_path", "eval_data_file_path"]
        argv = ["--dataset_format", "tfrecord", "--data_cache_dir", tmp_path / "cache", "--vocab_file_path", vocab,
                f"--{options[0]}", train, f"--{options[1]}", evaluated, *argv]
        config = load_config("", task.config_file, list(map(str, argv)))
        length = f"{sizes_group(config)}.seq_length"
        if not config.is_explicit(length):
            config = load_config("", task.config_file, list(map(str, [*argv, f"--{length}", S])))
        return prepared_data(config, task, options)
    return run


def write_csv(path, rows=ROWS, header="sentiment,review"):
    path.write_text("".join(f"{line}\n" for line in [header, *(f'{label},"{text}"' for label, text in rows)]))
    return path


def generated(tmp_path, generator, *argv):
    out = tmp_path / "generated"
    generator.main([*map(str, argv), "--vocab_file", str(tmp_path / "words.txt"), "--output_dir", str(out),
                    "--max_seq_length", str(S), "--dataset_format", "tfrecord"])
    return [(out / f"{name}.tf_record").read_bytes() for name in ("train", "dev") if
            (out / f"{name}.tf_record").is_file()]


def contents(config, *options):
    return [Path(config[option]).read_bytes()
            for option in options or ("train_data_file_path", "eval_data_file_path")]


# ---------------------------------------------------------------- the same records as the generators'

def test_csv(tmp_path, prepare, capsys):
    train, dev = write_csv(tmp_path / "train.csv"), write_csv(tmp_path / "dev.csv", ROWS[1:])
    config = prepare("run_classifier", train, dev)
    said = capsys.readouterr().out
    assert f"{train}: text from the column 'review', label from the column 'sentiment'" in said
    assert (config.num_class, Path(config.label_file_path).read_text()) == (2, "bad\ngood\n")
    assert contents(config) == generated(tmp_path, generate_glue_mindrecord, "--task_name", "csv", "--data_dir",
                                         tmp_path, "--text_column", "review", "--label_column", "sentiment")
    assert read_about([config.train_data_file_path])["source"] == str(train)


def test_tnews(tmp_path, prepare):
    for name in ("train", "dev"):
        lines = [{"sentence": text, "label": label, "label_desc": "x", "keywords": "a"} for label, text in ROWS]
        (tmp_path / f"{name}.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "labels.json").write_text('{"label": "good"}\n{"label": "bad"}\n{"label": "so"}\n')
    config = prepare("run_classifier", tmp_path, tmp_path)
    assert config.num_class == 3
    assert contents(config) == generated(tmp_path, generate_tnews_mindrecord, "--data_dir", tmp_path)


def test_glue(tmp_path, prepare):
    folder = tmp_path / "CoLA"
    folder.mkdir()
    for name in ("train", "dev"):
        (folder / f"{name}.tsv").write_text("x\t1\t\ta b\nx\t0\t*\tb b a\n")  # no header
    config = prepare("run_classifier", folder / "train.tsv", folder)
    assert contents(config) == generated(tmp_path, generate_glue_mindrecord, "--task_name", "cola", "--data_dir",
                                         folder)


def test_pairs_and_regression(tmp_path, prepare):
    for name in ("train", "dev"):
        (tmp_path / f"{name}.jsonl").write_text('{"sentence1": "a", "sentence2": "b b", "score": 1.5}\n'
                                                '{"sentence1": "b", "sentence2": "a", "score": 0.25}\n')
    config = prepare("run_classifier", tmp_path / "train.jsonl", tmp_path / "dev.jsonl", "--num_class", 1)
    assert config.label_file_path == ""
    assert contents(config) == generated(
        tmp_path, generate_glue_mindrecord, "--task_name", "jsonl", "--data_dir", tmp_path,
        "--text_column", "sentence1", "--text_pair_column", "sentence2", "--label_column", "score",
        "--regression", "true")
    with pytest.raises(UserError, match="labels are numbers with fractions .* set num_class to 1 for regression"):
        prepare("run_classifier", tmp_path / "train.jsonl")


def test_tagged_lines_and_cluener(tmp_path, prepare):
    folder = EXAMPLES / "places"
    config = prepare("run_ner", folder / "train.txt", folder / "dev.txt")
    assert config.text_unit == "word"
    assert contents(config) == generated(tmp_path, generate_conll_mindrecord, "--train_file", folder / "train.txt",
                                         "--dev_file", folder / "dev.txt")
    lines = '{"text": "ab.", "label": {"name": {"b": [[1, 1]]}}}\n{"text": "b", "label": {"book": {"b": [[0, 0]]}}}\n'
    folder = tmp_path / "raw"
    folder.mkdir()
    for name in ("train", "dev"):
        (folder / f"{name}.json").write_text(lines)
    (tmp_path / "types").write_text("book\nname\n")
    config = prepare("run_ner", folder, folder / "dev.json")
    assert Path(config.label_file_path).read_text() == "book\nname\n"
    assert contents(config) == generated(tmp_path, generate_cluener_mindrecord, "--data_dir", folder, "--label_file",
                                         tmp_path / "types")


def test_plain_text(tmp_path, prepare, vocab):
    text = tmp_path / "text.txt"
    text.write_text("a b a.\nb a, b.\nb b b.\n\na b.\na a b.\nb.\n" * 4)
    config = prepare("run_pretrain", text, text, "--base_net_cfg.seq_length", 32)
    made = contents(config, "data_dir", "eval_data_dir")
    for output, duplicates, records in (("train", 10, made[0]), ("dev", 1, made[1])):
        path = tmp_path / f"{output}.tf_record"
        generate_pretrain_mindrecord.main(["--input_file", str(text), "--output_file", str(path), "--vocab_file",
                                           str(vocab), "--max_seq_length", "32", "--dataset_format", "tfrecord",
                                           "--dupe_factor", str(duplicates)])
        assert path.read_bytes() == records


# ---------------------------------------------------------------- labels and mistakes

def test_the_labels_of_the_training_count_in_the_evaluation(tmp_path, prepare):
    train = write_csv(tmp_path / "train.csv")
    with pytest.raises(UserError, match=r"dev.csv, line 3: the label 'fair' is unknown, expected one of bad, good"):
        prepare("run_classifier", train, write_csv(tmp_path / "dev.csv", [ROWS[0], ("fair", "a")]))
    with pytest.raises(UserError, match=r"label_file_path is not set; to evaluate on raw data, .*train.csv"):
        prepare("run_classifier", "", train)
    (tmp_path / "labels").write_text("good\nbad\nso\n")
    config = prepare("run_classifier", "", train, "--label_file_path", tmp_path / "labels")
    assert config.num_class == 3


@pytest.mark.parametrize(("header", "argv", "message"), [
    ("a,b", [], r"train.csv: which column holds the text\? The columns are 'a', 'b'; name it by --text_column"),
    ("text,b", ["--label_column", "c"], "label_column: .*train.csv has no column 'c'; its columns are 'text', 'b'"),
    ("label,text", ["--num_class", 3], "num_class: .*were made with 2, but num_class is 3"),
    ("label,text", ["--vocab_file_path", ""], "vocab_file_path is not set; train_data_file_path names raw data"),
])
def test_mistakes(tmp_path, prepare, header, argv, message):
    with pytest.raises(UserError, match=message):
        prepare("run_classifier", write_csv(tmp_path / "train.csv", header=header), "", *argv)


def test_one_of_two_columns_is_the_other_one(tmp_path, prepare, capsys):
    prepare("run_classifier", write_csv(tmp_path / "train.csv", header="label,what they said"))
    assert "text from the column 'what they said'" in capsys.readouterr().out


def test_records_pass_through(tmp_path, prepare):
    first = prepare("run_classifier", write_csv(tmp_path / "train.csv"))
    again = prepare("run_classifier", first.train_data_file_path, write_csv(tmp_path / "dev.csv", ROWS[1:]))
    assert again.train_data_file_path == first.train_data_file_path
    assert again.num_class == 2  # and the raw data of the evaluation have its labels


# ---------------------------------------------------------------- made once

def test_made_once_and_anew_when_something_changes(tmp_path, prepare, vocab, capsys):
    def made():
        config = prepare("run_classifier", tmp_path / "train.csv")
        return "making records" in capsys.readouterr().out, config.train_data_file_path

    write_csv(tmp_path / "train.csv")
    is_made, first = made()
    assert is_made and made() == (False, first)
    vocab.write_text(vocab.read_text() + "c\n")
    is_made, second = made()
    assert is_made and second != first
    write_csv(tmp_path / "train.csv", ROWS[:2])
    assert made()[0]
    assert not [path for path in (tmp_path / "cache").iterdir() if path.name.startswith(".writing")]


def test_one_makes_them_and_the_others_wait(tmp_path):
    begun, may_end, calls = threading.Event(), threading.Event(), []

    def make(folder):
        calls.append(folder)
        begun.set()
        may_end.wait(10)
        (folder / "records").write_text("x")

    found = []
    workers = [threading.Thread(target=lambda: found.append(cached_records(str(tmp_path), "a", {"b": 1}, make)))
               for _ in range(2)]
    for worker in workers:
        worker.start()
    begun.wait(10)
    may_end.set()
    for worker in workers:
        worker.join()
    assert len(calls) == 1
    assert [(folder / "records").read_text() for folder in found] == ["x", "x"]


def test_a_failure_leaves_nothing(tmp_path):
    def fail(folder):
        (folder / "records").write_text("x")
        raise UserError("told to fail")

    with pytest.raises(UserError, match="told to fail"):
        cached_records(str(tmp_path), "a", {}, fail)
    assert [path.name for path in tmp_path.iterdir()] == [".turns"]
    folder = cached_records(str(tmp_path), "a", {}, lambda folder: (folder / "records").write_text("y"))
    assert (folder / "records").read_text() == "y"
