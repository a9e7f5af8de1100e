"""Start the processes (ranks) of a distributed run on this host, watch them, and stop all when one dies.

    python scripts/start_ranks.py --log pretraining_log.txt --processes 2 -- run_pretrain.py --distribute true ...
    python scripts/start_ranks.py --log pretraining_log.txt --rank 8,0,0-23 --rank 9,1,24-47 -- run_pretrain.py ...

In the first form the ranks find each other through a scheduler, by the variables that MindSpore's msrun sets. With
several hosts the same command runs on each, with its `--node_rank`; the scheduler runs on host 0, at `--master_addr`.
In the second form each `--rank` is RANK,DEVICE[,CORES], and RANK_TABLE_FILE and RANK_SIZE stand in the environment.

The output of a rank goes to LOG{device}/{log} in the current directory, that of the first one to the terminal too. The
exit status is 0 when every rank ended well, or else that of the rank that failed first.
"""

import argparse
import ctypes
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scripts.host_link import HostLink  # noqa: E402
from src.errors import UserError, run_script  # noqa: E402
from src.model_utils.switch import SWITCH  # noqa: E402

POLL_SECONDS = 0.2
# From asking a process to end until it is killed: after a failure, when the others can only wait for the one that is
# gone; and when the user stops a run, which then ends its step and saves a checkpoint.
FAILURE_SECONDS, STOP_SECONDS = 5, 300
INTERRUPTED = 130  # exit status of a rank that a signal asked to end, and that ended in order
SCHEDULER = "from mindspore.communication import init; init()"  # returns, and ends the process, after the last rank
_ERROR_LINE = re.compile(r"error: |[A-Za-z_.]*(Error|Exception)(:|$)")
_PR_SET_PDEATHSIG = 1
_LAST_PORT = 65535


@dataclass(frozen=True)
class Rank:
    """A process of the run: its number among all, its device on this host, and the cores that it may use."""

    number: int
    device: int
    cores: str = ""

    @classmethod
    def parse(cls, text: str) -> "Rank":
        """Read RANK,DEVICE[,CORES]; CORES are ranges such as 0-3,8-11, and empty for all."""
        match = re.fullmatch(r"(\d+),(\d+)(?:,(\d+(?:-\d+)?(?:,\d+(?:-\d+)?)*)?)?", text)
        if match is None:
            raise UserError(f"--rank {text}: expected RANK,DEVICE or RANK,DEVICE,CORES, such as 0,0,0-23")
        return cls(int(match[1]), int(match[2]), match[3] or "")


@dataclass
class Process:
    """A started process with the name and the log that messages give."""

    name: str
    log: Path
    popen: subprocess.Popen = field(repr=False)

    @property
    def status(self) -> int | None:
        """The exit status as a shell gives it (128 and the signal's number after a signal), None while it runs."""
        code = self.popen.poll()
        return code if code is None or code >= 0 else 128 - code

    def how_it_ended(self) -> str:
        """Say how a process that failed ended, with the first error in its log."""
        if self.popen.returncode < 0:
            return f"was ended by {signal.Signals(-self.popen.returncode).name}; its last output: {last_line(self.log)}"
        return f"ended with exit status {self.status}: {first_error(self.log)}"

    def ask_to_end(self) -> None:
        """Send SIGTERM to the process alone, which may still need those that it started."""
        if self.popen.poll() is None:
            self.popen.terminate()

    def kill(self) -> None:
        """Kill the process and all that it started."""
        with suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait()


class Echo:
    """Shows on the terminal what a log has gained."""

    def __init__(self, log: Path) -> None:
        self.log, self.shown = log, 0

    def update(self) -> None:
        """Show what is new."""
        with self.log.open("rb") as file:
            file.seek(self.shown)
            text = file.read()
        self.shown += len(text)
        sys.stdout.buffer.write(text)
        sys.stdout.buffer.flush()


class Stopped(Exception):  # noqa: N818
    """A signal, here or on another host, asked for an end of the run."""

    def __init__(self, number: int, where: str = "") -> None:
        super().__init__(where or f"stopped by {signal.Signals(number).name}")
        self.status = 128 + number


def main(argv: Sequence[str] | None = None) -> None:
    """Start the ranks that the command line describes; exit with their status."""
    args = parse_arguments(argv)
    ranks = ranks_of_host(args)
    with signals_raise():
        link = HostLink(args.master_addr, args.master_port + 1, args.node_rank) if args.nodes > 1 else None
        try:
            status = run(ranks, args, link)
        except Stopped as stopped:  # while the ranks were being stopped
            status = stopped.status
        finally:
            if link is not None:
                link.close()
    sys.exit(status)


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--log", default="log.txt", help="name of the log in each LOG directory")
    parser.add_argument("--rank", type=Rank.parse, action="append", default=[], help="RANK,DEVICE[,CORES]; repeatable")
    parser.add_argument("--processes", type=int, help="ranks on this host, as many as its devices")
    parser.add_argument("--nodes", type=int, default=1, help="hosts of the run, each with as many ranks")
    parser.add_argument("--node_rank", type=int, default=0, help="number of this host, from 0")
    parser.add_argument("--master_addr", default="127.0.0.1", help="address of host 0, where the ranks meet")
    parser.add_argument("--master_port", type=int, default=0,
                        help="port there, which needs the next one as well; 0 for a free one, on one host only")
    parser.add_argument("--bind_cores", default=False, **SWITCH,
                        help="with --processes: give each rank cores of its own")
    parser.add_argument("command", nargs="+", metavar="SCRIPT OPTION", help="Python script of a rank; stands after --")
    args = parser.parse_args(argv)
    if bool(args.rank) == bool(args.processes):
        raise UserError("give either --processes, or --rank for each rank")
    if args.processes is not None and args.processes < 1:
        raise UserError(f"--processes: expected a number above 0, found {args.processes}")
    if not 0 <= args.node_rank < args.nodes:
        raise UserError(f"--node_rank: expected 0 to {args.nodes - 1}, as there are {args.nodes} hosts; "
                        f"found {args.node_rank}")
    if args.nodes > 1 and not args.master_port:
        raise UserError("--master_port: not set; several hosts need the same port, such as 8118")
    if not 0 <= args.master_port < _LAST_PORT:
        raise UserError(f"--master_port {args.master_port} (MASTER_PORT): expected a port up to {_LAST_PORT - 1}, as "
                        f"the next one is needed too")
    if args.processes and args.master_port and args.node_rank == 0:
        check_port(args.master_port)
    args.master_port = args.master_port or free_port()
    return args


def ranks_of_host(args: argparse.Namespace) -> list[Rank]:
    """The ranks that this host runs."""
    if args.rank:
        return args.rank
    cores = share_cores(args.processes) if args.bind_cores else [""] * args.processes
    first = args.node_rank * args.processes
    return [Rank(first + device, device, cores[device]) for device in range(args.processes)]


def share_cores(count: int) -> list[str]:
    """Divide the cores that this process may use among `count` ranks, in order; all empty when there are fewer."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < count:
        return [""] * count
    bounds = [index * len(cores) // count for index in range(count + 1)]
    return [_as_ranges(cores[start:end]) for start, end in zip(bounds, bounds[1:], strict=False)]


def check_port(port: int) -> None:
    """Make sure that the scheduler can open a port; MindSpore does not say which one it could not open.

    Raises:
        UserError: another program has it.
    """
    try:
        socket.create_server(("", port)).close()
    except OSError as error:
        raise UserError(f"--master_port {port} (MASTER_PORT): the port cannot be opened: {error.strerror}; give "
                        f"another, or end the run that has it") from error


def free_port() -> int:
    """A port that is free together with the next one."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = first.getsockname()[1]
            with suppress(OSError, OverflowError):
                second.bind(("127.0.0.1", port + 1))
                return port


def run(ranks: list[Rank], args: argparse.Namespace, link: HostLink | None) -> int:
    """Start all processes and watch them until they end; return the exit status of the run."""
    directory, common = Path(f"LOG{ranks[0].device}"), dict(os.environ)
    scheduler: list[Process] = []
    processes: list[Process] = []
    echo = Echo(make_log(directory / args.log))
    try:
        if args.processes:
            common |= meeting_variables(args)
        if args.processes and args.node_rank == 0:
            scheduler.append(start("the scheduler", [sys.executable, "-c", SCHEDULER],
                                   make_log(directory / "scheduler_log.txt"),
                                   common | {"MS_ROLE": "MS_SCHED", "RANK_ID": "0"}))
        for rank in ranks:
            processes.append(start_rank(rank, args, common))
        return watch(processes, scheduler, link, echo)
    except Stopped as stopped:
        print(stopped, file=sys.stderr, flush=True)
        if link is not None:
            link.report("stopped", str(stopped))
        with suppress(Stopped):  # a second signal ends the patience
            wait_for_end(processes, STOP_SECONDS, echo)  # they may still need the scheduler
        for process in processes:
            process.kill()
        return stopped.status
    finally:
        wait_for_end([*processes, *scheduler], FAILURE_SECONDS, echo)
        for process in (*processes, *scheduler):
            process.kill()


def start_rank(rank: Rank, args: argparse.Namespace, common: dict[str, str]) -> Process:
    """Start a rank with its place in the run as environment variables."""
    environment = common | {"RANK_ID": str(rank.number), "DEVICE_ID": str(rank.device)}
    if args.processes:
        environment |= {"MS_ROLE": "MS_WORKER", "MS_NODE_ID": str(rank.number)}
    binding = ["taskset", "-c", rank.cores] if rank.cores else []
    return start(f"rank {rank.number} (device {rank.device})", [*binding, sys.executable, *args.command],
                 make_log(Path(f"LOG{rank.device}") / args.log), environment)


def meeting_variables(args: argparse.Namespace) -> dict[str, str]:
    """The variables by which MindSpore's processes find their scheduler."""
    total = str(args.processes * args.nodes)
    return {"MS_WORKER_NUM": total, "RANK_SIZE": total, "MS_SCHED_HOST": args.master_addr,
            "MS_SCHED_PORT": str(args.master_port),
            "MS_TOPO_TIMEOUT": os.environ.get("MS_TOPO_TIMEOUT", "600")}


def make_log(path: Path) -> Path:
    """Make an empty log; a directory that exists is used, and nothing else in it touched."""
    try:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    except OSError as error:
        raise UserError(f"cannot write {path.absolute()}: {error.strerror}; start from a directory that you may "
                        f"write to") from error
    return path.absolute()


def start(name: str, command: list[str], log: Path, environment: dict[str, str]) -> Process:
    """Start a process as the leader of a group of its own, which ends when this program does."""
    if shutil.which(command[0]) is None:
        raise UserError(f"{command[0]}: no such program; install it, or start without the binding to cores")
    with log.open("ab") as output:
        popen = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                                 env=environment, start_new_session=True, preexec_fn=_end_with_parent)
    return Process(name, log, popen)


def watch(processes: list[Process], scheduler: list[Process], link: HostLink | None, echo: Echo) -> int:
    """Wait for the end of all ranks, or for the first failure here or on another host; return the exit status."""
    while True:
        ended = all(process.status is not None for process in processes)
        failed = [process for process in [*processes, *scheduler] if process.status]
        echo.update()
        if failed and all(process.status == INTERRUPTED for process in failed):
            raise Stopped(signal.SIGINT, f"{failed[0].name} was interrupted")  # the others may be saving
        if failed and link is not None:
            time.sleep(1)  # the cause may lie on another host, and its line be on its way
        heard = link.poll() if link is not None else None
        if link is not None and heard is not None:
            return follow(*heard, link)
        if failed:
            return report(failed, len(processes), link)
        if ended:
            if link is not None:
                link.report("done")
            return 0
        time.sleep(POLL_SECONDS)


def report(failed: list[Process], count: int, link: HostLink | None) -> int:
    """Say which process failed; of several at once, the one that a signal ended is the likeliest cause."""
    first = min(failed, key=lambda process: process.popen.returncode > 0)
    others = [process.name for process in failed if process is not first]
    what = f"{first.name} {first.how_it_ended()}; its output is in {first.log}"
    if link is not None:
        link.report("failed", what)
    print(f"error: {what}" + (f"; at the same time ended: {', '.join(others)}" if others else "")
          + ("; the other ranks are stopped" if len(failed) < count else ""), file=sys.stderr, flush=True)
    return first.status or 1  # it failed, so it is never 0


def follow(kind: str, text: str, link: HostLink) -> int:
    """Do as another host did: end with its failure, or stop as it was stopped."""
    link.report(kind, text)
    if kind == "stopped":
        raise Stopped(signal.SIGTERM, text)
    print(f"error: {text}; the ranks of this host are stopped", file=sys.stderr, flush=True)
    return 1


def wait_for_end(processes: list[Process], seconds: float, echo: Echo) -> None:
    """Ask the processes that still run to end, and give them time to."""
    for process in processes:
        process.ask_to_end()
    deadline = time.monotonic() + seconds
    while any(process.status is None for process in processes) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    echo.update()


def first_error(log: Path) -> str:
    """The first line that looks like an error, or else the last one."""
    with log.open(encoding="utf-8", errors="replace") as lines:
        found = next((line.strip() for line in lines if _ERROR_LINE.match(line)), "")
    return found.removeprefix("error: ") or last_line(log)


def last_line(log: Path) -> str:
    """The last line of a log that says something."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 10_000))
        lines = file.read().decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "(none)")


@contextmanager
def signals_raise() -> Iterator[None]:
    """Within, a signal that asks to stop raises `Stopped`; one that was ignored before (nohup) stays so."""
    def handler(number: int, _frame: object) -> None:
        raise Stopped(number)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    for number, old in before.items():
        if old != signal.SIG_IGN:
            signal.signal(number, handler)
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def _end_with_parent() -> None:
    # Even a SIGKILL of this program must not leave ranks on the devices. Only Linux can do that.
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _as_ranges(numbers: list[int]) -> str:
    """Write sorted numbers as taskset reads them: 0-3,8."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ",".join(f"{first}-{last}" if first < last else str(first) for first, last in ranges)


if __name__ == "__main__":
    run_script(main)
