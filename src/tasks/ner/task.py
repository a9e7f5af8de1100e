"""Named-entity recognition as a fine-tuning task."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from mindspore import Tensor, nn
from tqdm import tqdm

from src.bert_for_finetune import BertNER, BertNERTagger
from src.bert_model import BertConfig
from src.errors import UserError
from src.model_utils.config import Config
from src.onnx_graph import Head
from src.records.columns import SEQUENCE_COLUMNS, Limit
from src.tasks.base import ExchangeHead
from src.tasks.finetune_task import Evaluation, FinetuneTask, finetune_tokenizer, token_limits
from src.tasks.ner.labels import CRF_STATES, LABEL_FILE, OUTSIDE, LabelScheme
from src.tasks.ner.predictor import NerPredictor
from src.tasks.ner.text import NerEncoder, SentenceTokenizer
from src.tasks.ner.windows import SentenceWindows
from src.tasks.prediction import InferenceModel, Predictor
from src.tokenization import Vocabulary

if TYPE_CHECKING:  # predicting needs none of these
    from src.dataset import EvaluationBatches
    from src.records.reader import Records, RecordSource


class NerTask(FinetuneTask):
    """Entities of sentences, marked by a tag for each token.

    `clue_benchmark` evaluates the sentences of a CLUENER JSON file, other methods evaluate records.
    """

    name = "ner"
    description = "run_ner"
    config_file = "task_ner_config.yaml"
    model_options = ("do_lower_case", "text_unit", "use_crf", "with_lstm")
    file_synonyms = ("label2id_file_path",)
    pipeline_tag = "token-classification"
    exchange_head = ExchangeHead((("output", "CH", "bert.dense_1", "classifier", ""),), "ForTokenClassification",
                                 has_classes=True, uses_pooler=False)
    optional_parts = ("bert.lstm.", "loss.")
    optional_parts_advice = "set use_crf and with_lstm as in its training"
    train_columns = dict.fromkeys((*SEQUENCE_COLUMNS, "label_ids"), "int32")

    def __init__(self, config: Config, bert_config: BertConfig) -> None:
        super().__init__(config, bert_config)
        self.method = config.assessment_method.lower()
        self.is_benchmark = self.always_writes_predictions = self.method == "clue_benchmark"
        self.best_metric = "clue_f1" if self.is_benchmark else "entity_f1"
        self.eval_columns = dict.fromkeys(SEQUENCE_COLUMNS, "int32") if self.is_benchmark else self.train_columns
        self.labels = read_label_scheme(config)
        count = len(self.labels.tags)
        if config.num_class not in (0, count, self.labels.num_labels(config.use_crf)):
            raise UserError(f"num_class: {config.num_class}, but {self.labels.source} has {len(self.labels.types)} "
                            f"types, which make {count} tags; leave num_class out, or give the label file of the data")
        self.limits = token_limits(bert_config) | {
            "label_ids": Limit(count, f"{self.labels.source} has {len(self.labels.types)} types")}

    @property
    def predictions_name(self) -> str:
        """The file of the predictions where the user names none."""
        if not self.is_benchmark:
            return super().predictions_name
        from src.tasks.ner.clue import SUBMISSION_NAME  # no prediction needs it

        return SUBMISSION_NAME

    @property
    def num_class(self) -> int:
        """Number of tags, without the states of a CRF."""
        return len(self.labels.tags)

    @property
    def class_names(self) -> list[str]:
        """The tags by id."""
        return list(self.labels.tags)

    def training_network(self) -> nn.Cell:
        """The network with its loss."""
        return BertNER(self.bert_config, True, self.num_class, self.config.use_crf, self.config.with_lstm,
                       self.bert_config.hidden_dropout_prob)

    def inference_network(self) -> nn.Cell:
        """The network that gives tags."""
        return BertNERTagger(self.bert_config, self.num_class, self.config.use_crf, self.config.with_lstm)

    def head(self) -> Head:
        """Tags of the tokens."""
        from src.tasks.ner.onnx_head import ner_head  # only an export needs it

        return ner_head(self.num_class, self.config.use_crf, self.config.with_lstm)

    @property
    def untried_on_ascend(self) -> str:
        """LSTM and CRF."""
        parts = {"with_lstm": "the LSTM, whose kernel is float16", "use_crf": "the search of the CRF, a loop"}
        used = [f"{part} ({option})" for option, part in parts.items() if self.config[option]]
        if not used:
            return ""
        return (f"{' and '.join(used)}: not run on an Ascend yet; compare the tags with those of predict.py, or train "
                f"without")

    def predictor(self, open_model: Callable[[], InferenceModel]) -> Predictor:
        """What finds the entities of new sentences."""
        return NerPredictor(self._encoder(), self.labels, self.config.eval_batch_size, open_model())

    def _encoder(self) -> NerEncoder:
        """What makes records of sentences as when the training records were made."""
        tokenizer = SentenceTokenizer(finetune_tokenizer(self.config, self.bert_config), self.config.text_unit)
        return NerEncoder(tokenizer, self.labels, self.bert_config.seq_length)

    # ------------------------------------------------------------ records

    @classmethod
    def told_by_records(cls, config: Config, about: Mapping[str, Any], folder: Path) -> dict[str, Any]:
        """The entity types too."""
        told = super().told_by_records(config, about, folder)
        labels = folder / about.get("label_file", LABEL_FILE)
        if labels.is_file() and not config.label2id_file_path:  # which is another name of the key
            told["label_file_path"] = str(labels)
        return told

    def _open_records(self, option: str, columns: Mapping[str, str], num_samples: int | None = None) -> "Records":
        records = super()._open_records(option, columns, num_samples)
        length = records.columns["label_ids"][1]
        if length != records.seq_length:
            raise UserError(f"{option}: {records.files[0]} has {length} labels for {records.seq_length} tokens; give "
                            f"records with a tag for each token, as the generators of NER data write them")
        beside = records.files[0].with_name(LABEL_FILE)
        if beside.is_file() and LabelScheme.from_file(beside).types != self.labels.types:
            raise UserError(f"{option}: {records.files[0]} was made with the types of {beside}, which are not those of "
                            f"{self.labels.source}; give that label file, or make the records anew")
        return records

    def eval_records(self) -> "RecordSource":
        """The records to evaluate on, for the benchmark the sentences of the JSON file."""
        if not self.is_benchmark:
            return super().eval_records()
        path = Path(self.config.eval_data_file_path)
        if path.is_dir() or path.suffix != ".json":
            raise UserError(f"eval_data_file_path: clue_benchmark evaluates the sentences of a CLUENER file such as "
                            f"dev.json, and {path} is none; give that file, or choose another assessment_method")
        from src.tasks.ner.corpora import read_cluener  # the benchmark alone reads raw sentences

        encoder = self._encoder()
        sentences = list(read_cluener(path))
        if not sentences:
            raise UserError(f"eval_data_file_path: {path} holds no sentence")
        for sentence in sentences:
            for _ in encoder.encode(sentence):  # checks the types
                pass
        return SentenceWindows(sentences, encoder, str(path))

    # ------------------------------------------------------------ evaluation

    def evaluate(self, network: Callable[..., Tensor], batches: "EvaluationBatches") -> Evaluation:
        """Tag every record, score tokens and entities."""
        predicted = np.zeros((batches.records.num_rows, self.bert_config.seq_length), np.int32)
        gold = predicted[:0] if self.is_benchmark else np.zeros_like(predicted)  # the benchmark's is in its sentences
        ends = np.zeros(batches.records.num_rows, np.int32)  # where [SEP] is
        for (ids, mask, segments, *label_ids), rows in tqdm(batches, desc="evaluating", unit="batch", leave=False,
                                                            disable=None):
            length, count = ids.shape[1], len(rows)
            predicted[rows, :length] = network(Tensor(ids), Tensor(mask), Tensor(segments)).asnumpy()[:count]
            ends[rows] = mask.sum(axis=1)[:count] - 1
            if label_ids:
                gold[rows, :length] = label_ids[0][:count]
        if isinstance(batches.records, SentenceWindows):
            batches.complete(predicted, ends)
            return self._score_sentences(batches.records, _of_tokens(predicted, ends))
        batches.complete(predicted, gold, ends)
        return self._score_records(batches.records, _of_tokens(gold, ends), _of_tokens(predicted, ends))

    def _score_records(self, records: "RecordSource", gold: list[np.ndarray], predicted: list[np.ndarray]
                       ) -> Evaluation:
        from src.tasks.ner.evaluated import evaluated_sentences  # no prediction needs these
        from src.tasks.ner.scores import entity_counts, entity_lines, entity_results, entity_table, token_scores

        sentences, note = evaluated_sentences(records, list(map(len, gold)), self._vocab, self.config.text_unit)
        scored = [sentence.score(gold, predicted, self.labels) for sentence in sentences]
        counts = entity_counts([one.gold for one in scored], [one.found for one in scored], self.labels.types)
        tokens = token_scores(*(np.concatenate(tags) for tags in zip(*(one[2:] for one in scored), strict=True)))

        def items() -> Iterator[dict]:
            for index, (sentence, one) in enumerate(zip(sentences, scored, strict=True)):
                yield sentence.item(index, one)

        return Evaluation(tokens.results() | entity_results(counts),
                          [*tokens.lines(self.method), *filter(None, [note]), *entity_lines(counts)],
                          items, breakdowns=[entity_table(counts)])

    @cached_property
    def _vocab(self) -> Vocabulary | None:
        return Vocabulary.from_file(self.config.vocab_file_path) if self.config.vocab_file_path else None

    def _score_sentences(self, windows: SentenceWindows, predicted: list[np.ndarray]) -> Evaluation:
        from src.tasks.ner.clue import benchmark_scores, write_submission  # no prediction needs scores
        from src.tasks.ner.scores import entity_counts, entity_lines, entity_results, entity_table

        texts = [sentence.text for sentence in windows.sentences]
        gold = [sentence.entities for sentence in windows.sentences]
        found = windows.entities(predicted, self.labels)
        counts = entity_counts(gold, found, self.labels.types)
        results = benchmark_scores(texts, gold, found, self.labels.types)
        lines = [f"clue_benchmark F1 {results['clue_f1']:.6f} (mean of "
                 + ", ".join(f"{name} {results[f'clue_f1_{name}']:.6f}" for name in self.labels.types) + ")",
                 *entity_lines(counts)]
        if not any(gold):
            lines = [f"{windows.files[0]} marks no entity: nothing to score, only to predict"]

        def items() -> Iterator[dict]:
            for text, there, entities in zip(texts, gold, found, strict=True):
                yield {"text": text, "entities": [span._asdict() for span in entities],
                       "gold": [span._asdict() for span in there]}

        return Evaluation(results | entity_results(counts), lines, items,
                          lambda path: write_submission(path, texts, found),
                          [entity_table(counts)] if any(gold) else [])

    # ------------------------------------------------------------ exchange, the C++ program

    @classmethod
    def read_class_names(cls, label_file: str, num_class: int) -> list[str]:
        """The tags of the types in the label file, with the states of a CRF where there is room for them."""
        tags = LabelScheme.from_file(label_file).tags
        return [*tags, *(CRF_STATES if num_class == len(tags) + len(CRF_STATES) else ())]

    @classmethod
    def label_lines(cls, class_names: Sequence[str]) -> list[str]:
        """The entity types whose tags these are, however the tags are spelt."""
        types = [tag[2:] for tag in class_names[1::4]]
        spelt = [tag if tag == OUTSIDE else {"I": "M"}.get(tag[0], tag[0]) + "_" + tag[2:] for tag in class_names]
        try:
            if spelt == LabelScheme(types).tags:
                return types
        except UserError:
            pass
        raise UserError(f"the tags {', '.join(class_names)} are not O followed by S, B, M and E of each type, which "
                        f"run_ner.py and predict.py expect: no label file; the network's outputs are in this order")

    @classmethod
    def exchanged_class_names(cls, class_names: Sequence[str]) -> tuple[list[str], list[str]]:
        """See `pipeline_labels`."""
        from src.tasks.ner.pipeline_labels import pipeline_labels  # only an exchange needs it

        return pipeline_labels(class_names)

    @classmethod
    def cpp_names(cls) -> dict[str, list[str]]:
        """One name without and one with a CRF."""
        return {cls.name: [], f"{cls.name}_crf": ["--use_crf=true"]}

    @classmethod
    def cpp_name(cls, config: Config) -> str:
        """Which of them a configuration is of."""
        return f"{cls.name}_crf" if config.use_crf else cls.name


def _of_tokens(tags: np.ndarray, ends: np.ndarray) -> list[np.ndarray]:
    """The tags of each record's tokens without [CLS] and [SEP], which stands at `ends`."""
    return [of_record[1:end] for of_record, end in zip(tags, ends, strict=True)]


def read_label_scheme(config: Config) -> LabelScheme:
    """The entity types of `label_file_path`, or of `label2id_file_path`.

    Raises:
        UserError: neither is set, both are and differ, or it is no label file.
    """
    paths = {option: config[option] for option in ("label_file_path", "label2id_file_path") if config[option]}
    nearest = max((_nearness(config, option) for option in paths), default=None)
    paths = {option: path for option, path in paths.items() if _nearness(config, option) == nearest}
    if len(set(paths.values())) > 1:
        raise UserError("label_file_path and label2id_file_path are both set and differ; they are one option by two "
                        "names, so give one")
    option, path = next(iter(paths.items()), ("label_file_path", ""))
    return LabelScheme.from_file(path, option)


def _nearness(config: Config, option: str) -> tuple[bool, bool]:
    """How close to the user's hand an option stands: the command line comes before a file, that before a folder."""
    return config.was_given(option), config.is_explicit(option)
