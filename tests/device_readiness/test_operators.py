"""Graphs for Ascend and GPU, compiled as far as MindSpore's validation, hold only what these devices are known to have.

No device is needed and nothing runs. `rules.py` says what is held, `operators.csv` what is known of each operator, and
`python tests/device_readiness/list_operators.py` what the table lacks.
"""

import inspect
import re
from operator import attrgetter
from pathlib import Path

import mindspore as ms
import pytest
from device_readiness.graphs import MAIN, OTHERS, RANKS, Graph
from device_readiness.rules import FLOAT32_PRODUCTS, read_table, violations

from benchmarks.validated_ir import Node, as_on, nodes_of
from src.model_utils.config import REPOSITORY
from src.tasks.registry import PRETRAINING, TASKS

pytestmark = pytest.mark.usefixtures("graph_mode")
TABLE = read_table()


def operators_of(graph: Graph, folder: Path) -> list[Node]:
    with as_on(graph.target):
        return nodes_of(*graph.build(folder))


def assert_keeps_rules(graph: Graph, folder: Path) -> None:
    found = violations(operators_of(graph, folder), graph.target, graph.compute_type, TABLE)
    assert not found, "\n".join([f"{graph}:", *found])


@pytest.mark.parametrize("graph", MAIN, ids=str)
def test_graphs_hold_only_what_their_device_has(graph: Graph, tmp_path: Path) -> None:
    assert_keeps_rules(graph, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("graph", OTHERS, ids=str)
def test_all_other_graphs_hold_only_what_their_device_has(graph: Graph, tmp_path: Path) -> None:
    assert_keeps_rules(graph, tmp_path)


def test_every_task_is_among_the_graphs() -> None:
    for graphs in (MAIN, OTHERS):
        assert {graph.task for graph in graphs} == set(TASKS)


def test_ranks_exchange_float32(tmp_path: Path) -> None:
    graph = Graph("Ascend", PRETRAINING, options=("optimizer=Momentum",), ranks=RANKS)
    nodes = operators_of(graph, tmp_path)
    reduced = [node for node in nodes if node.operator == "AllReduce"]
    weights = {node.inputs for node in nodes if node.operator == "ApplyMomentum"}
    assert weights and len(reduced) > 20
    assert {node.inputs for node in reduced} == {("Float32",)}
    assert not violations(nodes, graph.target, graph.compute_type, TABLE)


# ---------------------------------------------------------------- the rules find what they are for

@pytest.mark.parametrize(("node", "complaint"), [
    (Node("Gather", ("Bool", "Int32"), ("Bool",), "", ""), "need not take other types"),
    (Node("LSTM", ("Float32",), ("Float32",), "", ""), "Ascend does not have this operator"),
    (Node("NewOperator", ("Float32",), ("Float32",), "", ""), "has no row"),
    (Node("MatMul", ("Float32", "Float32"), ("Float32",), "", "src/layers.py:50"), "a product in float32"),
    (Node("Cast", ("Float32",), ("BFloat16",), "", ""), "bfloat16 that nobody asked for"),
    (Node("AllReduce", ("Float16",), ("Float16",), "", ""), "exchange float32 and int32 only"),
])
def test_a_violation_is_named_with_its_place(node: Node, complaint: str) -> None:
    found = violations([node, node], "Ascend", "float16", TABLE)
    assert any(complaint in line and str(node) in line for line in found)
    assert len(found) == len(set(found))


def test_float32_products_may_be_asked_for_or_have_a_reason() -> None:
    product = Node("MatMul", ("Float32", "Float32"), ("Float32",), "", "src/layers.py:50")
    assert not violations([product], "Ascend", "float32", TABLE)
    for file in FLOAT32_PRODUCTS:
        assert (REPOSITORY / file).is_file()
        assert not violations([product._replace(source=f"{file}:1")], "Ascend", "float16", TABLE)


# ---------------------------------------------------------------- the table says what the documentation says

def test_rows_say_what_their_pages_say() -> None:
    for row in TABLE.values():
        assert set(row.support.values()) <= {"yes", "no", "host"}, row
        assert row.page or row.note, f"{row.operator}: without a page there must be a reason"
        documented = platforms(row.page) if row.page else set()
        for target, support in row.support.items():
            if row.page and support == "yes":
                assert target in documented, f"{row.operator}: {row.page} does not name {target}"
            if target in documented and support == "no":
                assert row.note, f"{row.operator}: {row.page} names {target}; say why it cannot be used there"


def platforms(page: str) -> set[str]:
    """What the docstring of a name in `mindspore` gives as supported."""
    documentation = inspect.getdoc(attrgetter(page.removeprefix("mindspore."))(ms)) or ""
    found = re.search(r"Supported Platforms:\s*\n\s*(.+)", documentation)
    assert found, f"{page} says nothing of platforms"
    return set(re.findall(r"``(\w+)``", found[1]))
