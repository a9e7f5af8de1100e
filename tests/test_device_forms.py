"""Both forms of every operation compute the same; which one a network gets follows from the device alone."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops

from src import cpu_forms
from src.bert_model import BertConfig, BertModel
from src.device_forms import ASCEND, CPU, GPU, FusedNormalize, built_for, device_forms, on_cpu

pytestmark = pytest.mark.usefixtures("graph_mode")

ROWS = np.random.default_rng(3).normal(size=(7, 24)).astype(np.float32)
OPERATIONS = {"bias_add": lambda forms: forms.bias_add(), "normalize": lambda forms: forms.normalize(1e-12),
              "softmax": lambda forms: forms.softmax(), "gelu": lambda forms: forms.gelu(),
              "tanh": lambda forms: forms.tanh, "squared_norm": lambda forms: forms.squared_norm}


class Operation(nn.Cell):
    def __init__(self, operation):
        super().__init__()
        self.operation = operation

    def construct(self, *inputs):
        return self.operation(*inputs)


class Gradients(nn.Cell):
    """The gradients of an operation for a given gradient of its output."""

    def __init__(self, operation):
        super().__init__()
        self.operation = operation
        self.gradient = ops.GradOperation(get_all=True, sens_param=True)

    def construct(self, slope, *inputs):
        return self.gradient(self.operation)(*inputs, slope)


def results(forms, name):
    random = np.random.default_rng(4)
    vectors = {"bias_add": 1, "normalize": 2}.get(name, 0)
    inputs = [Tensor(array) for array in (ROWS, *random.normal(size=(vectors, 24)).astype(np.float32))]
    slope = np.float32(1.0) if name == "squared_norm" else random.normal(size=ROWS.shape).astype(np.float32)
    operation = Operation(OPERATIONS[name](forms))
    values = operation(*inputs), *Gradients(operation)(Tensor(slope), *inputs)
    return [value.asnumpy() for value in values]


@pytest.mark.parametrize("name", OPERATIONS)
def test_both_forms_compute_the_same(name):
    tolerance = 2e-4 if name in ("tanh", "gelu") else 2e-5  # on a CPU the kernels of these two are off by 1e-4
    for found, wanted in zip(results(GPU, name), results(CPU, name), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance)


def kinds(network):
    return {type(cell) for _, cell in network.cells_and_names()} & {
        cpu_forms.BiasAdd, cpu_forms.Normalize, cpu_forms.Softmax, cpu_forms.Gelu, FusedNormalize}


def test_a_network_gets_the_forms_of_the_device_that_it_is_built_for():
    config = BertConfig(seq_length=8, vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
                        intermediate_size=16, hidden_act="gelu")
    assert on_cpu() and device_forms() is CPU
    assert FusedNormalize not in kinds(BertModel(config, is_training=False))
    for target, forms in (("Ascend", ASCEND), ("GPU", GPU)):
        with built_for(target):
            assert device_forms() is forms
            assert kinds(BertModel(config, is_training=False)) == {FusedNormalize}
    assert device_forms() is CPU and ms.get_context("device_target") == "CPU"
