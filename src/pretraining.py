"""What pre-training and its evaluation share: sizes of the network, records, and the evaluation loop."""

import sys
from collections.abc import Mapping

from mindspore import Tensor, nn
from tqdm import tqdm

from src.assessment_method import PretrainScore
from src.bert_for_pre_training import BertPretrainEval
from src.bert_model import BertConfig
from src.callbacks import StepReport
from src.communication import gather
from src.dataset import PRETRAIN_TYPES, EvaluationBatches, Limit, open_records, pretrain_limits
from src.initialization import undrawn_weights
from src.metrics_file import MetricsFile
from src.model_utils.config import Config, select_network
from src.model_utils.device_adapter import DeviceInfo, resolve_compute_type
from src.record_readers import Records


def bert_config_of(config: Config, device_target: str) -> BertConfig:
    """The sizes of the chosen network, computing in a type that suits the device."""
    options, _ = select_network(config)
    asked_for = config.was_given(f"{config.bert_network}_net_cfg.compute_type")
    options["compute_type"] = resolve_compute_type(device_target, options["compute_type"], asked_for)
    return BertConfig(**options)


def open_pretrain_records(config: Config, bert_config: BertConfig, option: str) -> Records:
    """Open the records that `option` ("data_dir" or "eval_data_dir") names, checked against the network's sizes."""
    num_samples = {"data_dir": config.num_samples, "eval_data_dir": config.eval_samples}[option]
    return open_records(config[option], config.dataset_format, PRETRAIN_TYPES, option=option,
                        seq_length=bert_config.seq_length, num_samples=num_samples,
                        schema_path=config.schema_dir or None)


def limits_of(bert_config: BertConfig) -> Mapping[str, Limit]:
    """Bounds that every value of a record must keep, so that none reaches past a table of the network."""
    return pretrain_limits(bert_config.vocab_size, bert_config.type_vocab_size, bert_config.seq_length)


def evaluation_batches(config: Config, bert_config: BertConfig, device: DeviceInfo) -> EvaluationBatches:
    """Every record of eval_data_dir on one of the ranks, in batches of the configured size."""
    records = open_pretrain_records(config, bert_config, "eval_data_dir")
    return EvaluationBatches(records, min(select_network(config)[1], records.num_rows), rank=device.rank,
                             rank_size=device.rank_size, limits=limits_of(bert_config))


def evaluate(network: BertPretrainEval, batches: EvaluationBatches) -> PretrainScore:
    """Score the network on every record, with a progress bar when standard error is a terminal.

    Ranks compute a share each, and all of them count all results in the order of a single process: to the last digit,
    their scores are the same.
    """
    network.set_train(False)
    score = PretrainScore()
    for columns, rows in tqdm(batches, desc="evaluating", unit="batch", disable=not sys.stderr.isatty()):
        ids, mask, segments, pair_labels, positions, word_labels, word_weights = columns
        outputs = network(*map(Tensor, (ids, mask, segments, pair_labels, positions, word_labels)))
        results = [*(output.asnumpy() for output in outputs), word_labels, word_weights, pair_labels]
        for of_rank in gather([result[:len(rows)] for result in results], batches.rank_size):
            score.update(*of_rank)
    return score


class TrainingEvaluation:
    """Evaluate the weights of the moment on every record of eval_data_dir, while training."""

    def __init__(self, config: Config, bert_config: BertConfig, device: DeviceInfo, step_cell: nn.Cell,
                 metrics: MetricsFile | None) -> None:
        """Scores go to standard output and into `metrics`, None on ranks that do not report."""
        self.weights = {parameter.name: parameter for parameter in step_cell.network.get_parameters()}
        self.metrics = metrics
        with undrawn_weights():
            self.network = BertPretrainEval(bert_config)
        self.batches = evaluation_batches(config, bert_config, device)

    def run(self, report: StepReport) -> None:
        """Evaluate after the reported step."""
        for parameter in self.network.get_parameters():
            parameter.set_data(Tensor(self.weights[parameter.name].asnumpy()))
        score = evaluate(self.network, self.batches)
        if self.metrics:
            tqdm.write("\n".join(score.lines()))  # clears a progress bar first
            sys.stdout.flush()
            self.metrics.write(report.step, **score.results())
