import signal
import subprocess
import sys
from pathlib import Path

import pytest
from paths import REPOSITORY

from src.errors import UserError, first_line, quoted, run_script, shown


def raises(error: BaseException):
    def main() -> None:
        raise error
    return main


@pytest.mark.parametrize(("main", "status", "printed"), [
    (lambda: None, 0, ""),
    (raises(UserError("--data_dir: no such directory")), 2, "error: --data_dir: no such directory\n"),
    (raises(KeyboardInterrupt()), 130, "interrupted\n"),
    (raises(MemoryError("Unable to allocate 2 PiB")), 2,
     "error: out of memory: Unable to allocate 2 PiB; lower batch_size or the network's sizes\n"),
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


# ---------------------------------------------------------------- standard output that is closed or full

PRINTS = """
import sys
from src.errors import UserError, outliving_output, run_script

def main():
    if sys.argv[1] == "training":
        with outliving_output("the training"):
            for step in range(100_000):
                print(step)
        print("what it came to")
        print("saved", file=sys.stderr)
    elif sys.argv[1] == "mistake":
        print("begun")
        raise UserError("a mistake")
    else:
        for step in range(100_000):
            print(step)

run_script(main)
"""


def run_into(redirection: str, what: str, *options: str) -> tuple[int, str]:
    """Exit status and standard error of a program whose standard output a shell redirects."""
    python = " ".join([sys.executable, *options, "-c", '"$PROGRAM"', what])
    done = subprocess.run(["bash", "-c", f"{python} {redirection}; exit ${{PIPESTATUS[0]}}"], cwd=REPOSITORY,
                          env={"PROGRAM": PRINTS}, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stderr


@pytest.mark.parametrize("unbuffered", [[], ["-u"]], ids=["buffered", "unbuffered"])
def test_output_that_nobody_reads_ends_a_command_quietly(unbuffered):
    assert run_into("| head -1", "results", *unbuffered) == (141, "")


@pytest.mark.parametrize(("redirection", "reason"), [(">/dev/full", "No space left on device"),
                                                     (">&-", "Bad file descriptor")])
def test_output_that_cannot_be_written_is_one_line(redirection, reason):
    line = f"cannot write to standard output: {reason}"
    assert run_into(redirection, "results") == (2, f"error: {line}\n")
    assert run_into(redirection, "mistake") == (2, "error: a mistake\n"), "the first error counts"
    assert run_into(redirection, "training") == (0, f"warning: {line}; the training goes on without it\nsaved\n")


def test_a_training_outlives_its_reader_and_standard_error():
    status, err = run_into("| head -1", "training")
    assert status == 0 and err.endswith("goes on without it\nsaved\n") and err.count("\n") == 2
    assert run_into(">/dev/full 2>/dev/full", "training") == (0, "")
    assert run_into(">&- 2>&-", "training") == (0, "")
