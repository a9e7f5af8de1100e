"""Answers and scores: those of transformers and of the official definitions for the same logits and predictions."""

import json
import math

import numpy as np
import pytest
from paths import FIXTURES

from src.tasks.squad.answers import (
    AnswerOptions,
    best_thresholds,
    cmrc_f1,
    cmrc_segments,
    exact_match,
    extract_answers,
    f1_score,
    normalise_answer,
    score_cmrc,
    score_squad_1,
    score_squad_2,
)
from src.tasks.squad.examples import Answer, Example, read_squad
from src.tasks.squad.features import FeatureOptions, SquadFeatures
from src.tokenization import FullTokenizer

REFERENCES = FIXTURES / "squad"
ANSWERS = json.loads((REFERENCES / "answers.json").read_text(encoding="utf-8"))
OPTIONS = AnswerOptions(n_best_size=5, max_answer_length=8)
OPTIONS_2 = AnswerOptions(5, 8, version_2_with_negative=True, null_score_diff_threshold=-86.0)


@pytest.fixture(scope="module")
def squad():
    return read_squad(REFERENCES / "questions.json", option="x", version_2_with_negative=True)


@pytest.fixture(scope="module")
def features(squad):
    return SquadFeatures(squad, FullTokenizer(REFERENCES / "vocab.txt"), FeatureOptions(48, 10, 8), is_training=False)


@pytest.fixture(scope="module")
def logits():
    arrays = np.load(REFERENCES / "logits.npz")
    return arrays["start"], arrays["end"]


def example(qas_id, *answers):
    return Example(qas_id, "?", 0, tuple(Answer(text, 0) for text in answers), not answers, "")


# ---------------------------------------------------------------- answers

@pytest.mark.parametrize(("version", "options"), [("1.1", OPTIONS), ("2.0", OPTIONS_2)])
def test_answers_equal_those_of_transformers(features, logits, version, options):
    """Texts up to spaces, which transformers replaces; logits and probabilities to the last digits."""
    expected = ANSWERS[version]
    answers = extract_answers(features, *logits, options)
    assert len(answers) == len(features.examples) == 64
    for asked, answer in zip(features.examples, answers, strict=True):
        nbest = expected["nbest"][asked.qas_id]
        assert [" ".join(c.text.split()) for c in answer.candidates] == [entry["text"] for entry in nbest]
        for key in ("probability", "start_logit", "end_logit"):
            np.testing.assert_allclose([getattr(c, key) for c in answer.candidates], [e[key] for e in nbest], 1e-6)
        assert " ".join(answer.text.split()) == expected["predictions"][asked.qas_id]
        assert answer.null_odds == pytest.approx(expected.get("null_odds", {}).get(asked.qas_id, 0), rel=1e-6)


def test_answer_is_cut_out_of_the_context(features, logits, squad):
    for asked, answer in zip(features.examples, extract_answers(features, *logits, OPTIONS), strict=True):
        for candidate in answer.candidates:
            assert squad.contexts[asked.context][candidate.start:candidate.end] == candidate.text
            assert candidate.text
        assert answer.text == answer.best.text == answer.candidates[0].text
        assert math.isclose(sum(candidate.probability for candidate in answer.candidates), 1)


def test_scores_beyond_the_tokens_do_not_count(features, logits):
    beyond = np.arange(48) >= features.used_lengths(np.arange(features.num_rows))[:, None]
    other = [np.where(beyond, 1e4, scores) for scores in logits]
    assert extract_answers(features, *other, OPTIONS) == extract_answers(features, *logits, OPTIONS)


def test_likely_question_tokens_do_not_crowd_out_answers(features):
    """BERT's own script would find no answer here."""
    logits = np.where(features.in_context(np.arange(features.num_rows), 48), 0.0, 50.0).astype(np.float32)
    assert all(answer.text for answer in extract_answers(features, logits, logits, AnswerOptions(n_best_size=1)))


def test_longest_answer_and_order_of_tokens(features, logits):
    rng = np.random.default_rng(0)
    start, end = rng.normal(size=(2, *logits[0].shape)).astype(np.float32)
    tokens = {number: features.contexts[asked.context] for number, asked in enumerate(features.examples)}
    answers = extract_answers(features, start, end, AnswerOptions(n_best_size=48, max_answer_length=3))
    lengths = set()
    for number, answer in enumerate(answers):
        for candidate in answer.candidates:
            first = np.searchsorted(tokens[number].starts, candidate.start)
            lengths.add(int(np.searchsorted(tokens[number].ends, candidate.end) - first) + 1)
    assert lengths == {1, 2, 3}


def test_no_answer_stands_at_its_rank(features):
    start, end = np.random.default_rng(1).normal(size=(2, features.num_rows, 48)).astype(np.float32)
    options = AnswerOptions(5, 8, version_2_with_negative=True)
    ranks = set()
    for answer in extract_answers(features, start, end, options):
        texts, scores = [c.text for c in answer.candidates], [c.score for c in answer.candidates]
        assert scores == sorted(scores, reverse=True)
        assert texts.count("") == 1
        assert (texts[0] == "") == (answer.text == "") == (answer.null_odds > 0)
        assert len(texts) <= 5 or (len(texts) == 6 and not texts[5])
        ranks.add(texts.index(""))
    assert len(ranks) > 2


def test_question_without_a_window_gets_an_empty_answer(tmp_path):
    path = tmp_path / "empty.json"
    path.write_text(json.dumps({"data": [{"paragraphs": [
        {"context": context, "qas": [{"id": context, "question": "the"}]} for context in ("", "king")]}]}))
    squad = read_squad(path, option="x", answers_required=False)
    features = SquadFeatures(squad, FullTokenizer(REFERENCES / "vocab.txt"), FeatureOptions(48, 10, 8), False)
    logits = np.zeros((1, 48), np.float32)
    empty, king = extract_answers(features, logits, logits, AnswerOptions())
    assert (empty.text, empty.candidates, empty.best, king.text) == ("", [], None, "king")
    empty, king = extract_answers(features, logits, logits, AnswerOptions(version_2_with_negative=True))
    assert (empty.text, king.text) == ("", "king")
    assert empty.null_odds > king.null_odds == 0


# ---------------------------------------------------------------- scores

@pytest.mark.parametrize(("text", "normalised"), [
    ("The Cat", "cat"), ("a-b, (c) \"d\"!", "ab c d"), ("theory of an atom", "theory of atom"), ("  the  ", ""),
    ("A\u00a0B", "b"), ("“Über” 3.5%", "“über” 35"), ("北京，大学", "北京，大学")])
def test_normalised_answers(text, normalised):
    assert normalise_answer(text) == normalised


@pytest.mark.parametrize(("prediction", "answer", "exact", "f1_of_1", "f1_of_2"), [
    ("the Cat!", "cat", 1, 1, 1),
    ("black cat", "the cat", 0, 2 / 3, 2 / 3),
    ("cat cat dog", "cat dog dog", 0, 2 / 3, 2 / 3),
    ("dog", "cat", 0, 0, 0),
    ("the", "a", 1, 0, 1),  # without words: 1.1 finds nothing in common, 2.0 sees agreement
    ("", "cat", 0, 0, 0),
])
def test_scores_of_one_answer(prediction, answer, exact, f1_of_1, f1_of_2):
    assert exact_match(prediction, answer) == exact
    assert f1_score(prediction, answer, empty_agreement=False) == pytest.approx(f1_of_1)
    assert f1_score(prediction, answer, empty_agreement=True) == pytest.approx(f1_of_2)


def test_best_of_several_annotations_counts_and_a_missing_prediction_is_wrong():
    examples = [example("1", "dog", "black cat", "cat"), example("2", "dog"), example("3", "dog", "big dog")]
    scores = score_squad_1(examples, {"1": "the cat", "3": "a big black dog"})
    assert scores == {"exact_match": pytest.approx(100 / 3), "f1": pytest.approx(100 * (1 + 0 + 0.8) / 3)}


def test_scores_of_2_equal_those_of_transformers(squad):
    expected = {name: value for name, value in ANSWERS["2.0"]["scores"].items() if not name.startswith("best")}
    scores = score_squad_2(squad.examples, ANSWERS["2.0"]["predictions"])
    assert scores == {name: pytest.approx(value, rel=1e-12) for name, value in expected.items()}


def test_best_thresholds_equal_those_of_transformers(squad):
    answers = {qas_id: next((entry["text"] for entry in entries if entry["text"]), "")
               for qas_id, entries in ANSWERS["2.0"]["nbest"].items()}
    found = best_thresholds(squad.examples, answers, ANSWERS["2.0"]["null_odds"])
    assert found == {name: pytest.approx(value, rel=1e-12) for name, value in ANSWERS["2.0"]["thresholds"].items()}


def test_best_threshold_leads_to_the_best_score(features, logits):
    """But for questions whose annotated answers are articles alone: to them "no answer" is right, unlooked for."""
    def texts_and_odds(options):
        pairs = zip(features.examples, extract_answers(features, *logits, options), strict=True)
        answers = {asked.qas_id: answer for asked, answer in pairs}
        return answers, {qas_id: answer.null_odds for qas_id, answer in answers.items()}

    usual = [asked for asked in features.examples
             if not asked.answers or any(normalise_answer(answer.text) for answer in asked.answers)]
    answers, null_odds = texts_and_odds(OPTIONS_2)
    best = best_thresholds(usual, {qas_id: answer.best.text for qas_id, answer in answers.items()}, null_odds)
    for name in ("exact", "f1"):
        answers, _ = texts_and_odds(AnswerOptions(5, 8, True, best[f"best_{name}_thresh"]))
        scores = score_squad_2(usual, {qas_id: answer.text for qas_id, answer in answers.items()})
        assert scores[name] == pytest.approx(best[f"best_{name}"])


def test_answerless_files_are_scored_too():
    examples = [example("1"), example("2")]
    assert score_squad_2(examples, {"1": "", "2": "x"}) == {
        "exact": 50, "f1": 50, "total": 2, "NoAns_exact": 50, "NoAns_f1": 50, "NoAns_total": 2}
    assert best_thresholds(examples, {"1": "y", "2": "x"}, {"1": 1.0, "2": 0.0})["best_f1"] == 100


# ---------------------------------------------------------------- Chinese

def test_chinese_is_compared_by_character():
    assert cmrc_segments(" 1990年，Beijing 大学（北）3.5% ") == ["1990", "年", "beijing", "大", "学", "北", "3.5", "%"]
    assert cmrc_segments("×1/6") == ["×16"]
    assert cmrc_segments("，。《》") == []


def test_other_words_are_those_of_the_official_script():
    """`tests/fixtures/make_cmrc.py` cuts them by NLTK, as that does."""
    pairs = json.loads((REFERENCES / "cmrc_segments.json").read_text(encoding="utf-8"))
    assert len(pairs) > 200
    assert [(text, cmrc_segments(text)) for text, _ in pairs] == [tuple(pair) for pair in pairs]


@pytest.mark.parametrize(("prediction", "answer", "f1"), [
    ("北京大学", "北京大学", 1), ("《北京，大学》", "北京大学", 1), ("北京", "北京大学", 2 * 2 / 6),
    ("大学北京", "北京大学", 2 * 2 / 8),  # the longest run, not all characters in common
    ("上海", "北京", 0), ("", "北京", 0), ("。", "北京", 0)])
def test_f1_of_cmrc(prediction, answer, f1):
    assert cmrc_f1(prediction, answer) == pytest.approx(f1)


def test_scores_of_cmrc():
    examples = [example("1", "北京大学", "清华大学"), example("2", "1990年"), example("3", "上海")]
    scores = score_cmrc(examples, {"1": "清华大学。", "2": "1990"})
    assert scores == {"exact_match": pytest.approx(100 / 3), "f1": pytest.approx(100 * (1 + 2 / 3) / 3),
                      "average": pytest.approx(100 * (2 + 2 / 3) / 6)}
    english = [example("1", "北 京")]
    assert score_squad_1(english, {"1": "北京"})["f1"] == 0, "SQuAD's words are separated by spaces"
