"""Contexts as tokens that know their characters, and the tokens of annotated answers in them."""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from src.tasks.squad.examples import Example
from src.tokenization import CJK_CLASS, Tokenizer

# What the answer's annotation is first rounded to: a run between spaces, and every CJK character by itself, because
# there are no spaces between Chinese words. These spaces, not Python's: the same ones as BERT's conversion.
_WORD = re.compile(f"[{CJK_CLASS}]|[^ \t\r\n\u202f{CJK_CLASS}]+")
_MAX_CACHED_WORDS = 1 << 17


class TokenizedText(NamedTuple):
    """A context's tokens, where they stand in the text, and which words they belong to."""

    ids: np.ndarray  # [T] int32
    starts: np.ndarray  # [T] int32, characters: text[starts[t]:ends[t]] is what token t was made from
    ends: np.ndarray  # [T] int32
    word_starts: np.ndarray  # [W] characters
    first_tokens: np.ndarray  # [W + 1] token with which each word begins, and T


class TextTokenizer:
    """Tokenizes contexts with offsets, word by word; what becomes of a word is remembered."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._cache: dict[str, tuple[list[int], list[int], list[int]]] = {}

    def __call__(self, text: str) -> TokenizedText:
        """The tokens of `text`."""
        ids, starts, ends, counts, word_starts = [], [], [], [], []
        cache = self._cache
        for match in _WORD.finditer(text):
            word = match.group()
            pieces = cache.get(word) or self._add(word)
            ids += pieces[0]
            starts += pieces[1]  # within the word
            ends += pieces[2]
            counts.append(len(pieces[0]))
            word_starts.append(match.start())
        word_starts = np.array(word_starts, np.int32)
        shift = np.repeat(word_starts, counts)
        first_tokens = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
        return TokenizedText(np.array(ids, np.int32), np.array(starts, np.int32) + shift,
                             np.array(ends, np.int32) + shift, word_starts, first_tokens)

    def _add(self, word: str) -> tuple[list[int], list[int], list[int]]:
        pieces = self._tokenizer.tokenize_with_offsets(word)
        found = (self._tokenizer.convert_tokens_to_ids(token for token, _, _ in pieces),
                 [start for _, start, _ in pieces], [end for _, _, end in pieces])
        if len(self._cache) >= _MAX_CACHED_WORDS:
            self._cache.clear()
        self._cache[word] = found
        return found


class AnswerSpans:
    """Where the answers of questions are among the tokens of their contexts.

    Attributes:
        first, last: tokens of each question's first answer in its context [E]; 0 where there is none.
        is_there: whether the question has an answer in its context, bool [E].
        is_bad: whether its annotation does not fit its context, so that it must be left out, bool [E].
        notes: a line for each question whose answer is not where its annotation says.
        num_realigned: answers that do not begin exactly at their annotation, but were found in the words there.
    """

    def __init__(self, count: int) -> None:
        self.first, self.last = np.zeros((2, count), np.int64)
        self.is_there, self.is_bad = np.zeros((2, count), bool)
        self.notes: list[str] = []
        self.num_realigned = 0

    @classmethod
    def find(cls, examples: Sequence[Example], texts: Sequence[str], contexts: Sequence[TokenizedText],
             tokenizer: Tokenizer) -> "AnswerSpans":
        """Look up the first answer of each question."""
        spans = cls(len(examples))
        for number, example in enumerate(examples):
            if example.is_impossible:
                continue
            found = spans._find(example, texts[example.context], contexts[example.context], tokenizer)
            spans.is_there[number], spans.is_bad[number] = found is not None, found is None
            if found is not None:
                spans.first[number], spans.last[number] = found
        return spans

    def _find(self, example: Example, text: str, context: TokenizedText, tokenizer: Tokenizer
              ) -> tuple[int, int] | None:
        """The tokens of the first answer: the words at its annotation, narrowed to its own tokens if they are there."""
        answer = example.answers[0]
        if not len(context.ids):
            return None  # noted where all questions with an empty context are
        end = min(answer.start + max(1, len(answer.text)), len(text)) - 1  # last character
        first, last = np.searchsorted(context.word_starts, [answer.start, end], side="right").clip(1) - 1
        begins = [*context.word_starts[first:last + 2].tolist(), len(text)]
        there = text[begins[0]:begins[last - first + 1]]
        if not 0 <= answer.start < len(text) or not answer.text.strip() or _spaced(answer.text) not in _spaced(there):
            self.notes.append(f"{example.place}: the answer {_shorten(answer.text)} is not at character "
                              f"{answer.start}, where the context has {_shorten(there)}; the question is left out")
            return None
        if not text.startswith(answer.text, answer.start):
            self.num_realigned += 1
        start, stop = int(context.first_tokens[first]), int(context.first_tokens[last + 1])
        tokens, wanted = context.ids[start:stop].tolist(), tokenizer.encode(answer.text)
        for shift in range(len(tokens) - len(wanted) + 1):
            if tokens[shift:shift + len(wanted)] == wanted:
                return start + shift, start + shift + len(wanted) - 1
        return start, stop - 1


def _spaced(text: str) -> str:
    return " ".join(text.split())


def _shorten(text: str, limit: int = 40) -> str:
    return repr(text if len(text) <= limit else text[:limit] + "…")
