from pathlib import Path

import pytest

from src.errors import UserError, first_line, quoted, run_script, shown


def raises(error: BaseException):
    def main() -> None:
        raise error
    return main


@pytest.mark.parametrize(("main", "status", "printed"), [
    (lambda: None, 0, ""),
    (raises(UserError("--data_dir: no such directory")), 2, "error: --data_dir: no such directory\n"),
    (raises(KeyboardInterrupt()), 130, "interrupted\n"),
])
def test_exit_status_and_line(capsys, main, status, printed):
    with pytest.raises(SystemExit) as stop:
        run_script(main)
    assert stop.value.code == status
    assert capsys.readouterr() == ("", printed)


def test_a_message_stays_one_line_of_bounded_length():
    error = UserError("file: found 'a\nb\x1b[31m\u2028\ud800', é 中; correct it")
    assert str(error) == r"file: found 'a\nb\x1b[31m\u2028\ud800', é 中; correct it"
    long = str(UserError(f"file: found {'x' * 1_000_000}; correct it"))
    assert len(long) < 2010 and long.startswith("file: found xxx") and long.endswith("xxx; correct it")


def test_values_are_cut():
    assert (shown("a"), shown(True), shown(1.5), shown([1])) == ('"a"', "true", "1.5", "[1]")
    assert shown("x" * 1000) == f'"{"x" * 60}…"' and quoted("x" * 1000) == f"'{'x' * 60}'…"
    assert shown(list(range(1000))).endswith("…") and quoted("a'b") == '"a\'b"'
    assert shown(1 << 20_000) == "a very large int"


def test_a_path_that_is_too_long_is_one_line(capsys):
    with pytest.raises(SystemExit) as stop:
        run_script(lambda: Path("n" * 300).stat())
    assert stop.value.code == 2
    assert capsys.readouterr().err == f'error: the path "{"n" * 60}…" is too long; shorten it\n'


def test_our_own_faults_keep_their_traceback():
    with pytest.raises(ZeroDivisionError):
        run_script(lambda: 1 // 0)


def test_first_line_of_a_docstring_that_may_be_left_out():
    assert first_line("Make records.\n\n    python make.py\n") == "Make records."
    assert first_line(None) == ""
