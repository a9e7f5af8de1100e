"""What records tell about themselves fills what the user left open, and contradictions are one line."""

import numpy as np
import pytest

from src.errors import UserError
from src.model_utils.config import load_config
from src.records.about import accompany
from src.records.writer import RecordWriter
from src.tasks.classifier.task import ClassifierTask
from src.tasks.ner.task import NerTask
from src.tasks.record_facts import settled_by_records

COLUMNS = dict.fromkeys(("input_ids", "input_mask", "segment_ids"), ("int32", 8)) | {"label_ids": ("int32", 1)}
WORDS = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n"


@pytest.fixture
def vocab(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text(WORDS)
    return path


@pytest.fixture
def make(tmp_path, vocab):
    """Writes a set of records; `about` None writes nothing about them."""
    def write(name, labels="good\nbad\nso-so\n", label_file="labels.txt", **about):
        folder = tmp_path / name
        folder.mkdir()
        with RecordWriter(folder / "a.tfrecord", COLUMNS, "tfrecord") as writer:
            writer.write({name: np.ones((2, length), np.int32) for name, (_, length) in COLUMNS.items()})
        (folder / label_file).write_text(labels)
        if about:
            accompany([folder / "a.tfrecord"], about.pop("vocab", vocab), about)
        return folder
    return write


def settle(task, train, *argv, evaluated=""):
    config = load_config("", task.config_file, ["--dataset_format", "tfrecord", "--train_data_file_path", str(train),
                                                "--eval_data_file_path", str(evaluated), *map(str, argv)])
    return settled_by_records(config, task, ["train_data_file_path", "eval_data_file_path"])


def test_what_is_left_open_comes_from_the_records(make, vocab):
    train = make("train", do_lower_case=False, max_seq_length=8)
    config = settle(ClassifierTask, train)
    assert (config.num_class, config.bert_net_cfg.seq_length, config.do_lower_case) == (3, 8, False)
    assert (config.label_file_path, config.vocab_file_path) == (f"{train}/labels.txt", f"{train}/vocab.txt")
    given = settle(ClassifierTask, train, "--vocab_file_path", vocab, "--label_file_path", vocab)
    assert (given.vocab_file_path, given.label_file_path) == (str(vocab), str(vocab))


def test_regression(make):
    config = settle(ClassifierTask, make("train", do_lower_case=True, max_seq_length=8, num_class=1))
    assert (config.num_class, config.label_file_path) == (1, "")


def test_older_records_tell_length_and_labels(make):
    config = settle(ClassifierTask, make("train"))
    assert (config.num_class, config.bert_net_cfg.seq_length, config.vocab_file_path) == (3, 8, "")
    assert settle(ClassifierTask, make("other"), "--num_class", 5).num_class == 5  # the file may be of others
    length = settle(ClassifierTask, make("third"), "--bert_net_cfg.seq_length", 16).bert_net_cfg.seq_length
    assert length == 16  # refused where the records are opened, as ever


def test_entities(make):
    train = make("train", "PER\n", "label_file", text_unit="word", do_lower_case=True, max_seq_length=8)
    config = settle(NerTask, train)
    assert (config.text_unit, config.label_file_path) == ("word", f"{train}/label_file")
    by_its_other_name = settle(NerTask, train, "--label2id_file_path", "x")
    assert (by_its_other_name.label_file_path, by_its_other_name.label2id_file_path) == ("", "x")


@pytest.mark.parametrize(("options", "message"), [
    ({"do_lower_case": "true"}, "do_lower_case: the records of .*a.tfrecord were made with false, but do_lower_case is "
                                "true; leave do_lower_case out"),
    ({"num_class": 2}, "num_class: .* were made with 3, but num_class is 2"),
    ({"vocab_file_path": "absent.txt"}, "vocab_file_path: cannot read absent.txt"),
])
def test_contradictions(make, options, message):
    train = make("train", do_lower_case=False, max_seq_length=8)
    with pytest.raises(UserError, match=message):
        settle(ClassifierTask, train, *(part for key, value in options.items() for part in (f"--{key}", value)))


def test_the_configuration_file_counts_as_said(make, tmp_path):
    train = make("train", text_unit="word", do_lower_case=True, max_seq_length=8)
    (tmp_path / "my.yaml").write_text("text_unit: character\n")
    with pytest.raises(UserError, match="text_unit: .* were made with word, but text_unit is character"):
        settle(NerTask, train, "--config_path", tmp_path / "my.yaml")


def test_another_vocabulary(make, tmp_path, vocab):
    other = tmp_path / "other.txt"
    other.write_text(WORDS + "b\n")
    train = make("train", do_lower_case=True, max_seq_length=8)
    with pytest.raises(UserError, match=r"other.txt is not the vocabulary that the records of .*a.tfrecord were made "
                                        r"with, .*train/vocab.txt"):
        settle(ClassifierTask, train, "--vocab_file_path", other)
    dev = make("dev", vocab=other, do_lower_case=True, max_seq_length=8)
    with pytest.raises(UserError, match=r"train/vocab.txt is not the vocabulary .*dev/a.tfrecord"):
        settle(ClassifierTask, train, evaluated=dev)


def test_two_sets_that_differ(make):
    train = make("train", do_lower_case=True, max_seq_length=8)
    dev = make("dev", do_lower_case=False, max_seq_length=8)
    with pytest.raises(UserError, match=r"do_lower_case: .*dev/a.tfrecord were made with false, but those of "
                                        r".*train/a.tfrecord with true"):
        settle(ClassifierTask, train, evaluated=dev)
