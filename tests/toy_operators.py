"""What the operators compute, in float64 NumPy, and how an operator is compared with it."""

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

F32, BF16 = ms.float32, ms.bfloat16


def random(*shape, seed=5):
    return np.random.default_rng(seed).normal(size=shape)


def tensor(value, dtype=np.float32):
    return Tensor(np.asarray(value).astype(dtype))


class Gradient(nn.Cell):
    def __init__(self, network):
        super().__init__(auto_prefix=False)
        self.network = network
        self.gradient = ops.GradOperation(get_all=True, sens_param=True)

    def construct(self, *inputs):
        return self.gradient(self.network)(*inputs)


def numeric_gradient(function, arguments, place, dy):
    """Central differences of sum(function(*arguments) * dy) by one argument."""
    gradient = np.empty_like(arguments[place])
    for index in np.ndindex(*gradient.shape):
        sides = []
        for shift in (1e-5, -1e-5):
            moved = [np.array(argument) for argument in arguments]
            moved[place][index] += shift
            sides.append(np.sum(function(*moved) * dy))
        gradient[index] = (sides[0] - sides[1]) / 2e-5
    return gradient


def assert_as_reference(cell, reference, arguments, constants=(), tolerance=1e-5):
    """Compare output and gradients by all `arguments`; `constants` follow them in the call of the cell."""
    inputs = [tensor(argument) for argument in arguments] + list(constants)
    arguments = [np.asarray(argument, np.float32).astype(np.float64) for argument in arguments]
    y = reference(*arguments)
    dy = random(*y.shape, seed=9)
    found = cell(*inputs).asnumpy()
    np.testing.assert_allclose(found, y, rtol=tolerance, atol=tolerance * max(np.abs(y).max(), 1))
    gradients = Gradient(cell)(*inputs, tensor(dy))
    for place in range(len(arguments)):
        wanted = numeric_gradient(reference, arguments, place, dy)
        scale = max(np.abs(wanted).max(), 0.1 * np.abs(dy).max())  # some gradients are exactly 0
        np.testing.assert_allclose(gradients[place].asnumpy() / scale, wanted / scale, rtol=0, atol=tolerance,
                                   err_msg=f"gradient {place}")


def gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def normalize(x, gamma, beta):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12) * gamma + beta


def dense(x, weight, bias):
    return x @ weight.T + bias


def softmax(x):
    exponentials = np.exp(x - x.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


def dropout_factors(shape, key, p):
    """The factors of dropout.h, element by element."""
    def mixed(x):
        x = (x ^ (x >> np.uint32(16))) * np.uint32(0x21F0AAAD)
        x = (x ^ (x >> np.uint32(15))) * np.uint32(0x735A2D97)
        return x ^ (x >> np.uint32(15))

    start, stride, twist = np.asarray(key, np.int32).view(np.uint32)
    elements = np.arange(int(np.prod(shape)), dtype=np.uint32)
    bits = mixed(mixed(start + elements * (stride | np.uint32(1))) + twist)
    kept = bits >= np.uint32(float(np.float32(p)) * 2.0**32)
    return (kept / (1 - np.float64(np.float32(p)))).reshape(shape)
