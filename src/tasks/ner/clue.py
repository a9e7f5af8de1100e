"""CLUENER2020's form of predictions, and its own score.

See https://github.com/CLUEbenchmark/CLUENER2020: positions are inclusive, and the score is the mean over the types of
an F1 that counts each different mention of a sentence once, wherever it stands.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from src.files import write_json_lines
from src.tasks.ner.labels import Span
from src.tasks.ner.scores import Counts

SUBMISSION_NAME = "ner_predict.json"


def to_label(text: str, entities: Iterable[Span]) -> dict[str, dict[str, list[list[int]]]]:
    """{type: {mention: [[first, last], …]}} of the entities, spans of characters; every occurrence is kept."""
    label: dict[str, dict[str, list[list[int]]]] = {}
    for start, end, name in sorted(entities):
        label.setdefault(name, {}).setdefault(text[start:end], []).append([start, end - 1])
    return label


def write_submission(path: str | Path, texts: Iterable[str], entities: Iterable[Iterable[Span]]) -> None:
    """Write the predictions for a whole file, one line {"id", "label"} for each text."""
    write_json_lines(path, ({"id": number, "label": to_label(text, found)}
                            for number, (text, found) in enumerate(zip(texts, entities, strict=True))))


def benchmark_scores(texts: Sequence[str], gold: Iterable[Iterable[Span]], predicted: Iterable[Iterable[Span]],
                     types: Sequence[str]) -> dict[str, float]:
    """The benchmark's F1 of each type, and their mean as "clue_f1"."""
    right, found, there = (dict.fromkeys(types, 0) for _ in range(3))
    for text, true_spans, found_spans in zip(texts, gold, predicted, strict=True):
        true, guessed = to_label(text, true_spans), to_label(text, found_spans)
        for name in types:
            mentions, guesses = true.get(name, {}).keys(), guessed.get(name, {}).keys()
            there[name] += len(mentions)
            found[name] += len(guesses)
            right[name] += len(mentions & guesses)
    scores = {name: Counts(there[name], found[name], right[name]).f1 for name in types}
    return {"clue_f1": sum(scores.values()) / len(types), **{f"clue_f1_{name}": f1 for name, f1 in scores.items()}}
