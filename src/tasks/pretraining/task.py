"""Pre-training as a task: its networks, its records, its scores, and how its result is used."""

import sys
from collections.abc import Callable, Mapping
from typing import Any

from mindspore import Tensor, nn
from tqdm import tqdm

from src.assessment_method import PretrainScore
from src.bert_for_pre_training import BertNetworkWithLoss, BertPretrainEval, BertPreTraining
from src.checkpoint_files import PREFIX
from src.dataset import PRETRAIN_TYPES, EvaluationBatches, open_records
from src.errors import UserError
from src.model_utils.communication import gather
from src.model_utils.config import select_network
from src.onnx_graph import Head
from src.records.columns import Limit, pretrain_limits
from src.records.reader import Records
from src.tasks.base import ExchangeHead, Task
from src.tasks.prediction import InferenceModel, Predictor
from src.tasks.pretraining.predictor import MaskPredictor
from src.tokenization import MASK, FullTokenizer
from src.weights import LoadReport, load_weights


class PretrainTask(Task):
    """Masked words and next sentences. `bert_network` chooses among the networks of its configuration."""

    name = "pretrain"
    description = "run_pretrain"
    config_file = "pretrain_config.yaml"
    model_options = ("do_lower_case", "max_predictions_per_seq")
    pipeline_tag = "fill-mask"
    example = {"text": "A sentence with a [MASK] word."}
    weights_option = "load_checkpoint_path"
    why_no_model = "words for [MASK] are predicted from a checkpoint"
    exchange_head = ExchangeHead((
        ("bias", "V", "bert.cls1", "cls.predictions", "cls/predictions"),
        ("dense", "HH", "bert.cls1.dense", "cls.predictions.transform.dense", "cls/predictions/transform/dense"),
        ("layernorm", "H", "bert.cls1.layernorm", "cls.predictions.transform.LayerNorm",
         "cls/predictions/transform/LayerNorm"),
        ("output", "2H", "bert.cls2.dense", "cls.seq_relationship", "cls/seq_relationship"),
    ), "ForPreTraining")

    @classmethod
    def checkpoint_prefix(cls) -> str:
        """As the published checkpoints are called."""
        return PREFIX

    @property
    def batch_size(self) -> int:
        """Rows of one rank in one batch."""
        return select_network(self.config)[1]

    @property
    def limits(self) -> Mapping[str, Limit]:
        """Bounds that every value of a record must keep, so that none reaches past a table of the network."""
        sizes = self.bert_config
        return pretrain_limits(sizes.vocab_size, sizes.type_vocab_size, sizes.seq_length)

    # ------------------------------------------------------------ networks and records

    def training_network(self) -> nn.Cell:
        """The network with its loss."""
        return BertNetworkWithLoss(self.bert_config, is_training=True)

    def evaluation_network(self) -> BertPretrainEval:
        """The network that `evaluate` takes, with parameters of the same names."""
        network = BertPretrainEval(self.bert_config)
        network.set_train(False)
        return network

    def inference_network(self) -> nn.Cell:
        """The encoder with both heads."""
        return BertPreTraining(self.bert_config, is_training=False)

    def load(self, network: nn.Cell, path: str, option: str) -> LoadReport:
        """Load every weight of a pre-trained network; of a directory the newest checkpoint."""
        report = load_weights(network, path)
        without_weights = [*report.missing, *report.wrong_shape]
        if without_weights:
            raise UserError(f"{option}: {report.path} has no fitting weights for {len(without_weights)} parameters of "
                            f"the network, such as {without_weights[0]}; give a pre-training checkpoint of a network "
                            f"of these sizes")
        return report

    def records(self, option: str) -> Records:
        """Open the records that `option` ("data_dir" or "eval_data_dir") names, checked against the network's sizes."""
        config = self.config
        num_samples = {"data_dir": config.num_samples, "eval_data_dir": config.eval_samples}[option]
        return open_records(config[option], config.dataset_format, PRETRAIN_TYPES, option=option,
                            seq_length=self.bert_config.seq_length, num_samples=num_samples,
                            schema_path=config.schema_dir or None)

    def evaluation_batches(self, rank: int = 0, rank_size: int = 1) -> EvaluationBatches:
        """Every record of eval_data_dir once, on one of `rank_size` ranks."""
        records = self.records("eval_data_dir")
        return EvaluationBatches(records, min(self.batch_size, records.num_rows), rank=rank, rank_size=rank_size,
                                 limits=self.limits)

    # ------------------------------------------------------------ using the result

    def head(self) -> Head:
        """Scores of masked words and of the second segment."""
        from src.tasks.pretraining.onnx_head import pretraining_head  # only an export needs it

        return pretraining_head(self.bert_config)

    def predictor(self, open_model: Callable[[], InferenceModel]) -> Predictor:
        """What finds words for [MASK]."""
        if not self.config.vocab_file_path:
            raise UserError("vocab_file_path is not set; give the vocab.txt that the records were made with")
        tokenizer = FullTokenizer(self.config.vocab_file_path, self.config.do_lower_case, never_split=[MASK])
        return MaskPredictor(tokenizer, self.bert_config.seq_length, open_model())

    @classmethod
    def converted_configs(cls, checkpoint: str, num_class: int, words: Mapping[str, Any], sizes: Mapping[str, Any]
                          ) -> dict[str, dict[str, Any]]:
        """One for going on with pre-training, one for fine-tuning."""
        return {"pretrain.yaml": {"bert_network": "base", "load_checkpoint_path": checkpoint, "eval_ckpt": checkpoint,
                                  "base_net_cfg": sizes},
                "finetune.yaml": {"load_pretrain_checkpoint_path": checkpoint, **words, "bert_net_cfg": sizes}}


def evaluate(network: Callable[..., tuple[Tensor, ...]], batches: EvaluationBatches) -> PretrainScore:
    """Score the network on every record, with a progress bar when standard error is a terminal.

    Ranks compute a share each, and all of them count all results in the order of a single process: to the last digit,
    their scores are the same.
    """
    score = PretrainScore()
    for columns, rows in tqdm(batches, desc="evaluating", unit="batch", disable=not sys.stderr.isatty()):
        ids, mask, segments, pair_labels, positions, word_labels, word_weights = columns
        outputs = network(*(Tensor(values) for values in (ids, mask, segments, pair_labels, positions, word_labels)))
        results = [*(output.asnumpy() for output in outputs), word_labels, word_weights, pair_labels]
        for of_rank in gather([result[:len(rows)] for result in results], batches.rank_size):
            score.update(*of_rank)
    return score
