"""Time data-parallel pre-training on one and on two CPU cores: does twice the hardware do twice the work?

    python benchmarks/weak_scaling.py                                   # the small network, three rounds
    python benchmarks/weak_scaling.py --network base --accumulation_steps 8 --steps 5
    python benchmarks/weak_scaling.py --unbound     # no core is bound, no number of threads given: as the launchers do

Every process has a core of its own, one thread, and the same batch, so that ideal scaling doubles the samples a second.
The runs, by turns: one process; two that train for themselves at the same time, which share the memory's bandwidth; two
that average their gradients. What the last two differ by is communication, and waiting for the other.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from train_step import LENGTH, NETWORKS, VOCABULARY, make_batch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

RUNS = {"one process": 1, "two, each for itself": 2, "two, data-parallel": 2}  # number of processes


def main():
    """Run everything by turns and print the table, or be a process of one of the runs."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--network", choices=list(NETWORKS), default="small")
    parser.add_argument("--batch_size", type=int, help="sequences in a batch of each process")
    parser.add_argument("--accumulation_steps", type=int, default=1, help="batches in a step")
    parser.add_argument("--rounds", type=int, default=3, help="starts of each run")
    parser.add_argument("--steps", type=int, default=20, help="timed steps in each start, after two that are not")
    parser.add_argument("--unbound", action="store_true",
                        help="let the processes share all cores, with as many threads as they choose")
    parser.add_argument("--run", choices=list(RUNS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        print(json.dumps(measure(options)), flush=True)
        return
    cores = len(os.sched_getaffinity(0))
    if cores < 2:
        sys.exit(f"two cores are needed, and this process may use {cores}")
    seconds = {run: [] for run in RUNS}
    for _ in range(options.rounds):
        for run in RUNS:
            seconds[run] += start(run, options.unbound)
    report(options, {run: statistics.median(measured) for run, measured in seconds.items()})


def start(run, unbound):
    """Start the processes of a run; return the seconds of each step of the first."""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"} | {"GLOG_v": "3"}
    if not unbound:
        environment["OMP_NUM_THREADS"] = "1"
    command = [str(Path(__file__).resolve()), *sys.argv[1:], "--run", run]
    with tempfile.TemporaryDirectory() as directory:
        launcher = [str(ROOT / "scripts" / "start_ranks.py"), "--processes", str(RUNS[run]), "--log", "log.txt", "--"]
        done = subprocess.run([sys.executable, *launcher, *command], cwd=directory, capture_output=True, text=True,
                              env=environment)
    if done.returncode:
        sys.exit(f"{run} failed:\n{done.stdout[-2000:]}{done.stderr}")
    return next(json.loads(line) for line in done.stdout.splitlines() if line.startswith("["))


def report(options, seconds):
    """Print the table."""
    samples = (options.batch_size or NETWORKS[options.network]["batch"]) * options.accumulation_steps
    print(f"{options.network}, {samples} x {LENGTH} a process and step, of {options.accumulation_steps} batches")
    print(f"{'':22} {'s/step':>8} {'steps/s':>8} {'samples/s':>10}")
    rates = {run: RUNS[run] * samples / seconds[run] for run in RUNS}
    for run in RUNS:
        print(f"{run:22} {seconds[run]:8.3f} {1 / seconds[run]:8.2f} {rates[run]:10.2f}")
    alone, apart, together = RUNS
    if options.unbound:
        print(f"two processes do {rates[together] / rates[alone]:.2f} times the work of one on all cores (without "
              f"communication {rates[apart] / rates[alone]:.2f})", flush=True)
        return
    print(f"efficiency {rates[together] / (2 * rates[alone]):.2f} (without communication "
          f"{rates[apart] / (2 * rates[alone]):.2f}); all-reduce takes "
          f"{1 - seconds[apart] / seconds[together]:.0%} of a step", flush=True)


def measure(options):
    """Be one process of a run: return the seconds of each step."""
    if not options.unbound:
        rank = int(os.environ["RANK_ID"])
        os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[rank]})  # before MindSpore starts threads
    from dataclasses import replace

    from mindspore import Tensor

    from src.bert_for_pre_training import BertNetworkWithLoss, initialize_parameters
    from src.bert_model import BertConfig
    from src.model_utils.communication import any_rank
    from src.model_utils.config import load_config
    from src.model_utils.device_adapter import set_up_device
    from src.training.create_optimizer import create_optimizer
    from src.training.run import configured_step

    config = load_config("", "pretrain_config.yaml", [
        "--device_target", "CPU", "--distribute", "true", "--optimizer", "AdamWeightDecay",
        "--accumulation_steps", str(options.accumulation_steps)])
    device = set_up_device(config)
    sizes = NETWORKS[options.network]
    network = BertNetworkWithLoss(BertConfig(
        seq_length=LENGTH, vocab_size=VOCABULARY, hidden_size=sizes["hidden"], num_hidden_layers=sizes["layers"],
        num_attention_heads=sizes["heads"], intermediate_size=sizes["intermediate"]), is_training=True)
    initialize_parameters(network, 0.02, config.seed)
    optimizer = create_optimizer("AdamWeightDecay", network, config.AdamWeightDecay, 10_000)
    communicates = options.run == "two, data-parallel"
    step = configured_step(config, device if communicates else replace(device, rank_size=1), network, optimizer)
    rows = (options.batch_size or sizes["batch"]) * options.accumulation_steps
    columns = [Tensor(column) for column in make_batch(rows).values()]
    seconds = []
    for _ in range(2 + options.steps):
        any_rank(False, device.rank_size)  # both begin at the same time
        begin = time.perf_counter()
        step(*columns)[0].asnumpy()
        seconds.append(time.perf_counter() - begin)
    return seconds[2:]


if __name__ == "__main__":
    main()
