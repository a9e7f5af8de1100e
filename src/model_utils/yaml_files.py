"""Reading YAML that a user gives: its documents or an error of one line, whatever is in it."""

import re
from pathlib import Path
from typing import Any

import yaml
from yaml.composer import ComposerError
from yaml.constructor import ConstructorError
from yaml.reader import ReaderError

from src.errors import UserError, shown
from src.text_files import read_text

MAX_DEPTH = 50
MAX_VALUES = 20_000  # with what aliases stand for; about two seconds
LARGEST_FILE = 1 << 20  # bytes


class _Loader(yaml.SafeLoader):
    """YAML 1.1 with numbers such as 2e-5 read as numbers; nothing is overwritten by a key that occurs twice.

    Ten lines of aliases can stand for more than fits into memory, so what they stand for is counted.
    """

    depth = count = 0
    sizes: dict[str, int]  # of what the anchors of a document name

    def compose_document(self) -> yaml.Node | None:
        self.sizes = {}
        return super().compose_document()

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:  # noqa: ANN401
        event = self.peek_event()
        is_alias = isinstance(event, yaml.AliasEvent)
        if is_alias and event.anchor in self.anchors and event.anchor not in self.sizes:
            raise ComposerError(None, None, f"*{event.anchor} stands for what it is in", event.start_mark)
        before = self.count
        self.count += self.sizes.get(event.anchor, 1) if is_alias else 1
        self.depth += 1
        if self.count > MAX_VALUES or self.depth > MAX_DEPTH:
            limit = f"nested more than {MAX_DEPTH} deep" if self.depth > MAX_DEPTH else f"more than {MAX_VALUES} values"
            raise ComposerError(None, None, limit, event.start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        if event.anchor and not is_alias:
            self.sizes[event.anchor] = self.count - before
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise ConstructorError(None, None, f"duplicate key {key.value!r}", key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:  # noqa: ANN401
        try:
            return super().construct_object(node, deep)
        except yaml.YAMLError:
            raise
        except Exception as error:  # 2026-13-45, a number of 5,000 digits, !!bool 3: each fails in its own way
            raise ConstructorError(None, None, f"{shown(node.value)} is no value; quote it if it is text",
                                   node.start_mark) from error


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), "-+0123456789")


def read_yaml(path: Path) -> list[Any]:
    """The documents of a YAML file.

    Raises:
        UserError: the file cannot be read, or is no YAML of this kind.
    """
    text = read_text(path, advice="expected a YAML file", largest=LARGEST_FILE)
    try:
        return list(yaml.load_all(text, Loader=_Loader))  # noqa: S506
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise UserError(f"{path}{place}: {error.problem}") from error
    except ReaderError as error:
        place = text.count("\n", 0, error.position) + 1
        raise UserError(f"{path}, line {place}: the character {text[error.position]!r} cannot stand in YAML") from error
    except RecursionError as error:  # brackets alone, before they become nodes
        raise UserError(f"{path}: nested more than {MAX_DEPTH} deep") from error
