"""Multi-label classification as a fine-tuning task: each class applies to a text or does not.

Shapes at line ends: B batch, S sequence, C classes, n records.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from src.bert_model import BertConfig
from src.dataset import EvaluationBatches
from src.finetune_eval_model import BertCLSModel, WithPrefix
from src.model_utils.config import Config
from src.onnx_graph import Head, OnnxGraph
from src.records.columns import SEQUENCE_COLUMNS, Limit
from src.tasks.base import ExchangeHead
from src.tasks.finetune_task import Evaluation, FinetuneTask, finetune_tokenizer, token_limits
from src.tasks.labelled_text import encode_texts, label_lines, read_labels
from src.tasks.prediction import InferenceModel, Predictor, texts_of
from src.tokenization import Tokenizer


class BertMultiLabel(nn.Cell):
    """Train multi-label classification: one yes or no for each class."""

    def __init__(self, config: BertConfig, num_labels: int) -> None:
        super().__init__()
        self.bert = BertCLSModel(config, True, num_labels, config.hidden_dropout_prob)

    def construct(self, input_ids: Tensor, input_mask: Tensor, token_type_id: Tensor, labels: Tensor) -> Tensor:
        """Map a batch of records, columns [B,S] and labels 0 or 1 [B,C], to the mean cross-entropy []."""
        logits = self.bert(input_ids, input_mask, token_type_id)  # [B,C]
        # log(1 + exp(x)) - x y, in a form that does not overflow.
        losses = ops.relu(logits) + ops.log(1.0 + ops.exp(-ops.abs(logits))) - logits * labels.astype(ms.float32)
        return losses.mean()


class MultiLabelTask(FinetuneTask):
    """Any number of the classes of `label_file_path`; the column `labels` of a record has a 0 or 1 for each class."""

    name = "multilabel"
    description = "run_multilabel"
    config_file = "task_multilabel_config.yaml"
    model_options = ("do_lower_case", "num_class")  # what a model folder says besides the sizes
    pipeline_tag = "text-classification"  # what model hubs call the task
    best_metric = "micro_f1"
    train_columns = eval_columns = dict.fromkeys((*SEQUENCE_COLUMNS, "labels"), "int32")
    # The row of src/exchange/names.py: the head is called as in transformers' BertForSequenceClassification.
    exchange_head = ExchangeHead((("output", "CH", "bert.dense_1", "classifier", ""),), "ForSequenceClassification",
                                 has_classes=True)

    def __init__(self, config: Config, bert_config: BertConfig) -> None:
        super().__init__(config, bert_config)
        self.labels = read_labels(config.label_file_path, config.num_class) if config.label_file_path else None
        self.limits = token_limits(bert_config) | {"labels": Limit(2, "a class applies (1) or does not (0)")}

    @property
    def num_class(self) -> int:
        """Number of classes."""
        return self.config.num_class

    @property
    def class_names(self) -> list[str] | None:
        """Their names, if a label file gives them."""
        return self.labels

    def training_network(self) -> nn.Cell:
        """The network with its loss."""
        return BertMultiLabel(self.bert_config, self.num_class)

    def inference_network(self) -> nn.Cell:
        """The network that gives logits."""
        return WithPrefix(BertCLSModel(self.bert_config, False, self.num_class))

    def head(self) -> Head:
        """The same logits in ONNX."""
        def build(graph: OnnxGraph, hidden: str) -> None:
            graph.dense(graph.pooled(hidden), "dense_1", output="logits")  # [B,C]

        return Head(build, {"logits": ("FLOAT", ("batch", self.num_class))})

    def predictor(self, open_model: Callable[[], InferenceModel]) -> Predictor:
        """What predicts the classes of new texts."""
        return MultiLabelPredictor(finetune_tokenizer(self.config, self.bert_config), self._names(),
                                   self.bert_config.seq_length, self.config.eval_batch_size, open_model())

    def evaluate(self, network: Callable, batches: EvaluationBatches) -> Evaluation:
        """Score the network on every record."""
        logits = np.empty((batches.records.num_rows, self.num_class), np.float32)  # [n,C]
        labels = np.empty(logits.shape, np.int32)  # [n,C]
        for (*inputs, given), rows in batches:
            logits[rows] = network(*map(Tensor, inputs)).asnumpy()[:len(rows)]
            labels[rows] = given[:len(rows)]
        batches.complete(logits, labels)  # the rows of other ranks
        results = multilabel_scores(logits > 0, labels > 0)
        lines = [f"exact match {results['exact_match']:.6f}, micro F1 {results['micro_f1']:.6f}"]
        return Evaluation(results, lines, lambda: self._items(logits, labels))

    def _names(self) -> list[str]:
        return self.labels or [str(number) for number in range(self.num_class)]

    def _items(self, logits: np.ndarray, labels: np.ndarray) -> Iterator[dict[str, Any]]:
        names = self._names()
        for index, (row, gold) in enumerate(zip(logits, labels, strict=True)):
            yield {"index": index, **describe(row, names), "gold": applying(gold > 0, names)}

    # ------------------------------------------------------------ exchange of checkpoints

    @classmethod
    def read_class_names(cls, label_file: str, num_class: int) -> list[str]:
        """The lines of the label file."""
        return read_labels(label_file, num_class)

    @classmethod
    def label_lines(cls, class_names: Sequence[str]) -> list[str]:
        """A name a line."""
        return label_lines(class_names)

    @classmethod
    def converted_configs(cls, checkpoint: str, num_class: int, words: Mapping[str, Any], sizes: Mapping[str, Any]
                          ) -> dict[str, dict[str, Any]]:
        """See `Task.converted_configs`."""
        return super().converted_configs(checkpoint, num_class, {"num_class": num_class, **words}, sizes)


class Labels(NamedTuple):
    """The classes that apply to a text, and the probability of each class."""

    labels: list[str]
    probabilities: dict[str, float]
    text: str


class MultiLabelPredictor:
    """Predict the classes of texts. An item is {"text": …}.

    Args:
        tokenizer: the one that the records were made with.
        names: names of the classes.
        seq_length: tokens of a text at most.
        batch_size: texts at once.
        model: maps ids, mask and segments to logits [B,C].
    """

    fields = ("text",)
    empty: ClassVar[Mapping[str, Any]] = {"text": "", "labels": None}

    def __init__(self, tokenizer: Tokenizer, names: Sequence[str], seq_length: int, batch_size: int,
                 model: InferenceModel) -> None:
        self.tokenizer = tokenizer
        self.names = names
        self.seq_length = seq_length
        self.batch_size = batch_size
        self.model = model

    def predict(self, items: Sequence[Mapping]) -> list[dict]:
        """One {"text", "labels", "probabilities"} for each item, in order."""
        if not items:
            return []
        texts = [(texts_of(item, ("text",), '"text"')[0], None) for item in items]
        columns = encode_texts(self.tokenizer, texts, self.seq_length).columns
        logits = np.empty((len(items), len(self.names)), np.float32)  # [n,C]
        for (values,), numbers in self.model.compute(columns, self.batch_size):
            logits[numbers] = values
        return [dict(item) | describe(row, self.names) for item, row in zip(items, logits, strict=True)]

    def typed(self, result: Mapping) -> Labels:
        """A result of `predict` as a named tuple, as `load_predictor` gives them."""
        return Labels(result["labels"], result["probabilities"], result["text"])


def applying(applies: np.ndarray, names: Sequence[str]) -> list[str]:
    """The names of the classes that apply, bool [C]."""
    return [names[number] for number in np.flatnonzero(applies)]


def describe(logits: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    """What logits [C] predict: the classes above one half, and the probability of each class."""
    probabilities = 1.0 / (1.0 + np.exp(-logits.astype(np.float64)))
    return {"labels": applying(probabilities > 0.5, names),
            "probabilities": dict(zip(names, probabilities.round(6).tolist(), strict=True))}


def multilabel_scores(predicted: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Share of records with all classes right, and F1 over all records and classes; both arguments bool [n,C]."""
    counted = predicted.sum() + labels.sum()
    return {"exact_match": float((predicted == labels).all(axis=1).mean()),
            "micro_f1": float(2 * (predicted & labels).sum() / counted) if counted else 0.0}
