"""Scores of entities against seqeval's numbers in tests/fixtures/entity_scores, and of tokens by hand."""

import json

import numpy as np
import pytest
from paths import FIXTURES

from src.tasks.ner.labels import LabelScheme, Span
from src.tasks.ner.scores import Counts, entity_counts, entity_lines, entity_results, token_scores

REFERENCE = json.loads((FIXTURES / "entity_scores" / "seqeval.json").read_text())


@pytest.mark.parametrize("case", REFERENCE["cases"], ids=["right", "some wrong", "many wrong", "random"])
def test_entities_score_as_seqeval_says(case):
    labels = LabelScheme(REFERENCE["types"])
    counts = entity_counts(map(labels.decode, case["gold"]), map(labels.decode, case["predicted"]), labels.types)
    results = entity_results(counts)
    total = [results["entity_precision"], results["entity_recall"], results["entity_f1"]]
    assert total == pytest.approx(case["scores"]["micro avg"])
    for name, of_type in counts.items():
        assert [of_type.precision, of_type.recall, of_type.f1] == pytest.approx(case["scores"][name])
        assert results[f"entity_f1_{name}"] == of_type.f1


def test_nothing_there_and_nothing_found_are_zero():
    counts = entity_counts([[]], [[]], ["LOC"])
    assert counts == {"LOC": Counts(0, 0, 0)}
    assert set(entity_results(counts).values()) == {0.0}
    assert token_scores(np.zeros(0, int), np.zeros(0, int)).accuracy == 0.0


def test_sentences_do_not_mix():
    span = Span(0, 1, "LOC")
    assert entity_counts([[span], []], [[], [span]], ["LOC"]) == {"LOC": Counts(1, 1, 0)}


def test_lines_of_entities():
    counts = {"LOC": Counts(4, 5, 2), "PERSON": Counts(0, 0, 0)}
    assert entity_lines(counts) == [
        "entities: precision 0.400000, recall 0.500000, F1 0.444444 (right 2, predicted 5, gold 4)",
        "  LOC   : precision 0.400000, recall 0.500000, F1 0.444444 (right 2, predicted 5, gold 4)",
        "  PERSON: precision 0.000000, recall 0.000000, F1 0.000000 (right 0, predicted 0, gold 0)"]


def test_tokens():
    scores = token_scores(np.array([0, 0, 1, 2, 4, 5]), np.array([0, 3, 1, 6, 4, 0]))
    assert scores.results() == pytest.approx({
        "accuracy": 3 / 6, "bf1_precision": 3 / 4, "bf1_recall": 3 / 4, "bf1": 3 / 4, "mf1": 2 / 4})
    assert scores.lines("accuracy") == ["acc_num 3 , total_num 6, accuracy 0.500000"]
    assert scores.lines("bf1") == scores.lines("f1") == ["Precision 0.750000", "Recall 0.750000", "F1 0.750000"]
    assert scores.lines("mf1") == ["F1 0.500000"]
