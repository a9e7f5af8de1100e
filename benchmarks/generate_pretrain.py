"""Speed and memory of pre-training data generation, on a small and a large corpus made of the same text.

    python benchmarks/generate_pretrain.py                                  English that every machine has
    python benchmarks/generate_pretrain.py --text zh1.txt zh2.txt --vocab_file vocab.txt

A corpus keeps the documents' numbers of sentences and fills them with the text's sentences in random order, again and
again up to its size. The generator runs as its users run it; options unknown here are passed on to it, such as
`--segmenter jieba --do_whole_word_mask true`. Linux only (memory is read from /proc).
"""

import argparse
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from src.errors import UserError, run_script  # noqa: E402
from src.generate_mindrecord.corpus import Corpus  # noqa: E402
from src.tools.build_vocab import main as build_vocab  # noqa: E402
from src.tools.collect_documentation import collect_documentation  # noqa: E402

SAMPLE_SECONDS = 0.05
MEGABYTE = 1_000_000


class Measurement(NamedTuple):
    """One run of the generator."""

    instances: int
    seconds: float  # wall clock, from the start of Python to its end
    cpu_seconds: float  # of all processes
    parent: int  # peak resident bytes
    largest_worker: int  # peak resident bytes
    together: int  # peak over time of the sum of all processes, in bytes


def make_corpus(files: Sequence[Path], path: Path, size: int) -> None:
    """Write `size` bytes of documents made of the sentences of `files`."""
    documents = [piece.lines for chunk in Corpus(list(files), 1 << 20).chunks() for piece in chunk.pieces]
    sentences = [sentence for document in documents for sentence in document]
    rng = random.Random(0)
    written = 0
    with path.open("w", encoding="utf-8") as file:
        while written < size:
            rng.shuffle(sentences)
            rng.shuffle(documents)
            supply = iter(sentences)
            for document in documents:
                text = "".join(f"{next(supply)}\n" for _ in document) + "\n"
                file.write(text)
                written += len(text.encode())
                if written >= size:
                    break


def measure(command: Sequence[str]) -> Measurement:
    """Run the command to its end, watching the memory of its processes."""
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    peaks, together = {}, 0
    while not (ended := os.wait4(process.pid, os.WNOHANG))[0]:
        now = {pid: memory for pid in (process.pid, *_children(process.pid)) if (memory := _memory(pid))}
        together = max(together, sum(resident for resident, _ in now.values()))
        peaks |= {pid: peak for pid, (_, peak) in now.items()}
        time.sleep(SAMPLE_SECONDS)
    seconds = time.monotonic() - started
    _, status, usage = ended
    output = process.stdout.read()
    if status:
        raise UserError(f"the generator failed: {' '.join(command)}")
    workers = [peak for pid, peak in peaks.items() if pid != process.pid]
    return Measurement(int(re.search(r"Wrote (\d+) total instances", output).group(1)), seconds,
                       usage.ru_utime + usage.ru_stime, peaks[process.pid], max(workers, default=0), together)


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _memory(pid: int) -> tuple[int, int] | None:
    """Resident bytes now and at their peak; None when the process has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return None
    values = {name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in lines)
              if name in ("VmRSS", "VmHWM")}
    return (values["VmRSS"], values["VmHWM"]) if len(values) == 2 else None


def main(argv: Sequence[str] | None = None) -> None:
    """Make the corpora, run the generator on each, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", nargs="+", type=Path, help="text files, one sentence a line, a blank line between "
                                                             "documents (default: documentation of Python's packages)")
    parser.add_argument("--vocab_file", type=Path, help="default: 8,000 tokens learnt from the text")
    parser.add_argument("--sizes", nargs="+", type=int, default=[10, 200], help="of the corpora, in MB")
    parser.add_argument("--dupe_factor", default="5")
    given, options = parser.parse_known_args(argv)
    with tempfile.TemporaryDirectory(prefix="generate-pretrain-") as name:
        directory = Path(name)
        text = given.text or [directory / "documentation.txt"]
        if not given.text:
            collect_documentation(text[0])
        vocab_file = given.vocab_file or directory / "vocab.txt"
        if not given.vocab_file:
            build_vocab(["--input_file", ",".join(map(str, text)), "--vocab_size", "8000",
                         "--output_file", str(vocab_file)])
        print("| corpus | instances | s | instances/s | per CPU second | parent | largest worker | all together |")
        print("|---|---|---|---|---|---|---|---|")
        for size in given.sizes:
            corpus, records = directory / "corpus.txt", directory / "records.mindrecord"
            make_corpus(text, corpus, size * MEGABYTE)
            command = [sys.executable, str(ROOT / "src/generate_mindrecord/generate_pretrain_mindrecord.py"),
                       "--input_file", str(corpus), "--output_file", str(records), "--vocab_file", str(vocab_file),
                       "--dupe_factor", given.dupe_factor, *options]
            run = measure(command)
            memory = (run.parent, run.largest_worker, run.together)
            memory = " | ".join(f"{value / MEGABYTE:.0f} MB" for value in memory)
            print(f"| {size} MB | {run.instances:,} | {run.seconds:.1f} | {run.instances / run.seconds:,.0f} | "
                  f"{run.instances / run.cpu_seconds:,.0f} | {memory} |", flush=True)


if __name__ == "__main__":
    run_script(main)
