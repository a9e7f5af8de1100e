"""Count the operators in the graph of a BERT-base pre-training step for a device that need not be there.

    python benchmarks/ir_counts.py [--device_target Ascend] [--compute_type float16] [--optimizer Lamb] [--layers 12]

compiles the step as far as MindSpore's validation (see `validated_ir.py`) and prints a line of JSON: all operators that
a kernel computes, products, those of them in float32, casts, and the most frequent operators.
"""

import argparse
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.validated_ir import ONLY_VALIDATED, PRODUCTS, Node, as_on, nodes_of  # noqa: E402
from src.bert_for_pre_training import BertNetworkWithLoss  # noqa: E402
from src.bert_model import BertConfig  # noqa: E402
from src.dataset import PRETRAIN_TYPES  # noqa: E402
from src.initialization import undrawn_weights  # noqa: E402
from src.model_utils.config import load_config  # noqa: E402
from src.records.columns import pretrain_columns  # noqa: E402
from src.training.create_optimizer import create_optimizer  # noqa: E402
from src.training.train_step import LossScale, TrainStep  # noqa: E402

BATCH, LENGTH, PREDICTIONS = 32, 128, 20


def main(argv: Sequence[str] | None = None) -> None:
    """Count for the options and print the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device_target", default="Ascend", choices=("Ascend", "GPU", "CPU"))
    parser.add_argument("--compute_type", default="float16", choices=("float16", "float32"))
    parser.add_argument("--optimizer", default="Lamb", choices=("Lamb", "AdamWeightDecay", "Momentum", "Thor"))
    parser.add_argument("--layers", type=int, default=12)
    options = parser.parse_args(argv)
    os.environ |= ONLY_VALIDATED
    ms.set_context(mode=ms.GRAPH_MODE)
    begin = time.monotonic()
    with as_on(options.device_target):
        nodes = nodes_of(*pretraining_step(options.compute_type, options.optimizer, options.layers))
    print(json.dumps(vars(options) | counts(nodes) | {"seconds": round(time.monotonic() - begin)}))


def pretraining_step(compute_type: str, optimizer: str, layers: int) -> tuple[TrainStep, list[Tensor]]:
    """The step of pretrain_config.yaml with so many layers, and its inputs."""
    with undrawn_weights():
        network = BertNetworkWithLoss(BertConfig(vocab_size=21128, num_hidden_layers=layers, type_vocab_size=2,
                                                 compute_type=compute_type), is_training=True)
    group = load_config("", "pretrain_config.yaml", [])[optimizer]
    step = TrainStep(network, create_optimizer(optimizer, network, group, total_steps=1000), LossScale())
    widths = {name: width for name, (_, width) in pretrain_columns(LENGTH, PREDICTIONS).items()}
    return step, [Tensor(np.ones((BATCH, widths[name]), kind)) for name, kind in PRETRAIN_TYPES.items()]


def counts(nodes: Sequence[Node]) -> dict[str, Any]:
    """Numbers of operators of several kinds."""
    products = [node for node in nodes if node.operator in PRODUCTS]
    return {"operators": len(nodes), "products": len(products),
            "products_float32": sum("Float32" in node.inputs for node in products),
            "casts": sum(node.operator == "Cast" for node in nodes),
            "most_frequent": dict(Counter(node.operator for node in nodes).most_common(12))}


if __name__ == "__main__":
    main()
