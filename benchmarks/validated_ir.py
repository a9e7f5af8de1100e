"""Compile a network as far as MindSpore's validation, without a back end, and read the operators of the graph.

Nothing runs and no kernel is looked for, so that a graph for Ascend or GPU can be read where there is only a CPU.
"""

import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import mindspore as ms
from mindspore import Tensor, context, nn
from mindspore.graph.api import _cell_graph_executor

from src.device_forms import built_for

ROOT = Path(__file__).resolve().parents[1]

# In the environment: of all graphs that MindSpore could save, only the one that is read here. It is looked up once.
ONLY_VALIDATED = {"MS_DEV_DUMP_IR_PASSES": "validate"}

# Plumbing of the graph, which no kernel computes.
STRUCTURE = {"Depend", "Load", "MakeTuple", "Partial", "Return", "Switch", "TupleGetItem", "UpdateState"}
PRODUCTS = {"BatchMatMul", "BatchMatMulExt", "Dense", "MatMul", "MatMulExt", "Matmul"}

_START = re.compile(r"^(?=  %\d+\()", re.MULTILINE)
_OPERATOR = re.compile(r"  %\d+\(\S*\) = (?:PrimFunc_|Primitive::)?(\w+)\(")
_TYPES = re.compile(r"^      : \((.*)\) -> \((.*)\)$", re.MULTILINE)
_TENSOR = re.compile(r"Tensor\[(\w+)\]")
_SCOPE = re.compile(r"# Fullname with scope: \((.*)\)")
_SOURCE = re.compile(rf"# In file {re.escape(str(ROOT))}/(?!\.venv)(\S+?):(\d+)")


class Node(NamedTuple):
    """An operator of a graph, with the types of its tensors."""

    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    scope: str  # the cells around it
    source: str  # the innermost line of our code that it comes from

    def __str__(self) -> str:
        """The node in a line."""
        types = f"({', '.join(self.inputs)}) -> {', '.join(self.outputs)}"
        return f"{self.operator}{types} at {self.source} in {self.scope}"


@contextmanager
def as_on(device_target: str) -> Iterator[None]:
    """Build and compile as on this device, as far as Python code decides it, ours and MindSpore's.

    What MindSpore's compiler decides by the device stays as on this one.
    """
    def answer(key: str) -> Any:  # noqa: ANN401 - an option of MindSpore's context
        return device_target if key == "device_target" else ask(key)

    ask = context.get_context
    with built_for(device_target), patch.object(context, "get_context", answer), patch.object(
            ms, "get_context", answer):
        yield


def nodes_of(network: nn.Cell, inputs: Sequence[Tensor]) -> list[Node]:
    """Compile `network` for these inputs and return the operators of its graph, those without a kernel left out.

    In a process that set `ONLY_VALIDATED` before its first graph this takes a third of the time.
    """
    with tempfile.TemporaryDirectory() as directory:
        ms.set_context(save_graphs=2, save_graphs_path=directory)
        try:
            # MindSpore stops behind validation in an export, of whatever graph.
            _cell_graph_executor.compile(network, *inputs, phase="export.mindir", do_convert=False)
        finally:
            ms.set_context(save_graphs=0)
        path, = Path(directory).rglob("*_validate_*.ir")
        return [node for node in read_nodes(path.read_text(encoding="utf-8")) if node.operator not in STRUCTURE]


def read_nodes(text: str) -> Iterator[Node]:
    """The nodes of a graph that MindSpore wrote."""
    for block in _START.split(text)[1:]:
        operator, types = _OPERATOR.match(block), _TYPES.search(block)
        if operator and types:  # no call of a subgraph
            scope = _SCOPE.search(block)
            source = [f"{file}:{line}" for file, line in _SOURCE.findall(block)]
            yield Node(operator[1], tuple(_TENSOR.findall(types[1])), tuple(_TENSOR.findall(types[2])),
                       scope[1] if scope else "", source[-1] if source else "")
