import time

import pytest

from src.errors import UserError
from src.model_utils.yaml_files import read_yaml


def read(tmp_path, text):
    (tmp_path / "a.yaml").write_text(text, encoding="utf-8")
    return read_yaml(tmp_path / "a.yaml")


def test_documents_with_aliases_and_merges(tmp_path):
    text = "base: &base {a: 1e-5, b: [1, 2]}\nother: {<<: *base, a: 2}\nagain: *base\n---\nhelp: text\n"
    base = {"a": 1e-5, "b": [1, 2]}
    assert read(tmp_path, text) == [{"base": base, "other": base | {"a": 2}, "again": base}, {"help": "text"}]


@pytest.mark.parametrize(("text", "message"), [
    ("a: &a [*a]", r"line 1, column 8: \*a stands for what it is in"),
    ("a: &a {b: {<<: *a}}", r"line 1, column 16: \*a stands for what it is in"),
    ("a: &a [1]\n---\nb: &a [*a]", r"line 3, column 8: \*a stands for what it is in"),
    ("a: 1\na: 2", "line 2, column 1: duplicate key 'a'"),
    ("[" * 51 + "]" * 51, "line 1, column 51: nested more than 50 deep"),
    ("[" * 100_000, "nested more than 50 deep"),
    ("a: 1\nb: 2026-02-30", 'line 2, column 4: "2026-02-30" is no value; quote it if it is text'),
    ("a: " + "9" * 5000, 'line 1, column 4: "9{60}…" is no value'),
    ("a: !!int ''", "line 1, column 4"),
    ("a: \0", r"line 1: the character '\\x00' cannot stand in YAML"),
    ("a: !!python/name:os.system x", "line 1, column 4: could not determine a constructor"),
    ("[" + "x," * 20_000 + "]", "more than 20000 values"),
    ("#" * (1 << 21), "more than 1 MB; expected a YAML file"),
])
def test_what_cannot_be_read_is_named_by_its_line(tmp_path, text, message):
    with pytest.raises(UserError, match=rf"a\.yaml.*{message}"):
        read(tmp_path, text)


@pytest.mark.parametrize("bracket", ["[{}]", "{{k: {}, l: {}}}"])
def test_aliases_of_aliases_take_no_time(tmp_path, bracket):
    text = "a0: &a0 [x]\n"
    for number in range(1, 60):
        several = [f"*a{number - 1}"] * bracket.count("{}") * 2
        text += f"a{number}: &a{number} [{', '.join(several)}]\n"
    started = time.monotonic()
    with pytest.raises(UserError, match="more than 20000 values"):
        read(tmp_path, text)
    assert time.monotonic() - started < 10
