"""The plan of the code: no import leads to the right, none leads in a circle, and tasks are named where they live."""

import ast
import importlib.util
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from paths import REPOSITORY

from src.tasks.registry import TASKS


def load_drawing():
    spec = importlib.util.spec_from_file_location("draw_architecture", REPOSITORY / "docs" / "draw_architecture.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


plan = load_drawing()
GRAPH = plan.import_graph()


def test_nothing_imports_rightwards():
    wrong = [f"{module} imports {imported}" for module, names in GRAPH.items() for imported in names
             if plan.place_of(imported)[0] > plan.place_of(module)[0]]
    assert not wrong


def test_no_import_leads_in_a_circle():
    order = list(TopologicalSorter(GRAPH).static_order())  # raises CycleError with the modules of the circle
    assert set(order) >= {"src.bert_model", "src.tasks.registry"}


def test_the_check_itself_finds_a_circle_and_imports_inside_functions(tmp_path, monkeypatch):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a.py").write_text("from src import b\n")
    (tmp_path / "src" / "b.py").write_text("def late():\n    import src.a\n")
    monkeypatch.setattr(plan, "REPOSITORY", tmp_path)
    assert plan.import_graph() == {"src.a": {"src.b"}, "src.b": {"src.a"}}


# ---------------------------------------------------------------- names of tasks

TASK_FOLDERS = tuple(path.parent.name for path in sorted((REPOSITORY / "src" / "tasks").glob("*/__init__.py")))
NAMES = re.compile(rf"(run_)?({'|'.join(name.removeprefix('run_') for name in TASKS)})(_crf|_config\.yaml)?")
TASK_MODULE = re.compile(rf"src\.tasks\.({'|'.join(TASK_FOLDERS)})\b")
# The entry scripts stand outside of src/. Generators and launchers have the names that existing users rely on.
MAY_NAME_TASKS = ("src.tasks", "src.generate_mindrecord", "src.finetune_data_preprocess", "src.cluner_evaluation")


def named_tasks(path: Path) -> Iterator[str]:
    """Texts of a file that are the name of a task, and imports from a task's folder; documentation does not count."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
            if NAMES.fullmatch(node.value):
                yield f"{path.name}:{node.lineno} {node.value!r}"
        elif isinstance(node, ast.ImportFrom) and TASK_MODULE.match(node.module or ""):
            yield f"{path.name}:{node.lineno} {node.module}"


def test_tasks_are_named_only_where_they_live():
    found = [line for module, path in plan.modules().items()
             if module.startswith("src") and not module.startswith(MAY_NAME_TASKS) for line in named_tasks(path)]
    assert not found


@pytest.mark.parametrize("task", TASK_FOLDERS)
def test_no_task_knows_another(task):
    others = tuple(f"src.tasks.{other}" for other in TASK_FOLDERS if other != task)
    wrong = [f"{module} imports {name}" for module, names in GRAPH.items() if module.startswith(f"src.tasks.{task}")
             for name in names if name.startswith(others)]
    assert not wrong


def test_the_picture_is_that_of_the_code():
    """Otherwise: python docs/draw_architecture.py --write."""
    assert plan.drawing() in plan.PAGE.read_text(encoding="utf-8")
