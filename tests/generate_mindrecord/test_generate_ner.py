"""The four generators of named-entity records, run on small files of each form."""

import json
import subprocess
import sys

import pytest
from paths import REPOSITORY

from src import finetune_data_preprocess
from src.errors import UserError
from src.generate_mindrecord import (
    generate_chinesener_mindrecord,
    generate_cluener_mindrecord,
    generate_conll_mindrecord,
)
from src.records.reader import open_records
from src.tasks.ner.labels import LabelScheme
from src.tokenization import SPECIAL_TOKENS

COLUMNS = dict.fromkeys(("input_ids", "input_mask", "segment_ids", "label_ids"), "int32")
VOCAB = [*SPECIAL_TOKENS, *"北京在大", "par", "##is", "in"]


@pytest.fixture
def vocab(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(VOCAB))
    return str(path)


def entities_of(path, label_file, dataset_format="mindrecord"):
    """The tokens of each entity in each record, from the ids in the file."""
    records = open_records(path, dataset_format, COLUMNS)
    labels = LabelScheme.from_file(label_file)
    rows = records.read(range(records.num_rows))
    assert list(rows) == list(COLUMNS)
    return [[("".join(VOCAB[i] for i in ids[span.start:span.end]), span.type) for span in labels.decode(tags)]
            for ids, tags in zip(rows["input_ids"], rows["label_ids"], strict=True)]


def cluener_dir(directory):
    lines = {"train": {"text": "在北京", "label": {"address": {"北京": [[1, 2]]}}},
             "dev": {"text": "北京大在", "label": {"organization": {"北京大": [[0, 2]]}}},
             "test": {"id": 0, "text": "在京"}}
    for name, line in lines.items():
        (directory / f"{name}.json").write_text(json.dumps(line, ensure_ascii=False) + "\n")
    return str(directory)


@pytest.mark.parametrize("dataset_format, extension", [("mindrecord", "mindrecord"), ("tfrecord", "tf_record")])
def test_cluener(tmp_path, vocab, capsys, dataset_format, extension):
    out = tmp_path / "out"
    generate_cluener_mindrecord.main(["--data_dir", cluener_dir(tmp_path), "--vocab_file", vocab, "--output_dir",
                                      str(out), "--max_seq_length", "8", "--dataset_format", dataset_format])
    assert entities_of(out / f"train.{extension}", out / "label_file", dataset_format) == [[("北京", "address")]]
    assert entities_of(out / f"dev.{extension}", out / "label_file", dataset_format) == [[("北京大", "organization")]]
    assert len(LabelScheme.from_file(out / "label_file").types) == 10
    assert not (out / f"test.{extension}").exists()
    assert (out / "dataset.json").exists() == (dataset_format == "tfrecord")
    assert "train." in capsys.readouterr().out


def test_cluener_to_predict(tmp_path, vocab):
    out = tmp_path / "out"
    generate_cluener_mindrecord.main(["--data_dir", cluener_dir(tmp_path), "--vocab_file", vocab, "--output_dir",
                                      str(out), "--do_predict", "true"])
    assert entities_of(out / "test.mindrecord", out / "label_file") == [[]]
    assert not (out / "train.mindrecord").exists()


def test_chinesener(tmp_path, vocab, capsys):
    (tmp_path / "example.train").write_text("在 O\n北 B-LOC\n京 I-LOC\n\n大 I-PER\n北 O\n")
    (tmp_path / "example.dev").write_text("北 O\n" * 20)
    out = tmp_path / "out"
    generate_chinesener_mindrecord.main(["--data_dir", str(tmp_path), "--vocab_file", vocab, "--output_dir", str(out),
                                         "--max_seq_length", "12"])
    assert entities_of(out / "train.mindrecord", out / "label_file") == [[("北京", "LOC")], [("大", "PER")]]
    assert entities_of(out / "dev.mindrecord", out / "label_file") == [[], []]
    printed = capsys.readouterr().out
    assert "1 entities begin with I-, M- or E- (the first on line 5)" in printed
    assert "sentences of more than 10 tokens, now several records: 1" in printed


def test_chinesener_by_its_other_name_and_by_path(tmp_path, vocab):
    (tmp_path / "example.train").write_text("北 B-LOC\n")
    script = REPOSITORY / "src" / "generate_mindrecord" / "generate_chinese_mindrecord.py"
    command = [sys.executable, str(script), "--data_dir", str(tmp_path), "--vocab_file", vocab, "--output_dir", "out"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert open_records(tmp_path / "out/train.mindrecord", "mindrecord", COLUMNS).seq_length == 202
    assert entities_of(tmp_path / "out/train.mindrecord", tmp_path / "out/label_file") == [[("北", "LOC")]]


def test_conll_words_align_with_pieces(tmp_path, vocab):
    (tmp_path / "train.txt").write_text("In IN O O\nParis NNP I-NP B-LOC\nparis NNP I-NP B-LOC\n")
    (tmp_path / "labels").write_text("PER\nLOC\n")
    generate_conll_mindrecord.main(["--train_file", str(tmp_path / "train.txt"), "--vocab_file", vocab, "--output_dir",
                                    str(tmp_path / "out"), "--label_file", str(tmp_path / "labels")])
    assert entities_of(tmp_path / "out/train.mindrecord", tmp_path / "out/label_file") == [
        [("par##is", "LOC"), ("par##is", "LOC")]]
    assert LabelScheme.from_file(tmp_path / "out/label_file").types == ("PER", "LOC")


def write_msra(path):
    sentence = '<SENTENCE><w>在</w><w><NAMEX TYPE="{}">{}</NAMEX></w></SENTENCE>'
    path.write_text("<TEXT>" + "".join(sentence.format(kind, word) for kind, word in [
        ("LOCATION", "北京"), ("PERSON", "大"), ("LOCATION", "京"), ("PERSON", "北")]) + "</TEXT>")
    return str(path)


@pytest.mark.parametrize("split, expected", [
    ([], [[("北京", "LOCATION")], [("大", "PERSON")], [("京", "LOCATION")], [("北", "PERSON")]]),
    (["--split_begin=0.5", "--split_end=0.75"], [[("京", "LOCATION")]]),
])
def test_msra(tmp_path, vocab, split, expected):
    out = tmp_path / "out" / "msra.mindrecord"
    finetune_data_preprocess.main([f"--data_dir={write_msra(tmp_path / 'msra.xml')}", f"--vocab_file={vocab}",
                                   f"--save_path={out}", "--max_seq_len=16", "--class_filter=NAMEX", *split])
    assert entities_of(out, out.parent / "label_file") == expected
    assert LabelScheme.from_file(out.parent / "label_file").types == ("LOCATION", "PERSON")


def test_mistakes_are_named_and_leave_nothing(tmp_path, vocab):
    out = tmp_path / "out" / "msra.mindrecord"
    data = [f"--data_dir={write_msra(tmp_path / 'msra.xml')}", f"--vocab_file={vocab}", f"--save_path={out}"]
    (tmp_path / "labels").write_text("LOCATION\n")
    with pytest.raises(UserError, match="sentence 2: the entity '大' is of type PERSON, which is not in label file"):
        finetune_data_preprocess.main([*data, f"--label2id={tmp_path / 'labels'}"])
    with pytest.raises(UserError, match="expected 0 <= split_begin < split_end <= 1"):
        finetune_data_preprocess.main([*data, "--split_begin=0.5", "--split_end=0.5"])
    with pytest.raises(UserError, match="name at least one file"):
        generate_conll_mindrecord.main(["--vocab_file", vocab, "--output_dir", str(out.parent)])
    with pytest.raises(UserError, match="no sentence has an entity"):
        (tmp_path / "plain").write_text("in O\n")
        generate_conll_mindrecord.main(["--train_file", str(tmp_path / "plain"), "--vocab_file", vocab, "--output_dir",
                                        str(out.parent)])
    assert list(out.parent.iterdir()) == []
