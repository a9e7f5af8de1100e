import pytest

from src.errors import UserError, first_line, run_script


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


def test_our_own_faults_keep_their_traceback():
    with pytest.raises(ZeroDivisionError):
        run_script(lambda: 1 // 0)


def test_first_line_of_a_docstring_that_may_be_left_out():
    assert first_line("Make records.\n\n    python make.py\n") == "Make records."
    assert first_line(None) == ""
