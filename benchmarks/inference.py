"""How fast an exported classifier answers: MINDIR in Python, the C++ program, ONNX Runtime, also in int8, and PyTorch.

    python benchmarks/inference.py                     # BERT-base, batch 1 and 8, length 128
    python benchmarks/inference.py --network tiny --runs 5
    python benchmarks/inference.py --ways onnx int8 pytorch --pytorch_python ../torch/bin/python

Random weights, float32 but for the int8 model. Every figure is of a process of its own: the seconds from its start to
the first answer, and the median of the runs after it. The processes of all ways alternate, and the best of the rounds
counts, so that other work on the machine hits all alike. The last column compares with PyTorch. The C++ program must
have been built, see ascend310_infer/build.sh.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

SIZES = {"base": (12, 768, 12, 3072), "tiny": (2, 128, 2, 512)}  # layers, width, heads, width of the feed-forward
VOCABULARY, CLASSES = 21128, 15
WAYS = {"mindir": "MINDIR in Python", "cpp": "C++ program", "onnx": "ONNX Runtime", "int8": "ONNX Runtime, int8",
        "pytorch": "PyTorch eager"}


def main():
    """Print the table, or be the run of one way."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--network", choices=list(SIZES), default="base")
    parser.add_argument("--batch_sizes", default="1,8")
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--runs", type=int, default=20, help="timed runs after the first")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--program", default=str(ROOT / "ascend310_infer" / "out" / "main"))
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS), help="what takes turns")
    parser.add_argument("--pytorch_python", default=sys.executable, help="the Python that has PyTorch")
    parser.add_argument("--run", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--place", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        run_in_python(options, options.run[0], int(options.run[1]))
        return
    with tempfile.TemporaryDirectory() as place:
        options.place = place
        export_models(options)
        print(f"{options.network}, length {options.length}\n{'':>18} {'batch':>5} {'first answer':>12} "
              f"{'ms a run':>9} {'samples/s':>9} {'x PyTorch':>9}")
        for batch_size in map(int, options.batch_sizes.split(",")):
            write_inputs(options, batch_size)
            rounds = [[measure(options, way, batch_size) for way in options.ways] for _ in range(options.rounds)]
            best = {way: tuple(map(min, zip(*of_rounds, strict=True)))
                    for way, of_rounds in zip(options.ways, zip(*rounds, strict=True), strict=True)}
            for way, (first, median) in best.items():
                ratio = f"{best['pytorch'][1] / median:>9.2f}" if "pytorch" in best else ""
                print(f"{WAYS[way]:>18} {batch_size:>5} {first:>10.2f} s {1000 * median:>9.1f} "
                      f"{batch_size / median:>9.1f} {ratio}", flush=True)


def export_models(options):
    """Write one classifier with random weights in every form."""
    import export
    from src.bert_for_pre_training import initialize_parameters
    from src.tasks.registry import load_task_config, task_type
    from src.weights import save_weights

    layers, width, heads, inner = SIZES[options.network]
    network = {"seq_length": options.length, "vocab_size": VOCABULARY, "hidden_size": width,
               "num_hidden_layers": layers, "num_attention_heads": heads, "intermediate_size": inner,
               "compute_type": "float32"}
    command = ["--description=run_classifier", "--device_target=CPU", f"--num_class={CLASSES}", "--export_batch_size=0",
               f"--export_ckpt_file={options.place}/a.ckpt",
               *(f"--bert_net_cfg.{key}={value}" for key, value in network.items())]
    config = load_task_config("", command)
    cell = task_type("run_classifier").from_config(config).inference_network()
    initialize_parameters(cell, 0.02, seed=0)
    save_weights(cell, Path(options.place, "a.ckpt"))
    for name, words in (("bert.mindir", ["MINDIR"]), ("bert.onnx", ["ONNX"]),
                        ("int8.onnx", ["ONNX", "--quantization=int8"])):
        export.main([*command, f"--export_file_name={options.place}/{name}", "--file_format", *words])


def batch(options, batch_size):
    """Ids, mask and segments [B,S] of full sequences."""
    ids = np.random.default_rng(0).integers(0, VOCABULARY, (batch_size, options.length), np.int32)
    return ids, np.ones_like(ids), np.zeros_like(ids)


def write_inputs(options, batch_size):
    """Files of one batch in `first`, of all runs in `all`, for the C++ program."""
    for name, count in (("first", 1), ("all", options.runs + 1)):
        for number, values in enumerate(batch(options, batch_size)):
            folder = Path(options.place, f"{name}{batch_size}", f"{number:02d}_data")
            folder.mkdir(parents=True)
            for index in range(count):
                values.tofile(folder / f"{index}.bin")


def measure(options, way, batch_size):
    """(seconds from the start of a process to its first answer, median seconds of the later runs)."""
    begin = time.perf_counter()
    start(options, way, batch_size, "first", 0)
    first = time.perf_counter() - begin
    output = start(options, way, batch_size, "all", options.runs)
    if way == "cpp":
        return first, float(re.search(r"p50 ([\d.]+) ms", output)[1]) / 1000
    return first, json.loads(output.splitlines()[-1])


def start(options, way, batch_size, files, runs):
    """Run one way in a process of its own; return what it printed."""
    python = options.pytorch_python if way == "pytorch" else sys.executable
    command = [python, __file__, "--run", way, str(batch_size), "--runs", str(runs), "--length",
               str(options.length), "--network", options.network, "--place", options.place]
    if way == "cpp":
        command = [options.program, "--device_type", "CPU", "--model_path", f"{options.place}/bert.mindir",
                   "--input_path", f"{options.place}/{files}{batch_size}", "--result_path", f"{options.place}/results",
                   "--time_path", f"{options.place}/times"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"GLOG_v": "3"})
    if done.returncode:
        sys.exit(f"{way}: {done.stderr}")
    return done.stdout


def run_in_python(options, way, batch_size):
    """Print the median seconds of a run."""
    columns = batch(options, batch_size)
    answer = {"mindir": mindir, "onnx": partial(onnx, model="bert.onnx"), "int8": partial(onnx, model="int8.onnx"),
              "pytorch": torch_eager}[way](options)
    answer(columns)
    times = []
    for _ in range(options.runs):
        begin = time.perf_counter()
        answer(columns)
        times.append(time.perf_counter() - begin)
    print(json.dumps(float(np.median(times)) if times else 0.0))


def mindir(options):
    """A function from the columns to the logits."""
    import mindspore as ms

    ms.set_device("CPU")
    graph = ms.nn.GraphCell(ms.load(f"{options.place}/bert.mindir"))
    return lambda columns: graph(*map(ms.Tensor, columns)).asnumpy()


def onnx(options, model):
    """A function from the columns to the logits."""
    import onnxruntime

    session = onnxruntime.InferenceSession(f"{options.place}/{model}", providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    return lambda columns: session.run(None, {name: column.astype("int64")
                                              for name, column in zip(names, columns, strict=True)})


def torch_eager(options):
    """A function from the columns to the logits."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    layers, width, heads, inner = SIZES[options.network]
    network = BertForSequenceClassification(BertConfig(
        vocab_size=VOCABULARY, hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads,
        intermediate_size=inner, num_labels=CLASSES)).eval()

    def answer(columns):
        with torch.inference_mode():
            return network(*(torch.from_numpy(values).long() for values in columns)).logits.numpy()
    return answer


if __name__ == "__main__":
    main()
