"""Named entities of new sentences."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np

from src.tasks.ner.labels import LabelScheme
from src.tasks.ner.text import NerEncoder, Sentence, describe_entity
from src.tasks.ner.windows import SentenceWindows
from src.tasks.prediction import InferenceModel, texts_of


class Entity(NamedTuple):
    """Characters `start` to `end - 1` of a text."""

    type: str
    text: str
    start: int
    end: int


class Entities(NamedTuple):
    """The entities of a text."""

    entities: list[Entity]
    text: str


class NerPredictor:
    """Find the entities of sentences of any length.

    An item is {"text": …}; long sentences are read in overlapping windows.

    Args:
        encoder: makes the records of sentences.
        labels: the entity types.
        batch_size: windows at once.
        model: maps ids, mask and segments [B,S] to tag ids [B,S].
    """

    fields = ("text",)
    empty: ClassVar[Mapping[str, Any]] = {"text": "", "entities": None}

    def __init__(self, encoder: NerEncoder, labels: LabelScheme, batch_size: int, model: InferenceModel) -> None:
        self.encoder = encoder
        self.labels = labels
        self.batch_size = batch_size
        self.model = model

    def predict(self, items: Sequence[Mapping]) -> list[dict]:
        """One {"text", "entities": [{"type", "text", "start", "end"}]} for each item, in order.

        Characters `start` to `end - 1` of the text are the entity.
        """
        if not items:
            return []
        sentences = [Sentence(text) for item in items for text in texts_of(item, self.fields, '"text"')]
        windows = SentenceWindows(sentences, self.encoder)
        columns = windows.read(range(windows.num_rows))  # [n,S]
        ends = columns["input_mask"].sum(axis=1) - 1
        tags: list[np.ndarray] = [np.zeros(0, np.int32)] * windows.num_rows
        for (found,), numbers in self.model.compute(columns, self.batch_size):
            for of_window, number in zip(found, numbers, strict=True):
                tags[number] = of_window[1:ends[number]]
        return [dict(item) | {"entities": [describe_entity(item["text"], entity) for entity in entities]}
                for item, entities in zip(items, windows.entities(tags, self.labels), strict=True)]

    def typed(self, result: Mapping) -> Entities:
        """A result of `predict` as a named tuple."""
        return Entities([Entity(**entity) for entity in result["entities"]], result["text"])
