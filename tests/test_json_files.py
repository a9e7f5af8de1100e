import json

import pytest

from src.errors import UserError
from src.json_files import MAX_DEPTH, check_kind, member, parse_json, read_json, read_json_object


def parse(text: str) -> object:
    return parse_json(text, "here", "JSON")


@pytest.mark.parametrize("text", [
    "{}", " [1, 2.5, -3e5, true, null] ", '"\\ud83d\\ude00 \\u4e2d"', '{"a": {"a": 1}, "b": [{"a": 1}]}', "\t5\r\n",
    "[" * MAX_DEPTH + "]" * MAX_DEPTH, str(10 ** 300), "NaN",
])
def test_values_are_those_of_the_standard_parser(text):
    assert repr(parse(text)) == repr(json.loads(text))


@pytest.mark.parametrize(("text", "message"), [
    ("", r"here, column 1: no JSON \(Expecting value\); expected JSON"),
    ('{"a": 1,\n "b" 2}', r"here, line 2, column 6: no JSON \(Expecting ':' delimiter\)"),
    ("[1] [2]", r"here, column 5: no JSON \(Extra data\)"),
    ('{"b": 1, "a": 1, "a": 2}', 'here: the key "a" occurs twice; expected JSON'),
    ('["\\ud800"]', r"here: \\ud800 is half of a surrogate pair"),
    ('{"\\uDE00": 1}', r"here: \\ude00 is half of a surrogate pair"),
    ("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), "here: nested more than 100 deep"),
    ('{"a":' * 100_000, "here: nested more than 100 deep"),
    ("9" * 5000, "here: a number of thousands of digits"),
])
def test_what_cannot_be_used_is_one_line(text, message):
    with pytest.raises(UserError, match=f"^{message}"):
        parse(text)


def test_backslashes_before_a_u_are_no_surrogates():
    assert parse(r'"\\ud800"') == r"\ud800"


def test_documents_hold_numbers_of_64_bits(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(f"[{2 ** 64 - 1}]")
    assert read_json(path, "JSON") == [2 ** 64 - 1]
    path.write_text(f"[{2 ** 64}]")
    with pytest.raises(UserError, match="a.json: 18446744073709551616 is beyond 64 bits"):
        read_json(path, "JSON")
    path.write_text("[" + " " * 2_000_000 + "]")
    with pytest.raises(UserError, match="a.json has more than 1 MB; expected a list"):
        read_json(path, "a list", largest=1_000_000)
    path.write_text("[]")
    with pytest.raises(UserError, match="^--file: .*a.json: found no JSON object; expected a table"):
        read_json_object(path, "a table", "--file")


def test_members_are_of_their_kind():
    parent = {"text": "a", "number": 1, "flag": True, "nothing": None}
    assert member(parent, "text", str, "x: ") == "a" and member(parent, "number", float, "x: ") == 1
    assert member(parent, "absent", int, "x: ", default=7) == 7
    for key, kind, message in (("absent", str, "x: absent is missing, expected a text; correct the file"),
                               ("flag", int, "x: flag is true, expected a whole number"),
                               ("flag", float, "x: flag is true, expected a number"),
                               ("nothing", list, "x: nothing is null, expected a list")):
        with pytest.raises(UserError, match=message):
            member(parent, key, kind, "x: ")
    with pytest.raises(UserError, match="x is .{40}…, expected a text"):
        check_kind(list(range(10_000)), str, "x")
