"""Whole networks with and without the CPU operators."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from src.bert_for_pre_training import BertNetworkWithLoss, initialize_parameters
from src.bert_model import BertConfig
from src.cpu_kernels.library import bfloat16_misfit, plain_operators
from src.training.create_optimizer import create_optimizer
from src.training.train_step import TrainStep

SIZES = {"seq_length": 16, "vocab_size": 61, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3,
         "intermediate_size": 40, "type_vocab_size": 2, "max_position_embeddings": 16}
GROUPS = {"AdamWeightDecay": {"learning_rate": 1e-3, "weight_decay": 0.01},
          "Lamb": {"learning_rate": 1e-3, "weight_decay": 0.01},
          "Momentum": {"learning_rate": 1e-3},
          "Thor": {"learning_rate": 1e-3, "damping": 0.03, "frequency": 2}}


def batch(seed=0, rows=5, positions=4):
    random = np.random.default_rng(seed)
    length, words = SIZES["seq_length"], SIZES["vocab_size"]
    mask = (np.arange(length) < random.integers(6, length + 1, size=(rows, 1))).astype(np.int32)
    columns = [random.integers(words, size=(rows, length)), mask, random.integers(2, size=(rows, length)),
               random.integers(2, size=(rows, 1)), random.integers(6, size=(rows, positions)),
               random.integers(words, size=(rows, positions))]
    return [Tensor(column.astype(np.int32)) for column in columns] + [Tensor(np.ones((rows, positions), np.float32))]


def training_step(optimizer="AdamWeightDecay", dropout=0.0, accumulation_steps=1, **sizes):
    config = BertConfig(**SIZES | sizes, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout)
    network = BertNetworkWithLoss(config, is_training=True)
    initialize_parameters(network, 0.2, seed=3)
    return TrainStep(network, create_optimizer(optimizer, network, GROUPS[optimizer], total_steps=100), clip_norm=1.0,
                     accumulation_steps=accumulation_steps)


def losses_of(step, count=4):
    return [float(step(*batch(seed))[0].asnumpy()) for seed in range(count)]


def weights_of(step):
    return {parameter.name: parameter.asnumpy() for parameter in step.network.get_parameters()}


NETWORKS = pytest.mark.parametrize("sizes", [
    {}, {"use_relative_positions": True, "max_relative_position": 4},
    pytest.param({"hidden_act": "gelu_erf"}, marks=pytest.mark.slow),
    pytest.param({"use_relative_positions": True, "relative_position_kind": "sinusoidal"}, marks=pytest.mark.slow),
], ids=["bert", "nezha", "gelu_erf", "sinusoidal"])


@pytest.fixture(scope="module")
def plain_losses():
    """The losses of a network of these sizes without the CPU operators."""
    found = {}

    def losses(**sizes):
        key = str(sizes)
        if key not in found:
            with plain_operators():
                found[key] = losses_of(training_step(**sizes))
        return found[key]

    return losses


@NETWORKS
def test_training_step_is_the_same(plain_losses, sizes):
    np.testing.assert_allclose(losses_of(training_step(**sizes)), plain_losses(**sizes), rtol=3e-6)


@pytest.mark.parametrize("optimizer", ["Lamb", pytest.param("Thor", marks=pytest.mark.slow), "Momentum"])
def test_training_step_is_the_same_with(optimizer):
    with plain_operators():
        wanted = losses_of(training_step(optimizer))
    np.testing.assert_allclose(losses_of(training_step(optimizer)), wanted, rtol=1e-5)


@NETWORKS
def test_bfloat16_is_close(plain_losses, sizes):
    if bfloat16_misfit() is not None:  # asked here: when tests are collected the library is not built yet
        pytest.skip(bfloat16_misfit())
    found = losses_of(training_step(compute_type="bfloat16", **sizes))
    np.testing.assert_allclose(found, plain_losses(**sizes), rtol=1e-2)


@pytest.mark.parametrize(("compute_type", "sizes"), [
    ("float32", {}), ("bfloat16", {}),
    pytest.param("float32", {"use_relative_positions": True, "max_relative_position": 4}, marks=pytest.mark.slow),
], ids=["float32", "bfloat16", "nezha"])
def test_same_digits_in_every_run(compute_type, sizes):
    """Including those of a run that goes on from the state of another one, with dropout and accumulation."""
    options = {"dropout": 0.2, "compute_type": compute_type, **sizes}
    whole = training_step(**options)
    losses = losses_of(whole, 4)
    first, second = training_step(**options), training_step(**options)
    assert losses_of(first, 2) == losses[:2]
    for name, value in weights_of(first).items():
        next(p for p in second.network.get_parameters() if p.name == name).set_data(Tensor(value))
    for name, parameter in second.state().items():
        parameter.set_data(Tensor(first.state()[name].asnumpy()))
    assert [float(second(*batch(seed))[0].asnumpy()) for seed in (2, 3)] == losses[2:]
    for name, value in weights_of(second).items():
        np.testing.assert_array_equal(value, weights_of(whole)[name])


def test_dropout_differs_between_calls_and_layers():
    step = training_step(dropout=0.3)
    assert len({float(step(*batch())[0].asnumpy()) for _ in range(3)}) == 3


def test_accumulation():
    with plain_operators():
        wanted = [float(training_step(accumulation_steps=5)(*batch())[0].asnumpy())]
    found = [float(training_step(accumulation_steps=5)(*batch())[0].asnumpy())]
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_overflow_leaves_the_weights_alone():
    step = training_step()
    bad = step.network.bert.cls1.output_bias
    bad.set_data(Tensor(np.full(bad.shape, np.inf, np.float32)))
    before = weights_of(step)
    _, overflow, _ = step(*batch())
    assert bool(overflow.asnumpy())
    for name, value in weights_of(step).items():
        np.testing.assert_array_equal(value, before[name])


def test_networks_for_export_have_standard_operators_only():
    with plain_operators():
        network = training_step().network
    assert not [name for name, cell in network.cells_and_names() if getattr(cell, "uses_kernel", False)]
    assert not [name for name, cell in network.cells_and_names() if type(cell).__module__.startswith("src.cpu_kernels")]
    assert ms.get_context("device_target") == "CPU"
