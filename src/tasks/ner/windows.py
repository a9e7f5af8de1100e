"""Sentences of any length for a network of limited length: overlapping windows, and their tags put together again."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from src.records.columns import SEQUENCE_COLUMNS
from src.tasks.ner.labels import LabelScheme, Span
from src.tasks.ner.text import NUM_SPECIAL, NerEncoder, Sentence


class Window(NamedTuple):
    """Tokens `begin` to `end - 1` of a sentence; it decides about entities that begin at `first` to `last - 1`."""

    sentence: int
    begin: int
    end: int
    first: int
    last: int


def cut_windows(sentence: int, num_tokens: int, room: int) -> list[Window]:
    """Windows of at most `room` tokens, neighbours sharing half of them; where one ends to decide, the next begins.

    That is in the middle of what they share: every entity is read with a quarter of a window on either side, where the
    sentence has so much.
    """
    begins = [0]
    while begins[-1] + room < num_tokens:
        begins.append(min(begins[-1] + max(1, room // 2), num_tokens - room))
    ends = [min(begin + room, num_tokens) for begin in begins]
    seams = [0, *((begin + end) // 2 for begin, end in zip(begins[1:], ends, strict=False)), num_tokens]
    return [Window(sentence, *window) for window in zip(begins, ends, seams[:-1], seams[1:], strict=True)]


class SentenceWindows:
    """The records of sentences that are tagged as they are, read like the records of files.

    Args:
        sentences: the sentences, without or with their entities, which are not looked at.
        encoder: makes the records.
        source: the file they come from, for messages.

    Attributes:
        num_rows: number of windows; each sentence has at least one.
        columns, seq_length, files: as of `src.records.reader.Records`.
    """

    def __init__(self, sentences: Sequence[Sentence], encoder: NerEncoder, source: str = "the sentences") -> None:
        self.sentences = list(sentences)
        self.files = [source]
        self.seq_length = encoder.seq_length
        self.columns: dict[str, tuple[str, int]] = dict.fromkeys(SEQUENCE_COLUMNS, ("int32", self.seq_length))
        self._encoder = encoder
        self._tokens = [encoder.tokenizer(sentence.text) for sentence in self.sentences]
        room = self.seq_length - NUM_SPECIAL
        self.windows = [window for number, tokens in enumerate(self._tokens)
                        for window in cut_windows(number, len(tokens), room)]
        self.num_rows = len(self.windows)

    def read(self, rows: Iterable[int], columns: Iterable[str] | None = None) -> dict[str, np.ndarray]:
        """The columns of these windows, int32 [len(rows), seq_length]."""
        windows = [self.windows[row] for row in rows]
        parts = [self._tokens[window.sentence].part(window.begin, window.end) for window in windows]
        batch = self._encoder.records([(part, np.zeros(len(part), np.int32)) for part in parts])
        return {name: batch[name] for name in columns or self.columns}

    def where(self, row: int) -> str:
        """Name a window to the user by its sentence."""
        return self.sentences[self.windows[row].sentence].where or f"sentence {self.windows[row].sentence + 1}"

    def entities(self, tags: Sequence[np.ndarray], labels: LabelScheme) -> list[list[Span]]:
        """Entities of each sentence, in characters, from the tag ids of the tokens of each window."""
        found: list[list[Span]] = [[] for _ in self.sentences]
        units = list(map(self._encoder.tokenizer.units, self.sentences, self._tokens))
        for window, ids in zip(self.windows, tags, strict=True):
            here = units[window.sentence].part(window.begin, window.end)
            spans = [span for span in here.decode(ids, labels)
                     if window.first <= window.begin + here.firsts[span.start] < window.last]
            of_sentence = found[window.sentence]
            of_sentence += [entity for entity in here.places(spans)
                            if not of_sentence or entity.start >= of_sentence[-1].end]
        return found
