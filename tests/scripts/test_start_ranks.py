import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from paths import REPOSITORY

from scripts.start_ranks import Rank, free_port, parse_arguments, ranks_of_host, share_cores
from src.errors import UserError

# Stands for a training script: says who it is and what it was given, then does what its rank is told to.
STAND_IN = """
import os, signal, sys, time
print("rank", os.environ["RANK_ID"], "device", os.environ["DEVICE_ID"], sys.argv[1:],
      sorted(os.sched_getaffinity(0)), flush=True)
deed = dict(word.split("=", 1) for word in sys.argv[1:] if "=" in word).get(os.environ["RANK_ID"], "end")
if deed.startswith("stubborn"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if deed.startswith("mistake"):
    sys.exit("error: --data_dir: nothing there") if deed == "mistake" else sys.exit(2)
if deed == "slowly crash":
    time.sleep(2)
if deed.endswith("crash"):
    raise ValueError("our fault")
if deed == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
if deed == "interrupted":
    time.sleep(1)
    sys.exit(130)
if deed == "saves":  # as a run that is asked to end does
    signal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.5), print("saved", flush=True), os._exit(130)))
if deed != "end":
    time.sleep(3 if deed == "nap" else 60)
    print("slept", flush=True)
"""


@pytest.fixture
def place(tmp_path) -> Path:
    directory = tmp_path / "a place"
    directory.mkdir()
    (directory / "stand in.py").write_text(STAND_IN)
    return directory


def start(place: Path, *arguments: str, **options) -> subprocess.Popen:
    command = [sys.executable, str(REPOSITORY / "scripts/start_ranks.py"), "--log", "log.txt", *arguments]
    return subprocess.Popen(command, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            **options)


def run(place: Path, *arguments: str) -> tuple[int, str, str]:
    process = start(place, *arguments)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def is_running(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def wait_for(condition, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def stand_ins(place: Path, count: int = 2) -> list[int]:
    """Wait until all ranks have spoken; return the ids of their processes."""
    wait_for(lambda: sum("rank" in log.read_text() for log in place.glob("LOG*/log.txt")) == count)
    return still_running(place)


def still_running(place: Path) -> list[int]:
    """The ids of the stand-ins' processes. A rank that was stopped early may never have spoken."""
    return [int(path.name) for path in Path("/proc").glob("[0-9]*")
            if (path / "cmdline").exists() and b"stand in.py" in (path / "cmdline").read_bytes()
            and b"start_ranks" not in (path / "cmdline").read_bytes() and (path / "cwd").resolve() == place]


def test_ranks_get_their_numbers_cores_and_options(place):
    core = min(os.sched_getaffinity(0))
    status, out, err = run(place, "--rank", f"8,3,{core}", "--rank", "9,5", "--", "stand in.py", "--epoch_size", "a b")
    assert (status, err) == (0, "")
    lines = [(place / f"LOG{device}/log.txt").read_text() for device in (3, 5)]
    assert lines[0] == f"rank 8 device 3 ['--epoch_size', 'a b'] [{core}]\n"
    assert lines[1].startswith("rank 9 device 5 ['--epoch_size', 'a b']")
    assert out == lines[0], "the first rank's output is shown"


def test_a_log_is_written_anew_and_the_rest_of_its_directory_kept(place):
    (place / "LOG0").mkdir()
    (place / "LOG0/log.txt").write_text("of the run before\n")
    (place / "LOG0/checkpoint.ckpt").write_text("precious")
    assert run(place, "--rank", "0,0", "--", "stand in.py")[0] == 0
    assert "before" not in (place / "LOG0/log.txt").read_text()
    assert (place / "LOG0/checkpoint.ckpt").read_text() == "precious"


def test_a_log_directory_that_cannot_be_made(place):
    (place / "LOG1").write_text("a file")
    status, _, err = run(place, "--rank", "0,0", "--rank", "1,1", "--", "stand in.py", "0=sleep")
    assert status == 2 and err.startswith(f"error: cannot write {place / 'LOG1/log.txt'}: ") and err.count("\n") == 1


@pytest.mark.parametrize(("deed", "status", "how"), [
    ("mistake", 1, "ended with exit status 1: --data_dir: nothing there"),
    ("crash", 1, "ended with exit status 1: ValueError: our fault"),
    ("killed", 137, "was ended by SIGKILL; its last output: rank 1 device 7"),
    ("mistake quietly", 2, "ended with exit status 2: rank 1 device 7")])
def test_a_rank_that_dies_stops_the_others(place, deed, status, how):
    begin = time.monotonic()
    found, _, err = run(place, "--rank", "0,0", "--rank", "1,7", "--rank", "2,1", "--", "stand in.py", "0=sleep",
                        f"1={deed}", "2=sleep")
    assert time.monotonic() - begin < 30, "the others sleep for a minute"
    assert found == status and err.count("\n") == 1
    assert err.startswith(f"error: rank 1 (device 7) {how}")
    assert f"its output is in {place / 'LOG7/log.txt'}; the other ranks are stopped" in err
    assert not still_running(place)


def test_a_rank_that_does_not_want_to_end_is_killed(place):
    status, _, err = run(place, "--rank", "0,0", "--rank", "1,1", "--", "stand in.py", "0=stubborn", "1=crash")
    assert status == 1 and "rank 1" in err and not still_running(place)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_all_and_waits_for_what_they_save(place, number):
    process = start(place, "--rank", "0,0", "--rank", "1,1", "--", "stand in.py", "0=saves", "1=saves")
    assert len(stand_ins(place)) == 2
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 128 + number and err == f"stopped by {number.name}\n" and out.endswith("saved\n")
    assert not stand_ins(place)


def test_ranks_that_stop_in_order_may_save(place):
    """A signal to one rank stops all after the same step; the one that saves ends later."""
    status, out, err = run(place, "--rank", "0,0", "--rank", "1,1", "--", "stand in.py", "0=saves", "1=interrupted")
    assert status == 130 and err == "rank 1 (device 1) was interrupted\n" and out.endswith("saved\n")


def test_a_second_signal_does_not_wait(place):
    process = start(place, "--rank", "0,0", "--rank", "1,1", "--", "stand in.py", "0=stubborn", "1=sleep")
    assert len(stand_ins(place)) == 2
    process.terminate()
    time.sleep(0.5)
    assert process.poll() is None, "one signal waits for minutes"
    process.terminate()
    process.communicate(timeout=30)
    assert process.returncode == 143 and not still_running(place)


def test_nothing_is_left_behind_when_the_program_is_killed(place):
    process = start(place, "--rank", "0,0", "--rank", "1,1", "--", "stand in.py", "0=stubborn", "1=sleep")
    ranks = stand_ins(place)
    process.kill()
    process.communicate()
    wait_for(lambda: not any(is_running(pid) for pid in ranks))


def test_an_ignored_hangup_stays_ignored(place):
    process = start(place, "--rank", "0,0", "--", "stand in.py", "0=sleep",
                    preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))  # as nohup does
    stand_ins(place, 1)
    process.send_signal(signal.SIGHUP)
    time.sleep(0.5)
    assert process.poll() is None
    process.terminate()
    process.communicate()


def test_ranks_of_several_hosts():
    args = parse_arguments(["--processes", "2", "--nodes", "3", "--node_rank", "2", "--master_port", "5", "--", "x.py"])
    assert ranks_of_host(args) == [Rank(4, 0), Rank(5, 1)]


@pytest.mark.parametrize(("available", "count", "shares"), [
    (range(8), 2, ["0-3", "4-7"]), (range(7), 2, ["0-2", "3-6"]), ([0, 1, 8, 9, 10, 12], 2, ["0-1,8", "9-10,12"]),
    (range(3), 3, ["0", "1", "2"]), (range(3), 4, ["", "", "", ""])])
def test_cores_are_divided_without_rest(monkeypatch, available, count, shares):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(available))
    assert share_cores(count) == shares


@pytest.mark.parametrize(("arguments", "message"), [
    (["--", "x.py"], "give either --processes, or --rank"),
    (["--rank", "0,0", "--processes", "1", "--", "x.py"], "give either --processes, or --rank"),
    (["--rank", "0", "--", "x.py"], "--rank 0: expected RANK,DEVICE"),
    (["--rank", "0,0,a-b", "--", "x.py"], "--rank 0,0,a-b: expected RANK,DEVICE"),
    (["--processes", "0", "--", "x.py"], "give either"),
    (["--processes", "-1", "--", "x.py"], "--processes: expected a number above 0"),
    (["--processes", "2", "--nodes", "2", "--", "x.py"], "--master_port: not set"),
    (["--processes", "2", "--nodes", "2", "--node_rank", "2", "--", "x.py"], "--node_rank: expected 0 to 1")])
def test_mistakes_on_the_command_line(arguments, message):
    with pytest.raises(UserError, match=message.replace("[", r"\[")):
        parse_arguments(arguments)


# --- two hosts, here two directories ---

@pytest.fixture
def start_on(tmp_path):
    """Start the ranks of host 0 or 1; the hosts meet at a port of their own."""
    port, started = free_port(), []

    def start_host(number: int, deed: str) -> tuple[Path, subprocess.Popen]:
        directory = tmp_path / f"host {number}"
        directory.mkdir()
        (directory / "stand in.py").write_text(STAND_IN)
        process = start(directory, "--rank", f"{number},0", "--nodes", "2", "--node_rank", str(number), "--master_port",
                        str(port), "--", "stand in.py", f"{number}={deed}")
        started.append(process)
        return directory, process

    def wait_until_connected() -> None:
        there, established = f":{port + 1:04X}", "01"
        wait_for(lambda: any(row.split()[1].endswith(there) and row.split()[3] == established
                             for row in Path("/proc/net/tcp").read_text().splitlines()[1:]))

    start_host.wait_until_connected = wait_until_connected
    yield start_host
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(("failing", "waiting"), [(0, 1), (1, 0)])
def test_a_failure_reaches_the_other_host(start_on, failing, waiting):
    other, other_process = start_on(waiting, "sleep")
    stand_ins(other, 1)
    failed, process = start_on(failing, "slowly crash")
    assert process.communicate(timeout=30)[1].startswith(f"error: rank {failing} (device 0) ended with exit status 1")
    _, err = other_process.communicate(timeout=30)
    assert other_process.returncode == 1
    assert err == (f"error: host {failing}: rank {failing} (device 0) ended with exit status 1: ValueError: our fault; "
                   f"its output is in {failed / 'LOG0/log.txt'}; the ranks of this host are stopped\n")
    assert not stand_ins(other, 1)


def test_a_host_that_is_lost_ends_the_run(start_on):
    first, first_process = start_on(0, "sleep")
    second, second_process = start_on(1, "sleep")
    stand_ins(first, 1), stand_ins(second, 1)
    start_on.wait_until_connected()
    second_process.kill()
    assert first_process.communicate(timeout=30)[1].startswith("error: host 1: the connection was lost; ")


def test_a_signal_stops_both_hosts(start_on):
    first, first_process = start_on(0, "saves")
    second, second_process = start_on(1, "saves")
    stand_ins(first, 1), stand_ins(second, 1)
    start_on.wait_until_connected()
    second_process.send_signal(signal.SIGINT)
    assert second_process.communicate(timeout=30)[1] == "stopped by SIGINT\n"
    assert first_process.communicate(timeout=30)[1] == "host 1: stopped by SIGINT\n"
    assert first_process.returncode == 143


def test_a_host_may_end_before_the_other(start_on):
    first, first_process = start_on(0, "nap")
    stand_ins(first, 1)
    _, second_process = start_on(1, "end")
    assert second_process.communicate(timeout=30)[1] == "" and second_process.returncode == 0
    port = int(first_process.args[first_process.args.index("--master_port") + 1]) + 1
    socket.create_connection(("127.0.0.1", port)).close()  # somebody who is no host of the run
    assert first_process.communicate(timeout=30)[1] == "" and first_process.returncode == 0


def test_a_port_that_another_run_has():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(UserError, match=rf"--master_port {port} .*: the port cannot be opened: Address"):
            parse_arguments(["--processes", "1", "--master_port", str(port), "--", "a.py"])
    again = parse_arguments(["--processes", "1", "--master_port", str(port), "--", "a.py"])
    assert again.master_port == port


@pytest.mark.parametrize("port", [65535, 99999, -1])
def test_a_port_that_there_is_not(port):
    with pytest.raises(UserError, match=rf"--master_port {port} \(MASTER_PORT\): expected a port up to 65534"):
        parse_arguments(["--processes", "1", "--master_port", str(port), "--", "a.py"])
