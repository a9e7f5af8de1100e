"""Named-entity recognition as a fine-tuning task."""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
from mindspore import Tensor, nn
from tqdm import tqdm

from src.bert_for_finetune import BertNER, BertNERTagger
from src.bert_model import BertConfig
from src.cluner_evaluation import SUBMISSION_NAME, benchmark_scores, write_submission
from src.dataset import EvaluationBatches, Limit
from src.errors import UserError
from src.files import write_json_lines
from src.model_utils.config import Config
from src.records.reader import SEQUENCE_COLUMNS, Records
from src.tasks.base import Evaluation, FinetuneTask, finetune_tokenizer
from src.tasks.classifier.task import token_limits
from src.tasks.ner.corpora import read_cluener
from src.tasks.ner.labels import LabelScheme, Span
from src.tasks.ner.scores import entity_counts, entity_lines, entity_results, token_scores
from src.tasks.ner.text import NerEncoder, SentenceTokenizer
from src.tasks.ner.windows import SentenceWindows
from src.tokenization import Vocabulary

LABEL_FILE = "label_file"  # what the generators write beside the records


class NerTask(FinetuneTask):
    """Entities of sentences, marked by a tag for each token.

    `clue_benchmark` evaluates the sentences of a CLUENER JSON file, other methods evaluate records.
    """

    name = "ner"
    train_columns = dict.fromkeys((*SEQUENCE_COLUMNS, "label_ids"), "int32")

    def __init__(self, config: Config, bert_config: BertConfig) -> None:
        super().__init__(config, bert_config)
        self.method = config.assessment_method.lower()
        self.is_benchmark = self.always_writes_predictions = self.method == "clue_benchmark"
        self.best_metric = "clue_f1" if self.is_benchmark else "entity_f1"
        self.eval_columns = dict.fromkeys(SEQUENCE_COLUMNS, "int32") if self.is_benchmark else self.train_columns
        self.labels = read_label_scheme(config)
        count = len(self.labels.tags)
        self.limits = token_limits(bert_config) | {
            "label_ids": Limit(count, f"{self.labels.source} has {len(self.labels.types)} types")}

    @property
    def predictions_name(self) -> str:
        """The file of the predictions where the user names none."""
        return SUBMISSION_NAME if self.is_benchmark else super().predictions_name

    def training_network(self) -> nn.Cell:
        """The network with its loss."""
        return BertNER(self.bert_config, True, len(self.labels.tags), self.config.use_crf == "true",
                       self.config.with_lstm == "true", self.bert_config.hidden_dropout_prob)

    def evaluation_network(self) -> nn.Cell:
        """The network that gives tags."""
        return tagger(self.config, self.bert_config, self.labels)

    # ------------------------------------------------------------ records

    def _open_records(self, option: str, columns: dict[str, str]) -> Records:
        records = super()._open_records(option, columns)
        length = records.columns["label_ids"][1]
        if length != records.seq_length:
            raise UserError(f"{option}: {records.files[0]} has {length} labels for {records.seq_length} tokens; give "
                            f"records with a tag for each token, as the generators of NER data write them")
        beside = records.files[0].with_name(LABEL_FILE)
        if beside.is_file() and LabelScheme.from_file(beside).types != self.labels.types:
            raise UserError(f"{option}: {records.files[0]} was made with the types of {beside}, which are not those of "
                            f"{self.labels.source}; give that label file, or make the records anew")
        return records

    def eval_records(self) -> Records | SentenceWindows:
        """The records to evaluate on, for the benchmark the sentences of the JSON file."""
        if not self.is_benchmark:
            return super().eval_records()
        path = Path(self.config.eval_data_file_path)
        if path.is_dir() or path.suffix != ".json":
            raise UserError(f"eval_data_file_path: clue_benchmark evaluates the sentences of a CLUENER file such as "
                            f"dev.json, and {path} is none; give that file, or choose another assessment_method")
        encoder = NerEncoder(text_tokenizer(self.config, self.bert_config), self.labels, self.bert_config.seq_length)
        sentences = list(read_cluener(path))
        if not sentences:
            raise UserError(f"eval_data_file_path: {path} holds no sentence")
        for sentence in sentences:
            for _ in encoder.encode(sentence):  # checks the types
                pass
        return SentenceWindows(sentences, encoder, str(path))

    # ------------------------------------------------------------ evaluation

    def evaluate(self, network: nn.Cell, batches: EvaluationBatches) -> Evaluation:
        """Tag every record, score tokens and entities."""
        tags = np.zeros((2, batches.records.num_rows, self.bert_config.seq_length), np.int32)  # predicted and gold
        ends = np.zeros(batches.records.num_rows, np.int32)  # where [SEP] is
        for (ids, mask, segments, *label_ids), rows in tqdm(batches, desc="evaluating", unit="batch", leave=False,
                                                            disable=None):
            found = network(Tensor(ids), Tensor(mask), Tensor(segments)).asnumpy()
            ends[rows] = mask.sum(axis=1)[:len(rows)] - 1
            for kind, values in enumerate((found, *label_ids)):
                tags[kind, rows, :values.shape[1]] = values[:len(rows)]
        batches.complete(*tags, ends)
        predicted, gold = ([of_row[1:end] for of_row, end in zip(kind, ends, strict=True)] for kind in tags)
        if self.is_benchmark:
            return self._score_sentences(batches.records, predicted)
        return self._score_records(batches.records, gold, predicted)

    def _score_records(self, records: Records, gold: list[np.ndarray], predicted: list[np.ndarray]) -> Evaluation:
        decode = self.labels.decode
        counts = entity_counts(map(decode, gold), map(decode, predicted), self.labels.types)
        tokens = token_scores(np.concatenate(gold), np.concatenate(predicted))
        return Evaluation(tokens.results() | entity_results(counts), tokens.lines(self.method) + entity_lines(counts),
                          lambda path: write_json_lines(path, self._items(records, gold, predicted)))

    def _items(self, records: Records, gold: list[np.ndarray], predicted: list[np.ndarray]) -> Iterator[dict]:
        """What was found in each record, and what is there; positions count its tokens without [CLS]."""
        for row, tags in enumerate(zip(predicted, gold, strict=True)):
            ids = records.read(np.array([row]), ["input_ids"])["input_ids"][0, 1:] if self._vocab else None
            found, there = ([self._item(span, ids) for span in self.labels.decode(of_record)] for of_record in tags)
            yield {"index": row, "entities": found, "gold": there}

    def _item(self, span: Span, ids: np.ndarray | None) -> dict:
        item = {"type": span.type, "start": span.start, "end": span.end}
        if ids is None:
            return item
        tokens = self._vocab.convert_ids_to_tokens(ids[span.start:span.end])
        return item | {"text": " ".join(tokens).replace(" ##", "")}

    @cached_property
    def _vocab(self) -> Vocabulary | None:
        return Vocabulary.from_file(self.config.vocab_file_path) if self.config.vocab_file_path else None

    def _score_sentences(self, windows: SentenceWindows, predicted: list[np.ndarray]) -> Evaluation:
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
        return Evaluation(results | entity_results(counts), lines, lambda path: write_submission(path, texts, found))


# ---------------------------------------------------------------- what prediction and export share

def read_label_scheme(config: Config) -> LabelScheme:
    """The entity types of `label_file_path`, or of `label2id_file_path`.

    Raises:
        UserError: neither is set, both are and differ, or it is no label file.
    """
    paths = {option: config[option] for option in ("label_file_path", "label2id_file_path") if config[option]}
    if len(set(paths.values())) > 1:
        raise UserError("label_file_path and label2id_file_path are both set and differ; they are one option by two "
                        "names, so give one")
    option, path = next(iter(paths.items()), ("label_file_path", ""))
    return LabelScheme.from_file(path, option)


def text_tokenizer(config: Config, bert_config: BertConfig) -> SentenceTokenizer:
    """What cuts sentences into tokens as when the records were made.

    Raises:
        UserError: the vocabulary is missing or larger than the network's.
    """
    return SentenceTokenizer(finetune_tokenizer(config, bert_config), config.text_unit)


def tagger(config: Config, bert_config: BertConfig, labels: LabelScheme) -> BertNERTagger:
    """The network that gives tags, as the options describe it."""
    return BertNERTagger(bert_config, len(labels.tags), config.use_crf == "true", config.with_lstm == "true")
