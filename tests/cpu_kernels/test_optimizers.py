"""The updates of all weights in one call against float64 NumPy."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, nn
from toy_operators import random, tensor

from src.cpu_kernels import cells, operators

SHAPES = [(3,), (5, 7), (1,), (300, 301)]
DECAYS, RATES = (0.0, 0.1, 0.0, 0.01), (1.0, 0.5, 1.0, 2.0)
BETA1, BETA2, EPS = 0.9, 0.99, 1e-6
LEARNING_RATE, FACTOR = 0.01, 0.5


class Network(nn.Cell):
    """Weights, moments and an update that changes them."""

    def __init__(self, name, corrects):
        super().__init__()
        def parameters(kind):
            values = [random(*shape, seed=i) if kind == "w" else np.zeros(shape) for i, shape in enumerate(SHAPES)]
            return ms.ParameterTuple([Parameter(tensor(value), name=f"{kind}{i}") for i, value in enumerate(values)])

        self.weights, self.first, self.second = parameters("w"), parameters("m"), parameters("v")
        self.update = cells.UpdateAll(name, BETA1, BETA2, EPS, corrects, DECAYS, RATES)

    def construct(self, updates, *gradients):
        return self.update(tensor_of(LEARNING_RATE), tensor_of(FACTOR), updates, self.weights, self.first, self.second,
                           gradients)


def tensor_of(value):
    return ms.Tensor(value, ms.float32)


def directions(moments, gradients, step, corrects):
    for (m, v), g in zip(moments, gradients, strict=True):
        m += (1 - BETA1) * (FACTOR * g - m)
        v += (1 - BETA2) * ((FACTOR * g) ** 2 - v)
        first, second = (1 - BETA1**step, 1 - BETA2**step) if corrects else (1, 1)
        yield m / first / (np.sqrt(v / second) + EPS)


@pytest.mark.parametrize(("name", "corrects"), [("Adam", False), ("Adam", True), ("Lamb", True)])
def test_update(name, corrects):
    network = Network(name, corrects)
    weights = [weight.asnumpy().astype(np.float64) for weight in network.weights]
    moments = [(np.zeros_like(weight), np.zeros_like(weight)) for weight in weights]
    for step in (1, 2, 3):
        gradients = [random(*shape, seed=10 * step + i) for i, shape in enumerate(SHAPES)]
        network(ms.Tensor(step - 1, ms.int32), *map(tensor, gradients))
        for i, direction in enumerate(directions(moments, gradients, step, corrects)):
            change = direction + DECAYS[i] * weights[i]
            ratio = np.linalg.norm(weights[i]) / np.linalg.norm(change) if name == "Lamb" else 1.0
            weights[i] = weights[i] - LEARNING_RATE * RATES[i] * ratio * change
    for found, wanted in zip(network.weights, weights, strict=True):
        np.testing.assert_allclose(found.asnumpy(), wanted, rtol=2e-6, atol=2e-6)


def test_squared_norm():
    class Norm(nn.Cell):
        def __init__(self):
            super().__init__()
            self.norm = operators.squared_norm()

        def construct(self, *tensors):
            return self.norm(*tensors)

    values = [random(*shape) for shape in SHAPES]
    wanted = sum((value**2).sum() for value in values)
    np.testing.assert_allclose(Norm()(*map(tensor, values)).asnumpy(), [wanted], rtol=1e-6)
    values[1][2, 3] = np.nan
    assert np.isnan(Norm()(*map(tensor, values)).asnumpy())
