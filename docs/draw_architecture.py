"""Draw which parts of the code import which, for docs/architecture.md; tests/test_architecture.py holds them to it.

    python docs/draw_architecture.py            print the picture and some numbers
    python docs/draw_architecture.py --write    put the picture into docs/architecture.md
"""

import argparse
import ast
import sys
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = REPOSITORY / "docs" / "architecture.md"
BEGIN, END = "<!-- drawn by docs/draw_architecture.py -->", "<!-- end of the drawing -->"

# From left to right: nothing imports from a column to its right. A name is a module or a folder of src/, or scripts.
COLUMNS = (
    {"ground": ("errors", "files", "text_files", "json_files", "tokenization", "sentences", "assessment_method",
                "checkpoint_files", "model_folder", "weights", "html_page", "worker_processes", "cpu_kernels")},
    {"model_utils": ("model_utils",), "records": ("records",),
     "network": ("layers", "device_forms", "cpu_forms", "dropout", "lstm", "CRF", "bert_model", "bert_for_pre_training",
                 "finetune_eval_model", "bert_for_finetune", "onnx_graph", "initialization", "bert_for_finetune_cpu")},
    {"dataset": ("dataset",)},
    {"training": ("training",)},
    {"tasks": ("tasks",)},
    {"inference": ("inference",), "exchange": ("exchange",),
     "generators": ("generate_mindrecord", "finetune_data_preprocess", "cluner_evaluation",
                                                                 "cluner_evaluation_cpu", "utils")},
    {"scripts": ("tools", "scripts")},
)


def modules() -> dict[str, Path]:
    """Every module of the library, the scripts and the entry scripts, by its dotted name."""
    files = [*REPOSITORY.glob("*.py"), *(REPOSITORY / "src").rglob("*.py"), *(REPOSITORY / "scripts").rglob("*.py")]
    return {name_of(path): path for path in sorted(files)}


def name_of(path: Path) -> str:
    """The dotted name of a module's file; a package has that of its folder."""
    return ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path, known: dict[str, Path]) -> set[str]:
    """The modules of the repository that a file imports, in functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" if f"{node.module}.{alias.name}" in known else node.module
                      for alias in node.names}
    return found & set(known) - {name_of(path)}


def import_graph() -> dict[str, set[str]]:
    """What each module imports."""
    known = modules()
    return {name: imports(path, known) for name, path in known.items()}


def place_of(module: str) -> tuple[int, str]:
    """The column and the room of a module; entry scripts stand in the last column.

    Raises:
        KeyError: it has no place.
    """
    package, _, rest = module.partition(".")
    part = rest.partition(".")[0] if package == "src" else "scripts"
    if module == "src":
        return 0, "ground"
    for column, rooms in enumerate(COLUMNS):
        for room, parts in rooms.items():
            if part in parts:
                return column, room
    raise KeyError(f"{module} has no place in COLUMNS of docs/draw_architecture.py")


def room_arrows(graph: dict[str, set[str]]) -> set[tuple[str, str]]:
    """Which room imports which."""
    arrows = {(place_of(module)[1], place_of(imported)[1]) for module, names in graph.items() for imported in names}
    return {(one, other) for one, other in arrows if one != other}


def drawing() -> str:
    """The rooms and their arrows as a Mermaid flow chart, what is imported on the left."""
    arrows = room_arrows(import_graph())
    return "\n".join(["```mermaid", "flowchart LR", *_boxes(), *_lines(arrows), "```"])


def _boxes() -> Iterator[str]:
    for rooms in COLUMNS:
        for room, parts in rooms.items():
            content = "" if parts == (room,) else "<br/>" + "<br/>".join(parts)
            yield f'    {room}["<b>{room}</b>{content}"]'


def _lines(arrows: set[tuple[str, str]]) -> Iterator[str]:
    """The arrows that do not follow from others, so that the picture stays readable."""
    for one, other in sorted(arrows):
        between = {room for room, target in arrows if target == other} & {target for room, target in arrows
                                                                          if room == one}
        if not between:
            yield f"    {other} --> {one}"


def numbers() -> str:
    """Modules, arrows between them, and the nodes of the two top levels."""
    graph = import_graph()
    nodes = {".".join(name.split(".")[:2]) for name in graph} - {"src", "scripts"}
    top = {(".".join(one.split(".")[:2]), ".".join(other.split(".")[:2])) for one, names in graph.items()
           for other in names}
    return (f"{len(graph)} modules, {sum(map(len, graph.values()))} arrows; at the two top levels {len(nodes)} nodes, "
            f"{len({pair for pair in top if pair[0] != pair[1]})} arrows")


def main() -> None:
    """Print or write the picture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--write", action="store_true", help=f"put it into {PAGE.relative_to(REPOSITORY)}")
    if parser.parse_args().write:
        text = PAGE.read_text(encoding="utf-8")
        before, _, rest = text.partition(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n{drawing()}\n{END}{rest.partition(END)[2]}", encoding="utf-8")
        return
    print(drawing())
    print(numbers(), file=sys.stderr)


if __name__ == "__main__":
    main()
