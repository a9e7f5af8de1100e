"""Words for [MASK] in new texts, by a pre-trained network."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from src.tasks.prediction import InferenceModel, texts_of
from src.tasks.pretraining.fill_mask import MaskFiller
from src.tokenization import FullTokenizer


class Guess(NamedTuple):
    """A token that may stand for a [MASK]."""

    token: str
    probability: float


class FilledMasks(NamedTuple):
    """For each [MASK] of a text the likeliest tokens, best first."""

    masks: list[list[Guess]]
    text: str


class MaskPredictor:
    """Guess the words that stand as [MASK] in a text. An item is {"text": …}.

    Args:
        tokenizer: the one that the records were made with, which leaves [MASK] whole.
        seq_length: tokens of a text at most.
        model: the encoder with its masked-LM head.
    """

    fields = ("text",)
    empty: ClassVar[Mapping[str, Any]] = {"text": "", "masks": None}

    def __init__(self, tokenizer: FullTokenizer, seq_length: int, model: InferenceModel) -> None:
        self.filler = MaskFiller(model.network, tokenizer, seq_length)

    def predict(self, items: Sequence[Mapping]) -> list[dict]:
        """One {"text", "masks"} for each item: for each [MASK] the likeliest {"token", "probability"}, best first."""
        return [dict(item) | {"masks": [[{"token": guess.token, "probability": round(guess.probability, 6)}
                                         for guess in guesses] for guesses in self.filler.fill(text)]}
                for item in items for text in texts_of(item, self.fields, '"text"')]

    def typed(self, result: Mapping) -> FilledMasks:
        """A result of `predict` as a named tuple."""
        return FilledMasks([[Guess(**guess) for guess in guesses] for guesses in result["masks"]], result["text"])
