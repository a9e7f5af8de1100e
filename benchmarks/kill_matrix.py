"""Kill trainings with SIGKILL at the worst moments, resume them, and compare the end with runs that were never killed.

    python benchmarks/kill_matrix.py --kills 100
    python benchmarks/kill_matrix.py --kills 8 --kinds ner --ranks 1

A chain is one training that is killed several times, each time at another moment of the list, and resumed by the same
command until it ends. Then its losses and scores, its weights, its predictions and its last lines must be those of the
whole run to the last digit, its files must have the same names, and nothing unfinished may lie there. The networks are
tiny, since what is tested does not depend on their size. With two ranks one of them is killed, and the launcher must
end the other.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import toy_finetuning  # noqa: E402
import toy_ner  # noqa: E402
import toy_pretraining  # noqa: E402
import toy_squad  # noqa: E402

from src.training.metrics_file import read_metrics  # noqa: E402
from src.weights import read_weights  # noqa: E402

STEPS, SAVE_EVERY = 24, 6
OFTEN = {"resume": "true", "train_steps": STEPS, "save_checkpoint_steps": SAVE_EVERY, "save_checkpoint_num": 2}
KILLS_IN_A_CHAIN = 4
RUN_SECONDS = 600


@dataclass(frozen=True)
class Kind:
    """A training: its script, and what makes its options from the folders of data and output."""

    script: str
    options: Callable[[Path, Path], list[str]]


def pretraining(data: Path, output: Path) -> list[str]:
    """Pre-training with an evaluation at each checkpoint."""
    records = data / "pretraining"
    return toy_pretraining.tiny_options(data_dir=records, eval_data_dir=records, train_with_eval="true",
                                        save_checkpoint_path=output, **OFTEN)


def classifier(data: Path, output: Path) -> list[str]:
    """Classification; evaluations between the checkpoints."""
    return toy_finetuning.tiny_options(data / "classifier", output, eval_steps=4, **OFTEN)


def ner(data: Path, output: Path) -> list[str]:
    """NER with the CRF."""
    return toy_ner.ner_options(data / "ner", output, eval_steps=6, with_lstm="false", **OFTEN)


def squad(data: Path, output: Path) -> list[str]:
    """Question answering."""
    return toy_squad.tiny_options(data / "squad", output, eval_steps=8, **OFTEN)


KINDS = {"pretraining": Kind("run_pretrain.py", pretraining), "classifier": Kind("run_classifier.py", classifier),
         "ner": Kind("run_ner.py", ner), "squad": Kind("run_squad.py", squad)}


# ---------------------------------------------------------------- moments

def unfinished_files(output: Path) -> list[Path]:
    """Files that a writer has not given their names yet."""
    return [path for pattern in (".*.tmp", ".saving-*", ".writing-*") for path in output.glob(pattern)]


def lines_of(output: Path) -> tuple[int, int]:
    """Steps and evaluations in the metrics file."""
    path = output / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    steps = sum('"learning_rate"' in line for line in lines)
    return steps, len(lines) - steps


def at_an_unfinished_file(output: Path) -> Callable[[], bool]:
    """While weights, a checkpoint, predictions or the plot are written."""
    return lambda: bool(unfinished_files(output))


def at_an_evaluation(output: Path) -> Callable[[], bool]:
    """Behind the scores of an evaluation, before its weights and its checkpoint."""
    before = lines_of(output)[1]
    return lambda: lines_of(output)[1] > before


def in_an_evaluation(output: Path) -> Callable[[], bool]:
    """When as many steps are done as an evaluation follows."""
    before = lines_of(output)[0]
    return lambda: lines_of(output)[0] >= before // SAVE_EVERY * SAVE_EVERY + SAVE_EVERY


def at_a_checkpoint(output: Path) -> Callable[[], bool]:
    """Behind a checkpoint, before the next step or the end."""
    before = set(output.glob("*.json"))
    return lambda: not set(output.glob("*.json")) <= before


def after_some_steps(output: Path) -> Callable[[], bool]:
    """Anywhere between two checkpoints."""
    wanted = lines_of(output)[0] + random.randrange(1, SAVE_EVERY)
    return lambda: lines_of(output)[0] >= wanted


def while_it_starts(output: Path) -> Callable[[], bool]:
    """While records are opened, a checkpoint is read or the graph is compiled."""
    end = time.monotonic() + random.uniform(1.0, 12.0)
    return lambda: time.monotonic() > end


MOMENTS = (at_an_unfinished_file, in_an_evaluation, at_an_evaluation, while_it_starts, at_a_checkpoint,
           after_some_steps)


# ---------------------------------------------------------------- chains

@dataclass
class Chain:
    """What came out of one training that was killed several times."""

    name: str
    kills: Counter = field(default_factory=Counter)  # by moment
    faults: list[str] = field(default_factory=list)
    seconds_to_end: list[float] = field(default_factory=list)  # from the death of one rank to that of the last process


class Run:
    """A process, or a launcher with its ranks."""

    def __init__(self, kind: Kind, data: Path, output: Path, ranks: int, work: Path) -> None:
        command = [str(ROOT / kind.script), *kind.options(data, output)]
        if ranks > 1:
            command = [str(ROOT / "scripts/start_ranks.py"), "--log", "log.txt", "--processes", str(ranks), "--",
                       *command, "--distribute", "true"]
        self.ranks = ranks
        self.log = (work / "printed.txt").open("w", encoding="utf-8")
        self.process = subprocess.Popen([sys.executable, *command], cwd=work, stdout=self.log,
                                        stderr=subprocess.STDOUT)

    def wait_for(self, moment: Callable[[], bool]) -> bool:
        """Whether the moment came before the end of the run."""
        deadline = time.monotonic() + RUN_SECONDS
        while self.process.poll() is None:
            if moment():
                return True
            if time.monotonic() > deadline:
                self.kill()
                raise TimeoutError(f"still running after {RUN_SECONDS} s: {' '.join(map(str, self.process.args))}")
            time.sleep(0.002)
        return False

    def kill(self) -> float:
        """Kill the process, or one of its ranks; return the seconds until nothing of it runs any more."""
        begin = time.monotonic()
        started = family(self.process.pid)
        ranks = [number for number in started if is_rank(number)]
        with suppress(ProcessLookupError):
            os.kill(random.choice(ranks) if self.ranks > 1 and ranks else self.process.pid, signal.SIGKILL)
        self.end()
        while any(map(is_running, started)):
            time.sleep(0.01)
        return time.monotonic() - begin

    def end(self) -> int:
        """Wait for the end; return the exit status."""
        status = self.process.wait(RUN_SECONDS)
        self.log.close()
        return status


def family(process: int) -> list[int]:
    """A process and all that it started, directly or not."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it is gone
            parents[int(stat.parent.name)] = int(stat.read_text(errors="replace").rpartition(")")[2].split()[1])
    found = [process]
    for member in found:
        found += [number for number, parent in parents.items() if parent == member]
    return found


def is_running(process: int) -> bool:
    """Whether a process is there, and no zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text(errors="replace").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def is_rank(number: int) -> bool:
    """Whether a process is one that trains, not the launcher or the scheduler."""
    try:
        words = Path(f"/proc/{number}/cmdline").read_text(encoding="utf-8", errors="replace").split("\0")
    except OSError:
        return False
    return "--distribute" in words and not any(word.endswith("start_ranks.py") for word in words)


def run_chain(name: str, kind: Kind, data: Path, whole: Path, work: Path, ranks: int, moments: Iterator) -> Chain:
    """Kill a training at several moments, resume it to its end, and compare."""
    chain, output = Chain(name), work / "out"
    for _ in range(KILLS_IN_A_CHAIN):
        moment = next(moments)
        run = Run(kind, data, output, ranks, work)
        if not run.wait_for(moment(output)):
            if run.end():
                chain.faults.append(f"ended with an error where it was to be killed: {last_line(work)}")
            break
        chain.seconds_to_end.append(run.kill())
        chain.kills[moment.__name__] += 1
    if Run(kind, data, output, ranks, work).end():
        chain.faults.append(f"does not resume: {last_line(work)}")
    else:
        chain.faults += differences(output, whole)
    return chain


def last_line(work: Path) -> str:
    """What a run said last."""
    lines = (work / "printed.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1][:200] if lines else "nothing printed"


def differences(output: Path, whole: Path) -> list[str]:
    """What is not as in the run that was never killed."""
    faults = [f"left over: {path.name}" for path in unfinished_files(output)]
    names, wanted = ({path.name for path in folder.iterdir()
                      if not path.name.startswith(".") and not path.name.endswith(".old")}
                     for folder in (output, whole))
    faults += [f"missing: {name}" for name in sorted(wanted - names)]
    faults += [f"too many: {name}" for name in sorted(names - wanted)]
    if numbers(output) != numbers(whole):
        faults.append("other numbers in metrics.jsonl")
    for path in sorted(whole.iterdir()):
        other = output / path.name
        if not other.exists():
            continue
        if path.suffix == ".ckpt" or path.name.endswith(".safetensors"):
            faults += [f"other digits in {path.name}"] * (not same_weights(path, other))
        elif "predictions" in path.name and path.read_bytes() != other.read_bytes():
            faults.append(f"other bytes in {path.name}")
    return faults


def numbers(folder: Path) -> list[dict]:
    """The metrics without the speed."""
    return [{key: value for key, value in line.items() if key != "samples_per_second"}
            for line in read_metrics(folder / "metrics.jsonl")]


def same_weights(one: Path, other: Path) -> bool:
    """Whether two files hold the same names and bits."""
    first, second = read_weights(one), read_weights(other)
    return first.keys() == second.keys() and all(first[name].tobytes() == second[name].tobytes() for name in first)


# ---------------------------------------------------------------- all of it

def write_data(folder: Path) -> Path:
    """Records and files of all kinds."""
    toy_pretraining.write_records(folder / "pretraining", toy_pretraining.toy_batch(64))
    for name, count in (("train", 64), ("dev", 24)):
        (folder / "classifier").mkdir(exist_ok=True)
        toy_finetuning.write_rows(folder / "classifier" / f"{name}.mindrecord",
                                  toy_finetuning.toy_rows(count, seed=count))
    (folder / "ner").mkdir()
    toy_ner.write_toy_data(folder / "ner")
    toy_squad.write_toy(folder / "squad", train=toy_squad.toy_squad(64), dev=toy_squad.toy_squad(24, seed=1))
    return folder


def main() -> None:
    """Run chains until enough kills are done; print a line for each and the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--ranks", nargs="+", type=int, choices=(1, 2), default=[1, 2])
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    random.seed(options.seed)
    folder = Path(tempfile.mkdtemp(prefix="kill_matrix-"))
    data = write_data(folder)
    begin, chains, done = time.monotonic(), [], 0
    moments = cycle(MOMENTS)
    for number, (kind, ranks) in enumerate(cycle([(kind, ranks) for kind in options.kinds for ranks in options.ranks])):
        name = f"{kind}, {ranks} rank{'s'[:ranks > 1]}"
        whole = folder / f"whole-{kind}-{ranks}"
        if not whole.exists():
            whole.mkdir()
            if Run(KINDS[kind], data, whole / "out", ranks, whole).end():
                sys.exit(f"{name} does not run at all: {last_line(whole)}")
        work = folder / f"chain-{number}"
        work.mkdir()
        chain = run_chain(name, KINDS[kind], data, whole / "out", work, ranks, moments)
        chains.append(chain)
        done += chain.kills.total()
        print(f"{done:4} kills, {name}: {', '.join(chain.kills)}: {'; '.join(chain.faults) or 'as never killed'}",
              flush=True)
        if not chain.faults:
            shutil.rmtree(work)
        if done >= options.kills:
            break
    report(chains, time.monotonic() - begin)
    if any(chain.faults for chain in chains):
        sys.exit(f"the folders of the chains with faults are kept in {folder}")
    shutil.rmtree(folder)


def report(chains: list[Chain], seconds: float) -> None:
    """Print the table for the documents."""
    print("\n| training | chains | kills | chains as never killed | seconds until all processes were gone, at most |\n"
          "|---|---|---|---|---|")
    for name in dict.fromkeys(chain.name for chain in chains):
        mine = [chain for chain in chains if chain.name == name]
        longest = max((value for chain in mine for value in chain.seconds_to_end), default=0.0)
        print(f"| {name} | {len(mine)} | {sum(chain.kills.total() for chain in mine)} | "
              f"{sum(not chain.faults for chain in mine)} | {longest:.1f} |")
    by_moment = sum((chain.kills for chain in chains), Counter())
    print("\n" + ", ".join(f"{count} {moment}" for moment, count in by_moment.items()) + f"; {seconds:.0f} s")


if __name__ == "__main__":
    main()
