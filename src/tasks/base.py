"""What a kind of fine-tuning is: its records, its networks, its scores."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar, NamedTuple

from mindspore import nn

from src.bert_model import BertConfig
from src.dataset import EvaluationBatches, Limit
from src.errors import UserError
from src.model_utils.config import Config
from src.records.reader import Records, open_records
from src.tokenization import FullTokenizer


def finetune_tokenizer(config: Config, bert_config: BertConfig, origin: str = "that the records were made with"
                       ) -> FullTokenizer:
    """The tokenizer of `vocab_file_path`; `origin` tells the user which file that is.

    Raises:
        UserError: the option is not set, or the vocabulary is larger than the network's.
    """
    if not config.vocab_file_path:
        raise UserError(f"vocab_file_path is not set; give the vocab.txt {origin}")
    tokenizer = FullTokenizer(config.vocab_file_path, config.do_lower_case == "true")
    if len(tokenizer.vocab) > bert_config.vocab_size:
        raise UserError(f"vocab_file_path: {config.vocab_file_path} has {len(tokenizer.vocab)} tokens, but vocab_size "
                        f"is {bert_config.vocab_size}; give the vocabulary that the network was trained with")
    return tokenizer


class Evaluation(NamedTuple):
    """Outcome of evaluating a network on every record."""

    results: dict[str, float]  # every score by name, for the metrics file
    lines: list[str]  # what is printed
    write_predictions: Callable[[Path], None] | None = None  # writes what was predicted for every record to a file


class FinetuneTask(ABC):
    """One kind of fine-tuning: its records, its networks, its scores.

    Args:
        config: the script's configuration.
        bert_config: sizes of the encoder.
    """

    name: ClassVar[str]  # begins the names of checkpoints
    eval_data_options: ClassVar[tuple[str, ...]] = ("eval_data_file_path",)  # evaluation needs one of them
    always_writes_predictions: bool = False  # an evaluation alone too, into the working directory
    best_metric: str  # key of `Evaluation.results`; the higher, the better
    train_columns: Mapping[str, str]  # {name: type} in the order in which the training network takes them
    eval_columns: Mapping[str, str]
    limits: Mapping[str, Limit]  # bounds of the values in the records

    def __init__(self, config: Config, bert_config: BertConfig) -> None:
        self.config = config
        self.bert_config = bert_config
        automatic = "trim" if config.device_target == "CPU" else "none"
        self.length_grouping = automatic if config.length_grouping == "auto" else config.length_grouping

    @property
    def predictions_name(self) -> str:
        """The file of the predictions in the directory of the checkpoints, where the user names none."""
        return f"{self.name}_predictions.jsonl"

    @abstractmethod
    def training_network(self) -> nn.Cell:
        """A network that maps the training columns to the loss, a scalar."""

    @abstractmethod
    def evaluation_network(self) -> nn.Cell:
        """What `evaluate` calls, with parameters of the same names."""

    @abstractmethod
    def evaluate(self, network: nn.Cell, batches: EvaluationBatches) -> Evaluation:
        """Score the network on every record; ranks compute their shares and all know the scores."""

    def train_records(self) -> Records:
        """Open the records to train on."""
        return self._open_records("train_data_file_path", self.train_columns)

    def eval_records(self) -> Records:
        """Open the records to evaluate on."""
        return self._open_records("eval_data_file_path", self.eval_columns)

    def _open_records(self, option: str, columns: Mapping[str, str]) -> Records:
        return open_records(self.config[option], self.config.dataset_format, columns, option=option,
                            seq_length=self.bert_config.seq_length, schema_path=self.config.schema_file_path or None)

    def evaluation_batches(self, rank: int = 0, rank_size: int = 1) -> EvaluationBatches:
        """Every record to evaluate on once, on one of `rank_size` ranks."""
        records = self.eval_records()
        return EvaluationBatches(records, min(self.config.eval_batch_size, records.num_rows), rank=rank,
                                 rank_size=rank_size, limits=self.limits,
                                 group_by_length=self.length_grouping != "none")
