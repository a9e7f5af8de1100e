"""Named entities of new sentences."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from mindspore import Tensor

from src.errors import UserError
from src.inference.model import open_model
from src.inference.texts import batches_by_length
from src.model_utils.config import Config
from src.tasks.finetuning import finetune_bert_config
from src.tasks.ner.task import read_label_scheme, tagger, text_tokenizer
from src.tasks.ner.text import NerEncoder, Sentence
from src.tasks.ner.windows import SentenceWindows


class NerPredictor:
    """Find the entities of sentences of any length.

    An item is {"text": …}; long sentences are read in overlapping windows.
    """

    fields = ("text",)

    def __init__(self, config: Config, model: Path | None = None) -> None:
        """Load the network of `load_finetune_checkpoint_path`, or `model`, the vocabulary and the entity types."""
        bert_config = finetune_bert_config(config, config.device_target)
        self.labels = read_label_scheme(config)
        self.encoder = NerEncoder(text_tokenizer(config, bert_config), self.labels, bert_config.seq_length)
        self.batch_size = config.eval_batch_size
        self.model = open_model(config, bert_config, "ner", lambda: tagger(config, bert_config, self.labels), model)

    def predict(self, items: Sequence[Mapping]) -> list[dict]:
        """One {"text", "entities": [{"type", "text", "start", "end"}]} for each item, in order.

        Characters `start` to `end - 1` of the text are the entity.
        """
        if not items:
            return []
        for item in items:
            if not isinstance(item.get("text"), str):
                raise UserError(f"found {str(dict(item))[:60]}, expected an object with \"text\"")
        windows = SentenceWindows([Sentence(item["text"]) for item in items], self.encoder)
        columns = windows.read(range(windows.num_rows))  # [n,S]
        ends = columns["input_mask"].sum(axis=1) - 1
        tags: list[np.ndarray] = [np.zeros(0, np.int32)] * windows.num_rows
        batch_size = self.model.batch_size or min(self.batch_size, windows.num_rows)
        for inputs, numbers in batches_by_length(columns, batch_size, self.model.length):
            found = self.model.network(*map(Tensor, inputs)).asnumpy()
            for row, number in enumerate(numbers):
                tags[number] = found[row, 1:ends[number]]
        return [dict(item) | {"entities": [{"type": e.type, "text": item["text"][e.start:e.end], "start": e.start,
                                            "end": e.end} for e in entities]}
                for item, entities in zip(items, windows.entities(tags, self.labels), strict=True)]
