import json
import random

import numpy as np
import pytest

from src.errors import UserError
from src.tasks.ner.labels import LabelScheme, Span, parse_tag, spans_of_tags

SCHEME = LabelScheme(["LOC", "PER"])


def test_ids_are_those_of_cluener():
    assert SCHEME.tags == ["O", "S_LOC", "B_LOC", "M_LOC", "E_LOC", "S_PER", "B_PER", "M_PER", "E_PER"]
    assert (SCHEME.num_labels(False), SCHEME.num_labels(True)) == (9, 11)
    assert LabelScheme(list("abcdefghij")).num_labels(True) == 43


def test_spans_survive_encoding():
    generator = random.Random(1)
    for _ in range(200):
        cuts = sorted(generator.sample(range(20), 8))
        spans = [Span(a, b, generator.choice(SCHEME.types)) for a, b in zip(cuts[::2], cuts[1::2], strict=True)]
        ids = SCHEME.encode(spans, 20)
        assert ids.dtype == np.int32
        assert SCHEME.decode(ids) == spans


def test_neighbours_of_one_type_stay_apart():
    spans = [Span(0, 1, "LOC"), Span(1, 2, "LOC"), Span(2, 5, "LOC"), Span(5, 7, "PER")]
    assert SCHEME.decode(SCHEME.encode(spans, 7)) == spans


@pytest.mark.parametrize("tags, spans", [
    ("O O", []),
    ("B-X I-X O B-X", [(0, 2, "X"), (3, 4, "X")]),
    ("I-X I-X I-Y O", [(0, 2, "X"), (2, 3, "Y")]),
    ("B_X M_X E_X S_X E_X", [(0, 3, "X"), (3, 4, "X"), (4, 5, "X")]),
    ("B-X B-X I-X", [(0, 1, "X"), (1, 3, "X")]),
    ("B-GPE-NAM I-GPE-NAM", [(0, 2, "GPE-NAM")]),
])
def test_every_tag_sequence_has_a_meaning(tags, spans):
    assert list(spans_of_tags(map(parse_tag, tags.split()))) == spans


def test_the_rules_are_those_of_seqeval():
    seqeval = pytest.importorskip("seqeval.metrics.sequence_labeling")
    generator = random.Random(2)
    for _ in range(500):
        tags = [generator.choice(["O", *(f"{p}-{t}" for p in "BIES" for t in "XY")]) for _ in range(12)]
        expected = [(start, end + 1, kind) for kind, start, end in seqeval.get_entities(tags)]
        assert list(spans_of_tags(map(parse_tag, tags))) == expected


def test_crf_states_and_strange_ids_mark_nothing():
    assert SCHEME.decode([9, 1, 10, 99]) == [Span(1, 2, "LOC")]


@pytest.mark.parametrize("tag", ["", "B", "B-", "X-LOC", "LOC", "o"])
def test_what_is_no_tag(tag):
    assert parse_tag(tag) is None


def test_label_file(tmp_path):
    path = tmp_path / "label_file"
    SCHEME.write(path)
    assert path.read_text() == "LOC\nPER\n"
    assert LabelScheme.from_file(path).types == SCHEME.types
    path.write_text("\ufeffLOC\r\nPER\r\n\r\n")
    assert LabelScheme.from_file(path).types == SCHEME.types


@pytest.mark.parametrize("states", [[], ["<START>", "<STOP>"]])
def test_label_file_of_cluener(tmp_path, states):
    path = tmp_path / "label2id.json"
    path.write_text(json.dumps({tag: i for i, tag in enumerate(SCHEME.tags + states)}))
    assert LabelScheme.from_file(path).types == SCHEME.types


@pytest.mark.parametrize("content, message", [
    ("", "names no entity type"),
    ("LOC\n\nPER\n", "line 2: '' is no entity type"),
    ("LOC\nPER\nLOC\n", "line 3: the type LOC is there already on line 1"),
    ("O\nB-PER\nI-PER\n", "lists tags (O, B-PER, I-PER, …)"),
    ("PER x\n", "a name without spaces"),
    ('{"O": 1, "S_LOC": 0}', "are not O = 0 followed by"),
    ("{broken", "column 2: no JSON"),
])
def test_bad_label_files_are_named(tmp_path, content, message):
    path = tmp_path / "labels"
    path.write_text(content)
    with pytest.raises(UserError) as caught:
        LabelScheme.from_file(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_label_file(tmp_path):
    with pytest.raises(UserError, match="label_file_path: cannot read .*nowhere"):
        LabelScheme.from_file(tmp_path / "nowhere")
    with pytest.raises(UserError, match="label_file_path is not set"):
        LabelScheme.from_file("")
