"""What export.py writes about a model: beside a MINDIR as a JSON file, inside an ONNX model as metadata."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from src.errors import UserError
from src.json_files import check_kind, member, parse_json, read_json_object
from src.text_files import check_path

_HINT = "export the model anew"


def read_description(path: Path, expected: str) -> dict[str, Any]:
    """The description in a file; `expected` tells the user what it should be, and what to do.

    Raises:
        UserError: there is none, or something is missing in it.
    """
    return check_description(read_json_object(path, expected), str(path))


def parse_description(text: str, model: Path) -> dict[str, Any]:
    """The description inside a model; empty where the model has none.

    Raises:
        UserError: something is missing in it.
    """
    about = parse_json(text, f"{model}: its description", f"what export.py writes; {_HINT}")
    check_kind(about, dict, f"{model}: its description", _HINT)
    return check_description(about, f"{model}: its description") if about else {}


def check_description(about: dict[str, Any], source: str) -> dict[str, Any]:
    """Return a description with everything that is asked of it.

    Raises:
        UserError: something is missing, or of another kind; the message begins with `source`.
    """
    where = f"{source}: "
    member(about, "task", str, where, hint=_HINT)
    for key in ("inputs", "outputs"):
        _check_items(member(about, key, list, where, hint=_HINT), str, where + key)
    if about.get("labels") is not None:
        _check_items(member(about, "labels", list, where, hint=_HINT), str, f"{where}labels")
    shape = member(about, "input_shape", list, where, hint=_HINT)
    _check_items([size for size in shape if size is not None], int, f"{where}input_shape")
    if len(shape) != 2 or any(size is not None and size < 1 for size in shape):
        raise UserError(f"{where}input_shape is {shape}, expected batch size and length; {_HINT}")
    for key in ("num_class", "vocab_size", "max_length"):
        if about.get(key) is not None:
            member(about, key, int, where, hint=_HINT)
    if "batch_sizes" in about:
        sizes = member(about, "batch_sizes", list, where, hint=_HINT)
        _check_items(sizes, int, f"{where}batch_sizes")
        if not sizes or min(sizes) < 1:
            raise UserError(f"{where}batch_sizes is {sizes}, expected sizes such as 1, 4 and 16; {_HINT}")
    for name, checksum in member(about, "further_files", dict, where, {}, _HINT).items():
        check_kind(checksum, str, f"{where}further_files.{check_path(name, source)}", _HINT)
    return {"num_class": None, "labels": None, "vocab_size": None, "max_length": None} | about


def _check_items(values: list, kind: type, where: str) -> None:
    for number, value in enumerate(values):
        check_kind(value, kind, f"{where}[{number}]", _HINT)


def check_task(about: Mapping[str, Any], task: str, model: Path, option: str) -> None:
    """Make sure that a model is of a task.

    Raises:
        UserError: it is of another one, or nothing says of which.
    """
    if about.get("task") != task:
        found = f"is of {about['task']}" if about else "was not written by export.py"
        raise UserError(f"{option}: {model} {found}, but the configuration is of {task}; give the configuration and "
                        f"the model of one task")
