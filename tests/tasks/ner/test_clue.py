import json

import pytest

from src.tasks.ner.clue import benchmark_scores, to_label, write_submission
from src.tasks.ner.labels import Span

TEXT = "北京到南京再到北京"
GOLD = [Span(0, 2, "address"), Span(3, 5, "address"), Span(7, 9, "address")]


def test_repeated_mentions_are_kept_with_inclusive_positions():
    assert to_label(TEXT, reversed(GOLD)) == {"address": {"北京": [[0, 1], [7, 8]], "南京": [[3, 4]]}}
    assert to_label(TEXT, []) == {}


def test_submission(tmp_path):
    path = tmp_path / "ner_predict.json"
    write_submission(path, [TEXT, "无"], [GOLD[:1], []])
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert lines == [{"id": 0, "label": {"address": {"北京": [[0, 1]]}}}, {"id": 1, "label": {}}]
    assert "北京" in path.read_text(encoding="utf-8")


def test_the_benchmark_counts_each_different_mention_once():
    # 北京 is found once of twice, which is enough. 到 is wrong, 南京 of another type.
    found = [Span(0, 2, "address"), Span(2, 3, "address"), Span(3, 5, "name")]
    scores = benchmark_scores([TEXT], [GOLD], [found], ["address", "name", "book"])
    assert scores["clue_f1_address"] == pytest.approx(2 * 1 / (2 + 2))
    assert scores["clue_f1_name"] == scores["clue_f1_book"] == 0.0
    assert scores["clue_f1"] == pytest.approx(0.5 / 3)


def test_mentions_of_different_sentences_are_different():
    span = Span(0, 2, "address")
    scores = benchmark_scores(["北京", "北京"], [[span], []], [[], [span]], ["address"])
    assert scores["clue_f1"] == 0.0
