"""Optimizers against PyTorch (committed numbers) and against their formulas in float64; the schedule; the groups."""


import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn
from paths import FIXTURES

from src.CRF import IMPOSSIBLE
from src.device_forms import CPU, GPU
from src.errors import UserError
from src.training.create_optimizer import create_optimizer
from src.training.optimizer import (
    AdamWeightDecay,
    Lamb,
    Momentum,
    WarmUpPolynomialDecay,
    is_decayed,
    layer_rates,
)

pytestmark = pytest.mark.usefixtures("graph_mode")

REFERENCES = FIXTURES / "optimizer"
STEPS = 20
NAMES = ("dense.weight", "dense.bias", "output.layernorm.gamma")
SCHEDULE = {"learning_rate": 0.05, "end_learning_rate": 0.001, "warmup_steps": 5, "decay_steps": 20, "power": 2.0}


def run(optimizer_class, initial, gradients, factor=None, rate=1.0, **options):
    """Apply the gradients step by step, at `rate` times the learning rate; return the weights after every step."""
    weights = [Parameter(Tensor(initial[name].astype(np.float32)), name=name) for name in initial]
    slowed = {key: SCHEDULE[key] * rate for key in ("learning_rate", "end_learning_rate")}
    optimizer = optimizer_class(weights, WarmUpPolynomialDecay(**SCHEDULE | slowed), **options)
    history = {name: [] for name in initial}
    for step in range(STEPS):
        row = tuple(Tensor(gradients[name][step].astype(np.float32)) for name in initial)
        optimizer(ms.mutable(row), factor)
        for weight in weights:
            history[weight.name].append(weight.asnumpy().copy())
    assert optimizer.global_step.asnumpy() == STEPS
    return {name: np.stack(values) for name, values in history.items()}


def load(file):
    with np.load(REFERENCES / file, allow_pickle=False) as arrays:
        return [{name: arrays[f"{kind}.{name}"] for name in NAMES} for kind in ("initial", "gradient", "weights")]


def assert_near(found, wanted):
    # The weights move by about 1. The kernels take 1 - beta2 in float32, which is 4e-5 off for beta2 0.999.
    for name, values in wanted.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-5, atol=2e-5, err_msg=name)


def random_problem():
    random = np.random.default_rng(3)
    shapes = {"dense.weight": (3, 4), "dense.bias": (3,), "still.weight": (2, 2), "zero.weight": (2,)}
    initial = {name: random.normal(size=shape) for name, shape in shapes.items()}
    initial["zero.weight"][:] = 0.0
    gradients = {name: random.normal(size=(STEPS, *shape)) for name, shape in shapes.items()}
    gradients["still.weight"][:] = 0.0
    return initial, gradients


def reference(initial, gradients, direction_of, weight_decay, trust=False):
    """The formulas in float64; `direction_of(m, v, t)` is the direction of Adam."""
    schedule = WarmUpPolynomialDecay(**SCHEDULE)
    history = {}
    for name in initial:
        w, m, v, history[name] = initial[name].copy(), 0.0, 0.0, []
        for step, g in enumerate(gradients[name]):
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
            u = direction_of(m, v, step + 1) + (weight_decay * w if "bias" not in name else 0.0)
            norms = np.linalg.norm(w), np.linalg.norm(u)
            ratio = norms[0] / norms[1] if trust and min(norms) > 0 else 1.0
            w = w - schedule.value_at(step) * ratio * u
            history[name].append(w)
    return {name: np.stack(values) for name, values in history.items()}


def test_adam_weight_decay_with_bias_correction_is_torch_adamw():
    initial, gradients, weights = load("adamw.npz")
    assert_near(run(AdamWeightDecay, initial, gradients, weight_decay=0.1, eps=1e-3, bias_correction=True), weights)


def test_adam_weight_decay_is_the_formula_of_bert():
    initial, gradients = random_problem()
    wanted = reference(initial, gradients, lambda m, v, t: m / (np.sqrt(v) + 1e-6), weight_decay=0.1)
    assert_near(run(AdamWeightDecay, initial, gradients, weight_decay=0.1), wanted)


def test_momentum_is_torch_sgd():
    initial, gradients, weights = load("momentum.npz")
    assert_near(run(Momentum, initial, gradients, momentum=0.9), weights)


def test_lamb_is_the_formula_of_its_paper():
    initial, gradients = random_problem()

    def direction(m, v, t):
        return m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-6)

    assert_near(run(Lamb, initial, gradients, weight_decay=0.1),
                reference(initial, gradients, direction, weight_decay=0.1, trust=True))


def test_lamb_moves_the_transitions_of_a_crf_at_the_configured_rate():
    """Their forbidding constants of -10000 must not enter the step of the others."""
    random = np.random.default_rng(4)
    gradients = random.normal(size=(STEPS, 3, 3))
    gradients[:, 2] = 0.0
    initial = np.zeros((3, 3))
    initial[2] = IMPOSSIBLE
    found = run(Lamb, {"loss.transitions": initial}, {"loss.transitions": gradients}, weight_decay=0.01)
    alone = run(AdamWeightDecay, {"loss.transitions": initial[:2]}, {"loss.transitions": gradients[:, :2]},
                weight_decay=0.01, bias_correction=True)
    np.testing.assert_allclose(found["loss.transitions"][:, :2], alone["loss.transitions"], atol=2e-4)
    np.testing.assert_allclose(found["loss.transitions"][:, 2], IMPOSSIBLE, rtol=0.01)


@pytest.mark.parametrize("optimizer_class", [AdamWeightDecay, Lamb, Momentum])
def test_the_factor_multiplies_the_gradients(optimizer_class):
    initial, gradients = random_problem()
    doubled = {name: 2.0 * gradient for name, gradient in gradients.items()}
    assert_near(run(optimizer_class, initial, gradients, factor=Tensor(2.0, ms.float32)),
                run(optimizer_class, initial, doubled))


def test_schedule_rises_falls_and_stays():
    schedule = WarmUpPolynomialDecay(**SCHEDULE)
    assert schedule.value_at(0) == 0.0
    assert schedule.value_at(2) == pytest.approx(0.02)
    assert schedule.value_at(5) == pytest.approx(0.001 + 0.049 * 0.75**2)
    assert schedule.value_at(20) == schedule.value_at(1000) == pytest.approx(0.001)
    for step in (0, 1, 4, 5, 6, 19, 20, 1000):
        found = schedule(Tensor(step, ms.int32)).asnumpy()
        assert found == pytest.approx(schedule.value_at(step), rel=1e-5, abs=1e-9)


def test_norms_and_biases_are_not_decayed():
    assert is_decayed("bert.bert.bert_encoder.layers.0.output.dense.weight")
    assert is_decayed("bert.bert.bert_embedding_lookup.embedding_table")
    assert not is_decayed("bert.bert.bert_encoder.layers.0.output.dense.bias")
    assert not is_decayed("bert.cls1.output_bias")
    assert not is_decayed("bert.cls1.layernorm.gamma")


def test_state_is_named_after_the_weights():
    optimizer = AdamWeightDecay([Parameter(Tensor(np.ones(2, np.float32)), name="dense.weight")],
                                WarmUpPolynomialDecay(0.1))
    assert set(optimizer.state()) == {"global_step", "adam_m.dense.weight", "adam_v.dense.weight"}


def test_created_from_a_configuration_group():
    network = nn.Dense(2, 2)
    lamb = create_optimizer("Lamb", network, {"learning_rate": 0.1, "end_learning_rate": 0.0, "warmup_steps": 10,
                                              "decay_steps": 0, "power": 2.0, "beta1": 0.99}, total_steps=100)
    assert (lamb.beta1, lamb.learning_rate.value_at(5), lamb.learning_rate.value_at(100)) == (0.99, 0.05, 0.0)
    momentum = create_optimizer("Momentum", network, {"learning_rate": 0.1, "momentum": 0.8}, total_steps=100)
    assert momentum.learning_rate.value_at(0) == momentum.learning_rate.value_at(99) == 0.1
    with pytest.raises(UserError, match="optimizer: unknown optimizer 'Adam'; choose one of Lamb"):
        create_optimizer("Adam", network, {"learning_rate": 0.1}, total_steps=1)


@pytest.mark.parametrize("forms", [CPU, GPU], ids=["cpu", "gpu"])
def test_squared_norm_of_a_large_matrix(forms):
    x = np.random.default_rng(0).normal(size=(2000, 512)).astype(np.float32)
    found = forms.squared_norm(Tensor(x)).asnumpy()
    assert found == pytest.approx(np.sum(x.astype(np.float64) ** 2), rel=1e-5)


DEEP_NAMES = ["bert.bert.bert_embedding_lookup.embedding_table", "bert.bert.bert_encoder.layers.0.output.dense.weight",
              "bert.bert.bert_encoder.layers.1.output.dense.weight", "bert.bert.dense.weight", "bert.dense_1.weight"]


def test_layer_rates_fall_with_depth():
    assert layer_rates(DEEP_NAMES, 0.5) == [0.125, 0.25, 0.5, 1.0, 1.0]
    assert layer_rates(DEEP_NAMES, 1.0) == [1.0] * 5
    assert layer_rates(["dense.weight"], 0.5) == [1.0]


@pytest.mark.parametrize("optimizer_class", [AdamWeightDecay, Lamb, Momentum])
def test_layer_decay_is_a_learning_rate_of_each_layer(optimizer_class):
    random = np.random.default_rng(0)
    initial = {name: random.normal(size=(2, 3)) for name in DEEP_NAMES}
    gradients = {name: random.normal(size=(STEPS, 2, 3)) for name in DEEP_NAMES}
    found = run(optimizer_class, initial, gradients, layer_decay=0.5)
    for name, rate in zip(DEEP_NAMES, layer_rates(DEEP_NAMES, 0.5), strict=True):
        # A network of this weight alone, whose schedule is slower.
        alone = run(optimizer_class, {name: initial[name]}, {name: gradients[name]}, rate=rate)
        np.testing.assert_allclose(found[name], alone[name], rtol=1e-5, atol=1e-6, err_msg=name)
