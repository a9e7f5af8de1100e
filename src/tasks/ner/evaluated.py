"""The sentences that an evaluation on records scores: tags by record become entities by sentence.

What lies beside the records (`src/records/sentences.py`) gives text, place, words and marked entities; its fields are
written here too. Of older records each one is a sentence, whose words the ## of the vocabulary tells.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from src.errors import UserError
from src.records.reader import RecordSource
from src.records.sentences import Source, read_sentences, sentences_path
from src.tasks.ner.labels import LabelScheme, Span
from src.tasks.ner.text import Sentence, SentenceTokenizer, Tokens, Units, describe_entity, token_units
from src.tasks.ner.words import by_first_piece
from src.tokenization import Vocabulary

BY_FIRST_PIECE = "scores by word: a word has the tag of its first piece, as for conlleval and seqeval"


class ScoredSentence(NamedTuple):
    """Entities as places in the sentence, and the tag ids of its units, as they should be and as they were found."""

    gold: list[Span]
    found: list[Span]
    gold_tags: np.ndarray
    found_tags: np.ndarray


@dataclass(frozen=True)
class EvaluatedSentence:
    """A sentence and the records that hold its tokens.

    Attributes:
        rows: the records.
        units: what has a tag of its own; their places are characters of `text`, without it numbers of tokens.
        by_word: whether these are words.
        entities: as the data mark them, if they are known otherwise than by the tags of the records.
        text: the sentence, if known.
        place: its file and line, if known.
        pieces: else what gives the tokens of a place, if the vocabulary is known.
    """

    rows: range
    units: Units
    by_word: bool
    entities: list[Span] | None = None
    text: str | None = None
    place: dict[str, Any] | None = None
    pieces: Callable[[int, int], list[str]] | None = None

    def score(self, gold: Sequence[np.ndarray], predicted: Sequence[np.ndarray], labels: LabelScheme) -> ScoredSentence:
        """Put the tag ids of the tokens of all records [rows][tokens] together for this sentence."""
        units, spans, tags = self.units, [], []
        for ids in (_joined(gold, self.rows), _joined(predicted, self.rows)):
            of_units = units.decode(ids, labels)
            spans.append(units.places(of_units))
            # The first piece of a word is B where the word alone is an entity: its own tag follows from the entities.
            tags.append(labels.encode(of_units, len(units.firsts)) if self.by_word else ids)
        return ScoredSentence(spans[0] if self.entities is None else self.entities, spans[1], *tags)

    def item(self, index: int, scored: ScoredSentence) -> dict[str, Any]:
        """What the file of the predictions says of it."""
        known = {} if self.text is None else {**(self.place or {}), "text": self.text}
        return {"index": index, **known, "entities": [self._described(span) for span in scored.found],
                "gold": [self._described(span) for span in scored.gold]}

    def _described(self, span: Span) -> dict[str, Any]:
        if self.text is not None:
            return describe_entity(self.text, span)
        item = {"type": span.type, "start": span.start, "end": span.end}
        if self.pieces is None:
            return item
        return item | {"text": " ".join(self.pieces(span.start, span.end)).replace(" ##", "")}


def _joined(tags: Sequence[np.ndarray], rows: range) -> np.ndarray:
    return np.concatenate([np.zeros(0, np.int32), *(tags[row] for row in rows)])


# ---------------------------------------------------------------- what lies beside the records

def source_fields(sentence: Sentence, parts: Iterable[Tokens], tokenizer: SentenceTokenizer) -> dict[str, Any]:
    """What the records of a sentence do not say: where its tokens, words and entities begin and end."""
    fields: dict[str, Any] = {"tokens": [place for part in parts for place in zip(part.starts, part.ends, strict=True)],
                              "entities": sorted(sentence.entities)}
    if tokenizer.unit == "word":
        fields["words"] = tokenizer.words(sentence)
    return fields


def evaluated_sentences(records: RecordSource, num_tokens: Sequence[int], vocab: Vocabulary | None, unit: str
                        ) -> tuple[list[EvaluatedSentence], str]:
    """The sentences of records, and what is to be said about how they are scored.

    Args:
        records: the records.
        num_tokens: of each record, without [CLS] and [SEP].
        vocab: that of the tokens, if known.
        unit: the configured `text_unit`, for records that do not say it themselves.

    Raises:
        UserError: what lies beside the records does not belong to them.
    """
    sources = read_sentences(records)
    if sources is not None:
        sentences = [_from_source(source, num_tokens) for source in sources]
        return sentences, BY_FIRST_PIECE if any(sentence.by_word for sentence in sentences) else ""
    by_word = unit == "word" and vocab is not None
    ids = records.read(np.arange(len(num_tokens)), ["input_ids"])["input_ids"][:, 1:] if vocab else None
    sentences = [_from_record(row, count, None if ids is None else ids[row], vocab, by_word)
                 for row, count in enumerate(num_tokens)]
    if unit != "word":
        return sentences, ""
    missing = sentences_path(records.files[0])
    if by_word:
        return sentences, (f"{BY_FIRST_PIECE}; without {missing} each punctuation mark is a word: make the records "
                           f"anew for the words of the data")
    return sentences, (f"scores by piece of a word, for want of {missing} and vocab_file_path: make the records anew "
                       f"for scores by word")


def _from_source(source: Source, num_tokens: Sequence[int]) -> EvaluatedSentence:
    fields = source.fields
    try:
        starts = [int(start) for start, _ in fields["tokens"]]
        words = fields.get("words")
        units = (token_units(starts, [int(end) for _, end in fields["tokens"]]) if words is None
                 else Units(*by_first_piece([(int(start), int(end)) for start, end in words], starts)))
        entities = [Span(int(start), int(end), str(name)) for start, end, name in fields["entities"]]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise _foreign(source, f"no tokens, words and entities of NER ({type(error).__name__}: {error})") from error
    there = sum(num_tokens[row] for row in source.records)
    if there != len(starts):
        raise _foreign(source, f"{len(starts)} tokens, but its records hold {there}")
    return EvaluatedSentence(source.records, units, words is not None, entities, source.text, source.place)


def _foreign(source: Source, what: str) -> UserError:
    return UserError(f"{source.where}: {what}; make the records anew, or remove this file")


def _from_record(row: int, count: int, ids: np.ndarray | None, vocab: Vocabulary | None, by_word: bool
                 ) -> EvaluatedSentence:
    """A record of unknown origin as a sentence; places are numbers of its tokens."""
    pieces = None if ids is None or vocab is None else lambda start, end: vocab.convert_ids_to_tokens(ids[start:end])
    continued = [piece.startswith("##") for piece in pieces(0, count)] if by_word and pieces else [False] * count
    firsts = [number for number in range(count) if not continued[number]]
    return EvaluatedSentence(range(row, row + 1), Units(firsts, firsts, [*firsts[1:], count]), by_word, pieces=pieces)
