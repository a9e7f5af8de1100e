"""Small networks, batches and steps that several checks use."""

from collections.abc import Callable
from typing import Any
from zlib import crc32

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from src.bert_for_pre_training import BertNetworkWithLoss, initialize_parameters
from src.bert_model import BertConfig
from src.initialization import truncated_normal, undrawn_weights
from src.records.columns import pretrain_columns
from src.tools.hardware_smoke.outcome import Setting
from src.training.create_optimizer import create_optimizer
from src.training.train_step import TrainStep

PREDICTIONS = 4  # masked positions of a sequence
MOMENTUM = {"learning_rate": 0.1, "momentum": 0.0}  # whose update is the gradient: no division enlarges a difference
ADAM = {"learning_rate": 0.01, "weight_decay": 0.01}


def tiny_config(setting: Setting, dropout: float = 0.0, relative: bool = False) -> BertConfig:
    """Sizes of a network that is compiled in seconds."""
    return BertConfig(seq_length=32, vocab_size=128, hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
                      intermediate_size=64, max_position_embeddings=32, type_vocab_size=2, initializer_range=0.1,
                      hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout,
                      use_relative_positions=relative, compute_type=setting.compute_type)


def pretraining_network(config: BertConfig, seed: int = 0) -> BertNetworkWithLoss:
    """A network with random weights."""
    with undrawn_weights():
        network = BertNetworkWithLoss(config, is_training=True)
    initialize_parameters(network, config.initializer_range, seed)
    return network


def draw_weights(network: nn.Cell, deviation: float = 0.2) -> None:
    """Give every weight of any network random numbers, which follow from its name."""
    for parameter in network.get_parameters():
        values = truncated_normal(parameter.shape, deviation, (0, crc32(parameter.name.encode())))
        parameter.set_data(Tensor(values))


def pretraining_rows(config: BertConfig, rows: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Random records of pre-training; a third of each is padding."""
    random = np.random.default_rng(seed)
    length = config.seq_length
    mask = np.broadcast_to(np.arange(length) < length * 2 // 3, (rows, length)).astype(np.int32)
    values = {
        "input_ids": random.integers(1, config.vocab_size, (rows, length)) * mask,
        "input_mask": mask,
        "segment_ids": mask * (np.arange(length) > length // 3),
        "next_sentence_labels": random.integers(2, size=(rows, 1)),
        "masked_lm_positions": np.sort(random.permuted(
            np.tile(np.arange(1, length * 2 // 3), (rows, 1)), axis=1)[:, :PREDICTIONS], axis=1),
        "masked_lm_ids": random.integers(1, config.vocab_size, (rows, PREDICTIONS)),
        "masked_lm_weights": np.ones((rows, PREDICTIONS)),
    }
    columns = pretrain_columns(length, PREDICTIONS)
    return {name: values[name].astype(dtype) for name, (dtype, _) in columns.items()}


def tensors(rows: dict[str, np.ndarray]) -> list[Tensor]:
    """The columns as inputs of a network."""
    return [Tensor(values) for values in rows.values()]


def step_of(network: nn.Cell, optimizer: str = "AdamWeightDecay", group: dict | None = None,
            **options: object) -> TrainStep:
    """The step that trains a network; `options` are those of `TrainStep`."""
    created = create_optimizer(optimizer, network, ADAM if group is None else group, total_steps=100)
    return TrainStep(network, created, **options)  # pyright: ignore[reportArgumentType] - the caller's options


def compute(operation: Callable[..., Any], *inputs: Tensor) -> Any:  # noqa: ANN401 - one tensor or several
    """What a cell gives, which MindSpore does not declare."""
    return operation(*inputs)


def run(step: TrainStep, columns: list[Tensor]) -> tuple[float, bool, float]:
    """Take a step; return loss, overflow and the scale that was used."""
    loss, overflow, scale = (output.asnumpy() for output in compute(step, *columns))
    return float(loss), bool(overflow), float(scale)


def weights_of(network: nn.Cell) -> np.ndarray:
    """All weights, one after another, in float64."""
    return np.concatenate([parameter.asnumpy().astype(np.float64).ravel() for parameter in network.get_parameters()])


def use_graphs() -> None:
    """Compile networks, as the scripts do."""
    ms.set_context(mode=ms.GRAPH_MODE)
