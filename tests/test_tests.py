"""What holds for all tests: they stand on their own, restore what they set, and can fail."""

import ast
from collections.abc import Iterator

from paths import REPOSITORY, TESTS

FILES = [path for path in TESTS.rglob("*.py") if TESTS / "fixtures" not in path.parents]
TREES = {str(path.relative_to(TESTS)): ast.parse(path.read_text(encoding="utf-8")) for path in FILES}
# Folders without a namesake in src/: what they test stands elsewhere.
OF_THEIR_OWN = {"benchmarks", "device_readiness", "end_to_end", "faults", "scripts"}


def calls(node: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Every call within, with the name of what is called: `raises` for `pytest.raises(…)`."""
    for found in ast.walk(node):
        if isinstance(found, ast.Call):
            yield ast.unparse(found.func).rpartition(".")[2], found


def functions_of(tree: ast.Module) -> dict[str, ast.FunctionDef]:
    return {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def can_fail(function: ast.FunctionDef, others: dict[str, ast.FunctionDef], seen: frozenset[str]) -> bool:
    """Whether it, or what it calls of the same file, asserts something."""
    if any(isinstance(node, ast.Assert) for node in ast.walk(function)):
        return True
    names = {name for name, _ in calls(function)}
    if any(name in ("raises", "fail") or name.startswith("assert_") for name in names):
        return True
    return any(can_fail(others[name], others, seen | {name}) for name in names & others.keys() - seen)


def test_folders_are_those_of_the_source() -> None:
    folders = {path.parent.relative_to(TESTS) for path in FILES}
    assert {str(folder) for folder in folders if not (REPOSITORY / "src" / folder).is_dir()} <= OF_THEIR_OWN


def test_every_test_asserts_something() -> None:
    tests, idle = 0, []
    for name, tree in TREES.items():
        functions = functions_of(tree)
        for test in (function for function in functions if function.startswith("test_")):
            tests += 1
            if not can_fail(functions[test], functions, frozenset()):
                idle.append(f"{name}: {test}")
    assert idle == []
    assert tests > 500


def test_the_check_itself_finds_a_test_that_cannot_fail() -> None:
    code = ["def test_a(): b()", "def b(): test_a()", "def test_c(): d()", "def d():", " with raises(OSError): open(f)"]
    functions = functions_of(ast.parse("\n".join(code)))
    assert [can_fail(functions[name], functions, frozenset()) for name in ("test_a", "test_c")] == [False, True]


def test_no_test_file_is_imported() -> None:
    for name, tree in TREES.items():
        imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert not any(module.rpartition(".")[2].startswith("test_") for module in imported), name


def test_the_mode_is_set_by_what_restores_it() -> None:
    """By the fixtures of conftest.py, or by `computing`."""
    setting = {name for name, tree in TREES.items() for called, call in calls(tree) if called == "set_context"
               and any(keyword.arg == "mode" for keyword in call.keywords)}
    assert setting == {"modes.py"}
