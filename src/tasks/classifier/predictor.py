"""Classes, or values, of new texts."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np

from src.assessment_method import softmax
from src.tasks.labelled_text import encode_texts
from src.tasks.prediction import InferenceModel, texts_of
from src.tokenization import Tokenizer


class Classification(NamedTuple):
    """What a text was found to be: `label` is a name where names are known, else the id."""

    label: str | int
    label_id: int
    probability: float
    text: str
    text_pair: str | None = None


class Regression(NamedTuple):
    """The value of a text."""

    value: float
    text: str
    text_pair: str | None = None


class ClassifierPredictor:
    """Predict label and probability, or for regression the value, of texts and pairs of texts.

    An item is {"text": …} or {"text": …, "text_pair": …}; "sentence" stands for "text" as well.

    Args:
        tokenizer: the one that the records were made with.
        labels: names of the classes, or None.
        seq_length: tokens of a text at most.
        batch_size: texts at once.
        model: maps ids, mask and segments to logits [B,C], for regression [B,1].
    """

    fields = ("text", "text_pair")
    empty: ClassVar[Mapping[str, Any]] = {"text": "", "label": None}

    def __init__(self, tokenizer: Tokenizer, labels: Sequence[str] | None, seq_length: int, batch_size: int,
                 model: InferenceModel) -> None:
        self.tokenizer = tokenizer
        self.labels = labels
        self.seq_length = seq_length
        self.batch_size = batch_size
        self.model = model

    def predict(self, items: Sequence[Mapping]) -> list[dict]:
        """One {"text", "label", "label_id", "probability"} or {"text", "value"} for each item, in order."""
        if not items:
            return []
        columns = encode_texts(self.tokenizer, map(_text_and_pair, items), self.seq_length).columns  # [n,S]
        parts = list(self.model.compute(columns, self.batch_size))
        logits = np.concatenate([outputs[0] for outputs, _ in parts])  # [n,C] by length
        order = np.concatenate([numbers for _, numbers in parts])
        described = describe(logits[np.argsort(order)], self.labels)
        return [dict(item) | found for item, found in zip(items, described, strict=True)]


    def typed(self, result: Mapping) -> "Classification | Regression":
        """A result of `predict` as a named tuple."""
        texts = {"text": result.get("text", result.get("sentence")), "text_pair": result.get("text_pair")}
        if "value" in result:
            return Regression(result["value"], **texts)
        return Classification(result["label"], result["label_id"], result["probability"], **texts)


def _text_and_pair(item: Mapping) -> tuple[str, str | None]:
    first = "text" if "text" in item else "sentence"
    keys = (first,) if item.get("text_pair") is None else (first, "text_pair")
    text, *pair = texts_of(item, keys, '"text" and, for pairs, "text_pair"')
    return text, pair[0] if pair else None


def describe(logits: np.ndarray, labels: Sequence[str] | None) -> list[dict]:
    """Predictions for people and programs: logits [n,C] to label, its id and its probability; [n,1] to a value."""
    if logits.shape[1] == 1:
        return [{"value": round(float(value), 6)} for value in logits[:, 0]]
    probabilities = softmax(logits.astype(np.float64))
    best = probabilities.argmax(axis=1)
    return [{"label": labels[index] if labels else int(index), "label_id": int(index),
             "probability": round(float(row[index]), 6)} for index, row in zip(best, probabilities, strict=True)]
