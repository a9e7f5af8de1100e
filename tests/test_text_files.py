import os

import pytest

from src.errors import UserError
from src.text_files import check_path, check_regular, read_bytes, read_lines, read_text


def test_lines_end_at_line_feeds_only(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffone\r\n\u2028two\x85\n\nlast".encode())
    assert list(read_lines(path)) == [(1, "one\r\n"), (2, "\u2028two\x85\n"), (3, "\n"), (4, "last")]
    assert read_text(path) == "one\r\n\u2028two\x85\n\nlast"


def test_what_is_not_utf8_is_named_by_its_line(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"a\nb\nc\xe9\n")
    for read in (read_text, lambda *given: list(read_lines(*given))):
        with pytest.raises(UserError, match=r"--file: .*a.txt, line 3: byte 0xe9 is not UTF-8"):
            read(path, "--file")


def test_sizes_are_bounded_even_where_a_file_has_none(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="/dev/zero has more than 1 MB"):
        read_bytes("/dev/zero", largest=1 << 20)
    monkeypatch.setattr("src.text_files.LONGEST_LINE", 100)
    (tmp_path / "a.txt").write_text("a\n" + "b" * 100)
    with pytest.raises(UserError, match="line 2: more than .* MB without a line end"):
        list(read_lines(tmp_path / "a.txt"))


def test_a_pipe_that_was_meant_is_read(tmp_path):
    reading, writing = os.pipe()
    os.write(writing, b"a\n")
    os.close(writing)
    assert read_text(f"/dev/fd/{reading}") == "a\n"
    os.close(reading)


@pytest.mark.parametrize("path", ["a\0b", "a\nb", "\x1b[31m", "\udcff", "n" * 256, "é" * 128, "/".join(["n"] * 2050)])
def test_no_file_can_have_this_path(path):
    with pytest.raises(UserError, match="^--file: the path .*; "):
        check_path(path, "--file")


def test_a_path_may_be_long_and_foreign():
    for path in ("n" * 255, "é" * 127, "/".join(["n"] * 2000), "C:\\数据 1/", ""):
        assert check_path(path) == path


def test_pipes_and_devices_are_not_opened(tmp_path):
    os.mkfifo(tmp_path / "a")
    for path in (tmp_path / "a", "/dev/zero"):
        with pytest.raises(UserError, match="is a pipe or a device"):
            check_regular(path)
    assert check_regular(tmp_path) == tmp_path and check_regular(tmp_path / "none") == tmp_path / "none"
