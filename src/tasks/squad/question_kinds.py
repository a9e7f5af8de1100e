"""Which kinds of questions a network answers well: F1 by the word that asks, in English and Chinese."""

import re
from collections.abc import Sequence

from src.html_page import Table

# Of words that begin at the same place the upper one counts: "how many" is no "how".
_KINDS = {kind: re.compile(words, re.IGNORECASE) for kind, words in (
    ("who", r"\b(?:who|whom|whose)\b|谁|何人|哪位"),
    ("when", r"\b(?:when|(?:what|which) (?:year|date|month|day|century|decade))\b"
             "|何时|什么时候|哪一?[年天日月]|几[年月日]"),
    ("where", r"\bwhere\b|哪里|哪儿|何处|何地|什么地方"),
    ("how many, how much", r"\bhow (?:many|much|long|old|far|often|large|big|tall|high)\b|多少|多[长大高远久]|几"),
    ("why", r"\bwhy\b|为什么|为何|何故"),
    ("how", r"\bhow\b|怎么|怎样|如何"),
    ("which", r"\bwhich\b|哪"),
    ("what", r"\bwhat\b|什么|何"),
)}
OTHER = "other"


def kind_of(question: str) -> str:
    """The kind of a question, by the first of the words in it."""
    found = {kind: match.start() for kind, words in _KINDS.items() if (match := words.search(question))}
    return min(found, key=found.__getitem__, default=OTHER)


def kinds_table(questions: Sequence[str], f1: Sequence[float]) -> Table:
    """How many questions there are of each kind, and their mean F1."""
    of_kinds: dict[str, list[float]] = {kind: [] for kind in (*_KINDS, OTHER)}
    for question, score in zip(questions, f1, strict=True):
        of_kinds[kind_of(question)].append(score)
    rows = [(kind, len(scores), sum(scores) / len(scores)) for kind, scores in of_kinds.items() if scores]
    return Table("F1 by kind of question", ("kind", "questions", "F1"), rows)
