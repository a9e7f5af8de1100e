"""Texts become the arrays of the BERT authors, labels their ids, and mistakes are named with file and line."""

import itertools

import numpy as np
import pytest

from src.errors import UserError
from src.generate_mindrecord.classification_records import ExampleColumns, to_examples
from src.records.text_rows import Row
from src.tasks.labelled_text import LabelledText, Labels, encode_texts, score_of
from src.tokenization import SPECIAL_TOKENS, FullTokenizer, Vocabulary

WORDS = [f"w{index}" for index in range(20)]
PAD, CLS, SEP = 2, 3, 1  # not in their usual order, so that no id can be a constant


@pytest.fixture(scope="module")
def tokenizer():
    specials = dict(zip(("[UNK]", "[SEP]", "[PAD]", "[CLS]", "[MASK]"), range(5), strict=True))
    assert set(specials) == set(SPECIAL_TOKENS)
    return FullTokenizer(Vocabulary([*specials, *WORDS]))


def words(first, count):
    return " ".join(WORDS[first:first + count])


def ids(first, count):
    return list(range(5 + first, 5 + first + count))


def test_layout(tokenizer):
    columns, full_lengths = encode_texts(tokenizer, [(words(0, 2), None), (words(0, 2), words(5, 1)), ("", None),
                                                     ("", "")], 8)
    assert columns["input_ids"].tolist() == [
        [CLS, 5, 6, SEP, PAD, PAD, PAD, PAD], [CLS, 5, 6, SEP, 10, SEP, PAD, PAD],
        [CLS, SEP, PAD, PAD, PAD, PAD, PAD, PAD], [CLS, SEP, SEP, PAD, PAD, PAD, PAD, PAD]]
    assert columns["input_mask"].tolist() == [[1] * n + [0] * (8 - n) for n in (4, 6, 2, 3)]
    assert columns["segment_ids"].tolist() == [[0] * 8, [0, 0, 0, 0, 1, 1, 0, 0], [0] * 8, [0, 0, 1, 0, 0, 0, 0, 0]]
    assert full_lengths.tolist() == [4, 6, 2, 3]
    assert {values.dtype for values in columns.values()} == {np.dtype(np.int32)}


def test_a_long_text_loses_its_end(tokenizer):
    columns, full_lengths = encode_texts(tokenizer, [(words(0, 9), None), (words(0, 6), None)], 8)
    assert columns["input_ids"].tolist() == [[CLS, *ids(0, 6), SEP]] * 2
    assert full_lengths.tolist() == [11, 8]


@pytest.mark.parametrize("S", [5, 6, 9, 12])
def test_the_longer_of_a_pair_loses_tokens_first(tokenizer, S):
    """Compared with the authors' loop."""
    for a, b in itertools.product(range(10), repeat=2):
        size_a, size_b = a, b
        while size_a + size_b > S - 3:
            if size_a > size_b:
                size_a -= 1
            else:
                size_b -= 1
        expected = [CLS, *ids(0, size_a), SEP, *ids(10, size_b), SEP]
        columns, full_lengths = encode_texts(tokenizer, [(words(0, a), words(10, b))], S)
        assert columns["input_ids"][0].tolist() == expected + [PAD] * (S - len(expected))
        assert columns["segment_ids"][0].sum() == size_b + 1
        assert full_lengths.tolist() == [a + b + 3]


# ---------------------------------------------------------------- labels

def example(label):
    return LabelledText("text", None, label, "x.tsv, line 7")


def test_collected_labels_are_sorted():
    assert Labels.collect(map(example, ["b", "a", "b", "10"]), "x").names == ["10", "a", "b"]
    assert Labels.collect(map(example, ["10", "9", "-1", "9"]), "x").names == ["-1", "9", "10"]


def test_labels_of_a_file(tmp_path):
    (tmp_path / "labels.txt").write_bytes("\ufeffnews edu\r\n体育\n".encode())
    labels = Labels.from_file(tmp_path / "labels.txt")
    assert labels.names == ["news edu", "体育"] and len(labels) == 2
    assert [labels.id_of(example(name)) for name in ("体育", "news edu")] == [1, 0]
    labels.write(tmp_path / "copy.txt")
    assert (tmp_path / "copy.txt").read_text("utf-8") == "news edu\n体育\n"
    (tmp_path / "labels.json").write_text('{"label": "104", "label_desc": "x"}\n{"label": 100}\n')
    assert Labels.from_file(tmp_path / "labels.json").names == ["104", "100"]


@pytest.mark.parametrize("content, message", [
    (b"a\nb\na\n", "labels.txt: the label 'a' occurs twice"),
    (b"a\n\nb\n", "labels.txt, line 2: the line is empty, expected a label"),
    (b"a\n", r"labels.txt: the labels are \['a'\], expected at least two"),
    (b"\xff\n", "labels.txt, line 1: byte 0xff is not UTF-8"),
    (None, "label file: cannot read .*labels.txt: No such file"),
])
def test_wrong_label_files(tmp_path, content, message):
    path = tmp_path / "labels.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        Labels.from_file(path)


def test_unknown_labels():
    with pytest.raises(UserError) as caught:
        Labels(["a", "b"], "labels.json").id_of(example("c"))
    assert str(caught.value) == "x.tsv, line 7: the label 'c' is unknown, expected one of a, b (from labels.json)"
    with pytest.raises(UserError, match=r"one of 0, 1, .*, 19, … \(from many\)"):
        Labels(map(str, range(30)), "many").id_of(example("30"))


def test_scores():
    assert [score_of(example(label)) for label in ("3.25", "-1", "1e-3")] == [3.25, -1.0, 0.001]
    for label in ("x", "nan", "inf", None):
        with pytest.raises(UserError, match=f"x.tsv, line 7: the label {label!r} is no number"):
            score_of(example(label))


# ---------------------------------------------------------------- rows to examples

def examples(fields, pair=None, **kwargs):
    rows = [Row(f"x, line {number}", row) for number, row in enumerate(fields, 1)]
    return list(to_examples(rows, ExampleColumns("text", pair, "label"), **kwargs))


def test_examples():
    assert examples([{"text": " a ", "label": " b ", "more": 1}]) == [LabelledText(" a ", None, "b", "x, line 1")]
    made = examples([{"text": "a", "second": "b", "label": label} for label in (3, 2.5, True)], "second")
    assert [(item.pair, item.label) for item in made] == [("b", "3"), ("b", "2.5"), ("b", "true")]


def test_a_test_file_may_lack_labels():
    assert [item.label for item in examples([{"text": "a"}, {"text": "b", "label": None}], may_lack_labels=True)] == [
        None, None]
    assert [item.label for item in examples([{"text": "a", "label": "1"}], may_lack_labels=True)] == ["1"]
    with pytest.raises(UserError, match="x, line 2: a label in column 'label', unlike the rows before"):
        examples([{"text": "a"}, {"text": "b", "label": "1"}], may_lack_labels=True)
    with pytest.raises(UserError, match="x, line 2: no label in column 'label', unlike the rows before"):
        examples([{"text": "a", "label": "1"}, {"text": "b"}], may_lack_labels=True)


@pytest.mark.parametrize("fields, message", [
    ({"text": "a"}, "no column 'label'; the columns are 'text'"),
    ({"sentence": "a", "label": "1"}, "no column 'text'; the columns are 'sentence', 'label'"),
    ({"text": " \t", "label": "1"}, "the text in column 'text' is empty"),
    ({"text": 3, "label": "1"}, "column 'text' holds 3, expected a text"),
    ({"text": "a", "label": " "}, "column 'label' holds ' ', expected a label"),
    ({"text": "a", "label": ["1"]}, r"column 'label' holds \['1'\], expected a label"),
    ({"text": "a", "label": None}, "column 'label' holds None, expected a label"),
    ({"text": "a", "label": "two\nlines"}, "expected a label"),
])
def test_wrong_fields(fields, message):
    with pytest.raises(UserError, match=f"^x, line 2: .*{message}"):
        examples([{"text": "fine", "label": "1"}, fields])


def test_empty_texts_where_they_are_published():
    assert examples([{"text": "", "label": "1"}], may_be_empty=True)[0].text == ""
