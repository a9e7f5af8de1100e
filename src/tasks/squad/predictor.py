"""Answers to questions about new texts of any length."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from src.tasks.prediction import InferenceModel, texts_of
from src.tasks.squad.answers import AnswerOptions, QuestionAnswers, extract_answers
from src.tasks.squad.examples import Example, SquadFile
from src.tasks.squad.features import FeatureOptions, SquadFeatures
from src.tokenization import FullTokenizer


class Answer(NamedTuple):
    """`context[start:end]` answers the question with probability `score`; without an answer `answer` is empty."""

    answer: str
    score: float
    start: int | None
    end: int | None
    question: str
    context: str


class SquadPredictor:
    """Find the answer to a question in a text, however long: windows of the text are looked at one by one.

    An item is {"question": …, "context": …}.

    Args:
        tokenizer: that of the network.
        feature_options: how the windows are cut.
        answer_options: how answers are chosen.
        batch_size: windows at once.
        model: maps ids, mask and segments to start logits and end logits [B,S].
    """

    fields = ("question", "context")
    empty: ClassVar[Mapping[str, Any]] = {"question": "", "context": "", "answer": None}

    def __init__(self, tokenizer: FullTokenizer, feature_options: FeatureOptions, answer_options: AnswerOptions,
                 batch_size: int, model: InferenceModel) -> None:
        self.tokenizer = tokenizer
        self.feature_options = feature_options
        self.answer_options = answer_options
        self.batch_size = batch_size
        self.model = model

    def predict(self, items: Sequence[Mapping]) -> list[dict]:
        """One {"question", "context", "answer", "score", "start", "end"} for each item, in order.

        `context[start:end]` is the answer, and `score` its probability among the likely answers. Without an answer
        (SQuAD 2.0, or an empty context) `answer` is empty and `start` and `end` are None.
        """
        features = SquadFeatures(_to_squad(items), self.tokenizer, self.feature_options, is_training=False)
        logits = np.zeros((2, features.num_rows, features.seq_length), np.float32)
        if features.num_rows:
            columns = features.read(np.arange(features.num_rows), ("input_ids", "input_mask", "segment_ids"))
            for outputs, rows in self.model.compute(columns, self.batch_size):
                for kind, scores in enumerate(outputs):
                    logits[kind, rows, :scores.shape[1]] = scores
        answers = extract_answers(features, logits[0], logits[1], self.answer_options)
        return [dict(item) | describe_answer(answer) for item, answer in zip(items, answers, strict=True)]

    def typed(self, result: Mapping) -> Answer:
        """A result of `predict` as a named tuple."""
        return Answer(*(result[field] for field in Answer._fields))


def _to_squad(items: Sequence[Mapping]) -> SquadFile:
    """The items as a SQuAD file, with each text once."""
    contexts: dict[str, int] = {}
    examples = []
    for number, item in enumerate(items):
        question, context = texts_of(item, SquadPredictor.fields, '"question" and "context" (on the command line and '
                                                                  'in plain text a tab separates them)')
        place = contexts.setdefault(context, len(contexts))
        examples.append(Example(str(number), question, place, (), False, f"item {number}"))
    return SquadFile(Path("items"), list(contexts), examples)


def describe_answer(answer: QuestionAnswers) -> dict[str, Any]:
    """The answer, its probability, and its characters in the context; see `SquadPredictor.predict`."""
    chosen = next((candidate for candidate in answer.candidates if candidate.text == answer.text), None)
    score = round(chosen.probability, 6) if chosen else 0.0
    if not answer.text or answer.best is None:
        return {"answer": "", "score": score, "start": None, "end": None}
    # Of few candidates "no answer" may have crowded out the best one, which is still the answer below the threshold.
    return {"answer": answer.text, "score": score, "start": answer.best.start, "end": answer.best.end}
