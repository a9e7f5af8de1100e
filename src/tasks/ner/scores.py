"""Scores of named-entity recognition: of whole entities, and of single tokens as the original counts them."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from src.html_page import Table
from src.tasks.ner.labels import Span


class Counts(NamedTuple):
    """How many there are, how many were predicted, and how many of these are right."""

    gold: int
    predicted: int
    right: int

    @property
    def precision(self) -> float:
        """Share of what was predicted that is right; 0 when nothing was."""
        return self.right / self.predicted if self.predicted else 0.0

    @property
    def recall(self) -> float:
        """Share of what there is that was found; 0 when there is nothing."""
        return self.right / self.gold if self.gold else 0.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 0 when both are."""
        return 2 * self.right / (self.gold + self.predicted) if self.gold + self.predicted else 0.0


def entity_counts(gold: Iterable[Iterable[Span]], predicted: Iterable[Iterable[Span]],
                  types: Sequence[str]) -> dict[str, Counts]:
    """Counts of each type; an entity is right when beginning, end and type are (CoNLL-2003, as `seqeval` counts).

    Args:
        gold: the entities of each sentence.
        predicted: likewise, in the same order.
        types: all types.
    """
    counters = Counter(), Counter(), Counter()
    for true, found in zip(gold, predicted, strict=True):
        true, found = set(true), set(found)
        for counter, spans in zip(counters, (true, found, true & found), strict=True):
            counter.update(span.type for span in spans)
    return {name: Counts(*(counter[name] for counter in counters)) for name in types}


def entity_results(counts: dict[str, Counts]) -> dict[str, float]:
    """Precision, recall and F1 of all entities, and the F1 of each type."""
    total = total_of(counts)
    return {"entity_precision": total.precision, "entity_recall": total.recall, "entity_f1": total.f1,
            **{f"entity_f1_{name}": of_type.f1 for name, of_type in counts.items()}}


def entity_lines(counts: dict[str, Counts]) -> list[str]:
    """The scores of whole entities as they are printed: in total, then of each type."""
    width = max(len(name) for name in counts)
    return [_line("entities", total_of(counts)),
            *(_line(f"  {name:<{width}}", of_type) for name, of_type in counts.items())]


def entity_table(counts: dict[str, Counts]) -> Table:
    """The scores of whole entities as a table: of each type, then in total."""
    rows = [(name, one.precision, one.recall, one.f1, one.right, one.predicted, one.gold)
            for name, one in [*counts.items(), ("all", total_of(counts))]]
    return Table("Entities by type", ("type", "precision", "recall", "F1", "right", "predicted", "expected"), rows)


def total_of(counts: dict[str, Counts]) -> Counts:
    """The sums over all types."""
    return Counts(*(sum(numbers) for numbers in zip(*counts.values(), strict=True)))


def _line(name: str, counts: Counts) -> str:
    return (f"{name}: precision {counts.precision:.6f}, recall {counts.recall:.6f}, F1 {counts.f1:.6f} "
            f"(right {counts.right}, predicted {counts.predicted}, gold {counts.gold})")


class TokenScores(NamedTuple):
    """Scores of the tags of single tokens.

    `correct` of `total` tokens have the right tag. `binary` (BF1) counts tokens of any entity, whatever the tag.
    `tags` (MF1) counts the tags other than O, each right only when it is the very tag.
    """

    correct: int
    total: int
    binary: Counts
    tags: Counts

    @property
    def accuracy(self) -> float:
        """Share of tokens with the right tag."""
        return self.correct / self.total if self.total else 0.0

    def results(self) -> dict[str, float]:
        """All scores by name."""
        return {"accuracy": self.accuracy, "bf1_precision": self.binary.precision, "bf1_recall": self.binary.recall,
                "bf1": self.binary.f1, "mf1": self.tags.f1}

    def lines(self, method: str) -> list[str]:
        """The lines that the original prints for accuracy, bf1 (f1) or mf1."""
        if method == "accuracy":
            return [f"acc_num {self.correct} , total_num {self.total}, accuracy {self.accuracy:.6f}"]
        if method == "mf1":
            return [f"F1 {self.tags.f1:.6f}"]
        return [f"Precision {self.binary.precision:.6f}", f"Recall {self.binary.recall:.6f}",
                f"F1 {self.binary.f1:.6f}"]


def token_scores(gold: np.ndarray, predicted: np.ndarray) -> TokenScores:
    """Compare the tag ids of tokens [n], without padding and special tokens; id 0 is O."""
    same = gold == predicted
    is_entity, was_found = gold > 0, predicted > 0
    counts = int(is_entity.sum()), int(was_found.sum())
    return TokenScores(int(same.sum()), len(gold), Counts(*counts, int((is_entity & was_found).sum())),
                       Counts(*counts, int((same & is_entity).sum())))
