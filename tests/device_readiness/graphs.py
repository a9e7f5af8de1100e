"""The graphs of the library in miniature, built from command lines as the scripts build them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import mindspore as ms
import numpy as np
from command_line import command_line
from mindspore import Tensor, nn

from src.dataset import PRETRAIN_TYPES
from src.model_utils.config import load_config
from src.model_utils.device_adapter import DeviceInfo
from src.tasks.finetuning import Finetuning
from src.tasks.pretraining.task import PretrainTask
from src.tasks.pretraining.training import Pretraining
from src.tasks.registry import PRETRAINING, task_type
from src.training.run import Job, build_training_step

BATCH, LENGTH, PREDICTIONS, RANKS = 2, 8, 3, 2
SIZES = {"seq_length": LENGTH, "vocab_size": 20, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
         "intermediate_size": 16, "max_position_embeddings": LENGTH}
# Columns that are not as long as the sequence.
WIDTHS = {"next_sentence_labels": 1, "masked_lm_positions": PREDICTIONS, "masked_lm_ids": PREDICTIONS,
          "masked_lm_weights": PREDICTIONS, "start_positions": 1, "end_positions": 1}


@dataclass(frozen=True)
class Graph:
    """A graph that the library compiles.

    Attributes:
        target: the device that it is for.
        task: key of `TASKS`.
        use: "train", "evaluate", or "export" with any batch size.
        compute_type: type of the products.
        options: further words of the command line, as --name=value.
        ranks: devices of the run.
    """

    target: str
    task: str
    use: str = "train"
    compute_type: str = "float16"
    options: tuple[str, ...] = ()
    ranks: int = 1

    def __str__(self) -> str:
        ranks = f" of {self.ranks} ranks" if self.ranks > 1 else ""
        options = "".join(f" {option}" for option in self.options)
        return f"{self.target} {self.compute_type} {self.task.removeprefix('run_')} {self.use}{ranks}{options}"

    def build(self, folder: Path) -> tuple[nn.Cell, list[Tensor]]:
        """The network and its inputs, to be built and compiled within `as_on(target)`; `folder` is for files."""
        task = task_type(self.task)
        config = load_config("", task.config_file, self._command_line(folder))
        device = DeviceInfo(self.target, device_id=0, rank=0, rank_size=self.ranks)
        if issubclass(task, PretrainTask):
            job: Job = Pretraining(config, device)
            train_columns, of_task = PRETRAIN_TYPES, job.task
        else:
            of_task = task.from_config(config, self.target)
            job = Finetuning(of_task)
            train_columns = of_task.train_columns
        if self.use == "train":
            rows = BATCH * config.accumulation_steps
            return build_training_step(job, device, total_steps=10), _inputs(train_columns, rows, self.task)
        if self.use == "evaluate" and isinstance(of_task, PretrainTask):
            columns = {name: kind for name, kind in PRETRAIN_TYPES.items() if name != "masked_lm_weights"}
            return of_task.evaluation_network(), _inputs(columns, BATCH, self.task)
        names = ("input_ids", "input_mask", "segment_ids") + ("masked_lm_positions",) * (self.task == PRETRAINING)
        rows = BATCH if self.use == "evaluate" else None
        return of_task.inference_network().set_train(False), _inputs(dict.fromkeys(names, "int32"), rows, self.task)

    def _command_line(self, folder: Path) -> list[str]:
        labels = folder / "types.txt"
        labels.write_text("address\nname\n", encoding="utf-8")
        values: dict[str, object] = {"device_target": self.target}
        group = "bert_net_cfg"
        if self.task == PRETRAINING:
            group = f"{dict(map(self._split, self.options)).get('bert_network', 'base')}_net_cfg"
        elif self.task == "run_ner":
            values["label_file_path"] = labels
        elif self.task == "run_classifier":
            values["num_class"] = 3
        elif self.task == "run_squad":
            values["max_query_length"] = LENGTH - 4
        sizes = {f"{group}.{name}": value for name, value in {**SIZES, "compute_type": self.compute_type}.items()}
        return command_line(values, sizes, dict(map(self._split, self.options)))

    @staticmethod
    def _split(option: str) -> tuple[str, str]:
        name, _, value = option.partition("=")
        return name.removeprefix("--"), value


def _inputs(columns: Mapping[str, str], rows: int | None, task: str) -> list[Tensor]:
    def width(name):
        return WIDTHS.get(name, 1 if name == "label_ids" and task != "run_ner" else LENGTH)

    if rows is None:
        return [Tensor(shape=(None, width(name)), dtype=ms.int32) for name in columns]
    return [Tensor(np.ones((rows, width(name)), kind)) for name, kind in columns.items()]


TAGGER = ("use_crf=true", "with_lstm=true")
NEZHA = ("bert_network=nezha",)
SINUSOIDAL = (*NEZHA, "nezha_net_cfg.relative_position_kind=sinusoidal")

# What most users run; a look at most operators in half a minute.
MAIN = [
    Graph("Ascend", PRETRAINING),
    Graph("Ascend", "run_ner", options=(*TAGGER, "optimizer_cfg.optimizer=Momentum")),
    Graph("GPU", "run_classifier", options=("optimizer_cfg.optimizer=AdamWeightDecay", "layerwise_lr_decay=0.9")),
    Graph("Ascend", "run_squad", options=("optimizer_cfg.optimizer=Momentum",)),
    Graph("Ascend", PRETRAINING, "evaluate"),
    Graph("Ascend", "run_classifier", "export"),
]

_TRAINED = [
    Graph("GPU", PRETRAINING),
    *(Graph("Ascend", PRETRAINING, options=(f"optimizer={name}", "accumulation_steps=2"))
      for name in ("Lamb", "AdamWeightDecay", "Momentum", "Thor")),
    *(Graph("Ascend", PRETRAINING, options=(f"base_net_cfg.hidden_act={name}",))
      for name in ("gelu_erf", "fast_gelu", "relu", "tanh")),
    Graph("Ascend", PRETRAINING, options=NEZHA),
    Graph("Ascend", PRETRAINING, options=SINUSOIDAL),
    Graph("Ascend", PRETRAINING, options=("enable_lossscale=false", "enable_global_norm=false")),
    Graph("Ascend", PRETRAINING, options=("accumulation_steps=2", "allreduce_post_accumulation=false"), ranks=RANKS),
    Graph("Ascend", "run_classifier"),
    Graph("Ascend", "run_classifier", options=("num_class=1", "assessment_method=pearson_correlation")),
    Graph("Ascend", "run_classifier", options=("class_weights=1,2,3",)),
    Graph("Ascend", "run_ner"),
    # On GPU an LSTM cannot be among them: its gradient is chosen by the compiler, which here chooses that of a CPU.
    Graph("GPU", "run_ner", options=("use_crf=true",)),
    Graph("GPU", PRETRAINING, options=("optimizer=Thor",)),
    Graph("GPU", PRETRAINING, options=NEZHA),
    Graph("GPU", "run_squad"),
    *(Graph("Ascend", task, compute_type="float32") for task in (PRETRAINING, "run_classifier", "run_squad")),
    Graph("Ascend", "run_ner", compute_type="float32", options=TAGGER),
]
_USED = [Graph(target, task, use, options=options)
         for target in ("Ascend", "GPU") for use in ("evaluate", "export") for task, options in (
             (PRETRAINING, ()), (PRETRAINING, NEZHA), (PRETRAINING, SINUSOIDAL), ("run_classifier", ()),
             ("run_ner", ()), ("run_ner", TAGGER), ("run_squad", ()))]
OTHERS = [graph for graph in (*_TRAINED, *_USED) if graph not in MAIN]
