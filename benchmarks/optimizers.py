"""Compare THOR with LAMB and AdamWeightDecay: the same small pre-training, the same budget of tuning for each, on CPU.

    python benchmarks/optimizers.py

Real English that every machine has (the documentation inside Python and its packages), the network of quick_start.py:
2 layers, 128 wide, 64 tokens, 32 records a step. Every optimizer runs with each of five learning rates; warm-up, linear
decay, weight decay, clipping, seed and the order of the records are the same for all. The target is the highest
held-out masked accuracy, in whole percent, that all of them reach; the learning rate that reaches it first counts.
Seconds are those of the steps alone, without compilation and evaluation; processor seconds say what they cost where
other programs run too. Runs that are already in the file of results are not repeated.
"""

import argparse
import json
import math
import statistics
import sys
import time
from pathlib import Path

import mindspore as ms
from mindspore import Tensor, nn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import quick_start  # noqa: E402
from src.bert_for_pre_training import BertNetworkWithLoss, BertPretrainEval, initialize_parameters  # noqa: E402
from src.bert_model import BertConfig  # noqa: E402
from src.dataset import PRETRAIN_TYPES, BatchStream, EvaluationBatches  # noqa: E402
from src.errors import run_script  # noqa: E402
from src.files import make_output_dir  # noqa: E402
from src.generate_mindrecord import generate_pretrain_mindrecord  # noqa: E402
from src.records.reader import open_records  # noqa: E402
from src.tasks.pretraining.task import evaluate  # noqa: E402
from src.tools import build_vocab, collect_documentation  # noqa: E402
from src.training.create_optimizer import create_optimizer  # noqa: E402
from src.training.train_step import TrainStep  # noqa: E402

VOCAB_SIZE = 4000
SCHEDULE = {"end_learning_rate": 0.0, "power": 1.0, "weight_decay": 0.01}
OPTIMIZERS = {  # settings and the learning rates that are tried
    "Lamb": ({"beta1": 0.9, "beta2": 0.999, "eps": 1e-6}, (1.5e-3, 3e-3, 6e-3, 1.2e-2, 2.4e-2)),
    "AdamWeightDecay": ({"beta1": 0.9, "beta2": 0.999, "eps": 1e-6}, (1.25e-4, 2.5e-4, 5e-4, 7e-4, 1e-3)),
    "Thor": ({"momentum": 0.9, "beta2": 0.999, "eps": 1e-6, "damping": 0.1, "end_damping": 0.01, "damping_power": 4.0,
              "frequency": 20}, (5e-4, 1e-3, 2e-3, 4e-3, 8e-3)),
}


def main(argv: list[str] | None = None) -> None:
    """Make the records, run what is not in the results yet, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output_dir", default="output/optimizers", help="records and results; both are used again")
    parser.add_argument("--steps", type=int, default=500, help="steps of each run")
    parser.add_argument("--eval_steps", type=int, default=25, help="steps between two evaluations")
    parser.add_argument("--optimizers", nargs="+", choices=list(OPTIMIZERS), default=list(OPTIMIZERS))
    parser.add_argument("--target", type=float, help="masked accuracy to reach, such as 0.3")
    options = parser.parse_args(argv)
    ms.set_context(mode=ms.GRAPH_MODE)
    folder = make_output_dir(options.output_dir, "--output_dir")
    make_records(folder)
    results_file = folder / f"results_{options.steps}.jsonl"
    for name in options.optimizers:
        done = {result["learning_rate"] for result in read_results(results_file) if result["optimizer"] == name}
        for rate in OPTIMIZERS[name][1]:
            if rate in done:
                continue
            result = train(name, rate, folder, options)
            with results_file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(result) + "\n")
    report(read_results(results_file), options.target)


def make_records(folder: Path) -> None:
    """Records for training and evaluation, as quick_start.py makes them."""
    if (folder / "eval" / "eval.mindrecord").exists():
        return
    corpus, vocab_file = folder / "corpus.txt", folder / "vocab.txt"
    collect_documentation.collect_documentation(corpus)
    texts = dict(zip(("train", "eval"), quick_start.split_corpus(corpus, folder), strict=True))
    quick_start.run(build_vocab.main, "src/tools/build_vocab.py", input_file=texts["train"], output_file=vocab_file,
                    vocab_size=VOCAB_SIZE)
    for name, text in texts.items():
        quick_start.run(
            generate_pretrain_mindrecord.main, "src/generate_mindrecord/generate_pretrain_mindrecord.py",
            input_file=text, output_file=make_output_dir(folder / name, "--output_dir") / f"{name}.mindrecord",
            vocab_file=vocab_file, max_seq_length=quick_start.NETWORK["seq_length"], max_predictions_per_seq=10,
            dupe_factor=4 if name == "train" else 1)


def train(name: str, rate: float, folder: Path, options: argparse.Namespace) -> dict:
    """Train from the start; return the accuracies on the way and what a step took."""
    config = BertConfig(vocab_size=VOCAB_SIZE, **quick_start.NETWORK)
    network, scored = BertNetworkWithLoss(config, is_training=True), BertPretrainEval(config)
    initialize_parameters(network, config.initializer_range, seed=0)
    group = OPTIMIZERS[name][0] | SCHEDULE | {"learning_rate": rate, "warmup_steps": options.steps // 10}
    step = TrainStep(network, create_optimizer(name, network, group, options.steps))
    records, held_out = (open_records(folder / part, "mindrecord", PRETRAIN_TYPES) for part in ("train", "eval"))
    batches = EvaluationBatches(held_out, 64)
    seconds, processor, curve = [], [], []
    for number, columns in enumerate(BatchStream(records, quick_start.BATCH_SIZE, options.steps, seed=0), start=1):
        begin = time.perf_counter(), time.process_time()
        loss = float(step(*map(Tensor, columns))[0].asnumpy())
        seconds.append(time.perf_counter() - begin[0])
        processor.append(time.process_time() - begin[1])
        if number % options.eval_steps == 0:
            curve.append((number, accuracy_of(network, scored, batches)))
            print(f"{name} {rate:g}: step {number} of {options.steps}, loss {loss:.3f}, held-out masked accuracy "
                  f"{curve[-1][1]:.4f}, {statistics.median(seconds):.4f} s/step", flush=True)
        if not math.isfinite(loss):
            print(f"{name} {rate:g}: diverged at step {number}", flush=True)
            break
    # The first steps hold the compilation.
    return {"optimizer": name, "learning_rate": rate, "seconds_per_step": statistics.mean(seconds[2:]),
            "processor_seconds_per_step": statistics.mean(processor[2:]), "curve": curve}


def accuracy_of(network: nn.Cell, scored: BertPretrainEval, batches: EvaluationBatches) -> float:
    """Masked accuracy of the network's weights on the held-out records."""
    weights = {parameter.name: parameter for parameter in network.get_parameters()}
    for parameter in scored.get_parameters():
        parameter.set_data(Tensor(weights[parameter.name].asnumpy()))
    return evaluate(scored, batches).results()["masked_lm_accuracy"]


def read_results(results_file: Path) -> list[dict]:
    """The results of all runs so far."""
    if not results_file.exists():
        return []
    return [json.loads(line) for line in results_file.read_text(encoding="utf-8").splitlines()]


def steps_to(result: dict, target: float) -> float:
    """The first evaluated step at which the run had reached `target`; infinite if it never did."""
    return next((step for step, accuracy in result["curve"] if accuracy >= target), math.inf)


def best_accuracy(result: dict) -> float:
    """The highest accuracy of a run."""
    return max((accuracy for _, accuracy in result["curve"]), default=0.0)


def report(results: list[dict], target: float | None) -> None:
    """Print every run, and of each optimizer the one that reaches the target first."""
    by_name = {name: [result for result in results if result["optimizer"] == name] for name in OPTIMIZERS}
    by_name = {name: runs for name, runs in by_name.items() if runs}
    if target is None:
        target = math.floor(100 * min(max(map(best_accuracy, runs)) for runs in by_name.values())) / 100
    print(f"\n{'optimizer':16} {'learning rate':>13} {'best accuracy':>13} {f'steps to {target:g}':>14}")
    for result in results:
        print(f"{result['optimizer']:16} {result['learning_rate']:13g} {best_accuracy(result):13.4f} "
              f"{steps_to(result, target):14g}")
    print(f"\n{'optimizer':16} {'learning rate':>13} {'steps':>6} {'s/step':>8} {'s to target':>12} "
          f"{'processor s/step':>17} {'processor s':>12}")
    for name, runs in by_name.items():
        best = min(runs, key=lambda result: (steps_to(result, target), -best_accuracy(result)))
        steps = steps_to(best, target)
        wall, processor = best["seconds_per_step"], best["processor_seconds_per_step"]
        print(f"{name:16} {best['learning_rate']:13g} {steps:6g} {wall:8.4f} {steps * wall:12.1f} {processor:17.4f} "
              f"{steps * processor:12.1f}")


if __name__ == "__main__":
    run_script(main)
