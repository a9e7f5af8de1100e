"""Sentence classification and regression as a fine-tuning task."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mindspore import Tensor, nn
from tqdm import tqdm

from src.assessment_method import CLASSIFICATION_SCORES, REGRESSION_SCORES, classification_scores, regression_scores
from src.bert_for_finetune import BertCLS
from src.bert_model import BertConfig
from src.dataset import EvaluationBatches
from src.errors import UserError
from src.finetune_eval_model import BertCLSModel, WithPrefix
from src.model_utils.config import Config
from src.onnx_graph import Head
from src.records.columns import Limit
from src.records.reader import RecordSource
from src.tasks.base import ExchangeHead
from src.tasks.classifier.predictor import ClassifierPredictor, describe
from src.tasks.finetune_task import Evaluation, FinetuneTask, finetune_tokenizer, token_limits
from src.tasks.labelled_text import LABELS_NAME, Labels, label_lines, read_labels
from src.tasks.prediction import InferenceModel, Predictor


class ClassifierTask(FinetuneTask):
    """Classes of sentences or pairs of sentences; with `num_class` 1 a value (regression)."""

    name = "classifier"
    description = "run_classifier"
    config_file = "task_classifier_config.yaml"
    model_options = ("do_lower_case", "num_class", "assessment_method")
    pipeline_tag = "text-classification"
    # run_classifier.py of Google's BERT names its head outside of any scope.
    exchange_head = ExchangeHead((("output", "CH", "bert.dense_1", "classifier", ""),), "ForSequenceClassification",
                                 has_classes=True)

    def __init__(self, config: Config, bert_config: BertConfig) -> None:
        super().__init__(config, bert_config)
        self.is_regression = config.num_class == 1
        self.method = config.assessment_method.lower()
        self.labels = read_labels(config.label_file_path, config.num_class) if config.label_file_path else None
        integers = dict.fromkeys(("input_ids", "input_mask", "segment_ids"), "int32")
        self.train_columns = self.eval_columns = integers | {"label_ids": "float32" if self.is_regression else "int32"}
        self.limits = token_limits(bert_config)
        if not self.is_regression:
            self.limits["label_ids"] = Limit(config.num_class, f"num_class is {config.num_class}")

    @property
    def fitting_scores(self) -> dict[str, str]:
        """The methods of assessment that make sense, with the keys of their scores in the results."""
        return REGRESSION_SCORES if self.is_regression else CLASSIFICATION_SCORES

    @property
    def best_metric(self) -> str:
        """The score of the chosen method."""
        return self.fitting_scores[self.method]

    def check(self) -> None:
        """Refuse a method that does not fit the number of classes."""
        if self.method not in self.fitting_scores:
            kind = "regression (num_class 1)" if self.is_regression else f"num_class {self.num_class}"
            raise UserError(f"assessment_method: {self.config.assessment_method} does not fit {kind}; "
                            f"choose one of {', '.join(self.fitting_scores)}")

    @property
    def num_class(self) -> int:
        """Number of classes; 1 for regression."""
        return self.config.num_class

    @property
    def class_names(self) -> list[str] | None:
        """Their names, if a label file gives them."""
        return self.labels

    def training_network(self) -> nn.Cell:
        """The network with its loss."""
        weights = None if self.is_regression else self._class_weights()
        return BertCLS(self.bert_config, True, self.config.num_class, self.bert_config.hidden_dropout_prob, weights)

    def inference_network(self) -> nn.Cell:
        """The network that gives logits."""
        return WithPrefix(BertCLSModel(self.bert_config, False, self.num_class))

    def head(self) -> Head:
        """Logits of the pooled first token."""
        from src.tasks.classifier.onnx_head import classifier_head  # only an export needs it

        return classifier_head(self.num_class)

    def predictor(self, open_model: Callable[[], InferenceModel]) -> Predictor:
        """What predicts classes or values of new texts."""
        return ClassifierPredictor(finetune_tokenizer(self.config, self.bert_config), self.labels,
                                   self.bert_config.seq_length, self.config.eval_batch_size, open_model())

    def evaluate(self, network: Callable[..., Tensor], batches: EvaluationBatches) -> Evaluation:
        """Score the network on every record; `predictions` are in the order of the file."""
        num_rows = batches.records.num_rows
        logits = np.empty((num_rows, self.config.num_class), np.float32)
        labels = np.empty(num_rows, np.float32 if self.is_regression else np.int32)
        for (*inputs, label_ids), rows in tqdm(batches, desc="evaluating", unit="batch", leave=False, disable=None):
            logits[rows] = network(*(Tensor(values) for values in inputs)).asnumpy()[:len(rows)]
            labels[rows] = label_ids[:len(rows), 0]
        batches.complete(logits, labels)
        if self.is_regression:
            results = regression_scores(logits[:, 0], labels)
        else:
            results = classification_scores(logits, labels)
        from src.tasks.classifier.confusion import confusion_table  # no prediction needs it

        breakdowns = [] if self.is_regression else [confusion_table(logits.argmax(axis=1), labels, self._names())]
        return Evaluation(results, self._lines(results, labels), lambda: self._items(batches.records, logits, labels),
                          breakdowns=breakdowns)

    def _lines(self, results: dict[str, float], labels: np.ndarray) -> list[str]:
        """The lines of the original for the chosen method."""
        if self.method == "accuracy":
            right = round(results["accuracy"] * len(labels))
            return [f"acc_num {right} , total_num {len(labels)}, accuracy {results['accuracy']:.6f}"]
        if self.method == "f1":
            return [f"{name} {results[name.lower()]:.6f}" for name in ("Precision", "Recall", "F1")]
        if self.method == "mcc":
            return [f"MCC {results['mcc']:.6f}"]
        name = "Spearman" if self.method == "spearman_correlation" else "Pearson"
        return [f"{name} Correlation is {results[name.lower()]:.6f}"]

    def _names(self) -> Sequence[Any]:
        return self.labels or range(self.num_class)

    def _items(self, records: RecordSource, logits: np.ndarray, labels: np.ndarray) -> list[dict[str, Any]]:
        names = self._names()
        gold = [round(float(label), 6) if self.is_regression else names[label] for label in labels]
        items = zip(_texts(records), describe(logits, self.labels), gold, strict=True)
        return [{"index": index, **text, **item, "gold": right} for index, (text, item, right) in enumerate(items)]

    # ------------------------------------------------------------ what records tell

    @classmethod
    def told_by_records(cls, config: Config, about: Mapping[str, Any], folder: Path) -> dict[str, Any]:
        """How many classes there are, and their names."""
        told = super().told_by_records(config, about, folder)
        if "num_class" in about:  # a regression
            return told | {"num_class": about["num_class"]}
        labels = folder / about.get("label_file", LABELS_NAME)
        if labels.is_file():
            found = {"num_class": len(Labels.from_file(labels)), "label_file_path": str(labels)}
            # Beside older records it may be of others.
            if about or not config.is_explicit("num_class") or config.num_class == found["num_class"]:
                told |= found
        return told

    # ------------------------------------------------------------ exchange of checkpoints

    @classmethod
    def read_class_names(cls, label_file: str, num_class: int) -> list[str]:
        """The lines of the label file."""
        return read_labels(label_file, num_class)

    @classmethod
    def label_lines(cls, class_names: Sequence[str]) -> list[str]:
        """The names, unless one is no line."""
        return label_lines(class_names)

    @classmethod
    def converted_configs(cls, checkpoint: str, num_class: int, words: Mapping[str, Any], sizes: Mapping[str, Any]
                          ) -> dict[str, dict[str, Any]]:
        """See `Task.converted_configs`."""
        return super().converted_configs(checkpoint, num_class, {"num_class": num_class, **words}, sizes)

    # ------------------------------------------------------------ training

    def _class_weights(self) -> list[float] | None:
        """Weights from the option: none, given, or "balanced" (inverse to how often a class occurs in training)."""
        option, num_class = self.config.class_weights, self.config.num_class
        if not option:
            return None
        if option == "balanced":
            counts = np.bincount(label_column(self.train_records()), minlength=num_class)
            return (counts.sum() / (num_class * np.maximum(counts, 1))).tolist()
        try:
            weights = [float(item) for item in option.split(",")]
        except ValueError:
            weights = []
        if len(weights) != num_class or not all(0 <= weight < float("inf") for weight in weights) or not any(weights):
            raise UserError(f"class_weights: found '{option}', expected balanced or {num_class} numbers such as "
                            f"{','.join(['1.0'] * num_class)}")
        return weights


def label_column(records: RecordSource) -> np.ndarray:
    """The labels of all records [n]."""
    parts = np.array_split(np.arange(records.num_rows), -(-records.num_rows // 4096))
    return np.concatenate([records.read(rows, ["label_ids"])["label_ids"][:, 0] for rows in parts])


def _texts(records: RecordSource) -> list[dict]:
    """Place and texts of each record, as far as they are known."""
    from src.records.sentences import read_sentences  # no prediction needs it

    texts: list[dict] = [{}] * records.num_rows
    for source in read_sentences(records) or []:
        pair = {"text_pair": source.fields["text_pair"]} if source.fields.get("text_pair") is not None else {}
        for row in source.records:
            texts[row] = {**source.place, "text": source.text, **pair}
    return texts
