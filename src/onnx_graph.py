"""Builds an ONNX graph node by node, with the layers that every network here is made of.

MindSpore's own ONNX export knows neither Erf nor a free batch; a graph of our own is exact and small. Batch and
sequence length stay free because no shape is ever written down but those of the weights.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from types import ModuleType
from typing import NamedTuple

import numpy as np

from src.errors import UserError

OPSET = 17  # the first with LayerNormalization; newer ones exclude compilers for devices
TOKENS = ("INT32", ("batch", "sequence"))  # a number for each token

Value = tuple[str, Sequence[str | int]]
Input = str | np.ndarray | Sequence[int] | float | None  # of a node: a value's name, a constant or nothing


def onnx_package(name: str, purpose: str) -> ModuleType:
    """Import `onnx` or `onnxruntime`, which only ONNX models need.

    Raises:
        UserError: the package is not installed.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise UserError(f"{purpose} needs the package {name} ({error}); install it with: "
                        f"pip install -r requirements-onnx.txt") from error


class OnnxGraph:
    """Nodes and the weights that they use. A value is known by its name.

    Where an operator takes a value, a numpy array or a number may stand for a constant; a float is float32 and an int
    is int64, as ONNX wants them.

    Args:
        weights: parameters by name, as in the checkpoints; those that are used become part of the model.
        prefix: begins the names of nodes.
    """

    def __init__(self, weights: Mapping[str, np.ndarray], prefix: str = "") -> None:
        self.helper = onnx_package("onnx.helper", "an ONNX model")
        self.weights = weights
        self.nodes = []
        self.initializers: dict[str, np.ndarray] = {}
        self._prefix = prefix
        self._count = 0

    def add(self, operator: str, *inputs: Input, name: str = "", **attributes: object) -> str:
        """Add a node with one result, called `name`; return its name. None is an absent input."""
        label = self._next_label(operator)
        self._add_node(label, operator, inputs, [name or label], attributes)
        return name or label

    def add_many(self, operator: str, *inputs: Input, outputs: int, **attributes: object) -> list[str]:
        """Add a node with several results; return their names."""
        label = self._next_label(operator)
        results = [f"{label}.{number}" for number in range(outputs)]
        self._add_node(label, operator, inputs, results, attributes)
        return results

    def _next_label(self, operator: str) -> str:
        """The name of the next node."""
        self._count += 1
        return f"{self._prefix}{operator}_{self._count}"

    def _add_node(self, label: str, operator: str, inputs: Sequence[Input], results: Sequence[str],
                  attributes: Mapping[str, object]) -> None:
        names = ["" if value is None else value if isinstance(value, str) else self.constant(value) for value in inputs]
        self.nodes.append(self.helper.make_node(operator, names, results, name=label, **attributes))

    def constant(self, value: np.ndarray | Sequence[int] | float) -> str:
        """The name of a constant; equal ones are stored once."""
        array = np.asarray(value, np.float32 if isinstance(value, float) else None)
        name = f"{array.dtype}{list(array.shape)}:{array.tobytes().hex()}" if array.size <= 8 else ""
        name = name or f"constant_{len(self.initializers)}"
        return self._store(name, array)

    def weight(self, name: str, transposed: bool = False) -> str:
        """The name of a parameter's value."""
        value = self.weights[name]
        return self._store(f"{name}.T" if transposed else name, value.T if transposed else value)

    def _store(self, name: str, array: np.ndarray) -> str:
        self.initializers.setdefault(name, array)
        return name

    def value(self, name: str, kind: str, axes: Sequence[str | int] | None = None) -> object:
        """The declaration of a value of type `kind`, such as FLOAT; axes that are free have a name."""
        return self.helper.make_tensor_value_info(name, self.helper.TensorProto.DataType.Value(kind), axes)

    def scan(self, step: Callable[..., tuple[Sequence[str], str]], states: Mapping[str, str], rows: Mapping[str, str],
             result_type: str, backward: bool = False) -> list[str]:
        """Add a loop over the first axis of `rows`.

        Args:
            step: takes the graph of the loop's inside and the names of states and rows there; returns those of the
                new states and of a result.
            states: values before the first step, with their types.
            rows: what the loop runs over, with types.
            result_type: type of the result.
            backward: from the last row to the first.

        Returns:
            The states after the loop, then the results of all steps along a new first axis.
        """
        inner = OnnxGraph(self.weights, f"{self._prefix}scan_{self._count + 1}/")
        inner.initializers = self.initializers  # a loop sees the values outside of it
        kinds = [*states.values(), *rows.values()]
        names = [f"{inner._prefix}{number}" for number in range(len(kinds))]
        new_states, result = step(inner, *names)
        body = self.helper.make_graph(
            inner.nodes, "step", [inner.value(name, kind) for name, kind in zip(names, kinds, strict=True)],
            [inner.value(name, kind) for name, kind in zip((*new_states, result), (*states.values(), result_type),
                                                           strict=True)])
        return self.add_many("Scan", *states, *rows, outputs=len(states) + 1, body=body, num_scan_inputs=len(rows),
                             scan_input_directions=[int(backward)] * len(rows), scan_output_directions=[int(backward)])

    # ------------------------------------------------------------ layers

    def pooled(self, hidden: str) -> str:
        """The pooled first token [B,H] of hidden states [B,S,H], see `src.bert_model.BertModel`."""
        return self.dense(self.add("Gather", hidden, 0, axis=1), "bert.dense", "tanh")

    def sequence_length(self) -> str:
        """The sequence length [1], int64."""
        return self.add("Shape", "input_ids", start=1, end=2)

    def dense(self, x: str, name: str, activation: str | None = None, output: str = "") -> str:
        """x W^T + b over the last axis, see `src.layers.Dense`."""
        product = self.add("MatMul", x, self.weight(f"{name}.weight", transposed=True))
        y = self.add("Add", product, self.weight(f"{name}.bias"), name=output)
        return self.activation(y, activation) if activation else y

    def layer_norm(self, x: str, name: str, output: str = "") -> str:
        """Normalise the last axis, see `src.layers.LayerNorm`."""
        return self.add("LayerNormalization", x, self.weight(f"{name}.gamma"), self.weight(f"{name}.beta"),
                        axis=-1, epsilon=1e-12, name=output)

    def activation(self, x: str, name: str) -> str:
        """An activation by its name in `src.layers`.

        The forms are those that ONNX Runtime recognises and computes in one pass.
        """
        if name == "relu":
            return self.add("Relu", x)
        if name == "tanh":
            return self.add("Tanh", x)
        if name == "fast_gelu":
            return self.add("Mul", x, self.add("Sigmoid", self.add("Mul", x, 1.702)))
        if name == "gelu_erf":
            erf = self.add("Erf", self.add("Div", x, math.sqrt(2.0)))
            return self.add("Mul", self.add("Mul", x, self.add("Add", erf, 1.0)), 0.5)
        if name == "gelu":
            cubic = self.add("Add", self.add("Mul", self.add("Mul", x, 0.044715), x), 1.0)
            tanh = self.add("Tanh", self.add("Mul", self.add("Mul", x, math.sqrt(2.0 / math.pi)), cubic))
            return self.add("Mul", self.add("Mul", x, 0.5), self.add("Add", tanh, 1.0))
        raise UserError(f"hidden_act: {name} cannot be exported as ONNX")


class Head(NamedTuple):
    """What follows the encoder of a network. Inputs and outputs are {name: (type, axes)}; free axes have names."""

    build: Callable[[OnnxGraph, str], None]  # takes the graph and the hidden states [B,S,H], names its outputs
    outputs: Mapping[str, Value]  # those of the network
    further_inputs: Mapping[str, Value] = {}  # besides those of the encoder
    further_outputs: Mapping[str, Value] = {}  # which the network keeps to itself
