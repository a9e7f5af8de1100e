import signal
import subprocess
import sys

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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_signals_end_a_script_in_order(number):
    """Also before a training has begun, and in a process that it forked nothing is held back."""
    code = f"""
import os, signal, time
from src.errors import run_script
def main():
    child = os.fork()
    if not child:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), {number})
        time.sleep(20)
        os._exit(0)
    print(os.waitpid(child, 0)[1], flush=True)
    try:
        os.kill(os.getpid(), {number})
        time.sleep(20)
    finally:
        print("cleaned up", flush=True)
run_script(main)"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, f"{int(number)}\ncleaned up\n", "interrupted\n")


def test_our_own_faults_keep_their_traceback():
    with pytest.raises(ZeroDivisionError):
        run_script(lambda: 1 // 0)


def test_first_line_of_a_docstring_that_may_be_left_out():
    assert first_line("Make records.\n\n    python make.py\n") == "Make records."
    assert first_line(None) == ""
