"""Layers forward and backward against float64 NumPy."""

import math

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops

from src.cpu_forms import Softmax
from src.errors import UserError
from src.layers import Dense, LayerNorm, get_activation

pytestmark = pytest.mark.usefixtures("graph_mode")


def random_rows(*shape):
    return np.random.default_rng(5).normal(size=shape)


class Gradient(nn.Cell):
    """The gradients of a network by its input and by its parameters."""

    def __init__(self, network):
        super().__init__(auto_prefix=False)
        self.network = network
        self.weights = ms.ParameterTuple(network.trainable_params())
        self.gradient = ops.GradOperation(get_all=True, get_by_list=bool(self.weights), sens_param=True)

    def construct(self, x, dy):
        if self.weights:
            return self.gradient(self.network, self.weights)(x, dy)
        return self.gradient(self.network)(x, dy)


class Wrapped(nn.Cell):
    def __init__(self, function):
        super().__init__(auto_prefix=False)
        self.function = function

    def construct(self, x):
        return self.function(x)


def numeric_gradient(function, x, dy):
    """Central differences in float64 of sum(function(x) * dy)."""
    gradient = np.empty_like(x)
    for index in np.ndindex(*x.shape):
        shift = np.zeros_like(x)
        shift[index] = 1e-5
        gradient[index] = np.sum((function(x + shift) - function(x - shift)) * dy) / 2e-5
    return gradient


def check(network, x, reference):
    """Compare output, input gradient and parameter gradients; `reference(x, *parameters)` works in float64."""
    parameters = [parameter.asnumpy().astype(np.float64) for parameter in network.trainable_params()]
    y = reference(x, *parameters)
    dy = random_rows(*y.shape)
    found = network(Tensor(x.astype(np.float32))).asnumpy()
    np.testing.assert_allclose(found, y, rtol=2e-6, atol=2e-6)
    gradients = Gradient(network)(Tensor(x.astype(np.float32)), Tensor(dy.astype(np.float32)))
    by_input, by_weights = gradients if parameters else (gradients, ())
    arguments = [x, *parameters]
    for place, gradient in enumerate([by_input[0], *by_weights]):
        def of_one(value, place=place):
            return reference(*arguments[:place], value, *arguments[place + 1:])
        wanted = numeric_gradient(of_one, arguments[place], dy)
        np.testing.assert_allclose(gradient.asnumpy(), wanted, rtol=1e-5, atol=1e-5 * np.abs(wanted).max())


def gelu(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


ACTIVATIONS = {
    "gelu": gelu,
    "gelu_erf": lambda x: 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))),
    "fast_gelu": lambda x: x / (1 + np.exp(-1.702 * x)),
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation(name):
    check(Wrapped(get_activation(name)), 2.0 * random_rows(5, 7), ACTIVATIONS[name])


def test_gelu_of_large_numbers():
    x = np.array([-1e4, -30.0, 0.0, 30.0, 1e4], np.float32)
    np.testing.assert_array_equal(Wrapped(get_activation("gelu"))(Tensor(x)).asnumpy(), np.maximum(x, 0))


def test_gelu_in_float16_has_a_gradient_everywhere():
    x = np.array([-65504, -300, -68, -3, -0.5, 0, 0.5, 3, 68, 300, 65504], np.float16)
    (gradient,) = Gradient(get_activation("gelu"))(Tensor(x), Tensor(np.ones_like(x)))
    wanted = numeric_gradient(gelu, x.astype(np.float64), 1.0)
    np.testing.assert_allclose(gradient.asnumpy(), wanted, atol=2e-3)


def test_unknown_activation():
    with pytest.raises(UserError, match="hidden_act: unknown activation 'swish'; choose one of fast_gelu, gelu"):
        get_activation("swish")


def fill(network):
    random = np.random.default_rng(11)
    for parameter in network.get_parameters():
        parameter.set_data(Tensor(random.normal(size=parameter.shape).astype(np.float32)))
    return network


@pytest.mark.parametrize("shape", [(6, 4), (2, 3, 4)])
def test_dense(shape):
    check(fill(Dense(4, 5)), random_rows(*shape), lambda x, weight, bias: x @ weight.T + bias)


def test_dense_with_activation():
    check(fill(Dense(4, 5, activation="gelu")), random_rows(6, 4), lambda x, weight, bias: gelu(x @ weight.T + bias))


@pytest.mark.parametrize("shape", [(6, 8), (2, 3, 8)])
def test_layer_norm(shape):
    def reference(x, gamma, beta):
        centred = x - x.mean(-1, keepdims=True)
        return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12) * gamma + beta

    check(fill(LayerNorm(8)), 3.0 * random_rows(*shape) + 1.0, reference)


@pytest.mark.parametrize("width", [8, 768, 3072])
def test_layer_norm_of_constant_rows(width):
    values = np.array([-3e4, -123.4, -0.3, 0.0, 1e-3, 0.1, 7.7, 100.1, 12345.6], np.float32)
    network = fill(LayerNorm(width))
    x = np.repeat(values[:, None], width, axis=1)
    found = network(Tensor(x)).asnumpy()
    np.testing.assert_array_equal(found, np.broadcast_to(network.beta.asnumpy(), x.shape))
    by_input, by_weights = Gradient(network)(Tensor(x), Tensor(np.ones_like(x)))
    assert all(np.isfinite(gradient.asnumpy()).all() for gradient in (*by_input, *by_weights))


def test_layer_norm_of_rows_that_vary_little():
    x = 100.0 + 0.02 * random_rows(5, 8)  # their variance is what counts, not that it is small beside their mean
    centred = (x := x.astype(np.float32)).astype(np.float64) - x.astype(np.float64).mean(1, keepdims=True)
    wanted = centred / np.sqrt((centred**2).mean(1, keepdims=True))
    np.testing.assert_allclose(LayerNorm(8)(Tensor(x)).asnumpy(), wanted, atol=2e-3)


def test_softmax():
    def reference(x):
        e = np.exp(x - x.max(-1, keepdims=True))
        return e / e.sum(-1, keepdims=True)

    x = random_rows(2, 3, 4, 5)
    x[0, :, :, 3:] -= 10000.0  # as the attention mask does
    check(Softmax(), x, reference)
