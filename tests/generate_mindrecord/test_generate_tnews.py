"""The command that makes TNEWS records: files, labels, arrays, and what users get wrong."""

import json
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

import src.generate_mindrecord.generate_tnews_mindrecord as generator
from src.errors import UserError
from src.generate_mindrecord.classification_records import record_columns
from src.records.about import read_about
from src.records.mindrecord import MindRecordFile
from src.records.reader import open_records
from src.records.sentences import read_sentences
from src.records.tfrecord import TFRecordFile
from src.tokenization import SPECIAL_TOKENS

SCRIPT = Path(generator.__file__)
TOKENS = [*SPECIAL_TOKENS, *"上课时手机响股票涨了天气好", "a"]
TRAIN = [("上课时手机响", "108"), ("股票涨了", "104"), ("A股涨了", "104"), ("天气好" * 5, "9")]
DEV = [("手机涨了", "104"), ("上课", "108")]
S = 8


def row(text, label=None):
    return {"sentence": text, "keywords": "", **({} if label is None else {"label": label, "label_desc": "x"})}


def write_json(path, rows):
    path.write_text("".join(json.dumps(item, ensure_ascii=False) + "\n" for item in rows), encoding="utf-8")


@pytest.fixture
def data(tmp_path):
    directory = tmp_path / "my data"
    directory.mkdir()
    write_json(directory / "train.json", [row(*item) for item in TRAIN])
    write_json(directory / "dev.json", [row(*item) for item in DEV])
    (directory / "vocab.txt").write_text("\n".join(TOKENS), encoding="utf-8")
    return directory


def arguments(data, out, *options):
    return ["--data_dir", str(data), "--task_name", "tnews", "--vocab_file", str(data / "vocab.txt"), "--output_dir",
            str(out), "--max_seq_length", str(S), *options]


def run(data, out, *options):
    return generator.main(arguments(data, out, *options))


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def read(path):
    file = (MindRecordFile if path.suffix == ".mindrecord" else TFRecordFile)(path)
    return file.read(np.arange(len(file)), record_columns(S, False))


def expected(rows, label_ids):
    """The columns of single texts of one token a character."""
    ids, masks = [], []
    for text, *_ in rows:
        tokens = ["[CLS]", *text.lower()[:S - 2], "[SEP]"]
        ids.append([TOKENS.index(token) for token in tokens] + [0] * (S - len(tokens)))
        masks.append([1] * len(tokens) + [0] * (S - len(tokens)))
    return {"input_ids": ids, "input_mask": masks, "segment_ids": [[0] * S] * len(ids),
            "label_ids": [[label] for label in label_ids], "is_real_example": [[1]] * len(ids)}


def check(path, rows, label_ids):
    made = read(path)
    assert {name: values.tolist() for name, values in made.items()} == expected(rows, label_ids)
    assert {values.dtype for values in made.values()} == {np.dtype(np.int32)}


def test_records_and_labels(data, tmp_path, capsys):
    out = tmp_path / "my out"
    run(data, out)
    assert names(out) == ["dev.about.json", "dev.mindrecord", "dev.mindrecord.db", "dev.sentences.jsonl", "labels.txt",
                          "train.about.json", "train.mindrecord", "train.mindrecord.db", "train.sentences.jsonl",
                          "vocab.txt"]
    assert read_about([out / "train.mindrecord"]) == {
        "vocab_file": "vocab.txt", "vocab_crc32": f"{zlib.crc32((data / 'vocab.txt').read_bytes()):08x}",
        "task": "classifier", "do_lower_case": True, "max_seq_length": S, "label_file": "labels.txt",
        "source": str(data / "train.json")}
    assert (out / "labels.txt").read_text() == "9\n104\n108\n"  # whole numbers are sorted as numbers
    check(out / "train.mindrecord", TRAIN, [2, 1, 1, 0])
    check(out / "dev.mindrecord", DEV, [1, 2])
    sources = read_sentences(open_records(out / "dev.mindrecord", "mindrecord", {"input_ids": "int32"}))
    assert [(source.text, source.place) for source in sources] == [
        (text, {"file": str(data / "dev.json"), "line": number}) for number, (text, _) in enumerate(DEV, 1)]
    assert capsys.readouterr().out.splitlines() == [
        f"{out / 'train.mindrecord'}: 4 examples, the longest of 17 tokens; 1 cut to 8",
        f"{out / 'dev.mindrecord'}: 2 examples, the longest of 6 tokens; 0 cut to 8",
        f"3 labels in {out / 'labels.txt'}"]


def test_the_label_file_decides_the_order(data, tmp_path):
    write_json(data / "labels.json", [{"label": label, "label_desc": "x"} for label in ("108", "104", "9", "7")])
    run(data, tmp_path / "out", "--dataset_format", "tfrecord")
    assert (tmp_path / "out" / "labels.txt").read_text() == "108\n104\n9\n7\n"
    check(tmp_path / "out" / "train.tf_record", TRAIN, [0, 1, 1, 2])


@pytest.mark.parametrize("has_label_file", [True, False])
def test_labels_have_the_names_that_the_data_give_them(data, tmp_path, has_label_file):
    described = {"9": "weather", "104": "news_finance", "108": "news_edu"}
    write_json(data / "train.json", [row(*item) | {"label_desc": described[item[1]]} for item in TRAIN])
    if has_label_file:
        write_json(data / "labels.json", [{"label": label, "label_desc": described[label]} for label in described])
    run(data, tmp_path / "out", "--dataset_format", "tfrecord")
    assert (tmp_path / "out" / "labels.txt").read_text() == "weather\nnews_finance\nnews_edu\n"
    check(tmp_path / "out" / "train.tf_record", TRAIN, [2, 1, 1, 0])  # ids are those of the numbers in order


@pytest.mark.parametrize("described", [{"9": "x", "104": "x", "108": "y"}, {"9": "x", "104": "", "108": "y"}])
def test_labels_without_names_of_their_own_stay_numbers(data, tmp_path, described):
    write_json(data / "train.json", [row(*item) | {"label_desc": described[item[1]]} for item in TRAIN])
    run(data, tmp_path / "out", "--dataset_format", "tfrecord")
    assert (tmp_path / "out" / "labels.txt").read_text() == "9\n104\n108\n"


def test_tfrecord_with_its_schema(data, tmp_path):
    out = tmp_path / "out"
    run(data, out, "--dataset_format", "tfrecord")
    assert names(out) == ["dataset.json", "dev.about.json", "dev.sentences.jsonl", "dev.tf_record", "labels.txt",
                          "train.about.json", "train.sentences.jsonl", "train.tf_record", "vocab.txt"]
    check(out / "train.tf_record", TRAIN, [2, 1, 1, 0])
    check(out / "dev.tf_record", DEV, [1, 2])
    types = {name: dtype for name, (dtype, _) in record_columns(S, False).items()}
    records = open_records(out / "train.tf_record", "tfrecord", types, schema_path=out)
    assert records.num_rows == 4  # the schema serves files of any size


def test_mindspore_reads_it_with_the_schema(data, tmp_path):
    import mindspore.dataset as ds

    run(data, tmp_path, "--dataset_format", "tfrecord")
    rows = ds.TFRecordDataset(str(tmp_path / "train.tf_record"), str(tmp_path / "dataset.json"), shuffle=False,
                              num_parallel_workers=1)
    rows = list(rows.create_dict_iterator(num_epochs=1, output_numpy=True))
    for name, values in expected(TRAIN, [2, 1, 1, 0]).items():
        assert [item[name].tolist() for item in rows] == values


def test_test_data_without_labels(data, tmp_path):
    texts = [("涨了",), ("天气好",), ("上课",)]
    write_json(data / "test.json", [row(*item) for item in texts])
    run(data, tmp_path / "default", "--dataset_format", "tfrecord")
    assert not (tmp_path / "default" / "test.tf_record").exists()
    run(data, tmp_path / "out", "--do_predict", "--dataset_format", "tfrecord")
    assert names(tmp_path / "out") == ["dataset.json", "labels.txt", "test.about.json", "test.sentences.jsonl",
                                       "test.tf_record", "vocab.txt"]
    check(tmp_path / "out" / "test.tf_record", texts, [0, 0, 0])
    write_json(data / "test.json", [row(*item) for item in DEV])  # and with labels
    run(data, tmp_path / "out", "--do_predict=true", "--dataset_format", "tfrecord")
    check(tmp_path / "out" / "test.tf_record", DEV, [1, 2])


@pytest.mark.parametrize("options, made", [
    (["--do_eval", "true"], ["dev"]),
    (["--do_train", "TRUE", "--do_eval"], ["dev", "train"]),
    (["--do_train", "False"], ["dev"]),
    (["--do_train=false", "--do_eval=true", "--do_predict=false"], ["dev"]),
])
def test_which_files_are_made(data, tmp_path, options, made):
    run(data, tmp_path / "out", "--dataset_format", "tfrecord", *options)
    assert [name.removesuffix(".tf_record") for name in names(tmp_path / "out") if "tf_record" in name] == made
    assert (tmp_path / "out" / "labels.txt").read_text() == "9\n104\n108\n"  # whatever is made, the labels are those


def test_cased(data, tmp_path):
    run(data, tmp_path, "--do_lower_case", "false", "--dataset_format", "tfrecord")
    assert read(tmp_path / "train.tf_record")["input_ids"][2, 1] == TOKENS.index("[UNK]")


# ---------------------------------------------------------------- what users get wrong

def told(data, out, *options):
    with pytest.raises(UserError) as caught:
        run(data, out, *options)
    assert "\n" not in str(caught.value)
    assert not out.exists() or names(out) == []  # neither records nor remains of them
    return str(caught.value)


@pytest.mark.parametrize("file, bad, message", [
    ("dev", {"sentence": "上课", "label": "110"}, "the label '110' is unknown, expected one of 9, 104, 108 (from "),
    ("dev", {"sentence": "上课"}, "no column 'label'; the columns are 'sentence'"),
    ("train", {"text": "上课", "label": "104"}, "no column 'sentence'; the columns are 'text', 'label'"),
    ("train", {"sentence": "", "label": "104"}, "the text in column 'sentence' is empty"),
    ("train", "", "the line is empty, expected a JSON object; remove the line"),
    ("dev", "上课\t104", "column 1: no JSON (Expecting value); expected one JSON object a line"),
])
def test_wrong_lines(data, tmp_path, file, bad, message):
    path = data / f"{file}.json"
    number = len(path.read_text("utf-8").splitlines()) + 1
    bad = json.dumps(bad) if isinstance(bad, dict) else bad
    path.write_text(path.read_text("utf-8") + bad + "\n" + json.dumps(row("上课", "104")), encoding="utf-8")
    for dataset_format in ("mindrecord", "tfrecord"):
        found = told(data, tmp_path / "out", "--dataset_format", dataset_format)
        assert found.startswith(f"{path}, line {number}") and message in found


def test_missing_files(data, tmp_path):
    out = tmp_path / "out"
    assert told(data, out, "--do_predict") == f"--do_predict: there is no test.json in {data}"
    (data / "train.json").unlink()
    assert told(data, out, "--do_train") == f"--do_train: there is no train.json in {data}"
    assert told(data, out) == f"--data_dir: no train.json in {data} to collect the labels from; add labels.json"
    (data / "dev.json").unlink()
    assert told(data, out).startswith(f"--data_dir: nothing to convert in {data}; expected train.json or dev.json")
    assert "--data_dir: there is no directory" in told(data / "absent", out)


def test_wrong_options(data, tmp_path, capsys):
    out = tmp_path / "out"
    assert told(data, out, "--max_seq_length", "2") == "--max_seq_length is 2, expected at least 3"
    assert "vocabulary: cannot read absent" in told(data, out, "--vocab_file", "absent")
    assert "--output_dir: cannot write" in told(data, data / "train.json" / "out")
    for wrong in (["--do_train", "1"], ["--do_lower_case", "no"], ["--task_name", "iflytek"], ["--do_tra", "true"]):
        with pytest.raises(SystemExit):
            run(data, out, *wrong)
    assert "'1' is neither true nor false" in capsys.readouterr().err


def test_the_command_line(data, tmp_path):
    def command(*options):
        return subprocess.run([sys.executable, SCRIPT.name, *arguments(data, tmp_path / "out", *options)],
                              cwd=SCRIPT.parent, capture_output=True, text=True, timeout=120)

    done = command("--task_name", "TNEWS", "--dataset_format", "tfrecord")
    assert (done.returncode, done.stderr) == (0, "")
    assert "4 examples" in done.stdout
    (data / "train.json").write_text("[]\n")
    failed = command()
    assert failed.returncode == 2
    assert failed.stderr == f"error: {data / 'train.json'}, line 1: found '[]', expected a JSON object in braces\n"


def test_real_data(shared_data, tmp_path, monkeypatch):
    monkeypatch.setenv("USE_TORCH", "0")  # its tokenizer needs none, and importing torch takes seconds
    reference = pytest.importorskip("transformers").BertTokenizer
    vocab_file = shared_data / "vocab" / "bert-base-chinese" / "vocab.txt"
    generator.main(["--data_dir", str(shared_data / "tnews"), "--vocab_file", str(vocab_file), "--output_dir",
                    str(tmp_path), "--dataset_format", "tfrecord", "--max_seq_length", "32"])
    labels = (tmp_path / "labels.txt").read_text().split()
    assert labels == ["news_story", "news_culture", "news_entertainment", "news_sports", "news_finance", "news_house",
                      "news_car", "news_edu", "news_tech", "news_military", "news_travel", "news_world", "news_stock",
                      "news_agriculture", "news_game"]
    reference = reference(str(vocab_file))
    for split in ("train", "dev"):
        lines = (shared_data / "tnews" / f"{split}.json").read_text("utf-8").splitlines()
        file = TFRecordFile(tmp_path / f"{split}.tf_record")
        assert len(file) == len(lines)
        rows = np.linspace(0, len(lines) - 1, 200).astype(int)
        made = file.read(rows, record_columns(32, False))
        raw = [json.loads(lines[number]) for number in rows]
        encoded = reference([item["sentence"] for item in raw], truncation=True, padding="max_length", max_length=32)
        assert made["input_ids"].tolist() == encoded["input_ids"]
        assert made["input_mask"].tolist() == encoded["attention_mask"]
        assert made["segment_ids"].tolist() == encoded["token_type_ids"]
        assert [labels[label] for label in made["label_ids"][:, 0]] == [item["label_desc"] for item in raw]
        assert made["is_real_example"].all()
