import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from src.errors import UserError
from src.model_utils.config import REPOSITORY
from src.model_utils.once_per_host import once_per_host

LOCKS = Path("/proc/locks")


def wait_for_users(state, count):
    """Return when so many have announced themselves; threads here stand for processes, locks treat both alike."""
    if not LOCKS.exists():
        time.sleep(1)
        return
    for _ in range(1000):
        users = state / "users"
        held = sum(f":{users.stat().st_ino} " in line and " READ " in line for line in LOCKS.read_text().splitlines()
                   ) if users.exists() else 0
        if held >= count:
            return
        time.sleep(0.01)
    raise AssertionError(f"{count} users did not come")


def run_together(state, actions):
    """Enter with the first action; when it is at work, with the others; let it go on when all are there."""
    at_work, go_on = threading.Event(), threading.Event()
    outcomes = [None] * len(actions)

    def first():
        at_work.set()
        assert go_on.wait(30)
        actions[0]()

    def enter(number, action):
        try:
            with once_per_host(state, "copy a to b", action):
                outcomes[number] = "in"
        except UserError as error:
            outcomes[number] = str(error)

    threads = [threading.Thread(target=enter, args=(0, first))]
    threads[0].start()
    assert at_work.wait(30)
    for number, action in enumerate(actions[1:], start=1):
        threads.append(threading.Thread(target=enter, args=(number, action)))
        threads[-1].start()
    wait_for_users(state, len(actions))
    go_on.set()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    return outcomes


def test_one_acts_and_the_others_wait(tmp_path):
    done = []
    outcomes = run_together(tmp_path / "state", [lambda number=number: done.append(number) for number in range(3)])
    assert outcomes == ["in"] * 3 and done == [0]


def test_when_it_fails_all_fail(tmp_path):
    def fail():
        raise UserError("no such bucket")

    done = []
    outcomes = run_together(tmp_path / "state", [fail, lambda: done.append(1)])
    assert outcomes == ["no such bucket", "another process of this host failed to copy a to b: no such bucket"]
    assert not done


def test_a_later_run_acts_anew(tmp_path):
    done = []
    with pytest.raises(UserError), once_per_host(tmp_path, "copy", lambda: (_ for _ in ()).throw(UserError("failed"))):
        pass
    for _ in range(2):
        with once_per_host(tmp_path, "copy", lambda: done.append(1)):
            pass
    assert len(done) == 2, "neither an earlier failure nor an earlier success counts"


def test_two_runs_that_want_different_things_in_one_place(tmp_path):
    with once_per_host(tmp_path, "copy a to b", lambda: None):
        with (pytest.raises(UserError, match="another run on this machine is at work here: copy a to b"),
              once_per_host(tmp_path, "copy c to b", lambda: None)):
            pass
        with once_per_host(tmp_path, "copy a to b", pytest.fail):
            pass


def test_nobody_waits_for_a_process_that_was_killed(tmp_path):
    code = (f"import sys, time; sys.path.insert(0, {str(REPOSITORY)!r})\n"
            "from pathlib import Path; from src.model_utils.once_per_host import once_per_host\n"
            "work = lambda: (print('at work', flush=True), time.sleep(60))\n"
            "with once_per_host(Path(sys.argv[1]), 'copy', work): pass")
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "at work\n"
    done = []

    def enter():
        with once_per_host(tmp_path, "copy", lambda: done.append(1)):
            pass

    thread = threading.Thread(target=enter)
    thread.start()
    wait_for_users(tmp_path, 2)
    assert not done
    process.send_signal(signal.SIGKILL)
    process.communicate()
    thread.join(30)
    assert done == [1]
