"""What stands beside record files: how they were made, and a copy of their vocabulary."""

import json
import zlib

import pytest

from src.errors import UserError
from src.records.about import accompany, kept_vocabulary, read_about


@pytest.fixture
def vocab(tmp_path):
    path = tmp_path / "given" / "my words.txt"
    path.parent.mkdir()
    path.write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n")
    return path


@pytest.fixture
def out(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def test_it_comes_back_with_the_vocabulary(out, vocab):
    files = [out / "a.mindrecord", out / "b.tf_record"]
    accompany(files, vocab, {"do_lower_case": False, "max_seq_length": 8}, ["a.csv", "b.csv"])
    about = read_about(files)
    assert about == {"vocab_file": "vocab.txt", "vocab_crc32": f"{zlib.crc32(vocab.read_bytes()):08x}",
                     "do_lower_case": False, "max_seq_length": 8, "source": "a.csv"}
    assert json.loads((out / "b.about.json").read_text())["source"] == "b.csv"
    assert kept_vocabulary(files, about).read_bytes() == vocab.read_bytes()


def test_another_vocabulary_of_that_name_stays(out, vocab):
    (out / "vocab.txt").write_text("mine")
    accompany([out / "a.mindrecord"], vocab, {})
    about = read_about([out / "a.mindrecord"])
    assert (out / "vocab.txt").read_text() == "mine"
    assert about["vocab_file"] == f"vocab-{zlib.crc32(vocab.read_bytes()):08x}.txt"
    (out / about["vocab_file"]).write_text("changed")
    assert kept_vocabulary([out / "a.mindrecord"], about) is None
    accompany([out / "a.mindrecord"], vocab, {})
    assert kept_vocabulary([out / "a.mindrecord"], about).read_bytes() == vocab.read_bytes()


def test_files_of_different_vocabularies_make_no_set(out, vocab):
    accompany([out / "a.mindrecord"], vocab, {})
    vocab.write_text(vocab.read_text() + "b\n")
    accompany([out / "b.mindrecord"], vocab, {})
    with pytest.raises(UserError, match=r"a\.about\.json and .*b\.about\.json|b\.about\.json and .*a\.about\.json"):
        read_about([out / "a.mindrecord", out / "b.mindrecord"])


def test_older_records_have_none(out):
    assert read_about([out / "a.mindrecord"]) == {}
    assert kept_vocabulary([out / "a.mindrecord"], {}) is None


@pytest.mark.parametrize(("content", "message"), [
    ("[]", "no JSON object"),
    ('{"vocab_file": "vocab.txt"}', "vocab_crc32 is missing"),
    ('{"vocab_file": "vocab.txt", "vocab_crc32": "0", "max_seq_length": "long"}', "max_seq_length is \"long\""),
])
def test_a_damaged_one_is_one_line(out, content, message):
    (out / "a.about.json").write_text(content)
    with pytest.raises(UserError, match=message) as caught:
        read_about([out / "a.mindrecord"])
    assert "a.about.json" in str(caught.value)
