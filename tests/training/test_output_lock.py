"""One training in a folder at a time, whatever became of the earlier ones."""

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from paths import REPOSITORY

from src.errors import UserError
from src.files import Process
from src.training.output_lock import LOCK, locked_output

HOLDS = """
import os, sys, time
from pathlib import Path
from src.training.output_lock import locked_output
with locked_output(Path(sys.argv[1]), "save_checkpoint_path"):
    if os.fork() == 0:
        time.sleep(60)
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def held(tmp_path):
    """A process that holds the lock of `tmp_path`, with a child that outlives it."""
    process = subprocess.Popen([sys.executable, "-c", HOLDS, str(tmp_path)], stdout=subprocess.PIPE, cwd=REPOSITORY,
                               start_new_session=True)
    assert process.stdout.readline() == b"held\n"
    yield process
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def take(directory: Path) -> None:
    """Take the lock and give it back."""
    with locked_output(directory, "save_checkpoint_path"):
        assert json.loads((directory / LOCK).read_text())["process"] == list(Process.this())


def test_the_second_is_told_of_the_first_and_follows_its_end(held, tmp_path):
    expected = (f"save_checkpoint_path: process {held.pid} on host {os.uname().nodename} is training in {tmp_path}; "
                f"wait for its end, or give another directory")
    for _ in range(2):
        with pytest.raises(UserError) as refusal:
            take(tmp_path)
        assert str(refusal.value) == expected
    held.kill()
    held.wait()
    take(tmp_path)
    assert not list(tmp_path.iterdir())


def without_locks(*_):
    raise OSError(errno.ENOLCK, "No locks available")


def test_without_locks_of_the_file_system_the_file_decides(held, tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", without_locks)
    with pytest.raises(UserError, match=f"process {held.pid} on host .*another directory$"):
        take(tmp_path)
    held.kill()
    held.wait()
    take(tmp_path)
    (tmp_path / LOCK).write_text(json.dumps({"host": "another", "process": ["0" * 8, 1, 1]}))
    with pytest.raises(UserError, match=f"process 1 on host another .*; if it has ended, remove {tmp_path / LOCK}$"):
        take(tmp_path)


@pytest.mark.parametrize(("content", "warning"), [
    (json.dumps({"host": "another", "process": ["0" * 8, 1, 1]}), "left by process 1 on host another"), ("", ""),
    ('{"host": "an', ""), ("[]", "")])
def test_what_an_ended_process_left_is_taken_over(tmp_path, capsys, content, warning):
    (tmp_path / LOCK).write_text(content)
    take(tmp_path)
    assert warning in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_a_file_that_its_owner_removed_meanwhile_locks_nothing(tmp_path, monkeypatch):
    real, opened = fcntl.flock, []

    def remove_first(file, operation):
        if not opened:
            (tmp_path / LOCK).unlink()
        opened.append(file)
        real(file, operation)

    monkeypatch.setattr(fcntl, "flock", remove_first)
    take(tmp_path)
    assert len(opened) == 2
