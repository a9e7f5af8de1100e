"""What a kind of fine-tuning is: its records, its networks, its scores."""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from mindspore import nn

from src.bert_model import BertConfig
from src.errors import UserError
from src.files import check_output, write_json_lines
from src.model_utils.config import Config
from src.model_utils.device_adapter import target_of
from src.records.columns import Limit
from src.tasks.base import Task
from src.tokenization import FullTokenizer
from src.weights import LoadReport, load_weights

if TYPE_CHECKING:
    from src.dataset import EvaluationBatches
    from src.html_page import Table
    from src.records.reader import Records, RecordSource


class Evaluation(NamedTuple):
    """Outcome of evaluating a network on every record."""

    results: dict[str, float]  # every score by name, for the metrics file
    lines: list[str]  # what is printed
    items: Callable[[], Iterable[Mapping[str, Any]]] | None = None  # what was predicted for each record or example
    write_predictions: Callable[[Path], None] | None = None  # writes that to a file, if not the items, one a line
    breakdowns: Sequence["Table"] = ()  # what the scores consist of, for a report

    def write(self, path: Path, items: Iterable[Mapping[str, Any]]) -> None:
        """Write the predictions, of which these are the items."""
        if self.write_predictions:
            self.write_predictions(path)
        elif self.items:
            write_json_lines(path, items)


class FinetuneTask(Task):
    """One kind of fine-tuning. Its networks have their encoder and head in `bert`."""

    weights_option = "load_finetune_checkpoint_path"
    eval_data_options: ClassVar[tuple[str, ...]] = ("eval_data_file_path",)  # evaluation needs one of them
    always_writes_predictions: bool = False  # an evaluation alone too, into the working directory
    # What names in checkpoints of optional parts of the network begin with: without them it would work, and give other
    # results. And what the user has to do then.
    optional_parts: ClassVar[tuple[str, ...]] = ()
    optional_parts_advice: ClassVar[str] = ""
    best_metric: str  # key of `Evaluation.results`; the higher, the better
    train_columns: Mapping[str, str]  # {name: type} in the order in which the training network takes them
    eval_columns: Mapping[str, str]
    limits: Mapping[str, Limit]  # bounds of the values in the records

    def __init__(self, config: Config, bert_config: BertConfig) -> None:
        super().__init__(config, bert_config)
        self.length_grouping = config.length_grouping
        if self.length_grouping == "auto":
            self.length_grouping = "trim" if target_of(config) == "CPU" else "none"

    def check(self) -> None:
        """Refuse options that contradict each other; called before training and evaluation.

        Raises:
            UserError: they do.
        """

    @property
    def predictions_name(self) -> str:
        """The file of the predictions in the directory of the checkpoints, where the user names none."""
        return f"{self.name}_predictions.jsonl"

    @property
    def predictions_names(self) -> tuple[str, ...]:
        """That file and those beside it."""
        return (self.predictions_name,)

    @abstractmethod
    def training_network(self) -> nn.Cell:
        """A network that maps the training columns to the loss, a scalar; parameters as of `inference_network`."""

    @abstractmethod
    def evaluate(self, network: Callable, batches: "EvaluationBatches") -> Evaluation:
        """Score `inference_network`, or what answers in its place, on every record.

        Ranks compute their shares, and all know the scores.
        """

    def load(self, network: nn.Cell, path: str, option: str) -> LoadReport:
        """Load every weight of a fine-tuned network; of a directory the best, or else the newest checkpoint."""
        report = load_weights(network, path, prefix=self.checkpoint_prefix())
        without_weights = [*report.missing, *report.wrong_shape]
        if without_weights:
            shapes = report.wrong_shape.get(without_weights[0])
            detail = f" ({shapes[0]} there, {shapes[1]} here)" if shapes else ""
            raise UserError(f"{option}: {report.path} has no fitting weights for {len(without_weights)} parameters of "
                            f"the network, such as {without_weights[0]}{detail}; give a checkpoint of this task, and "
                            f"the network's sizes, classes or label file that it was trained with")
        not_taken = [given for given in report.unexpected if given.startswith(self.optional_parts)]
        if not_taken:
            raise UserError(f"{option}: {report.path} was trained with {not_taken[0]}, which this network does not "
                            f"have; {self.optional_parts_advice}")
        return report

    @classmethod
    def cpp_names(cls) -> dict[str, list[str]]:
        """One name."""
        return {cls.name: []}

    # ------------------------------------------------------------ records

    def train_records(self) -> "RecordSource":
        """Open the records to train on."""
        return self._open_records("train_data_file_path", self.train_columns, self.config.num_samples)

    def eval_records(self) -> "RecordSource":
        """Open the records to evaluate on."""
        return self._open_records("eval_data_file_path", self.eval_columns)

    def _open_records(self, option: str, columns: Mapping[str, str], num_samples: int | None = None) -> "Records":
        from src.records.reader import open_records  # predicting needs no records

        return open_records(self.config[option], self.config.dataset_format, columns, option=option,
                            seq_length=self.bert_config.seq_length, num_samples=num_samples,
                            schema_path=self.config.schema_file_path or None)

    def evaluation_batches(self, rank: int = 0, rank_size: int = 1) -> "EvaluationBatches":
        """Every record to evaluate on once, on one of `rank_size` ranks."""
        from src.dataset import EvaluationBatches  # nor batches of them

        records = self.eval_records()
        return EvaluationBatches(records, min(self.config.eval_batch_size, records.num_rows), rank=rank,
                                 rank_size=rank_size, limits=self.limits,
                                 group_by_length=self.length_grouping != "none")


def token_limits(bert_config: BertConfig) -> dict[str, Limit]:
    """Bounds of the columns that every fine-tuning task has."""
    return {
        "input_ids": Limit(bert_config.vocab_size, f"vocab_size is {bert_config.vocab_size}"),
        "input_mask": Limit(2, "a mask is 0 or 1"),
        "segment_ids": Limit(bert_config.type_vocab_size, f"type_vocab_size is {bert_config.type_vocab_size}"),
    }


def finetune_tokenizer(config: Config, bert_config: BertConfig, origin: str = "that the records were made with"
                       ) -> FullTokenizer:
    """The tokenizer of `vocab_file_path`; `origin` tells the user which file that is.

    Raises:
        UserError: the option is not set, or the vocabulary is larger than the network's.
    """
    if not config.vocab_file_path:
        raise UserError(f"vocab_file_path is not set; give the vocab.txt {origin}")
    tokenizer = FullTokenizer(config.vocab_file_path, config.do_lower_case)
    if len(tokenizer.vocab) > bert_config.vocab_size:
        raise UserError(f"vocab_file_path: {config.vocab_file_path} has {len(tokenizer.vocab)} tokens, but vocab_size "
                        f"is {bert_config.vocab_size}; give the vocabulary that the network was trained with")
    return tokenizer


def predictions_path(task: FinetuneTask, folder: Path) -> Path:
    """The file for what was predicted: `predictions_file`, which may be a directory, or else one in `folder`.

    Raises:
        UserError: it cannot be written.
    """
    path = Path(task.config.predictions_file or folder)
    return check_output(path / task.predictions_name if path.is_dir() else path, "predictions_file")


def require_data(config: Config, options: Sequence[str], what_for: str) -> None:
    """Make sure that one of the options names data.

    Raises:
        UserError: none does.
    """
    if not any(config[option] for option in options):
        raise UserError(f"{options[0]} is not set; give the data to {what_for} on")
