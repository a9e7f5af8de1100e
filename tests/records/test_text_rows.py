"""Rows come out as they stand in the file, with their line numbers; what is no row is named with its line."""

import pytest

from src.errors import UserError
from src.records.text_rows import read_csv, read_json_lines, read_tsv

BOM = "\ufeff"


@pytest.fixture
def write(tmp_path):
    def write(text, name="x.tsv"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path
    return write


def rows(read, path, *args):
    """(line, fields) of each row."""
    return [(int(row.where.removeprefix(f"{path}, line ")), dict(row.fields)) for row in read(path, *args)]


def told(read, path, *args):
    with pytest.raises(UserError) as caught:
        list(read(path, *args))
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{path}, line ")
    return str(caught.value).removeprefix(f"{path}, ")


def test_tsv_takes_every_character_literally(write):
    path = write(BOM + 'a \t#b\r\n"one\ttwo" said, she\r\n \u2028x\u0085y\x1c\t\r\n1\t""')
    assert rows(read_tsv, path) == [(2, {"a": '"one', "#b": 'two" said, she'}),
                                    (3, {"a": " \u2028x\u0085y\x1c", "#b": ""}),
                                    (4, {"a": "1", "#b": '""'})]


def test_tsv_without_header(write):
    assert rows(read_tsv, write("a\tb\nc\td\n"), ("x", "y")) == [(1, {"x": "a", "y": "b"}), (2, {"x": "c", "y": "d"})]


def test_tsv_with_broken_rows_left_out(write):
    left_out = []
    path = write("x\ty\n1\t2\n3\n\n4\t5\t6\n7\t8\n")
    assert rows(read_tsv, path, None, left_out) == [(2, {"x": "1", "y": "2"}), (6, {"x": "7", "y": "8"})]
    assert left_out == [3, 4, 5]


@pytest.mark.parametrize("text, message", [
    ("x\ty\n1\t2\n3\n", "line 3: number of fields: 1, expected 2 (x, y), separated by tabs"),
    ("x\ty\n1\t2\t3\n", "line 2: number of fields: 3, expected 2 (x, y), separated by tabs"),
    ("x\ty\n1\t2\n\n3\t4\n", "line 3: the line is empty, expected 2 fields; remove the line"),
    ("x\ty\tx \n", "line 1: the header names the column 'x' twice; name each column once"),
    (b"x\ty\n1\tcaf\xe9\n", "line 2: byte 0xe9 is not UTF-8; convert the file to UTF-8"),
    (b"\xef\xbb\xbfx\t\xe9\n", "line 1: byte 0xe9 is not UTF-8; convert the file to UTF-8"),
])
def test_wrong_tsv(write, text, message):
    assert told(read_tsv, write(text)) == message


def test_csv_as_spreadsheets_write_it(write):
    path = write(BOM + 'text,label\r\n"a, ""b""\nc",1\r\nplain,"2"\r\n,3\r\n')
    assert rows(read_csv, path) == [(2, {"text": 'a, "b"\nc', "label": "1"}), (4, {"text": "plain", "label": "2"}),
                                    (5, {"text": "", "label": "3"})]


@pytest.mark.parametrize("text, message", [
    ('x,y\n1,2\n"3"4,5\n', "line 3: ',' expected after '\"'; expected comma-separated values"),
    ('x,y\n1,2\n"3,4\n5\n', "line 3: unexpected end of data; expected comma-separated values"),
    ("x,y\n1,2\n\n", "line 3: the line is empty, expected 2 fields"),
    ("x,y\n1,2,3\n", "line 2: number of fields: 3, expected 2 (x, y), separated by commas"),
])
def test_wrong_csv(write, text, message):
    assert told(read_csv, write(text)).startswith(message)


def test_json_lines(write):
    path = write(BOM + '{"a": "上\\n", "b": 1}\r\n{"a": null}')
    assert rows(read_json_lines, path) == [(1, {"a": "上\n", "b": 1}), (2, {"a": None})]


@pytest.mark.parametrize("text, message", [
    ('{"a": 1}\n \n', "line 2: the line is empty, expected a JSON object; remove the line"),
    ('{"a": 1}\n["a"]\n', "line 2: found '[\"a\"]', expected a JSON object in braces"),
    ('{"a": 1}\n{"a": \n', "line 2, column 6: no JSON (Expecting value); expected one JSON object a line"),
])
def test_wrong_json_lines(write, text, message):
    assert told(read_json_lines, write(text)).startswith(message)


def test_a_missing_file(tmp_path):
    with pytest.raises(UserError, match="cannot read .*absent: No such file"):
        list(read_tsv(tmp_path / "absent"))
