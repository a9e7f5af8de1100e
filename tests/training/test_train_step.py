"""The training step: accumulation, loss scaling, overflow, clipping, reduction, and what a resumed run needs."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn, ops

from src.device_forms import built_for
from src.dropout import Dropout
from src.errors import UserError
from src.layers import Dense, LayerNorm
from src.training.create_optimizer import create_optimizer
from src.training.train_step import LossScale, TrainStep

pytestmark = pytest.mark.usefixtures("graph_mode")


class Network(nn.Cell):
    """A regression with every kind of parameter."""

    def __init__(self, dropout=0.0):
        super().__init__()
        self.dense = Dense(4, 6, activation="gelu")
        self.layernorm = LayerNorm(6)
        self.dropout = Dropout(dropout)
        self.output = Dense(6, 1)
        random = np.random.default_rng(1)
        for parameter in self.get_parameters():
            if parameter.name.endswith("weight"):
                parameter.set_data(Tensor(random.normal(size=parameter.shape).astype(np.float32)))

    def construct(self, x, y):
        error = self.output(self.dropout(self.layernorm(self.dense(x)))) - y
        return (error * error).mean()


def make_step(optimizer="AdamWeightDecay", learning_rate=0.01, dropout=0.0, **options):
    network = Network(dropout)
    group = {"learning_rate": learning_rate}
    return TrainStep(network, create_optimizer(optimizer, network, group, total_steps=100), **options)


def make_batch(rows=8):
    random = np.random.default_rng(2)
    return (Tensor(random.normal(size=(rows, 4)).astype(np.float32)),
            Tensor(random.normal(size=(rows, 1)).astype(np.float32)))


def bad_batch(value=np.nan):
    x, y = make_batch()
    return x, Tensor(np.full(y.shape, value, np.float32))


def weights_of(step):
    return {parameter.name: parameter.asnumpy().copy() for parameter in step.network.get_parameters()}


def state_of(step):
    return {name: parameter.asnumpy().copy() for name, parameter in step.state().items()}


def assert_same(found, wanted, **tolerance):
    assert set(found) == set(wanted)
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, err_msg=name, **{"rtol": 0, "atol": 0, **tolerance})


def losses(step, batches):
    return [float(step(*batch)[0].asnumpy()) for batch in batches]


@pytest.mark.parametrize("loss_scale", [None, LossScale(1024.0)])
def test_accumulation_equals_the_large_batch(loss_scale):
    large, small = make_step(loss_scale=loss_scale), make_step(loss_scale=loss_scale, accumulation_steps=4)
    np.testing.assert_allclose(losses(small, [make_batch()] * 5), losses(large, [make_batch()] * 5), rtol=1e-5)
    # Adam divides small gradients by their own size, so that rounding shows.
    assert_same(weights_of(small), weights_of(large), atol=1e-5)
    assert small.optimizer.global_step.asnumpy() == 5


def test_accumulation_steps_must_be_positive():
    with pytest.raises(UserError, match="accumulation_steps: found 0"):
        make_step(accumulation_steps=0)


@pytest.mark.parametrize(("target", "accumulation_steps"), [("CPU", 1), ("CPU", 2), ("Ascend", 2)])
def test_overflow_skips_the_update_and_lowers_the_scale(target, accumulation_steps):
    with built_for(target):
        step = make_step(loss_scale=LossScale(4.0, factor=4.0, window=2), accumulation_steps=accumulation_steps)
    step(*make_batch())
    weights, moments = weights_of(step), {name: p.asnumpy().copy() for name, p in step.optimizer.state().items()}
    scales = []
    for batch in (bad_batch(), bad_batch(np.inf), make_batch(), make_batch(), make_batch()):
        _, overflow, scale = step(*batch)
        scales.append((bool(overflow.asnumpy()), float(scale.asnumpy())))
        if overflow.asnumpy():
            assert_same(weights_of(step), weights)
            assert_same({name: p.asnumpy() for name, p in step.optimizer.state().items()}, moments)
    # Down to the floor of 1, and up after two good steps.
    assert scales == [(True, 4.0), (True, 1.0), (False, 1.0), (False, 1.0), (False, 4.0)]
    assert step.optimizer.global_step.asnumpy() == 4


def test_without_loss_scale_a_nan_is_still_reported_and_skipped():
    step = make_step()
    weights = weights_of(step)
    loss, overflow, scale = step(*bad_batch())
    assert np.isnan(loss.asnumpy())
    assert bool(overflow.asnumpy())
    assert float(scale.asnumpy()) == 1.0
    assert_same(weights_of(step), weights)


@pytest.mark.parametrize("loss_scale", [None, LossScale(256.0)])
def test_clipping_bounds_the_norm_of_all_gradients_together(loss_scale):
    def change(clip_norm):
        step = make_step("Momentum", learning_rate=1.0, loss_scale=loss_scale, clip_norm=clip_norm)
        before = weights_of(step)
        step(*make_batch())
        after = weights_of(step)
        return np.concatenate([(after[name] - before[name]).ravel() for name in before])

    free = change(None)
    norm = np.linalg.norm(free)
    np.testing.assert_allclose(change(0.5 * norm), 0.5 * free, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(change(2.0 * norm), free, rtol=1e-4, atol=1e-6)


class Halving(nn.Cell):
    """A stand-in for the reduction over devices, which counts its calls."""

    def __init__(self):
        super().__init__(auto_prefix=False)
        self.calls = Parameter(Tensor(0, ms.int32), name="calls", requires_grad=False)
        self.map = ops.HyperMap()

    def construct(self, gradients):
        ops.assign_add(self.calls, 1)
        return self.map(ops.partial(ops.mul, 0.5), gradients)


class OverflowElsewhere(nn.Cell):
    """A stand-in for the reduction over devices, of which another one has an overflow to report."""

    def construct(self, tensors):
        return (tensors[0] + 0.5,) if len(tensors) == 1 else tensors


def test_an_overflow_in_the_register_of_another_device_skips_the_update():
    with built_for("Ascend"):
        step = make_step(loss_scale=LossScale(4.0), grad_reducer=OverflowElsewhere())
    before = weights_of(step)
    assert bool(step(*make_batch())[1].asnumpy())
    assert_same(weights_of(step), before)


def test_gradients_are_reduced_once_or_after_each_micro_batch():
    results = {}
    for post_accumulation, calls in ((True, 1), (False, 4)):
        reducer = Halving()
        step = make_step("Momentum", learning_rate=0.5, clip_norm=None, accumulation_steps=4, grad_reducer=reducer,
                         allreduce_post_accumulation=post_accumulation)
        step(*make_batch())
        assert reducer.calls.asnumpy() == calls
        results[post_accumulation] = weights_of(step)
    assert_same(results[False], results[True], rtol=1e-5, atol=1e-6)
    half = make_step("Momentum", learning_rate=0.25, clip_norm=None)
    half(*make_batch())
    assert_same(results[True], weights_of(half), rtol=1e-5, atol=1e-6)


def test_a_restored_state_continues_with_the_same_digits():
    options = {"loss_scale": LossScale(8.0, window=3), "accumulation_steps": 2, "dropout": 0.5, "seed": 3}
    batches = [make_batch(), bad_batch(), make_batch(), make_batch(), make_batch()]
    whole = make_step(**options)
    losses(whole, batches[:2])
    weights, state = weights_of(whole), state_of(whole)
    wanted = losses(whole, batches[2:])

    resumed = make_step(**options)
    for parameter in resumed.network.get_parameters():
        parameter.set_data(Tensor(weights[parameter.name]))
    for name, parameter in resumed.state().items():
        parameter.set_data(Tensor(state[name]))
    assert losses(resumed, batches[2:]) == wanted
    assert_same(weights_of(resumed), weights_of(whole))
    assert_same(state_of(resumed), state_of(whole))


def test_every_micro_batch_and_every_seed_has_its_own_masks():
    x, y = make_batch(64)
    masks = {"learning_rate": 0.0, "dropout": 0.5}
    single = losses(make_step(**masks), [(x, y)] * 4)
    assert len(set(single)) == 4
    twice = tuple(Tensor(np.concatenate([column.asnumpy()] * 2)) for column in (x, y))
    pairs = losses(make_step(accumulation_steps=2, **masks), [twice] * 2)
    np.testing.assert_allclose(pairs, [np.mean(single[:2]), np.mean(single[2:])], rtol=1e-6)
    assert losses(make_step(seed=1, **masks), [(x, y)])[0] not in single


def test_the_loss_and_its_gradient_see_the_same_masks():
    # A step of size d against the gradient g lowers the loss by d g^2, if the masks stay: seed and call are the same.
    x, y = make_batch(64)
    first = make_step("Momentum", learning_rate=1e-3, dropout=0.5, clip_norm=None)
    before = weights_of(first)
    loss = losses(first, [(x, y)])[0]
    after = weights_of(first)
    squares = sum(float(np.sum(((after[name] - before[name]) / 1e-3) ** 2)) for name in before)
    second = make_step("Momentum", learning_rate=0.0, dropout=0.5, clip_norm=None)
    for parameter in second.network.get_parameters():
        parameter.set_data(Tensor(after[parameter.name]))
    assert losses(second, [(x, y)])[0] == pytest.approx(loss - 1e-3 * squares, abs=0.1 * 1e-3 * squares)


def test_names_of_the_state():
    step = make_step(accumulation_steps=2)
    own = {"global_step", "loss_scale", "good_steps", "attempts", "dropout_keys"}
    moments = {f"adam_{kind}.{parameter.name}" for kind in "mv" for parameter in step.network.get_parameters()}
    assert set(step.state()) == own | moments
    assert "dense.weight" in weights_of(step)
