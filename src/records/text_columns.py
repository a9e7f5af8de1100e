"""Which columns of a table hold the texts and the label: those that the user names, or whose names leave no doubt."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from src.errors import UserError, quoted

OPTIONS = ("text_column", "text_pair_column", "label_column")
# What data sets call them, in small letters; the first of a list that is there counts.
_PAIRS = (("text", "text_pair"), ("sentence1", "sentence2"), ("text1", "text2"), ("text_a", "text_b"),
          ("question1", "question2"), ("question", "sentence"), ("premise", "hypothesis"), ("#1 string", "#2 string"))
_TEXTS = ("text", "sentence", "content", "review", "title", "query", "question", "comment", "tweet", "message",
          "headline", "utterance")
_LABELS = ("label", "labels", "class", "category", "target", "gold_label", "sentiment", "intent", "score", "rating",
           "quality", "is_duplicate", "topic", "emotion")


class TextColumns(NamedTuple):
    """The columns of a table that matter."""

    text: str
    pair: str | None  # of the second text; None for single texts
    label: str | None  # None where no label is wanted

    def __str__(self) -> str:
        """For the user."""
        names = {"text": self.text, "second text": self.pair, "label": self.label}
        return ", ".join(f"{what} from the column {quoted(name)}" for what, name in names.items() if name is not None)


def choose_columns(names: Sequence[str], given: Mapping[str, str], where: str, wants_label: bool) -> TextColumns:
    """The columns of a table with these names.

    Args:
        names: of all of its columns.
        given: the options of `OPTIONS`, empty where the user says nothing.
        where: the table, for messages.
        wants_label: whether one of them must be the label.

    Raises:
        UserError: the user names one that is not there, or names nothing and there is doubt.
    """
    text, pair, label = (_given(names, given.get(option, ""), option, where) for option in OPTIONS)
    by_lower = {name.lower(): name for name in names}
    if text is None and pair is None:
        text, pair = next(((by_lower[first], by_lower[second]) for first, second in _PAIRS
                           if first in by_lower and second in by_lower), (None, None))
    if wants_label and label is None:
        label = _known(by_lower, _LABELS)
    if text is None:
        text = _known(by_lower, _TEXTS)
    if wants_label and len(names) == 2 and pair is None:  # one of two is the other one
        text = text or next((name for name in names if label and name != label), None)
        label = label or next((name for name in names if text and name != text), None)
    if text is None or (wants_label and label is None):
        missing = "text_column" if text is None else "label_column"
        raise UserError(f"{where}: which column holds the {missing.removesuffix('_column')}? The columns are "
                        f"{', '.join(map(quoted, names))}; name it by --{missing}")
    return TextColumns(text, pair, label)


def _given(names: Sequence[str], name: str, option: str, where: str) -> str | None:
    if name and name not in names:
        raise UserError(f"{option}: {where} has no column {quoted(name)}; its columns are "
                        f"{', '.join(map(quoted, names))}")
    return name or None


def _known(by_lower: Mapping[str, str], known: Sequence[str]) -> str | None:
    """The column with one of these names; none where several but not the first have one."""
    found = [name for name in known if name in by_lower]
    return by_lower[found[0]] if len(found) == 1 or known[0] in found else None
