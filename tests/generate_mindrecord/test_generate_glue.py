"""The command that makes records of GLUE tasks and of one's own texts: columns, oddities, labels, mistakes."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import src.generate_mindrecord.generate_glue_mindrecord as generator
from src.errors import UserError
from src.generate_mindrecord.classification_records import record_columns
from src.records.mindrecord import MindRecordFile
from src.records.tfrecord import TFRecordFile
from src.tokenization import SPECIAL_TOKENS

SCRIPT = Path(generator.__file__)
TOKENS = [*SPECIAL_TOKENS, '"', ".", *"abcdefghij"]
S = 12


@pytest.fixture
def vocab_file(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(TOKENS))
    return path


@pytest.fixture
def data(tmp_path):
    directory = tmp_path / "my data"
    directory.mkdir()
    return directory


def run(data, vocab_file, task_name, *options):
    return generator.main(["--data_dir", str(data), "--task_name", task_name, "--vocab_file", str(vocab_file),
                           "--output_dir", str(data / "out"), "--max_seq_length", str(S),
                           "--dataset_format", "tfrecord", *options])


def read(path, is_regression=False, length=S):
    file = (MindRecordFile if path.suffix == ".mindrecord" else TFRecordFile)(path)
    return file.read(np.arange(len(file)), record_columns(length, is_regression))


def content(path, is_regression=False):
    """(tokens, first position of segment 1 or None, label) of each record."""
    made = read(path, is_regression)
    found = []
    for ids, mask, segments, label, is_real in zip(*made.values(), strict=True):
        n = int(mask.sum())
        first = int(segments.argmax()) if segments.any() else None
        assert mask.tolist() == [1] * n + [0] * (S - n) and not ids[n:].any() and is_real.tolist() == [1]
        assert segments.tolist() == ([0] * n if first is None else [0] * first + [1] * (n - first)) + [0] * (S - n)
        found.append((" ".join(TOKENS[index] for index in ids[:n]), first, label.item()))
    return found


def one(text, label):
    return f"[CLS] {text} [SEP]", None, label


def two(first, second, label):
    return f"[CLS] {first} [SEP] {second} [SEP]", len(first.split()) + 2, label


# The published forms: the file names, their text, and what the records of it hold.
TASKS = {
    "cola": ({"train.tsv": 'x1\t1\t\ta "b c .\nx1\t0\t*\td" e', "dev.tsv": "x1\t0\t*\ta .\n",
              "test.tsv": "index\tsentence\n0\tb .\n1\ta .\n"},
             {"train": [one('a " b c .', 1), one('d " e', 0)], "dev": [one("a .", 0)],
              "test": [one("b .", 0), one("a .", 0)]}),
    "mrpc": ({"train.tsv": '\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\r\n1\t10\t20\t" a b\tc "\r\n',
              "dev.tsv": "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\r\n0\t10\t20\ta\tc .\r\n",
              "test.tsv": "\ufeffindex\t#1 ID\t#2 ID\t#1 String\t#2 String\r\n0\t10\t20\tb\tc\r\n"},
             {"train": [two('" a b', 'c "', 1)], "dev": [two("a", "c .", 0)], "test": [two("b", "c", 0)]}),
    "sst-2": ({"train.tsv": "sentence\tlabel\na b \t0\nc \t1\n", "dev.tsv": "sentence\tlabel\nd\t1\n",
               "test.tsv": "index\tsentence\n0\te\n"},
              {"train": [one("a b", 0), one("c", 1)], "dev": [one("d", 1)], "test": [one("e", 0)]}),
    "rte": ({"train.tsv": "index\tsentence1\tsentence2\tlabel\n0\ta\tb\tnot_entailment\n1\tc\td\tentailment\n",
             "dev.tsv": "index\tsentence1\tsentence2\tlabel\n0\te\tf\tentailment\n",
             "test.tsv": "index\tsentence1\tsentence2\n0\tg\th\n"},
            {"train": [two("a", "b", 1), two("c", "d", 0)], "dev": [two("e", "f", 0)], "test": [two("g", "h", 0)]}),
    "qnli": ({"train.tsv": "index\tquestion\tsentence\tlabel\n0\ta b\tc\tnot_entailment\n",
              "dev.tsv": "index\tquestion\tsentence\tlabel\n0\td\te\tentailment\n"},
             {"train": [two("a b", "c", 1)], "dev": [two("d", "e", 0)]}),
    "qqp": ({"train.tsv": "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n1\t3\t4\ta\tb c\t1\n2\t5\t6\td\n"
                          "e\t0\n3\t7\t8\tf\t\t0\n",  # a question with a line end in it, and an empty one
             "dev.tsv": "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n1\t3\t4\tg\th\t0\n",
             "test.tsv": "id\tquestion1\tquestion2\n0\ti\tj\n"},
            {"train": [two("a", "b c", 1), ("[CLS] f [SEP] [SEP]", 3, 0)], "dev": [two("g", "h", 0)],
             "test": [two("i", "j", 0)]}),
    "mnli": ({"train.tsv": "index\tgenre\tsentence1_parse\tsentence1\tsentence2\tlabel1\tgold_label\n"
                           "0\tx\t(x)\ta\tb\tneutral\tneutral\n1\tx\t(x)\tc\td\tentailment\tcontradiction\n",
              "dev_matched.tsv": "index\tsentence1\tsentence2\tlabel1\tlabel2\tgold_label\n"
                                 "0\te\tf\tneutral\tneutral\tentailment\n",
              "dev_mismatched.tsv": "index\tsentence1\tsentence2\tlabel1\tlabel2\tgold_label\n"
                                    "0\tg\th\tneutral\tneutral\tneutral\n",
              "test_matched.tsv": "index\tsentence1\tsentence2\n0\ti\tj\n",
              "test_mismatched.tsv": "index\tsentence1\tsentence2\n0\tj\ti\n"},
             {"train": [two("a", "b", 2), two("c", "d", 0)], "dev": [two("e", "f", 1)],
              "dev_mismatched": [two("g", "h", 2)], "test": [two("i", "j", 0)], "test_mismatched": [two("j", "i", 0)]}),
    "wnli": ({"train.tsv": "index\tsentence1\tsentence2\tlabel\n0\ta\tb\t1\n",
              "dev.tsv": "index\tsentence1\tsentence2\tlabel\n0\tc\td\t0\n"},
             {"train": [two("a", "b", 1)], "dev": [two("c", "d", 0)]}),
}
LABELS = {"rte": "entailment\nnot_entailment\n", "qnli": "entailment\nnot_entailment\n",
          "mnli": "contradiction\nentailment\nneutral\n"}


def write(data, files):
    for name, text in files.items():
        (data / name).write_bytes(text.encode())


def records(data):
    return sorted(path.stem for path in (data / "out").glob("*.tf_record"))


@pytest.mark.parametrize("task_name", TASKS)
def test_published_forms(data, vocab_file, task_name):
    files, expected = TASKS[task_name]
    write(data, files)
    options = ["--do_train", "--do_eval", *(["--do_predict"] if "test" in expected else [])]
    run(data, vocab_file, task_name.upper(), *options)
    assert records(data) == sorted(expected)
    for name, rows in expected.items():
        assert content(data / "out" / f"{name}.tf_record") == rows, name
    assert (data / "out" / "labels.txt").read_text() == LABELS.get(task_name, "0\n1\n")


def test_regression(data, vocab_file):
    header = "index\tgenre\tsource1\tsentence1\tsentence2"
    write(data, {"train.tsv": f"{header}\tscore\n0\tx\ty\ta\tb \"\t3.800\n1\tx\ty\tc\td\t0\n",
                 "dev.tsv": f"{header}\tscore\n0\tx\ty\te\tf\t4.25\n", "test.tsv": f"{header}\n0\tx\ty\tg\th\n"})
    run(data, vocab_file, "STSB", "--do_train", "--do_eval", "--do_predict")
    assert content(data / "out" / "train.tf_record", True) == [two("a", 'b "', pytest.approx(3.8)), two("c", "d", 0.0)]
    assert content(data / "out" / "dev.tf_record", True) == [two("e", "f", 4.25)]
    assert content(data / "out" / "test.tf_record", True) == [two("g", "h", 0.0)]
    assert read(data / "out" / "train.tf_record", True)["label_ids"].dtype == np.float32
    assert not (data / "out" / "labels.txt").exists()
    schema = json.loads((data / "out" / "dataset.json").read_text())
    assert schema["columns"]["label_ids"] == {"type": "float32", "rank": 1, "shape": [1]}


def test_both_formats_hold_the_same(data, vocab_file):
    write(data, {"train.tsv": "index\tsentence1\tsentence2\tscore\n" + "".join(
        f"{i}\t{'abcdefghij'[i % 10] * 3}\t{'a b c d e f g h i'[:i % 17]}b\t{i / 7}\n" for i in range(3000))})
    run(data, vocab_file, "sts-b")
    run(data, vocab_file, "sts-b", "--dataset_format", "mindrecord")
    ours, other = (read(data / "out" / f"train.{suffix}", True) for suffix in ("tf_record", "mindrecord"))
    assert len(ours["input_ids"]) == 3000
    for name, values in ours.items():
        np.testing.assert_array_equal(values, other[name])
    np.testing.assert_array_equal(ours["label_ids"][:, 0], (np.arange(3000) / 7).astype(np.float32))


def test_broken_rows_of_qqp_are_told(data, vocab_file, capsys):
    write(data, TASKS["qqp"][0])
    run(data, vocab_file, "qqp")
    assert (f"note: 2 rows of {data / 'train.tsv'} with a wrong number of fields were left out, the first on line 3"
            in capsys.readouterr().out.splitlines())


# ---------------------------------------------------------------- one's own texts

@pytest.mark.parametrize("task_name, files", [
    ("tsv", {"train.tsv": 'label\ttext\nno\ta "b\nyes\tc\n', "dev.tsv": "text\tlabel\nd\tno\n",
             "test.tsv": "text\te\n\"\tx\n"}),
    ("csv", {"train.csv": '\ufefflabel,text\r\nno,"a ""b"\r\nyes,c\r\n', "dev.csv": "text,label\nd,no\n",
             "test.csv": 'text\n""""\n'}),
    ("JSONL", {"train.jsonl": '{"label": "no", "text": "a \\"b"}\n{"text": "c", "label": "yes"}\n',
               "dev.jsonl": '{"text": "d", "label": "no"}\n', "test.jsonl": '{"text": "\\""}\n'}),
    ("jsonl", {"train.json": '{"label": "no", "text": "a \\"b"}\n{"text": "c", "label": "yes"}\n',
               "dev.jsonl": '{"text": "d", "label": "no"}\n', "test.json": '{"text": "\\""}\n'}),
])
def test_own_texts(data, vocab_file, task_name, files):
    write(data, files)
    run(data, vocab_file, task_name, "--do_train", "--do_eval", "--do_predict")
    assert content(data / "out" / "train.tf_record") == [one('a " b', 0), one("c", 1)]
    assert content(data / "out" / "dev.tf_record") == [one("d", 0)]
    assert content(data / "out" / "test.tf_record") == [one('"', 0)]
    assert (data / "out" / "labels.txt").read_text() == "no\nyes\n"


def test_own_columns_and_labels(data, vocab_file):
    write(data, {"dev.csv": "from,to,how\na,b,good\nc,d,bad\n", "labels.txt": "good\nbad\nugly\n"})
    own = ["--text_column", "from", "--text_pair_column", "to", "--label_column", "how"]
    with pytest.raises(UserError, match="no train.csv in .* to collect the labels from; give --label_file"):
        run(data, vocab_file, "csv", *own)
    run(data, vocab_file, "csv", *own, "--label_file", str(data / "labels.txt"))
    assert content(data / "out" / "dev.tf_record") == [two("a", "b", 0), two("c", "d", 1)]
    assert (data / "out" / "labels.txt").read_text() == "good\nbad\nugly\n"


def test_own_regression(data, vocab_file):
    write(data, {"train.jsonl": '{"text": "a", "label": 1.5}\n{"text": "b", "label": -2}\n'})
    run(data, vocab_file, "jsonl", "--regression")
    assert content(data / "out" / "train.tf_record", True) == [one("a", 1.5), one("b", -2.0)]


# ---------------------------------------------------------------- what users get wrong

def told(data, vocab_file, *arguments):
    with pytest.raises(UserError) as caught:
        run(data, vocab_file, *arguments)
    assert "\n" not in str(caught.value)
    assert not (data / "out").exists() or not list((data / "out").iterdir())
    return str(caught.value)


@pytest.mark.parametrize("task_name, name, text, message", [
    ("cola", "train.tsv", "x\t1\t\ta\nx\t0\ta\n", ", line 2: number of fields: 3, expected 4 (source, label, mark, "
                                                  "sentence), separated by tabs"),
    ("cola", "dev.tsv", "x\t1\t\ta\nx\t2\t\ta\n",
     ", line 2: the label '2' is unknown, expected one of 0, 1 (from GLUE)"),
    ("sst-2", "train.tsv", "a\tlabel\nx\t1\n", ", line 2: no column 'sentence'; the columns are 'a', 'label'"),
    ("sst-2", "dev.tsv", "sentence\nx\n", ", line 2: no column 'label'; the columns are 'sentence'"),
    ("rte", "train.tsv", "index\tsentence1\tsentence2\tlabel\n0\ta\tb\tentailment\n\n",
     ", line 3: the line is empty, expected 4 fields; remove the line"),
    ("sts-b", "dev.tsv", "sentence1\tsentence2\tscore\na\tb\thigh\n", ", line 2: the label 'high' is no number; "
                                                                     "regression expects numbers"),
    ("mnli", "dev_mismatched.tsv", "sentence1\tsentence2\tgold_label\na\tb\t-\n", ", line 2: the label '-' is unknown, "
     "expected one of contradiction, entailment, neutral (from GLUE)"),
    ("tsv", "train.tsv", "text\tlabel\na\tx\n\ty\n", ", line 3: the text in column 'text' is empty; remove the row or "
                                                     "fill it in"),
    ("csv", "train.csv", "text,label\na,x\nb,x\n", ": the labels are ['x'], expected at least two different ones"),
])
def test_wrong_lines(data, vocab_file, task_name, name, text, message):
    write(data, {name: text})
    assert told(data, vocab_file, task_name) == f"{data / name}{message}"


def test_missing_files(data, vocab_file):
    assert told(data, vocab_file, "mnli", "--do_eval").endswith(f"there is no dev_matched.tsv in {data}")
    write(data, {"dev_matched.tsv": "sentence1\tsentence2\tgold_label\na\tb\tneutral\n"})
    assert told(data, vocab_file, "mnli", "--do_eval").endswith(f"there is no dev_mismatched.tsv in {data}")
    assert "expected train.tsv or dev.tsv, or ask for other data" in told(data, vocab_file, "rte")
    assert "there is no train.jsonl or train.json in" in told(data, vocab_file, "jsonl", "--do_train")


def test_wrong_options(data, vocab_file, capsys):
    write(data, TASKS["rte"][0])
    assert told(data, vocab_file, "rte", "--max_seq_length", "4") == "--max_seq_length is 4, expected at least 5"
    assert told(data, vocab_file, "rte", "--text_column", "x") == (
        "--text_column is for your own files; the columns and labels of rte are known")
    assert "--regression is for your own files" in told(data, vocab_file, "rte", "--regression", "false")
    assert "--label_file names classes" in told(data, vocab_file, "tsv", "--regression", "--label_file", "x")
    with pytest.raises(SystemExit):
        run(data, vocab_file, "iflytek")
    assert "cola" in capsys.readouterr().err


def test_the_command_line(data, vocab_file):
    write(data, TASKS["rte"][0])
    done = subprocess.run([sys.executable, SCRIPT.name, "--task_name", "RTE", "--data_dir", data, "--vocab_file",
                           vocab_file, "--output_dir", data / "out"],
                          cwd=SCRIPT.parent, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(path.name for path in (data / "out").iterdir()) == [
        "dev.about.json", "dev.mindrecord", "dev.mindrecord.db", "dev.sentences.jsonl", "labels.txt",
        "train.about.json", "train.mindrecord", "train.mindrecord.db", "train.sentences.jsonl", "vocab.txt"]


# ---------------------------------------------------------------- real data

REAL = {  # the columns of the texts and of the label, counted from 0
    "CoLA": ((3,), 1), "MRPC": ((3, 4), 0), "SST-2": ((0,), 1), "STS-B": ((7, 8), 9), "RTE": ((1, 2), 3),
}


@pytest.mark.parametrize("task_name", REAL)
def test_real_data(shared_data, tmp_path, monkeypatch, task_name):
    monkeypatch.setenv("USE_TORCH", "0")  # its tokenizer needs none, and importing torch takes seconds
    reference = pytest.importorskip("transformers").BertTokenizer
    vocab_file = shared_data / "vocab" / "bert-base-uncased" / "vocab.txt"
    directory = shared_data / "glue" / task_name
    length = 48
    generator.main(["--task_name", task_name, "--data_dir", str(directory), "--vocab_file", str(vocab_file),
                    "--output_dir", str(tmp_path), "--dataset_format", "tfrecord", "--max_seq_length", str(length)])
    columns, label_column = REAL[task_name]
    names = None if task_name == "STS-B" else (tmp_path / "labels.txt").read_text().split()
    reference = reference(str(vocab_file))
    for split in ("train", "dev"):
        lines = (directory / f"{split}.tsv").read_bytes().decode("utf-8-sig").removesuffix("\n").split("\n")
        lines = [line.removesuffix("\r").split("\t") for line in lines[0 if task_name == "CoLA" else 1:]]
        made = read(tmp_path / f"{split}.tf_record", names is None, length)
        assert len(made["input_ids"]) == len(lines)
        labels = made["label_ids"][:, 0].tolist()
        if names:
            assert [names[label] for label in labels] == [line[label_column] for line in lines]
        else:
            assert labels == pytest.approx([float(line[label_column]) for line in lines])
        rows = np.linspace(0, len(lines) - 1, 200).astype(int)
        texts = [[lines[row][column] for row in rows] for column in columns]
        encoded = reference(*texts, truncation="longest_first", padding="max_length", max_length=length)
        assert made["input_ids"][rows].tolist() == encoded["input_ids"]
        assert made["input_mask"][rows].tolist() == encoded["attention_mask"]
        assert made["segment_ids"][rows].tolist() == encoded["token_type_ids"]
