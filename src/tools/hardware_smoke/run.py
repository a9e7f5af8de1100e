"""Check in five minutes whether a device computes what this repository needs; the result can be pasted into an issue.

    bash scripts/hardware_smoke.sh Ascend|GPU|CPU [--only 3,5] [--device_id 0]
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import takewhile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from scripts.start_ranks import Process, first_error, make_log, start  # noqa: E402
from src.errors import UserError, first_line, run_script  # noqa: E402
from src.files import atomic_write  # noqa: E402
from src.tools.hardware_smoke.checks import CHECKS  # noqa: E402
from src.tools.hardware_smoke.outcome import TOLERANCES, Outcome, Verdict, judge, skip  # noqa: E402
from src.tools.hardware_smoke.report import block  # noqa: E402

WORKER = Path(__file__).with_name("worker.py")
LOG = "hardware_smoke_log.txt"
CHECK_SECONDS = 120.0  # until a check is taken to hang; with the start of its process
POLL_SECONDS = 0.1
USER_ERROR = 2  # exit status of a process that says in one line what is wrong


def main(argv: Sequence[str] | None = None) -> None:
    """Run the checks, print and save the block; exit with status 1 if one failed.

    Raises:
        UserError: there is no such device, or a file cannot be written.
    """
    options = parse_arguments(argv)
    begin = time.monotonic()
    outcomes: dict[int, Outcome] = {}
    print(f"at most {options.minutes:g} minutes; the log is {LOG}", file=sys.stderr, flush=True)
    try:
        for number, outcome in supervise(options, begin + 60 * options.minutes):
            outcomes[number] = outcome
            print(f"{number:2} {outcome.verdict.value} {CHECKS[number - 1].title} ({outcome.seconds:.1f} s)",
                  file=sys.stderr, flush=True)
    finally:  # Ctrl-C, too, leaves what there is
        if outcomes:
            text = block(f"hardware smoke, {options.device_target}, {options.compute_type}, "
                         f"{time.monotonic() - begin:.0f} s of {60 * options.minutes:.0f}", outcomes)
            path = Path(f"hardware_smoke_{options.device_target}.md")
            with atomic_write(path) as temporary:
                temporary.write_text(f"{text}\n", encoding="utf-8")
            print(f"{text}\nPaste this into an issue; it is also in {path}", flush=True)
    if any(outcome.verdict is Verdict.FAIL for outcome in outcomes.values()):
        sys.exit(1)


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line; the compute type is that of trainings on the device."""
    parser = argparse.ArgumentParser(description=first_line(__doc__), allow_abbrev=False)
    add = parser.add_argument
    add("--device_target", required=True, choices=("Ascend", "GPU", "CPU"), help="the device")
    add("--device_id", type=int, default=0, metavar="N", help="its number (default 0); two ranks use 0 and 1")
    add("--only", type=parse_numbers, default=list(range(1, len(CHECKS) + 1)), metavar="N,N",
        help="numbers of the checks to run: " + ", ".join(f"{number} {check.title}"
                                                          for number, check in enumerate(CHECKS, 1)))
    add("--compute_type", choices=tuple(TOLERANCES),
        help="type of the matrix products (default float16, on CPU float32)")
    add("--minutes", type=float, default=5.0, metavar="N", help="checks that have not begun by then are left out")
    options = parser.parse_args(argv)
    options.compute_type = options.compute_type or ("float32" if options.device_target == "CPU" else "float16")
    return options


def parse_numbers(text: str) -> list[int]:
    """Numbers of checks between commas, in order."""
    try:
        numbers = sorted({int(word) for word in text.split(",")})
    except ValueError:
        numbers = [0]
    if not set(numbers) <= set(range(1, len(CHECKS) + 1)):
        raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers from 1 to {len(CHECKS)}, such as 3,5")
    return numbers


def supervise(options: argparse.Namespace, deadline: float) -> Iterator[tuple[int, Outcome]]:
    """Run the checks in as many processes as it takes; yield number and outcome of each, in order.

    Raises:
        UserError: the first process could not begin.
    """
    left, why_not = list(options.only), "not run, as the time was over"
    log = make_log(Path(LOG))
    while left and time.monotonic() < deadline:
        batch = one_process(left)
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
            results = Path(directory, "results.jsonl")
            results.touch()
            process = start("the process", [
                sys.executable, str(WORKER), options.device_target, str(options.device_id), options.compute_type,
                str(results), *map(str, batch)], log, dict(os.environ))
            try:
                for outcome in watch(process, results, len(batch), deadline):
                    yield left.pop(0), outcome
            except UserError as error:
                if len(left) == len(options.only):
                    raise
                why_not = "not run, as the device could not be used again"
                yield left.pop(0), judge(False, str(error))
                break
            finally:
                process.kill()
    for number in left:
        yield number, skip(why_not)


def one_process(numbers: Sequence[int]) -> list[int]:
    """The first of the checks that can share a process: one that starts ranks is alone."""
    if CHECKS[numbers[0] - 1].starts_ranks:
        return [numbers[0]]
    return list(takewhile(lambda number: not CHECKS[number - 1].starts_ranks, numbers))


def watch(process: Process, results: Path, count: int, deadline: float) -> Iterator[Outcome]:
    """Yield the outcomes that a process writes; one more, a FAIL, for the check that ended it or at which it hangs.

    Raises:
        UserError: it ended before the first check.
    """
    done, begin = 0, time.monotonic()
    while done < count:
        status = process.status  # asked before its results are read, so that none is missed
        for outcome in read_outcomes(results)[done:]:
            yield outcome
            done, begin = done + 1, time.monotonic()
        seconds = time.monotonic() - begin
        if status is not None and not results.stat().st_size:
            raise UserError(first_error(process.log) if status == USER_ERROR else
                            f"no check could begin: the process {process.how_it_ended()}; its output is in {LOG}")
        if status or (status == 0 and not done):
            yield replace(judge(False, process.how_it_ended()), seconds=seconds)
        elif status is None and (seconds > CHECK_SECONDS or time.monotonic() > deadline):
            yield replace(judge(False, f"no result after {seconds:.0f} s, then ended"), seconds=seconds)
            return
        if status is not None:
            return
        time.sleep(POLL_SECONDS)


def read_outcomes(path: Path) -> list[Outcome]:
    """The outcomes that are written to the end of their line; the first line is empty."""
    lines = path.read_text(encoding="utf-8").split("\n")[1:-1]
    return [Outcome(Verdict(found["verdict"]), found["numbers"], tuple(found["further"]), found["seconds"])
            for found in map(json.loads, lines)]


if __name__ == "__main__":
    run_script(main)
