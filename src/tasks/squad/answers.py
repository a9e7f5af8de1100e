"""Answers from the network's scores, and the official scores of SQuAD 1.1, SQuAD 2.0 and CMRC 2018.

An answer is the pair of a first and a last token with the highest sum of logits; its text is cut out of the context by
the tokens' characters, so it is exactly as written there.
"""

import re
import string
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from src.tasks.squad.examples import Example
from src.tasks.squad.features import SquadFeatures
from src.tasks.squad.treebank import treebank_words

_ROWS_AT_ONCE = 256  # 256 records of 20 x 20 pairs: a few MB, which stay in the processor's cache
_NO_WINDOW_SCORE = 1e6  # null odds of a question without any window: it is unanswerable

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)
_WITHOUT_CMRC_PUNCTUATION = str.maketrans("", "", "-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』")
_CHINESE_OR_OTHER = re.compile(r"([\u4e00-\u9fa5])|[^\u4e00-\u9fa5]+")


@dataclass(frozen=True)
class AnswerOptions:
    """How answers are chosen.

    Args:
        n_best_size: candidates for the first and for the last token in each window, and answers of a question.
        max_answer_length: tokens of an answer.
        version_2_with_negative: a question may have no answer, the score of which is that of [CLS].
        null_score_diff_threshold: 2.0 only: there is no answer if the score of "none" exceeds that of the best answer
            by more than this.
    """

    n_best_size: int = 20
    max_answer_length: int = 30
    version_2_with_negative: bool = False
    null_score_diff_threshold: float = 0.0


class Candidate(NamedTuple):
    """A possible answer: `context[start:end]`; "no answer" is empty."""

    text: str
    start: int
    end: int
    start_logit: float
    end_logit: float
    probability: float = 0.0  # among the question's candidates

    @property
    def score(self) -> float:
        """What candidates are ranked by."""
        return self.start_logit + self.end_logit


class QuestionAnswers(NamedTuple):
    """What the network says to one question."""

    text: str  # the final answer, empty for none
    candidates: list[Candidate]  # the best first
    best: Candidate | None  # the best that is not empty
    null_odds: float  # score of "no answer" minus that of the best answer; 0 for SQuAD 1.1


# ---------------------------------------------------------------- from logits to answers

def extract_answers(features: SquadFeatures, start_logits: np.ndarray, end_logits: np.ndarray,
                    options: AnswerOptions) -> list[QuestionAnswers]:
    """Answers to all questions, in the order of `features.examples`.

    Only tokens of the context are candidates, and for the beginning only those whose window gives them the most
    context; BERT's script takes the best of all tokens first and leaves those out then, so that a network that is
    unsure may be left without any.

    Args:
        features: the records that the network was given.
        start_logits: [num_rows, S] float32; what lies beyond a record's tokens is not looked at.
        end_logits: the same for the last token.
        options: how answers are chosen.
    """
    pairs = _best_pairs(features, start_logits, end_logits, options)
    null_scores = start_logits[:, 0].astype(np.float64) + end_logits[:, 0]
    bounds = np.searchsorted(features.example_of, np.arange(len(features.examples) + 1))
    answers = []
    for first, last in zip(bounds[:-1], bounds[1:], strict=True):
        candidates = list(_distinct(features, [next(pairs) for _ in range(first, last)], first, options.n_best_size))
        null = None
        if options.version_2_with_negative and first < last:
            row = first + int(null_scores[first:last].argmin())
            null = Candidate("", 0, 0, float(start_logits[row, 0]), float(end_logits[row, 0]))
        answers.append(_decide(candidates, null, options))
    return answers


class _Pairs(NamedTuple):
    """Pairs of positions of one record, the best first; all arrays [P]."""

    starts: np.ndarray
    ends: np.ndarray
    start_logits: np.ndarray  # float64
    end_logits: np.ndarray


def _best_pairs(features: SquadFeatures, start_logits: np.ndarray, end_logits: np.ndarray,
                options: AnswerOptions) -> Iterator[_Pairs]:
    """The possible pairs of the best starts and the best ends of each record."""
    for begin in range(0, features.num_rows, _ROWS_AT_ONCE):
        rows = np.arange(begin, min(begin + _ROWS_AT_ONCE, features.num_rows))
        length = min(int(features.used_lengths(rows).max()), start_logits.shape[1])
        allowed = features.max_context(rows, length), features.in_context(rows, length)
        (starts, start_scores), (ends, end_scores) = (
            _top(np.where(mask, logits[rows, :length].astype(np.float64), -np.inf), options.n_best_size)
            for mask, logits in zip(allowed, (start_logits, end_logits), strict=True))  # [n,K]
        scores = start_scores[:, :, None] + end_scores[:, None, :]  # [n,K,K]
        distance = ends[:, None, :] - starts[:, :, None]
        scores[(distance < 0) | (distance >= options.max_answer_length)] = -np.inf
        scores = scores.reshape(len(rows), -1)
        order = np.argsort(-scores, axis=1, kind="stable")  # of equal pairs the one with the better start first
        counts = np.isfinite(scores).sum(axis=1)
        for i, count in enumerate(counts):
            chosen = order[i, :count]
            start, end = np.divmod(chosen, ends.shape[1])
            yield _Pairs(starts[i, start], ends[i, end], start_scores[i, start], end_scores[i, end])


def _top(logits: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions and values of the `count` highest logits of each row [n, count], the first of equals first."""
    order = np.argsort(-logits, axis=1, kind="stable")[:, :count]
    return order, np.take_along_axis(logits, order, axis=1)


def _distinct(features: SquadFeatures, pairs: Sequence[_Pairs], first_row: int, count: int) -> Iterator[Candidate]:
    """The best candidates of a question's windows together, each text once."""
    if not pairs:
        return
    merged = _Pairs(*map(np.concatenate, zip(*pairs, strict=True)))
    rows = np.repeat(np.arange(first_row, first_row + len(pairs)), [len(window.starts) for window in pairs])
    text = features.texts[features.examples[features.example_of[first_row]].context]
    seen = set()
    for i in np.argsort(-(merged.start_logits + merged.end_logits), kind="stable"):
        start, end = features.characters(int(rows[i]), int(merged.starts[i]), int(merged.ends[i]))
        if text[start:end] in seen:
            continue
        seen.add(text[start:end])
        yield Candidate(text[start:end], start, end, float(merged.start_logits[i]), float(merged.end_logits[i]))
        if len(seen) == count:
            return


def _decide(candidates: list[Candidate], null: Candidate | None, options: AnswerOptions) -> QuestionAnswers:
    """The answer, of the question's candidates and of "no answer" (2.0)."""
    best = candidates[0] if candidates else None
    null_odds = 0.0
    text = best.text if best else ""
    if options.version_2_with_negative:
        null_odds = null.score - (best.score if best else 0.0) if null else _NO_WINDOW_SCORE
        if null_odds > options.null_score_diff_threshold:
            text = ""
        if null:
            better = sum(candidate.score >= null.score for candidate in candidates)
            candidates = [*candidates[:better], null, *candidates[better:]]
            if better < options.n_best_size:
                candidates = candidates[:options.n_best_size]
    return QuestionAnswers(text, _with_probabilities(candidates), best, null_odds)


def _with_probabilities(candidates: list[Candidate]) -> list[Candidate]:
    if not candidates:
        return []
    scores = np.array([candidate.score for candidate in candidates])
    odds = np.exp(scores - scores.max())
    probabilities = (odds / odds.sum()).tolist()
    return [candidate._replace(probability=p) for candidate, p in zip(candidates, probabilities, strict=True)]


# ---------------------------------------------------------------- official scores

def normalise_answer(text: str) -> str:
    """Lower case, without ASCII punctuation, English articles and superfluous spaces."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_WITHOUT_PUNCTUATION)).split())


def exact_match(prediction: str, answer: str) -> float:
    """1.0 if the normalised texts are equal, else 0.0."""
    return float(normalise_answer(prediction) == normalise_answer(answer))


def f1_score(prediction: str, answer: str, *, empty_agreement: bool) -> float:
    """Harmonic mean of precision and recall of the normalised words, counted with repetition.

    Args:
        prediction: the answer to score.
        answer: the annotated answer.
        empty_agreement: as in SQuAD 2.0, two texts without words agree fully; in 1.1 they do not.
    """
    predicted, wanted = normalise_answer(prediction).split(), normalise_answer(answer).split()
    if empty_agreement and not (predicted and wanted):
        return float(predicted == wanted)
    common = sum((Counter(predicted) & Counter(wanted)).values())
    if not common:
        return 0.0
    precision, recall = common / len(predicted), common / len(wanted)
    return 2 * precision * recall / (precision + recall)


class QuestionScores(NamedTuple):
    """Scores of each question, from 0 to 1."""

    exact: list[float]
    f1: list[float]


def question_scores(examples: Iterable[Example], predictions: Mapping[str, str], exact_of: Callable[[str, str], float],
                    f1_of: Callable[[str, str], float]) -> QuestionScores:
    """Scores of predictions by their pairs with the annotated answers.

    A question counts by its best-matching answer; one without a prediction counts 0.
    """
    scores = QuestionScores([], [])
    for example in examples:
        predicted = predictions.get(example.qas_id)
        pairs = [(predicted, answer.text) for answer in example.answers] if predicted is not None else []
        for values, score_of in zip(scores, (exact_of, f1_of), strict=True):
            values.append(max((score_of(*pair) for pair in pairs), default=0.0))
    return scores


def mean_scores(scores: QuestionScores) -> dict[str, float]:
    """Their means in percent."""
    exact, f1 = scores
    return {"exact_match": 100.0 * sum(exact) / len(exact), "f1": 100.0 * sum(f1) / len(f1)}


def score_squad_1(examples: Iterable[Example], predictions: Mapping[str, str]) -> dict[str, float]:
    """Exact match and F1 in percent, as the official script of SQuAD 1.1."""
    return mean_scores(question_scores(examples, predictions, exact_match, squad_1_f1))


def squad_1_f1(prediction: str, answer: str) -> float:
    """F1 as in SQuAD 1.1, where two texts without words do not agree."""
    return f1_score(prediction, answer, empty_agreement=False)


class RawScores(NamedTuple):
    """Scores of the questions that have a prediction, as in SQuAD 2.0; all arrays [n]."""

    qas_ids: list[str]
    exact: np.ndarray
    f1: np.ndarray
    has_answer: np.ndarray  # bool
    is_empty: np.ndarray  # bool: the prediction is "no answer"


def raw_scores(examples: Iterable[Example], predictions: Mapping[str, str]) -> RawScores:
    """Exact match and F1 of every question; a question without answers wants the empty prediction."""
    rows = []
    for example in examples:
        if example.qas_id not in predictions:
            continue
        predicted = predictions[example.qas_id]
        answers = [answer.text for answer in example.answers if normalise_answer(answer.text)] or [""]
        rows.append((example.qas_id, max(exact_match(predicted, answer) for answer in answers),
                     max(f1_score(predicted, answer, empty_agreement=True) for answer in answers),
                     bool(example.answers), not predicted))
    qas_ids, *columns = zip(*rows, strict=True)
    return RawScores(list(qas_ids), *map(np.array, columns))


def score_squad_2(examples: Sequence[Example], predictions: Mapping[str, str]) -> dict[str, float]:
    """Scores in percent under the names of the official script of SQuAD 2.0: all, with, and without an answer."""
    raw = raw_scores(examples, predictions)
    results = {}
    for prefix, chosen in (("", np.ones_like(raw.has_answer)), ("HasAns_", raw.has_answer),
                           ("NoAns_", ~raw.has_answer)):
        if chosen.any():
            results |= {f"{prefix}exact": 100.0 * float(raw.exact[chosen].mean()),
                        f"{prefix}f1": 100.0 * float(raw.f1[chosen].mean()), f"{prefix}total": int(chosen.sum())}
    return results


def best_thresholds(examples: Sequence[Example], predictions: Mapping[str, str],
                    null_odds: Mapping[str, float]) -> dict[str, float]:
    """The thresholds of `null_odds` above which "no answer" is to be said for the best scores, and those scores.

    As the official script of SQuAD 2.0. Give it the best non-empty answers: then these are the scores that
    `null_score_diff_threshold` set to the threshold leads to.
    """
    raw = raw_scores(examples, predictions)
    odds = np.array([null_odds[qas_id] for qas_id in raw.qas_ids])
    order = np.argsort(odds, kind="stable")
    results = {}
    for name, scores in (("exact", raw.exact), ("f1", raw.f1)):
        # Saying "none" everywhere is right for the questions without an answer; then the answers with the lowest odds
        # are admitted one by one.
        gains = np.where(raw.has_answer, scores, np.where(raw.is_empty, 0.0, -1.0))[order]
        totals = np.concatenate([[(~raw.has_answer).sum()], (~raw.has_answer).sum() + np.cumsum(gains)])
        best = int(totals.argmax())
        results |= {f"best_{name}": 100.0 * float(totals[best]) / len(odds),
                    f"best_{name}_thresh": float(odds[order[best - 1]]) if best else 0.0}
    return results


def cmrc_segments(text: str) -> list[str]:
    """Lower-cased Chinese characters, other words and marks, without the marks that CMRC 2018 leaves out."""
    segments = []
    for part in _CHINESE_OR_OTHER.finditer(_bare(text)):
        segments += [part[1]] if part[1] else treebank_words(part[0])
    return segments


def cmrc_f1(prediction: str, answer: str) -> float:
    """F1 of the longest run of segments that both texts have in common."""
    predicted, wanted = cmrc_segments(prediction), cmrc_segments(answer)
    longest, lengths = 0, [0] * (len(wanted) + 1)  # of the runs that end at each segment of the answer
    for segment in predicted:
        lengths = [0, *(before + 1 if segment == other else 0
                        for before, other in zip(lengths[:-1], wanted, strict=True))]
        longest = max(longest, *lengths)
    return 2 * longest / (len(predicted) + len(wanted)) if longest else 0.0


def cmrc_exact_match(prediction: str, answer: str) -> float:
    """1.0 if the texts are equal but for case and the marks that CMRC 2018 leaves out, else 0.0."""
    return float(_bare(prediction) == _bare(answer))


def _bare(text: str) -> str:
    return text.lower().strip().translate(_WITHOUT_CMRC_PUNCTUATION)


def score_cmrc(examples: Iterable[Example], predictions: Mapping[str, str]) -> dict[str, float]:
    """Exact match, F1 and their mean in percent, as the official script of CMRC 2018 (Cui et al. 2019)."""
    scores = mean_scores(question_scores(examples, predictions, cmrc_exact_match, cmrc_f1))
    return scores | {"average": (scores["exact_match"] + scores["f1"]) / 2}
