"""List the operators that graphs of the library hold and `operators.csv` lacks, and its rows that no graph needs.

    python tests/device_readiness/list_operators.py [--main]

takes a few minutes; `--main` compiles the graphs of the plain test only.
"""

import os
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS.parent), str(TESTS)]

import mindspore as ms  # noqa: E402
from device_readiness.graphs import MAIN, OTHERS  # noqa: E402
from device_readiness.rules import read_table  # noqa: E402
from modes import computing  # noqa: E402

from benchmarks.validated_ir import ONLY_VALIDATED, as_on, nodes_of  # noqa: E402


def main() -> None:
    """Compile the graphs and print the differences."""
    os.environ |= ONLY_VALIDATED
    used: dict[str, dict[str, str]] = defaultdict(dict)  # by operator: a place for each signature
    for graph in MAIN if "--main" in sys.argv[1:] else (*MAIN, *OTHERS):
        print(graph, file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory() as folder, computing(ms.GRAPH_MODE), as_on(graph.target):
            for node in nodes_of(*graph.build(Path(folder))):
                used[node.operator].setdefault(", ".join(node.inputs), f"{node.source} in {graph}")
    table = read_table()
    for operator in sorted(used.keys() - table.keys()):
        for types, place in used[operator].items():
            print(f"no row: {operator}({types}), first at {place}")
    for operator in sorted(table.keys() - used.keys()):
        print(f"in no graph: {operator}")


if __name__ == "__main__":
    main()
