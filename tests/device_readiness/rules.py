"""What a graph for Ascend or GPU must keep to, and the table of the operators that these devices have.

`operators.csv` has a row for every operator that a graph of the library may hold. Its columns:

- operator: as MindSpore's graphs call it.
- Ascend, GPU: yes, no, or host where the operator runs on the host's CPU whatever the device.
- types: those that its tensors may have; where the documentation names none, those of the numbers that BERT has.
- page: the name whose docstring in MindSpore says "Supported Platforms", the operator's or that of the function which
  it computes. Empty where MindSpore documents neither; `note` then says why the operator may be used all the same.
- note: what else is to be known.
"""

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks.validated_ir import PRODUCTS, Node

TABLE = Path(__file__).with_name("operators.csv")
COLLECTIVES = {"AllGather", "AllReduce", "Broadcast", "ReduceScatter"}
COLLECTIVE_TYPES = {"Float32", "Int32"}

# Files whose products stay in float32 when float16 is asked for, and why.
FLOAT32_PRODUCTS = {
    "src/CRF.py": "probabilities of paths span 28 powers of ten, float16 has 12",
    "src/training/thor.py": "float16 squares of gradients are zero, and inverses need the digits of float32",
}


class Row(NamedTuple):
    """A row of the table."""

    operator: str
    support: dict[str, str]  # by target
    types: frozenset[str]  # as graphs call them
    page: str
    note: str


def read_table(path: Path = TABLE) -> dict[str, Row]:
    """The rows by operator."""
    with path.open(encoding="utf-8", newline="") as file:
        return {row["operator"]: Row(row["operator"], {target: row[target] for target in ("Ascend", "GPU")},
                                     frozenset(map(_as_in_graphs, row["types"].split())), row["page"], row["note"])
                for row in csv.DictReader(file)}


def violations(nodes: Iterable[Node], target: str, compute_type: str, table: dict[str, Row]) -> list[str]:
    """What in a graph for `target` breaks a rule, in words, each once."""
    found: dict[str, None] = {}
    for node in nodes:
        for complaint in _complaints(node, target, compute_type, table):
            found[f"{complaint}: {node}"] = None
    return list(found)


def _complaints(node: Node, target: str, compute_type: str, table: dict[str, Row]) -> Iterator[str]:
    row = table.get(node.operator)
    if row is None:
        yield f"{TABLE.name} has no row for it; look up whether {target} has it, and with which types"
    elif row.support[target] == "no":
        yield f"{target} does not have this operator"
    elif not row.types.issuperset(node.inputs):
        yield f"{target} need not take other types than {', '.join(sorted(row.types))}"
    if "BFloat16" in node.inputs + node.outputs and compute_type != "bfloat16":
        yield "bfloat16 that nobody asked for"
    if node.operator in PRODUCTS and compute_type == "float16" and "Float32" in node.inputs:
        file = node.source.partition(":")[0]
        if file not in FLOAT32_PRODUCTS:
            yield "a product in float32, which is slow and on the Ascend 910A not there"
    if node.operator in COLLECTIVES and not COLLECTIVE_TYPES.issuperset(node.inputs):
        yield "the ranks exchange float32 and int32 only"


def _as_in_graphs(name: str) -> str:
    return {"uint8": "UInt8", "bfloat16": "BFloat16"}.get(name, name.capitalize())
