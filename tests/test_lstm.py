"""The bidirectional LSTM against torch's packed sequences, tests/fixtures/lstm."""


import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops
from paths import FIXTURES

from src.device_forms import built_for
from src.lstm import BidirectionalLSTM

pytestmark = pytest.mark.usefixtures("graph_mode")


class Weighted(nn.Cell):
    """States, and their sum with factors, which are 0 at padding."""

    def __init__(self, lstm):
        super().__init__()
        self.lstm = lstm

    def construct(self, x, mask, factors):
        states = self.lstm(x, mask) * mask.expand_dims(2)
        return (states * factors).sum(), states


class Gradients(nn.Cell):
    def __init__(self, network):
        super().__init__()
        self.network = network
        self.weights = ms.ParameterTuple(network.trainable_params())
        self.gradients = ops.GradOperation(get_all=True, get_by_list=True, sens_param=True)

    def construct(self, x, mask, factors):
        total, states = self.network(x, mask, factors)
        inputs, weights = self.gradients(self.network, self.weights)(
            x, mask, factors, (ops.ones_like(total), ops.zeros_like(states)))
        return states, inputs[0], weights


class DynamicRNN(nn.Cell):
    """Ascend's operator by its description: weights [I+H,4H], the gates in the order of its outputs i, j, f, o."""

    def construct(self, x, weights, bias, _, hidden, cell):
        hidden, cell, states, cells = hidden[0], cell[0], [], []
        for step in range(x.shape[0]):
            gates = ops.matmul(ops.concat((x[step], hidden), 1), weights) + bias
            i, j, f, o = ops.split(gates, hidden.shape[1], 1)
            cell = ops.sigmoid(f) * cell + ops.sigmoid(i) * ops.tanh(j)
            hidden = ops.sigmoid(o) * ops.tanh(cell)
            states.append(hidden)
            cells.append(cell)
        return ops.stack(states), ops.stack(states), ops.stack(cells), *[x] * 5  # the rest is for the gradient


@pytest.mark.slow
def test_states_for_an_ascend_equal_torch():
    expected = np.load(FIXTURES / "lstm" / "packed.npz")
    with built_for("Ascend"):
        lstm = BidirectionalLSTM(6, 4)
    lstm.rnn.lstm = DynamicRNN()
    for parameter in lstm.trainable_params():
        parameter.set_data(Tensor(expected[f"weight/{parameter.name}"]))
    mask = expected["mask"]
    states = lstm(Tensor(expected["x"]), Tensor(mask)).asnumpy() * mask[:, :, None]
    np.testing.assert_allclose(states, expected["states"], atol=3e-3)  # float16


def test_states_and_gradients_equal_torch():
    expected = np.load(FIXTURES / "lstm" / "packed.npz")
    network = Weighted(BidirectionalLSTM(6, 4))
    names = [parameter.name.rpartition(".")[2] for parameter in network.trainable_params()]
    assert sorted(names) == sorted(f"{kind}_l0{direction}" for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
                                   for direction in ("", "_reverse"))
    for name, parameter in zip(names, network.trainable_params(), strict=True):
        parameter.set_data(Tensor(expected[f"weight/{name}"]))
    x = expected["x"].copy()
    x[expected["mask"] == 0] = 100.0  # padding must not matter
    states, x_gradient, gradients = Gradients(network)(Tensor(x), Tensor(expected["mask"]), Tensor(expected["factors"]))
    np.testing.assert_allclose(states.asnumpy(), expected["states"], atol=1e-6)
    np.testing.assert_allclose(x_gradient.asnumpy(), expected["x_gradient"], atol=1e-5)
    for name, gradient in zip(names, gradients, strict=True):
        np.testing.assert_allclose(gradient.asnumpy(), expected[f"gradient/{name}"], atol=1e-5, err_msg=name)
