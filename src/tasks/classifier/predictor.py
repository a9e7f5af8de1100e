"""Classes, or values, of new texts."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from mindspore import Tensor

from src.errors import UserError
from src.generate_mindrecord.classification_records import encode_texts
from src.inference.model import open_model
from src.inference.texts import batches_by_length
from src.model_utils.config import Config
from src.tasks.base import finetune_tokenizer
from src.tasks.classifier.task import ClassifierWithPrefix, describe, read_labels
from src.tasks.finetuning import finetune_bert_config


class ClassifierPredictor:
    """Predict label and probability, or for `num_class` 1 the value, of texts and pairs of texts.

    An item is {"text": …} or {"text": …, "text_pair": …}; "sentence" stands for "text" as well.
    """

    fields = ("text", "text_pair")

    def __init__(self, config: Config, model: Path | None = None) -> None:
        """Load the network of `load_finetune_checkpoint_path`, or `model`, the vocabulary and the classes' names."""
        self.bert_config = finetune_bert_config(config, config.device_target)
        self.tokenizer = finetune_tokenizer(config, self.bert_config)
        self.labels = read_labels(config.label_file_path, config.num_class) if config.label_file_path else None
        self.batch_size = config.eval_batch_size
        self.num_class = config.num_class
        self.model = open_model(config, self.bert_config, "classifier",
                                lambda: ClassifierWithPrefix(self.bert_config, config.num_class), model)

    def predict(self, items: Sequence[Mapping]) -> list[dict]:
        """One {"text", "label", "label_id", "probability"} or {"text", "value"} for each item, in order."""
        if not items:
            return []
        texts = [_texts(item) for item in items]
        columns = encode_texts(self.tokenizer, texts, self.bert_config.seq_length).columns  # [n,S]
        logits = np.empty((len(items), self.num_class), np.float32)
        batch_size = self.model.batch_size or min(self.batch_size, len(items))
        for inputs, numbers in batches_by_length(columns, batch_size, self.model.length):
            logits[numbers] = self.model.network(*map(Tensor, inputs)).asnumpy()[:len(numbers)]
        return [dict(item) | found for item, found in zip(items, describe(logits, self.labels), strict=True)]


def _texts(item: Mapping) -> tuple[str, str | None]:
    text, pair = item.get("text", item.get("sentence")), item.get("text_pair")
    if not isinstance(text, str) or not (pair is None or isinstance(pair, str)):
        raise UserError(f"found {str(dict(item))[:60]}, expected an object with \"text\" and, for pairs, \"text_pair\"")
    return text, pair
