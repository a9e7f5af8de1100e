"""Reading question-answering files of SQuAD's form: 1.1, 2.0, and other languages in the same form (CMRC 2018, DRCD).

    {"data": [{"paragraphs": [{"context": "…", "qas": [
        {"id": "…", "question": "…", "answers": [{"text": "…", "answer_start": 17}], "is_impossible": false}]}]}]}

SQuAD 1.1: Rajpurkar et al. 2016, https://arxiv.org/abs/1606.05250; 2.0: https://arxiv.org/abs/1806.03822.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from src.errors import UserError
from src.json_files import ABSENT, check_kind, member, read_json
from src.text_files import LARGEST_TEXT

_HINT = 'is this a SQuAD file, such as {"data": […]}?'
_Kind = TypeVar("_Kind", str, int, list, dict, bool)


class Answer(NamedTuple):
    """An annotated answer and the character of the context at which it begins."""

    text: str
    start: int


class Example(NamedTuple):
    """One question about one context."""

    qas_id: str
    question: str
    context: int  # number of the context in the file
    answers: tuple[Answer, ...]  # empty for a question of 2.0 without an answer, and in a file without annotation
    is_impossible: bool
    place: str  # in the file, for messages: data[0].paragraphs[1].qas[2]


@dataclass(frozen=True)
class SquadFile:
    """The questions of a file, in its order."""

    path: Path
    contexts: list[str]
    examples: list[Example]


def read_squad(path: str | Path, *, option: str, version_2_with_negative: bool = False,
               answers_required: bool = True) -> SquadFile:
    """Read and check a file.

    Args:
        path: the JSON file, given by the user as `option`.
        option: what the user calls it.
        version_2_with_negative: questions may have no answer, as in SQuAD 2.0.
        answers_required: False accepts a file without annotation.

    Raises:
        UserError: the file is missing or no such file; the message holds the path of the offending element.
    """
    if not str(path):
        raise UserError(f"{option} is not set; give a SQuAD file, such as train-v1.1.json")
    path = Path(path)
    content = read_json(path, "a whole SQuAD file", option, LARGEST_TEXT)
    reader = _Reader(path, version_2_with_negative, answers_required)
    contexts, examples, places = [], [], {}
    for paragraph, at in reader.paragraphs(content):
        contexts.append(reader.get(paragraph, "context", str, at))
        for example in reader.examples(paragraph, at, len(contexts) - 1):
            first = places.setdefault(example.qas_id, example.place)
            if first != example.place:
                raise UserError(f"{path}: {example.place}.id is {example.qas_id!r}, which {first} has too; every "
                                f"question needs an id of its own, as predictions are kept under it")
            examples.append(example)
    if not examples:
        raise UserError(f"{option}: {path} holds no question; give a SQuAD file, such as train-v1.1.json")
    return SquadFile(path, contexts, examples)


class _Reader:
    """Takes the elements of one file apart; knows what may be missing."""

    def __init__(self, path: Path, version_2_with_negative: bool, answers_required: bool) -> None:
        self._path = path
        self._version_2 = version_2_with_negative
        self._answers_required = answers_required

    def paragraphs(self, content: Any) -> Iterator[tuple[dict, str]]:
        """Each paragraph with its place."""
        check_kind(content, dict, f"{self._path}: the file", _HINT)
        for article, at in self._elements(content, "data", ""):
            yield from self._elements(article, "paragraphs", at)

    def examples(self, paragraph: dict, at: str, context: int) -> Iterator[Example]:
        """The questions of a paragraph."""
        for question, place in self._elements(paragraph, "qas", at):
            answers = tuple(self._answers(question, place))
            impossible = self._version_2 and (self.get(question, "is_impossible", bool, place, default=not answers))
            if self._answers_required and not answers and not impossible:
                raise UserError(f"{self._path}: {place} has no answer; if this is a file of SQuAD 2.0, set "
                                f"version_2_with_negative to true")
            yield Example(self.get(question, "id", str, place), self.get(question, "question", str, place), context,
                          answers, impossible, place)

    def _answers(self, question: dict, place: str) -> Iterator[Answer]:
        for answer, at in self._elements(question, "answers", place, default=[]):
            yield Answer(self.get(answer, "text", str, at), self.get(answer, "answer_start", int, at))

    def _elements(self, parent: dict, key: str, place: str, default: Any = ABSENT) -> Iterator[tuple[dict, str]]:
        path = f"{place}.{key}" if place else key
        for number, element in enumerate(self.get(parent, key, list, place, default)):
            at = f"{path}[{number}]"
            check_kind(element, dict, f"{self._path}: {at}", _HINT)
            yield element, at

    def get(self, parent: dict, key: str, kind: type[_Kind], place: str, default: Any = ABSENT) -> _Kind:
        """The value of a key; a missing one without a default, or one of another kind, is a `UserError`."""
        where = f"{self._path}: {place}." if place else f"{self._path}: "
        return member(parent, key, kind, where, default, _HINT)
