"""THOR against NumPy written from its equations, its inverses, its statistics, and exact resume."""

import re
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops
from toy_pretraining import assert_same_training, pretrain, tiny_options, toy_batch

import run_classifier
import run_pretrain
from src.bert_for_pre_training import BertNetworkWithLoss, initialize_parameters
from src.bert_model import BertConfig
from src.errors import UserError
from src.layers import Dense
from src.model_utils.config import load_config
from src.training.create_optimizer import create_optimizer
from src.training.thor import InverseOfBlocks, block_width
from src.training.train_step import LossScale, TrainStep

pytestmark = pytest.mark.usefixtures("graph_mode")

GROUP = {"learning_rate": 0.05, "end_learning_rate": 0.001, "warmup_steps": 2, "decay_steps": 20, "power": 2.0,
         "damping": 0.3, "end_damping": 0.01, "damping_decay_steps": 8, "damping_power": 4.0, "momentum": 0.8,
         "beta2": 0.99, "eps": 1e-6, "weight_decay": 0.1, "frequency": 3, "block_size": 5}


class Network(nn.Cell):
    """Two dense layers, 5 to 8 to 2: blocks of 5, 4 and 2."""

    def __init__(self):
        super().__init__()
        self.hidden = Dense(5, 8, activation="tanh")
        self.output = Dense(8, 2)
        random = np.random.default_rng(1)
        for parameter in self.get_parameters():
            parameter.set_data(Tensor(random.normal(size=parameter.shape).astype(np.float32)))

    def construct(self, x, y):
        error = self.output(self.hidden(x)) - y
        return (error * error).mean()


def batches(count, rows=12):
    random = np.random.default_rng(2)
    return [(random.normal(size=(rows, 5)), random.normal(size=(rows, 2))) for _ in range(count)]


def weights_of(network):
    return {parameter.name: parameter.asnumpy().copy() for parameter in network.get_parameters()}


# ---------------------------------------------------------------- the reference, in float64

def loss_and_gradients(w, x, y):
    """The loss, its gradients, and of each layer the inputs and the gradients to the outputs of every row."""
    h = np.tanh(x @ w["hidden.weight"].T + w["hidden.bias"])
    error = h @ w["output.weight"].T + w["output.bias"] - y
    d_output = 2 * error / error.size
    d_hidden = (d_output @ w["output.weight"]) * (1 - h * h)
    gradients = {"hidden.weight": d_hidden.T @ x, "hidden.bias": d_hidden.sum(0),
                 "output.weight": d_output.T @ h, "output.bias": d_output.sum(0)}
    return (error * error).mean(), gradients, {"hidden.weight": (x, d_hidden), "output.weight": (h, d_output)}


def factor_of(rows, block):
    """E[row row^T] with a mean eigenvalue of 1, of which only the blocks are kept."""
    f = rows.T @ rows / len(rows)
    within = np.arange(len(f)) // block
    return np.where(within[:, None] == within[None], f / (np.trace(f) / len(f)), 0.0)


def reference(w, data, micro_batches, clip_norm):
    """Weights and loss of every step."""
    blocks = {"hidden.weight": (5, 4), "output.weight": (4, 2)}
    w = {name: value.astype(np.float64) for name, value in w.items()}
    m, v = ({name: np.zeros_like(value) for name, value in w.items()} for _ in range(2))
    inverses, history = {}, []
    for step, (x, y) in enumerate(data):
        parts = [loss_and_gradients(w, *part) for part in zip(np.split(x, micro_batches), np.split(y, micro_batches),
                                                               strict=True)]
        gradients = {name: np.mean([part[1][name] for part in parts], axis=0) for name in w}
        if step % GROUP["frequency"] == 0:
            left = 1 - min(step / GROUP["damping_decay_steps"], 1)
            damping = (GROUP["damping"] - GROUP["end_damping"]) * left ** 4 + GROUP["end_damping"]
            for name, widths in blocks.items():
                for side, width in enumerate(widths):
                    f = factor_of(np.concatenate([part[2][name][side] for part in parts]), width)
                    inverses[name, side] = np.linalg.inv(f + damping ** 0.5 * np.eye(len(f)))
        if clip_norm:
            norm = np.sqrt(sum(np.sum(g * g) for g in gradients.values()))
            gradients = {name: g * min(1, clip_norm / norm) for name, g in gradients.items()}
        rate = (GROUP["learning_rate"] * step / 2 if step < 2 else
                (GROUP["learning_rate"] - 0.001) * (1 - step / 20) ** 2 + 0.001)
        for name, g in gradients.items():
            m[name] = 0.8 * m[name] + 0.2 * g
            v[name] = 0.99 * v[name] + 0.01 * g * g
            u = m[name] / (1 - 0.8 ** (step + 1)) / (np.sqrt(v[name] / (1 - 0.99 ** (step + 1))) + 1e-6)
            if name in blocks:
                natural = inverses[name, 1] @ m[name] @ inverses[name, 0]
                u = natural * np.linalg.norm(u) / np.linalg.norm(natural) + 0.1 * w[name]
            w[name] = w[name] - rate * u
        history.append((np.mean([part[0] for part in parts]), dict(w)))
    return history


@pytest.mark.parametrize(("micro_batches", "loss_scale", "clip_norm"), [(1, None, None), (3, LossScale(1024.0), 0.5)])
def test_steps_are_those_of_the_equations(micro_batches, loss_scale, clip_norm):
    network = Network()
    initial = weights_of(network)
    step = TrainStep(network, create_optimizer("Thor", network, GROUP, 100), loss_scale,
                     accumulation_steps=micro_batches, clip_norm=clip_norm)
    assert [inverse.shape for inverse in step.optimizer.inverses] == [(1, 2, 2), (2, 4, 4), (2, 4, 4), (1, 5, 5)]
    data = batches(10)
    for (x, y), (loss, wanted) in zip(data, reference(initial, data, micro_batches, clip_norm), strict=True):
        found, overflow, _ = step(Tensor(x.astype(np.float32)), Tensor(y.astype(np.float32)))
        assert not overflow.asnumpy()
        assert found.asnumpy() == pytest.approx(loss, rel=1e-4)
        for name, value in weights_of(network).items():
            np.testing.assert_allclose(value, wanted[name], rtol=1e-4, atol=1e-4, err_msg=name)


# ---------------------------------------------------------------- inverses

@pytest.mark.parametrize(("condition", "tolerance"), [(1e2, 1e-5), (1e4, 1e-3), (1e5, 5e-3)])
def test_inverses_are_those_of_numpy(condition, tolerance):
    random = np.random.default_rng(0)
    vectors = np.linalg.qr(random.normal(size=(3, 64, 64)))[0]
    values = np.stack([np.geomspace(1, condition, 64), np.where(np.arange(64) < 60, 1, condition),
                       random.uniform(1, condition, 64)])[:, None]
    matrices = (vectors * values) @ vectors.transpose(0, 2, 1)
    found = InverseOfBlocks()(Tensor(matrices.astype(np.float32)), Tensor(1.0, ms.float32)).asnumpy()
    for inverse, matrix in zip(found, matrices, strict=True):
        wanted = np.linalg.inv(matrix)
        assert np.linalg.norm(inverse - wanted) < tolerance * np.linalg.norm(wanted)


@pytest.mark.parametrize("width", [32, 128])
@pytest.mark.parametrize("condition", [1e4, 1e5, 1e6])
def test_inverses_are_symmetric_and_positive(condition, width):
    """With the least eigenvalue right: so a step never goes up a direction of high curvature."""
    random = np.random.default_rng(0)
    vectors = np.linalg.qr(random.normal(size=(3, width, width)))[0]
    values = np.stack([np.geomspace(1, condition, width), np.where(np.arange(width) < width - 4, 1, condition),
                       np.where(np.arange(width) < width - 1, 1, condition)])[:, None]
    matrices = (vectors * values) @ vectors.transpose(0, 2, 1)
    found = InverseOfBlocks()(Tensor(matrices.astype(np.float32)), Tensor(1.0, ms.float32)).asnumpy()
    assert np.abs(found - found.transpose(0, 2, 1)).max() < 1e-6
    eigenvalues = np.linalg.eigvalsh(found.astype(np.float64))
    np.testing.assert_allclose(eigenvalues[:, 0], 1 / condition, rtol=0.2)
    np.testing.assert_allclose(eigenvalues[:, -1], 1.0, rtol=0.1)


def test_damping_below_what_float32_resolves_is_raised():
    matrices = np.zeros((2, 8, 8), np.float32)
    matrices[:, 0, 0] = 1.0
    inverses = InverseOfBlocks()(Tensor(matrices), Tensor(1e-12, ms.float32)).asnumpy()
    np.testing.assert_allclose(np.diagonal(inverses, axis1=1, axis2=2), np.tile([1.0] + 7 * [1e7], (2, 1)), rtol=0.01)


def test_blocks_divide_the_width():
    assert [block_width(width, 128) for width in (768, 1024, 312, 100, 2, 257)] == [128, 128, 104, 100, 2, 1]


# ---------------------------------------------------------------- statistics of BERT

TINY_BERT = {"seq_length": 16, "vocab_size": 64, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
             "intermediate_size": 32, "max_position_embeddings": 16, "hidden_dropout_prob": 0.0,
             "attention_probs_dropout_prob": 0.0}


@pytest.fixture(scope="module")
def bert(graph_mode_of_module):
    """A step of BERT with THOR, and the network's parameter names before."""
    network = BertNetworkWithLoss(BertConfig(**TINY_BERT), is_training=True)
    initialize_parameters(network, 0.05, seed=0)
    names = [parameter.name for parameter in network.get_parameters()]
    step = TrainStep(network, create_optimizer("Thor", network, GROUP | {"block_size": 16}, 100))
    return step, names, [Tensor(column) for column in batch_columns(8)]


def batch_columns(rows):
    columns = toy_batch(rows)
    types = {"masked_lm_weights": np.float32}
    return [columns[name].astype(types.get(name, np.int32)) for name in (
        "input_ids", "input_mask", "segment_ids", "next_sentence_labels", "masked_lm_positions", "masked_lm_ids",
        "masked_lm_weights")]


def test_the_network_keeps_its_published_parameters(bert):
    step, names, _ = bert
    assert [parameter.name for parameter in step.network.get_parameters()] == names
    dense = [name for name in names if name.endswith(".weight")]
    assert len(dense) == 2 * 6 + 3
    kinds = {f"thor_{kind}.{name}" for kind in "mv" for name in names}
    inverses = {f"thor_inverse_{kind}.{name}" for kind in "ag" for name in dense}
    assert set(step.optimizer.state()) == {"global_step"} | kinds | inverses


def test_each_layer_has_statistics_of_its_own(bert):
    step, _, columns = bert
    step(*columns)
    found = {statistic.name.replace("bert.bert.bert_encoder.layers.", ""): statistic.asnumpy()
             for statistic in step.optimizer.statistics}
    query, key, other = (found[f"thor_a.{name}_layer.weight"] for name in (
        "0.attention.attention.query", "0.attention.attention.key", "1.attention.attention.query"))
    np.testing.assert_allclose(query, key, rtol=1e-5)
    assert np.abs(query - other).max() > 0.01
    for a in (query, other):  # the inputs are normalised rows of 16, over all 128 of which the mean is taken
        assert np.trace(a[0]) == pytest.approx(16, rel=1e-3)
    assert all(np.trace(statistic.sum(0)) > 0 for statistic in found.values())


class Gradients(nn.Cell):
    def __init__(self, network, parameters):
        super().__init__(auto_prefix=False)
        self.network, self.parameters = network, parameters
        self.gradient = ops.GradOperation(get_by_list=True)

    def construct(self, *columns):
        return self.gradient(self.network, self.parameters)(*columns)


def test_an_ordinary_gradient_computes_no_statistics(tmp_path):
    """The compiled graphs: with the statistics as many batched products more as there are statistics."""
    network = Network()
    optimizer = create_optimizer("Thor", network, GROUP, 100)
    x, y = (Tensor(column.astype(np.float32)) for column in batches(1)[0])
    counts = []
    for number, parameters in enumerate((optimizer.parameters, optimizer.statistics)):
        ms.set_context(save_graphs=2, save_graphs_path=str(tmp_path / str(number)))
        try:
            Gradients(network, parameters)(x, y)
        finally:
            ms.set_context(save_graphs=0)
        graph = next((tmp_path / str(number)).rglob("*validate*.ir")).read_text()
        counts.append(len(re.findall(r"= (?:PrimFunc_|Primitive::)?BatchMatMul", graph)))
    assert counts == [0, 4]


# ---------------------------------------------------------------- when the factors are refreshed

def test_a_refresh_that_overflows_is_skipped_and_made_up_for():
    network = Network()
    step = TrainStep(network, create_optimizer("Thor", network, GROUP, 100), LossScale(1024.0))
    (x, y), = batches(1)
    good = Tensor(x.astype(np.float32)), Tensor(y.astype(np.float32))
    bad = good[0], Tensor(np.full(y.shape, np.inf, np.float32))

    def inverses():
        return np.concatenate([inverse.asnumpy().ravel() for inverse in step.optimizer.inverses])

    first = inverses()
    changes = []
    for batch in (bad, good, good, good, bad, good):  # updates 0, 1, 2, 3: the first and the last refresh
        step(*batch)
        changes.append(bool((inverses() != first).any()))
        first = inverses()
    assert changes == [False, True, False, False, False, True]
    assert np.isfinite(first).all()


@pytest.mark.parametrize(("option", "value", "message"), [
    ("frequency", 0, "Thor.frequency: found 0, expected at least 1"),
    ("block_size", 0, "Thor.block_size: found 0, expected at least 1"),
    ("damping", 0.0, "Thor.damping: found 0, expected more than 0"),
    ("end_damping", -1.0, "Thor.end_damping: found -1, expected more than 0"),
])
def test_bad_options_are_named(option, value, message):
    with pytest.raises(UserError, match=message):
        create_optimizer("Thor", Network(), GROUP | {option: value}, 100)


# ---------------------------------------------------------------- from the command line

def test_the_configuration_of_thor():
    config = load_config("", "pretrain_config.yaml", ["--config_path", "pretrain_thor_config.yaml"])
    assert (config.optimizer, config.loss_scale_value, config.bert_network) == ("Thor", 1024, "large")
    # What has the original's meaning has its value.
    assert config.Thor.to_dict().items() >= {
        "end_learning_rate": 1e-6, "power": 2.0, "decay_steps": 30000, "damping_power": 4.0,
        "damping_decay_steps": 30000, "momentum": 0.9, "weight_decay": 0.0, "frequency": 100,
        "block_size": 128}.items()


def test_the_command_line_refuses_bad_options():
    for option, value in (("frequency", "0"), ("damping", "0")):
        with pytest.raises(UserError, match=f"Thor.{option}"):
            run_pretrain.main(tiny_options(optimizer="Thor", **{f"Thor__{option}": value}))


def test_fine_tuning_refuses_thor_in_one_line():
    with pytest.raises(UserError, match='optimizer_cfg.optimizer: expected one of .*; found "Thor"') as caught:
        run_classifier.main(["--optimizer_cfg.optimizer", "Thor"])
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_stopped_between_refreshes_it_goes_on_with_the_same_digits(toy_records: Path, tmp_path: Path) -> None:
    options = {"optimizer": "Thor", "Thor__frequency": 5, "Thor__learning_rate": 0.01, "Thor__warmup_steps": 4,
               "train_steps": 18, "accumulation_steps": 2, "scale_window": 3, "save_checkpoint_steps": 1,
               "save_checkpoint_num": 18, "data_dir": toy_records / "mindrecord"}
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    pretrain(whole, **options)
    checkpoint, = whole.glob("*_7.ckpt")
    pretrain(resumed, load_checkpoint_path=checkpoint, **options)
    assert_same_training(resumed, whole, start=7)
