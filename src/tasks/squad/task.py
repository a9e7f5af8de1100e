"""Extractive question answering (SQuAD 1.1 and 2.0) as a fine-tuning task."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from mindspore import Tensor, nn
from tqdm import tqdm

from src.bert_for_finetune import BertSquad
from src.bert_model import BertConfig
from src.dataset import EvaluationBatches
from src.errors import UserError
from src.files import atomic_write, is_passed_on, write_json_lines
from src.finetune_eval_model import BertSquadModel, WithPrefix
from src.model_utils.config import Config
from src.onnx_graph import Head
from src.records.columns import SEQUENCE_COLUMNS, Limit
from src.records.reader import RecordSource
from src.tasks.base import ExchangeHead
from src.tasks.finetune_task import Evaluation, FinetuneTask, finetune_tokenizer, token_limits
from src.tasks.prediction import InferenceModel, Predictor
from src.tasks.squad.answers import (
    AnswerOptions,
    QuestionAnswers,
    best_thresholds,
    cmrc_exact_match,
    cmrc_f1,
    exact_match,
    extract_answers,
    question_scores,
    raw_scores,
    score_cmrc,
    score_squad_1,
    score_squad_2,
    squad_1_f1,
)
from src.tasks.squad.examples import read_squad
from src.tasks.squad.features import FeatureOptions, SquadFeatures, report_lines
from src.tasks.squad.predictor import SquadPredictor, describe_answer
from src.tokenization import FullTokenizer

_MINIMUM = float(np.finfo(np.float32).min)


class SquadTask(FinetuneTask):
    """Answers that are a part of the context; for SQuAD 2.0 also none.

    Records come from record files or directly from the JSON file. The JSON file to evaluate on is needed in any case:
    it holds the texts that answers are cut out of, and the annotated answers.
    """

    name = "squad"
    description = "run_squad"
    config_file = "task_squad_config.yaml"
    model_options = ("do_lower_case", "version_2_with_negative", "doc_stride", "max_query_length",
                     "null_score_diff_threshold")
    pipeline_tag = "question-answering"
    example = {"question": "Who wrote it?", "context": "It was written by its author."}
    exchange_head = ExchangeHead((("output", "2H", "bert.dense1", "qa_outputs", "cls/squad"),), "ForQuestionAnswering",
                                 uses_pooler=False)
    best_metric = "f1"
    eval_data_options = ("eval_json_path", "eval_data_file_path")
    eval_columns = dict.fromkeys(SEQUENCE_COLUMNS, "int32")
    train_columns = eval_columns | dict.fromkeys(("start_positions", "end_positions"), "int32")

    def __init__(self, config: Config, bert_config: BertConfig) -> None:
        super().__init__(config, bert_config)
        self.version_2 = config.version_2_with_negative
        self.feature_options = FeatureOptions(bert_config.seq_length, config.doc_stride, config.max_query_length)
        self.answer_options = AnswerOptions(config.n_best_size, config.max_answer_length, self.version_2,
                                            config.null_score_diff_threshold)
        length = bert_config.seq_length
        self.limits = token_limits(bert_config) | dict.fromkeys(
            ("start_positions", "end_positions"), Limit(length, f"seq_length is {length}"))

    def check(self) -> None:
        """Refuse a method that has no place for questions without an answer."""
        if self.version_2 and self.config.assessment_method == "CMRC":
            raise UserError("assessment_method: CMRC knows no questions without an answer; choose SQuAD, or set "
                            "version_2_with_negative to false")

    def training_network(self) -> nn.Cell:
        """The network with its loss."""
        return BertSquad(self.bert_config, True)

    def inference_network(self) -> nn.Cell:
        """The network that gives logits."""
        return WithPrefix(BertSquadModel(self.bert_config, False))

    def head(self) -> Head:
        """Scores of every token as start and as end of the answer."""
        from src.tasks.squad.onnx_head import squad_head  # only an export needs it

        return squad_head()

    def predictor(self, open_model: Callable[[], InferenceModel]) -> Predictor:
        """What answers questions about new texts."""
        return SquadPredictor(self.tokenizer, self.feature_options, self.answer_options, self.config.eval_batch_size,
                              open_model())

    @property
    def predictions_name(self) -> str:
        """As the official scripts call it."""
        return "predictions.json"

    @property
    def predictions_names(self) -> tuple[str, ...]:
        """As `write_predictions` has them."""
        items = f"{self.name}_{Path(self.predictions_name).stem}.jsonl"
        return self.predictions_name, f"nbest_{self.predictions_name}", "null_odds.json", items

    # ------------------------------------------------------------ records

    @cached_property
    def tokenizer(self) -> FullTokenizer:
        """The tokenizer of `vocab_file_path`."""
        return finetune_tokenizer(self.config, self.bert_config, "of the pre-trained checkpoint")

    @cached_property
    def features(self) -> SquadFeatures:
        """The records of the JSON file to evaluate on, which know where in the text their tokens are."""
        option = "eval_json_path" if self.config.eval_json_path else "eval_data_file_path"
        if not is_json(self.config[option]):
            raise UserError(f"eval_json_path is not set; besides the records, evaluation needs the SQuAD file that "
                            f"{self.config.eval_data_file_path} was made from")
        return self._features(option, is_training=False)

    def _features(self, option: str, is_training: bool) -> SquadFeatures:
        squad = read_squad(self.config[option], option=option, version_2_with_negative=self.version_2)
        features = SquadFeatures(squad, self.tokenizer, self.feature_options, is_training)
        print("\n".join(report_lines(features)), flush=True)
        if not features.num_rows:
            raise UserError(f"{option}: {features.files[0]} gives no record; give a file with contexts and answers")
        features.select(self.train_columns if is_training else self.eval_columns)
        return features

    def train_records(self) -> RecordSource:
        """The records to train on, made from a JSON file or read from record files."""
        if is_json(self.config.train_data_file_path):
            features = self._features("train_data_file_path", is_training=True)
            features.limit(self.config.num_samples)
            return features
        return super().train_records()

    def eval_records(self) -> RecordSource:
        """The records to evaluate on; those of record files must be what the JSON file gives."""
        path = self.config.eval_data_file_path
        if not path or is_json(path):
            return self.features
        features, records = self.features, super().eval_records()
        if records.num_rows != features.num_rows:
            raise self._differs(f"{records.files[0]} has {records.num_rows} records, but {features.files[0]} gives "
                                f"{features.num_rows}")
        return records

    def _differs(self, what: str) -> UserError:
        config = self.config
        return UserError(f"eval_data_file_path: {what} with doc_stride {config.doc_stride}, max_query_length "
                         f"{config.max_query_length}, do_lower_case {config.do_lower_case} and {config.vocab_file_path}"
                         f"; give the settings that the records were made with, or leave eval_data_file_path empty")

    # ------------------------------------------------------------ evaluation

    def evaluate(self, network: Callable[..., tuple[Tensor, ...]], batches: EvaluationBatches) -> Evaluation:
        """Answer every question and score the answers."""
        features = self.features
        logits = np.full((2, features.num_rows, features.seq_length), _MINIMUM, np.float32)
        for (input_ids, *others), rows in tqdm(batches, desc="evaluating", unit="batch", leave=False, disable=None):
            length, count = input_ids.shape[1], len(rows)
            expected = features.read(rows, ["input_ids"])["input_ids"][:, :length]
            wrong = np.flatnonzero((input_ids[:count] != expected).any(axis=1))
            if len(wrong):
                raise self._differs(f"{batches.records.where(int(rows[wrong[0]]))} is not what "
                                    f"{features.where(int(rows[wrong[0]]))} gives")
            scores = network(*(Tensor(values) for values in (input_ids, *others)))
            for kind in (0, 1):
                logits[kind, rows, :length] = scores[kind].asnumpy()[:count]
        batches.complete(*logits)
        return self._score(extract_answers(features, logits[0], logits[1], self.answer_options))

    def _score(self, answers: list[QuestionAnswers]) -> Evaluation:
        examples = self.features.examples
        by_id = {example.qas_id: answer for example, answer in zip(examples, answers, strict=True)}
        texts = {qas_id: answer.text for qas_id, answer in by_id.items()}
        if not self.version_2:
            score = score_cmrc if self.config.assessment_method == "CMRC" else score_squad_1
            results = score(examples, texts)
            lines = [json.dumps(results)]
        else:
            best_texts = {qas_id: answer.best.text if answer.best else "" for qas_id, answer in by_id.items()}
            null_odds = {qas_id: answer.null_odds for qas_id, answer in by_id.items()}
            scores = score_squad_2(examples, texts) | best_thresholds(examples, best_texts, null_odds)
            lines = [json.dumps({"exact_match": scores["exact"], "f1": scores["f1"]}), json.dumps(scores)]
            results = {"exact_match": scores.pop("exact")} | scores
        from src.tasks.squad.question_kinds import kinds_table  # no prediction needs it

        f1 = self._f1_of_questions(texts)

        def items() -> Iterator[dict[str, Any]]:
            return self._items(answers, f1)

        return Evaluation(results, lines, items, lambda path: self._write(path, by_id, items()),
                          [kinds_table([example.question for example in examples], f1)])

    def _write(self, path: Path, answers: Mapping[str, QuestionAnswers], items: Iterable[dict[str, Any]]) -> None:
        write_predictions(path, answers, self.version_2)
        if not is_passed_on(path):
            write_json_lines(path.with_name(f"{self.name}_{path.stem}.jsonl"), items)

    def _f1_of_questions(self, texts: Mapping[str, str]) -> list[float]:
        """F1 of each question in percent."""
        examples = self.features.examples
        if self.version_2:
            return (100.0 * raw_scores(examples, texts).f1).tolist()
        methods = (cmrc_exact_match, cmrc_f1) if self.config.assessment_method == "CMRC" else (exact_match, squad_1_f1)
        return [100.0 * value for value in question_scores(examples, texts, *methods).f1]

    def _items(self, answers: list[QuestionAnswers], f1: list[float]) -> Iterator[dict[str, Any]]:
        """Questions, contexts and answers as `predict.py` writes them, with the annotated ones and the F1."""
        for index, (example, answer, score) in enumerate(zip(self.features.examples, answers, f1, strict=True)):
            yield {"index": index, "id": example.qas_id, "file": str(self.features.files[0]), "place": example.place,
                   "question": example.question, "context": self.features.texts[example.context],
                   **describe_answer(answer), "f1": score, "gold": [gold.text for gold in example.answers],
                   "gold_starts": [gold.start for gold in example.answers]}


def is_json(path: str) -> bool:
    """Whether an option names a SQuAD file rather than record files."""
    return Path(path).suffix.lower() == ".json"


def write_predictions(path: Path, answers: Mapping[str, QuestionAnswers], version_2: bool) -> None:
    """Write the answers in the forms that the official scripts read: predictions, n-best lists, null odds (2.0).

    Beside `predictions.json` they are `nbest_predictions.json` and `null_odds.json`; beside a device or pipe there are
    none.
    """
    _write_json(path, {qas_id: answer.text for qas_id, answer in answers.items()})
    if is_passed_on(path):
        return
    _write_json(path.with_name(f"nbest_{path.name}"), {
        qas_id: [{"text": c.text, "probability": c.probability, "start_logit": c.start_logit, "end_logit": c.end_logit}
                 for c in answer.candidates] for qas_id, answer in answers.items()})
    if version_2:
        name = path.name.replace("predictions", "null_odds") if "predictions" in path.name else f"null_odds_{path.name}"
        _write_json(path.with_name(name), {qas_id: answer.null_odds for qas_id, answer in answers.items()})


def _write_json(path: Path, content: Mapping) -> None:
    """Write an object with a key a line, so that an n-best list stays on one."""
    lines = (f"{json.dumps(key, ensure_ascii=False)}: {json.dumps(value, ensure_ascii=False)}"
             for key, value in content.items())
    # Half of a surrogate pair, which JSON allows and UTF-8 does not, is written as JSON's own escape.
    with atomic_write(path) as temporary:
        temporary.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8", errors="backslashreplace")
