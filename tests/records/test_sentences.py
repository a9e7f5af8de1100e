"""What lies beside a record file leads from its records back to the sentences that they were made of."""

import json

import numpy as np
import pytest

from src.errors import UserError
from src.records.reader import open_records
from src.records.sentences import Place, read_sentences, sentences_path, writing_sentences
from src.records.writer import RecordWriter

COLUMNS = {"input_ids": ("int32", 2)}


def write(path, counts, texts="甲乙丙丁"):
    """A record file of sentences that became so many records each."""
    with RecordWriter(path, COLUMNS, "mindrecord") as writer, writing_sentences(path) as add:
        for number, (count, text) in enumerate(zip(counts, texts, strict=False), 3):
            add(Place("dev.tsv", number), text, count, text_pair="x")
            writer.write({"input_ids": np.zeros((count, 2), np.int32)})
    return path


def records_of(path):
    return open_records(path, "mindrecord", {"input_ids": "int32"})


def test_sentences_know_their_records_and_places_over_several_files(tmp_path):
    write(tmp_path / "a.mindrecord", [1, 0, 2])
    write(tmp_path / "b.mindrecord", [1], "\u2028")
    sources = read_sentences(records_of(tmp_path))
    assert [(list(source.records), source.text) for source in sources] == [
        ([0], "甲"), ([], "乙"), ([1, 2], "丙"), ([3], "\u2028")]
    assert [source.place for source in sources] == [{"file": "dev.tsv", "line": line} for line in (3, 4, 5, 3)]
    assert sources[0].fields["text_pair"] == "x"


def test_a_place_is_the_text_of_the_message_and_its_parts():
    assert f"{Place('x.xml', 7, 'sentence')}: no" == "x.xml, sentence 7: no"
    assert Place("x.xml", 7, "sentence").fields() == {"file": "x.xml", "sentence": 7}


def test_without_the_file_for_all_records_there_are_none(tmp_path):
    path = write(tmp_path / "a.mindrecord", [1, 2])
    limited = open_records(path, "mindrecord", {"input_ids": "int32"}, num_samples=2)
    assert read_sentences(limited) is None
    sentences_path(path).unlink()
    assert read_sentences(records_of(path)) is None


@pytest.mark.parametrize("lines, expected", [
    (['{"text": "a", "records": 2}'], "became 2 records, but"),
    (["[]"], "line 1: found no JSON object"),
    (['{"text": "a"}'], "line 1: records is missing"),
    (['{"text": 3, "records": 1}'], "line 1: text is 3, expected a text"),
    (['{"text": "a", "records": 4}', '{"text": "a", "records": -1}'], "line 2: records is -1"),
    (["{"], "line 1, column 2: no JSON"),
])
def test_a_file_of_other_records_is_named(tmp_path, lines, expected):
    path = write(tmp_path / "a.mindrecord", [1, 2])
    sentences_path(path).write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(UserError) as caught:
        read_sentences(records_of(path))
    assert expected in str(caught.value) and "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(sentences_path(path)))


def test_a_failed_writing_leaves_no_file(tmp_path):
    with pytest.raises(ZeroDivisionError), writing_sentences(tmp_path / "a.mindrecord") as add:
        add("", json.dumps(1 / 0), 1)
    assert not list(tmp_path.iterdir())
