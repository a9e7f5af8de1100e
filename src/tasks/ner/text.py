"""Sentences with marked entities to token sequences with tag ids, and back to characters.

A sentence is cut into tokens without regard to its entities, and every token knows which characters it was made from:
that makes an entity's characters exact whatever the tokenizer drops, splits or does not know.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from src.errors import UserError
from src.tasks.ner.labels import LabelScheme, Span
from src.tokenization import Tokenizer

UNITS = ("character", "word")
NUM_SPECIAL = 2  # [CLS] and [SEP]
_BREAKS = ("。！？!?；;\n", "，、,：:")  # where a long sentence is cut best, and second best


class Sentence(NamedTuple):
    """A text and its entities, spans of its characters; `where` names its origin to the user.

    `words` are the first character of each and the one after its last, where the data say what a word is.
    """

    text: str
    entities: tuple[Span, ...] = ()
    where: str = ""
    words: tuple[tuple[int, int], ...] = ()


def describe_entity(text: str, span: Span) -> dict[str, Any]:
    """An entity, a span of characters of the text, as predictions name it."""
    return {"type": span.type, "text": text[span.start:span.end], "start": span.start, "end": span.end}


@dataclass(frozen=True)
class Tokens:
    """Tokens of a text: their ids, and for each its first character and the one after its last."""

    ids: Sequence[int]
    starts: Sequence[int]
    ends: Sequence[int]

    def __len__(self) -> int:
        """Number of tokens."""
        return len(self.ids)

    def part(self, begin: int, end: int) -> "Tokens":
        """Tokens `begin` to `end - 1`; characters are counted in the whole text as before."""
        return Tokens(self.ids[begin:end], self.starts[begin:end], self.ends[begin:end])

    def to_tokens(self, entity: Span) -> Span | None:
        """The tokens that were made from characters of this entity, None when there are none."""
        first, end = bisect_right(self.ends, entity.start), bisect_left(self.starts, entity.end)
        return Span(first, end, entity.type) if first < end else None


@dataclass(frozen=True)
class Units:
    """What has a tag of its own in a sentence, each token or each word: the token that gives it, its start and end."""

    firsts: Sequence[int]
    starts: Sequence[int]
    ends: Sequence[int]

    def part(self, begin: int, end: int) -> "Units":
        """The units whose tags tokens `begin` to `end - 1` give, counting the tokens from `begin`."""
        low, high = bisect_left(self.firsts, begin), bisect_left(self.firsts, end)
        return Units([first - begin for first in self.firsts[low:high]], self.starts[low:high], self.ends[low:high])

    def decode(self, ids: Sequence[int] | np.ndarray, labels: LabelScheme) -> list[Span]:
        """Entities as spans of units, from the tag ids of all tokens."""
        return labels.decode(ids[first] for first in self.firsts)

    def places(self, spans: Sequence[Span]) -> list[Span]:
        """Spans of units as the places where these start and end."""
        return [Span(self.starts[first], self.ends[end - 1], name) for first, end, name in spans]


def token_units(starts: Sequence[int], ends: Sequence[int]) -> Units:
    """Each token by itself."""
    return Units(range(len(starts)), starts, ends)


class SentenceTokenizer:
    """Cuts sentences into tokens.

    Args:
        tokenizer: makes the ids.
        unit: "character" gives each character its own tokens, as is usual for Chinese, where an entity may begin inside
            a number or a Latin word; "word" cuts words into the pieces of the vocabulary.
    """

    def __init__(self, tokenizer: Tokenizer, unit: str = "character") -> None:
        if unit not in UNITS:
            raise UserError(f"unit: {unit!r} is unknown, expected {' or '.join(UNITS)}")
        self.tokenizer = tokenizer
        self.unit = unit
        self._ids_of: dict[str, list[int]] = {}  # of a single character

    def words(self, sentence: Sentence) -> Sequence[tuple[int, int]]:
        """The words of a sentence: those that the data name, in new text those of `split_words`."""
        from src.tasks.ner.words import split_words  # characters need no words

        return sentence.words or split_words(sentence.text)

    def units(self, sentence: Sentence, tokens: Tokens) -> Units:
        """The units of a sentence of these tokens."""
        if self.unit != "word":
            return token_units(tokens.starts, tokens.ends)
        from src.tasks.ner.words import by_first_piece

        return Units(*by_first_piece(self.words(sentence), tokens.starts))

    def __call__(self, text: str) -> Tokens:
        """Tokens of a text."""
        if self.unit == "word":
            pieces = self.tokenizer.tokenize_with_offsets(text)
            ids = self.tokenizer.convert_tokens_to_ids(token for token, _, _ in pieces)
            return Tokens(ids, [start for _, start, _ in pieces], [end for _, _, end in pieces])
        ids, starts = [], []
        for position, character in enumerate(text):
            found = self._ids_of.get(character)
            if found is None:
                found = self._ids_of[character] = self.tokenizer.encode(character)
            ids += found
            starts += [position] * len(found)
        return Tokens(ids, starts, [start + 1 for start in starts])


@dataclass
class SkippedEntities:
    """Entities that a tag sequence cannot hold as they are."""

    overlapping: int = 0  # with a longer one; left out
    without_token: int = 0  # all characters are dropped by the tokenizer; left out
    changed: int = 0  # begins or ends inside a token, or with characters that have none
    cut: int = 0  # longer than a record


def token_entities(sentence: Sentence, tokens: Tokens, skipped: SkippedEntities) -> list[Span]:
    """Entities of a sentence as disjoint spans of its tokens, in order; of two that overlap the longer one stays."""
    kept: list[Span] = []
    for entity in sorted(sentence.entities, key=lambda e: (e.start - e.end, e.start)):
        span = tokens.to_tokens(entity)
        if span is None:
            skipped.without_token += 1
        elif any(span.start < other.end and other.start < span.end for other in kept):
            skipped.overlapping += 1
        else:
            kept.append(span)
            skipped.changed += (tokens.starts[span.start], tokens.ends[span.end - 1]) != (entity.start, entity.end)
    return sorted(kept)


def cut_sentence(text: str, tokens: Tokens, entities: Sequence[Span], max_tokens: int) -> Iterator[tuple[int, int]]:
    """Parts (begin, end) of the tokens, none longer than `max_tokens`, cut after punctuation and outside entities.

    Args:
        text: the text of the tokens.
        tokens: all its tokens.
        entities: spans of tokens, which are only cut when longer than a part.
        max_tokens: tokens of a part at most.
    """
    begin = 0
    inside: set[int] = set()
    if len(tokens) > max_tokens:
        inside.update(*(range(entity.start + 1, entity.end) for entity in entities))
    while len(tokens) - begin > max_tokens:
        ends = [end for end in range(begin + max_tokens, begin, -1) if end not in inside] or [begin + max_tokens]
        late = [end for end in ends if end > begin + max_tokens // 2]  # better no punctuation than very short parts
        end = next((end for marks in _BREAKS for end in late if text[tokens.ends[end - 1] - 1] in marks), ends[0])
        yield begin, end
        begin = end
    yield begin, len(tokens)


def ner_columns(seq_length: int) -> dict[str, tuple[str, int]]:
    """The columns of a record, in the order in which the network takes them."""
    return dict.fromkeys(("input_ids", "input_mask", "segment_ids", "label_ids"), ("int32", seq_length))


class NerEncoder:
    """Makes records of sentences.

    Args:
        tokenizer: cuts sentences into tokens.
        labels: the entity types.
        seq_length: tokens in a record, with [CLS] and [SEP].

    Attributes:
        skipped: what could not be held.
        num_cut: sentences that were too long for one record.

    Raises:
        UserError: no room for a token.
    """

    def __init__(self, tokenizer: SentenceTokenizer, labels: LabelScheme, seq_length: int) -> None:
        if seq_length <= NUM_SPECIAL:
            raise UserError(f"max_seq_length is {seq_length}, expected at least {NUM_SPECIAL + 1}: [CLS], [SEP] and a "
                            f"token")
        self.tokenizer = tokenizer
        self.labels = labels
        self.seq_length = seq_length
        self.skipped = SkippedEntities()
        self.num_cut = 0

    def encode(self, sentence: Sentence) -> Iterator[tuple[Tokens, np.ndarray]]:
        """Parts of a sentence that fit into a record, each with its tag ids int32, one for each token.

        Raises:
            UserError: an entity is of an unknown type or lies outside the text.
        """
        for entity in sentence.entities:
            if entity.type not in self.labels.types:
                raise UserError(f"{sentence.where}: the entity {sentence.text[entity.start:entity.end]!r} is of type "
                                f"{entity.type}, which is not in {self.labels.source} ("
                                f"{', '.join(self.labels.types)}); add it there or correct the data")
            if not 0 <= entity.start < entity.end <= len(sentence.text):
                raise UserError(f"{sentence.where}: an entity has the characters {entity.start} to {entity.end - 1} of "
                                f"a text of {len(sentence.text)}; correct the data")
        tokens = self.tokenizer(sentence.text)
        entities = token_entities(sentence, tokens, self.skipped)
        ids = self.labels.encode(entities, len(tokens))
        room = self.seq_length - NUM_SPECIAL
        self.num_cut += len(tokens) > room
        for begin, end in cut_sentence(sentence.text, tokens, entities, room):
            self.skipped.cut += any(entity.start < end < entity.end for entity in entities)
            yield tokens.part(begin, end), ids[begin:end]

    def records(self, parts: Sequence[tuple[Tokens, np.ndarray]]) -> dict[str, np.ndarray]:
        """The columns of these parts, int32 [n, seq_length] each."""
        vocab = self.tokenizer.tokenizer.vocab
        batch = {name: np.zeros((len(parts), self.seq_length), np.int32) for name in ner_columns(self.seq_length)}
        for row, (tokens, tag_ids) in enumerate(parts):
            length = len(tokens) + NUM_SPECIAL
            batch["input_ids"][row, :length] = [vocab.cls_id, *tokens.ids, vocab.sep_id]
            batch["input_ids"][row, length:] = vocab.pad_id
            batch["input_mask"][row, :length] = 1
            batch["label_ids"][row, 1:length - 1] = tag_ids
        return batch
