"""Answers to questions about new texts of any length."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from mindspore import Tensor

from src.errors import UserError
from src.inference.model import open_model
from src.inference.texts import batches_by_length
from src.model_utils.config import Config
from src.tasks.finetuning import finetune_bert_config
from src.tasks.squad.answers import QuestionAnswers, extract_answers
from src.tasks.squad.examples import Example, SquadFile
from src.tasks.squad.features import FeatureOptions, SquadFeatures
from src.tasks.squad.task import SquadWithPrefix, answer_options, squad_tokenizer


class SquadPredictor:
    """Find the answer to a question in a text, however long: windows of the text are looked at one by one.

    An item is {"question": …, "context": …}.
    """

    fields = ("question", "context")

    def __init__(self, config: Config, model: Path | None = None) -> None:
        """Load the network of `load_finetune_checkpoint_path`, or `model`, and the vocabulary."""
        bert_config = finetune_bert_config(config, config.device_target)
        self.tokenizer = squad_tokenizer(config, bert_config)
        self.feature_options = FeatureOptions(bert_config.seq_length, config.doc_stride, config.max_query_length)
        self.answer_options = answer_options(config)
        self.batch_size = config.eval_batch_size
        self.model = open_model(config, bert_config, "squad", lambda: SquadWithPrefix(bert_config), model)

    def predict(self, items: Sequence[Mapping]) -> list[dict]:
        """One {"question", "context", "answer", "score", "start", "end"} for each item, in order.

        `context[start:end]` is the answer, and `score` its probability among the likely answers. Without an answer
        (SQuAD 2.0, or an empty context) `answer` is empty and `start` and `end` are None.
        """
        features = SquadFeatures(_to_squad(items), self.tokenizer, self.feature_options, is_training=False)
        logits = np.zeros((2, features.num_rows, features.seq_length), np.float32)
        if features.num_rows:
            columns = features.read(np.arange(features.num_rows), ("input_ids", "input_mask", "segment_ids"))
            batch_size = self.model.batch_size or min(self.batch_size, features.num_rows)
            for inputs, rows in batches_by_length(columns, batch_size, self.model.length):
                for kind, scores in enumerate(self.model.network(*map(Tensor, inputs))):
                    logits[kind, rows, :scores.shape[1]] = scores.asnumpy()[:len(rows)]
        answers = extract_answers(features, *logits, self.answer_options)
        return [dict(item) | _describe(answer) for item, answer in zip(items, answers, strict=True)]


def _to_squad(items: Sequence[Mapping]) -> SquadFile:
    """The items as a SQuAD file, with each text once."""
    contexts: dict[str, int] = {}
    examples = []
    for number, item in enumerate(items):
        question, context = item.get("question"), item.get("context")
        if not isinstance(question, str) or not isinstance(context, str):
            raise UserError(f"found {str(dict(item))[:60]}, expected an object with \"question\" and \"context\" (on "
                            f"the command line and in plain text a tab separates them)")
        place = contexts.setdefault(context, len(contexts))
        examples.append(Example(str(number), question, place, (), False, f"item {number}"))
    return SquadFile(Path("items"), list(contexts), examples)


def _describe(answer: QuestionAnswers) -> dict:
    chosen = next((candidate for candidate in answer.candidates if candidate.text == answer.text), None)
    score = round(chosen.probability, 6) if chosen else 0.0
    if not answer.text:
        return {"answer": "", "score": score, "start": None, "end": None}
    return {"answer": answer.text, "score": score, "start": chosen.start, "end": chosen.end}
