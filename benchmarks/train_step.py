"""Time a pre-training step against PyTorch with transformers doing the same work, on CPU.

    python benchmarks/train_step.py                     # both networks, three rounds
    python benchmarks/train_step.py --network small --rounds 5
    python -m src.cpu_kernels.build && python benchmarks/train_step.py --runs all   # the C++ operators and bfloat16 too

The same work: masked-LM scores at 20 positions a sequence and next-sentence scores, loss, backward, clipping to a
global norm of 1, AdamW, dropout 0.1, float32, or as the name says bfloat16, of PyTorch its autocast. The frameworks
run by turns, each in a process of its own, with the threads that they choose. PyTorch runs as a user finds it: eager,
scaled-dot-product attention, erf GELU, fused AdamW. On a busy machine OMP_NUM_THREADS=1 and the column of CPU seconds
say most: of the least step, over all threads.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]

NETWORKS = {
    "base": {"batch": 8, "layers": 12, "hidden": 768, "heads": 12, "intermediate": 3072},
    "small": {"batch": 32, "layers": 2, "hidden": 128, "heads": 2, "intermediate": 512},
}
LENGTH, VOCABULARY, POSITIONS, DROPOUT = 128, 30522, 20, 0.1


def main():
    """Run the frameworks by turns and print the table, or be one of the runs."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--network", choices=[*NETWORKS, "all"], default="all")
    parser.add_argument("--rounds", type=int, default=3, help="processes per framework and network")
    parser.add_argument("--steps", type=int, default=10, help="timed steps in each process, after two that are not")
    parser.add_argument("--runs", nargs="+", choices=[*RUNS, "all"], default=["mindspore", "pytorch"],
                        help="what takes turns; mindspore uses the C++ operators if they are built")
    parser.add_argument("--pytorch_python", default=sys.executable, help="the Python that has PyTorch")
    parser.add_argument("--run", choices=list(RUNS), help=argparse.SUPPRESS)
    parser.add_argument("--started", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        print(json.dumps(RUNS[options.run](NETWORKS[options.network], options.steps, options.started)))
        return
    runs = list(RUNS) if "all" in options.runs else options.runs
    for name in NETWORKS if options.network == "all" else [options.network]:
        results = {run: [] for run in runs}
        for _ in range(options.rounds):
            for run in runs:
                python = options.pytorch_python if run.startswith("pytorch") else sys.executable
                results[run].append(run_in_process(python, run, name, options.steps))
        report(name, results)


def run_in_process(python, run, network, steps):
    """Return what one run in a process of its own measured."""
    command = [python, __file__, "--run", run, "--network", network, "--steps", str(steps)]
    done = subprocess.run([*command, "--started", repr(time.time())], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{run} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def report(name, results):
    """Print the table of one network."""
    shape = NETWORKS[name]
    print(f"\n{name}: {shape['layers']} layers, {shape['hidden']} wide, batch {shape['batch']} x {LENGTH}")
    print(f"{'':19} {'samples/s':>10} {'s/step':>8} {'fastest':>8} {'CPU s':>8} {'peak GB':>8} {'s to first step':>16}")
    rates, fastest_of = {}, {}
    for run, runs in results.items():
        seconds = statistics.median(time for result in runs for time in result["seconds"])
        fastest = fastest_of[run] = min(time for result in runs for time in result["seconds"])
        rates[run] = shape["batch"] / seconds
        cpu = min(time for result in runs for time in result["cpu_seconds"])
        print(f"{run:19} {rates[run]:10.2f} {seconds:8.3f} {fastest:8.3f} {cpu:8.3f} "
              f"{max(r['peak_gb'] for r in runs):8.2f} "
              f"{statistics.median(r['first_step'] for r in runs):16.1f}")
    for other in (run for run in rates if run.startswith("pytorch")):
        print(f"times as fast as {other}, by the median (by the fastest): " + ", ".join(
            f"{run} {rates[run] / rates[other]:.2f} ({fastest_of[other] / fastest_of[run]:.2f})"
            for run in rates if run.startswith("mindspore")), flush=True)
    speed = max((result.get("matmul_flops", 0) for runs in results.values() for result in runs), default=0)
    if speed:
        limit = step_flops(shape) / speed
        print(f"matrix products alone, at the {speed / 1e9:.0f} GFLOP/s in float32 that were measured, take "
              f"{limit:.3f} s, {shape['batch'] / limit:.2f} samples/s", flush=True)


def step_flops(shape):
    """Floating point operations of the matrix products of one step: forward once, backward twice."""
    tokens, masked, width = shape["batch"] * LENGTH, shape["batch"] * POSITIONS, shape["hidden"]
    per_token = 4 * width**2 + 2 * width * shape["intermediate"] + 2 * LENGTH * width
    return 6 * (tokens * shape["layers"] * per_token + masked * width * (width + VOCABULARY))


def make_batch(rows):
    """Return the columns of one batch, as int32 and float32 arrays."""
    random = np.random.default_rng(0)
    segments = np.broadcast_to(np.arange(LENGTH) > LENGTH // 2, (rows, LENGTH))
    positions = np.stack([np.sort(random.choice(LENGTH, POSITIONS, replace=False)) for _ in range(rows)])
    return {
        "input_ids": random.integers(VOCABULARY, size=(rows, LENGTH), dtype=np.int32),
        "input_mask": np.ones((rows, LENGTH), np.int32),
        "segment_ids": segments.astype(np.int32),
        "next_sentence_labels": random.integers(2, size=(rows, 1), dtype=np.int32),
        "masked_lm_positions": positions.astype(np.int32),
        "masked_lm_ids": random.integers(VOCABULARY, size=(rows, POSITIONS), dtype=np.int32),
        "masked_lm_weights": np.ones((rows, POSITIONS), np.float32),
    }


def measure(step, steps, started):
    """Run `step`, which returns the loss as a number, and return the measurements."""
    losses = [step()]
    result = {"first_step": time.time() - started}
    losses.append(step())
    result["seconds"], result["cpu_seconds"] = [], []
    for _ in range(steps):
        begin, cpu_begin = time.perf_counter(), time.process_time()
        losses.append(step())
        result["seconds"].append(time.perf_counter() - begin)
        result["cpu_seconds"].append(time.process_time() - cpu_begin)
    if not losses[-1] < losses[0]:
        sys.exit(f"the loss did not fall: {losses}")
    return result | {"peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6}


def run_mindspore(shape, steps, started, compute_type="float32", plain=False):
    """Measure this repository, `plain` without the C++ operators."""
    sys.path.insert(0, str(ROOT))
    import mindspore as ms
    from mindspore import Tensor

    from src.bert_for_pre_training import BertNetworkWithLoss, initialize_parameters
    from src.bert_model import BertConfig
    from src.cpu_kernels.library import plain_operators
    from src.training.create_optimizer import create_optimizer
    from src.training.train_step import TrainStep

    ms.set_context(mode=ms.GRAPH_MODE)
    with plain_operators() if plain else nullcontext():
        network = BertNetworkWithLoss(BertConfig(
            vocab_size=VOCABULARY, hidden_size=shape["hidden"], num_hidden_layers=shape["layers"],
            num_attention_heads=shape["heads"], intermediate_size=shape["intermediate"], type_vocab_size=2,
            hidden_dropout_prob=DROPOUT, attention_probs_dropout_prob=DROPOUT, compute_type=compute_type),
            is_training=True)
        initialize_parameters(network, 0.02, seed=0)
        group = {"learning_rate": 1e-4, "weight_decay": 0.01}
        step_cell = TrainStep(network, create_optimizer("AdamWeightDecay", network, group, total_steps=1000))
    batch = [Tensor(column) for column in make_batch(shape["batch"]).values()]
    result = measure(lambda: float(step_cell(*batch)[0].asnumpy()), steps, started)
    return result | ({"matmul_flops": matmul_flops()} if compute_type == "float32" else {})


def matmul_flops():
    """Return the floating point operations per second of MindSpore's matrix products of BERT-base's size."""
    from mindspore import Tensor, int32, nn, ops

    class Products(nn.Cell):
        def construct(self, x, weight, count):
            # A loop, as the training step has a branch: without either, a core is lost (see TrainStep.update).
            while count > 0:
                x = ops.MatMul()(x, weight)
                count = count - 1
            return x

    products = Products()
    x, weight = Tensor(np.zeros((1024, 1536), np.float32)), Tensor(np.zeros((1536, 1536), np.float32))
    count = Tensor(10, dtype=int32)
    seconds = []
    for _ in range(10):
        begin = time.perf_counter()
        products(x, weight, count).asnumpy()
        seconds.append(time.perf_counter() - begin)
    return 10 * 2 * 1024 * 1536**2 / min(seconds)


def run_pytorch(shape, steps, started, autocast=False):
    """Measure PyTorch with transformers."""
    import torch
    from torch.nn.functional import cross_entropy
    from transformers import BertConfig, BertForPreTraining

    network = BertForPreTraining(BertConfig(
        vocab_size=VOCABULARY, hidden_size=shape["hidden"], num_hidden_layers=shape["layers"],
        num_attention_heads=shape["heads"], intermediate_size=shape["intermediate"],
        hidden_dropout_prob=DROPOUT, attention_probs_dropout_prob=DROPOUT)).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, eps=1e-6, weight_decay=0.01, fused=True)
    batch = {name: torch.from_numpy(column.copy()).long() for name, column in make_batch(shape["batch"]).items()}
    rows = (batch["masked_lm_positions"] + LENGTH * torch.arange(shape["batch"])[:, None]).reshape(-1)

    def loss_of_batch():
        encoded = network.bert(input_ids=batch["input_ids"], attention_mask=batch["input_mask"],
                               token_type_ids=batch["segment_ids"])
        # The head sees the masked positions alone, as here; `BertForPreTraining.forward` scores all of them.
        words = network.cls.predictions(encoded.last_hidden_state.reshape(-1, shape["hidden"])[rows])
        pairs = network.cls.seq_relationship(encoded.pooler_output)
        return (cross_entropy(words, batch["masked_lm_ids"].reshape(-1))
                + cross_entropy(pairs, batch["next_sentence_labels"].reshape(-1)))

    def step():
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = loss_of_batch()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    return measure(step, steps, started)


RUNS = {
    "mindspore": run_mindspore,
    "mindspore plain": partial(run_mindspore, plain=True),
    "mindspore bfloat16": partial(run_mindspore, compute_type="bfloat16"),
    "pytorch": run_pytorch,
    "pytorch bfloat16": partial(run_pytorch, autocast=True),
}

if __name__ == "__main__":
    main()
