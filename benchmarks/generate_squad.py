"""Time the making of question-answering records against the fast tokenizer of transformers.

    python benchmarks/generate_squad.py --vocab_file vocab.txt --squad_file train-v1.1.json

Ours: the generator as its users run it, in a process of its own, start-up and writing included, for both formats.
Theirs: `BertTokenizerFast` on batches of 1,000 questions with overflowing windows, then the answers' positions from the
offsets, as transformers' question-answering example does; arrays in memory, nothing written, start-up not counted.
CPU seconds count all threads and processes: on a busy machine compare these.
"""

import argparse
import json
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LENGTH, STRIDE, QUERY = 384, 128, 64


def main():
    """Run each several times by turns; print the median."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--vocab_file", required=True)
    parser.add_argument("--squad_file", required=True, help="to make training records from")
    parser.add_argument("--copies", type=int, default=1, help="take the file so many times over")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--theirs", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.theirs:
        print(json.dumps(transformers_features(options.vocab_file, options.squad_file)))
        return
    with tempfile.TemporaryDirectory() as name:
        squad_file = repeated(options.squad_file, options.copies, Path(name))
        theirs = [sys.executable, __file__, "--theirs", "--vocab_file", options.vocab_file, "--squad_file", squad_file]
        runs = {"transformers": lambda: json.loads(run(theirs).splitlines()[-1])}
        for kind in ("mindrecord", "tfrecord"):
            runs[f"ours, {kind}"] = lambda kind=kind: generate(options.vocab_file, squad_file, name, kind)
        results = {what: [] for what in runs}
        for _ in range(options.rounds):
            for what, measure in runs.items():
                results[what].append(measure())
    print(f"{'':20} {'records':>9} {'s':>7} {'records/s':>10} {'per CPU second':>15}")
    for what, found in results.items():
        records, seconds, cpu = sorted(found, key=lambda result: result[1])[len(found) // 2]
        print(f"{what:20} {records:9,} {seconds:7.1f} {records / seconds:10,.0f} {records / cpu:15,.0f}")


def repeated(path, copies, folder):
    """A file with every question so many times, each time with another id."""
    if copies == 1:
        return path
    content = json.loads(Path(path).read_text(encoding="utf-8"))
    text = json.dumps(content["data"])
    articles = []
    for copy in range(copies):
        articles += json.loads(text)
        for article in articles[-len(content["data"]):]:
            for paragraph in article["paragraphs"]:
                for question in paragraph["qas"]:
                    question["id"] += f"-{copy}"
    target = folder / "repeated.json"
    target.write_text(json.dumps({"data": articles}), encoding="utf-8")
    return str(target)


def run(command):
    """Output of a command."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def generate(vocab_file, squad_file, folder, dataset_format):
    """Run the generator: records, seconds, CPU seconds of its process from start to end."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    printed = run([sys.executable, str(ROOT / "src/generate_mindrecord/generate_squad_mindrecord.py"), "--vocab_file",
                   vocab_file, "--train_file", squad_file, "--output_dir", folder, "--dataset_format", dataset_format])
    seconds, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return int(re.search(r"Wrote (\d+) records", printed).group(1)), seconds, cpu


def transformers_features(vocab_file, squad_file):
    """Make the features: records, seconds, CPU seconds of the making alone."""
    import numpy as np
    from transformers import BertTokenizerFast

    tokenizer = BertTokenizerFast(vocab_file, do_lower_case=True)
    data = json.loads(Path(squad_file).read_text(encoding="utf-8"))["data"]
    rows = [(question["question"], paragraph["context"], question["answers"][0])
            for article in data for paragraph in article["paragraphs"] for question in paragraph["qas"]]
    before, started = time.process_time(), time.monotonic()
    count = 0
    for first in range(0, len(rows), 1000):
        questions, contexts, answers = zip(*rows[first:first + 1000], strict=True)
        # Its stride is the overlap of two windows; this one gives about as many windows as ours.
        made = tokenizer(list(questions), list(contexts), truncation="only_second", max_length=LENGTH,
                         stride=LENGTH - QUERY - 3 - STRIDE, return_overflowing_tokens=True,
                         return_offsets_mapping=True, padding="max_length")
        positions = [answer_position(made, row, answers[made["overflow_to_sample_mapping"][row]])
                     for row in range(len(made["input_ids"]))]
        arrays = [np.array(made[name], np.int32) for name in ("input_ids", "attention_mask", "token_type_ids")]
        arrays.append(np.array(positions, np.int32))
        count += len(arrays[0])
    return count, time.monotonic() - started, time.process_time() - before


def answer_position(made, row, answer):
    """First and last token of the answer in a window, 0 when it is not there."""
    offsets, kinds = made["offset_mapping"][row], made.sequence_ids(row)
    begin, end = answer["answer_start"], answer["answer_start"] + len(answer["text"])
    first = kinds.index(1)
    last = len(kinds) - 1 - kinds[::-1].index(1)
    if offsets[first][0] > begin or offsets[last][1] < end:
        return 0, 0
    while first <= last and offsets[first][0] <= begin:
        first += 1
    while last >= 0 and offsets[last][1] >= end:
        last -= 1
    return first - 1, last + 1


if __name__ == "__main__":
    main()
