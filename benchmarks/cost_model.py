"""Predict memory and step time of pre-training, and compare with published figures and with this machine.

    python benchmarks/cost_model.py                          # predictions, and the figures of the model zoo's tables
    python benchmarks/cost_model.py --network large --batch_size 16 --seq_length 512 --devices 8
    python benchmarks/cost_model.py --measure small          # and train here; base needs 5 GB and some minutes

The sizes are those of pretrain_config.yaml. Memory, and the notation, are in `src/training/cost.py`, by which trainings
warn of what does not fit. On CPU MindSpore keeps more: there a multiple of the activations is fitted (`fit_memory`),
and what MindSpore and its compiler take.

Multiply-adds of a forward pass (`forward_products`), each two operations; backward takes twice as many:
    B S L (4 H^2 + 2 H I + 2 S H)  +  B P H (H + V)  +  B (H^2 + 2 H)
of a layer query, key, value and output, the feed-forward block, scores and weighted sums; with relative positions twice
as much for the latter two. Then the masked-LM head at P positions, pooler and next-sentence head.

Seconds of a step (`step_time`) are (operations / peak + bytes moved / memory bandwidth) / efficiency, and the ring
all-reduce of the gradients over n devices, 2 (n - 1) / n x 4 W / link bandwidth; nothing is taken to overlap. Of the
bytes, what is kept for the backward pass counts five times (written and read forward, read backward, its gradient
written and read); of each weight the gradient three times (written, read for the norm, read), weight and moments twice.
The efficiency, the share of both peaks that is reached, is fitted to one line of each table; the others check it.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from src.model_utils.config import Config, load_config  # noqa: E402
from src.training.cost import MOMENTS, Workload, activations, cpu_memory, memory, parameters  # noqa: E402

GB = 1e9


class Device(NamedTuple):
    """A device by its makers' figures, except where `efficiency` was fitted."""

    name: str
    peak: float  # operations per second of matrix products, in the type that is computed in
    memory_bandwidth: float  # bytes per second
    link_bandwidth: float  # bytes per second between two devices of a host, one way
    memory: float  # bytes
    compute_bytes: int  # of a number in compute_type
    efficiency: float = 1.0  # share of peak and memory bandwidth that is reached


# Ascend 910: 256 TFLOPS in float16, 32 GB HBM2 at 1.2 TB/s, 30 GB/s a link. V100 SXM2: 125 TFLOPS (float16 in tensor
# cores) or 15.7 TFLOPS (float32), 900 GB/s, NVLink 150 GB/s one way.
ASCEND = Device("Ascend 910", 256e12, 1200e9, 30e9, 32e9, 2)
V100 = Device("V100 float16", 125e12, 900e9, 150e9, 16e9, 2)
V100_FLOAT32 = Device("V100 float32", 15.7e12, 900e9, 150e9, 16e9, 4)
DEVICES = {"ascend910": ASCEND, "v100": V100, "v100_float32": V100_FLOAT32}


class Published(NamedTuple):
    """A line of the tables of the model zoo's BERT."""

    network: str
    device: Device
    batch_size: int
    optimizer: str
    seconds: float
    source: str


# All with eight devices and sequences of 128 tokens. The first is the one that the efficiency is fitted to. The table
# does not say in which type the GPU computed, so that line is there twice.
PUBLISHED = [
    Published("base", ASCEND, 256, "Lamb", 0.284, "MindSpore 1.3"),
    Published("nezha", ASCEND, 96, "Lamb", 0.320, "MindSpore 1.3"),
    Published("base", ASCEND, 256, "Lamb", 0.340, "MindSpore 0.6"),
    Published("nezha", ASCEND, 96, "Lamb", 0.360, "MindSpore 0.6"),
    Published("base", V100, 32, "AdamWeightDecay", 0.180, "MindSpore 1.3"),
    Published("base", V100_FLOAT32, 32, "AdamWeightDecay", 0.180, "MindSpore 1.3"),
]
SMALL = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 512}
# (batch size, sequence length). The efficiency is fitted to the first, memory to the first two.
MEASURED = {"small": [(32, 128), (8, 128), (64, 64), (8, 512)], "base": [(8, 128), (2, 128), (16, 64), (2, 512)]}


# ---------------------------------------------------------------- the model

def forward_products(run: Workload) -> int:
    """Multiply-adds of the matrix products of one forward pass on one device."""
    net, hidden = run.net, run.net.hidden_size
    attention = 2 * run.seq_length * hidden * (2 if net.use_relative_positions else 1)
    layer = 4 * hidden**2 + 2 * hidden * net.intermediate_size + attention
    encoder = run.batch_size * run.seq_length * net.num_hidden_layers * layer
    words = run.batch_size * run.predictions * hidden * (hidden + net.vocab_size)
    return encoder + words + run.batch_size * (hidden**2 + 2 * hidden)


def step_operations(run: Workload) -> int:
    """Floating point operations of the matrix products of one step on one device."""
    return 6 * forward_products(run)


def bytes_moved(run: Workload, c: int) -> float:
    """Bytes that everything but the matrix products reads and writes in a step, on one device."""
    return 5 * activations(run, c) + 4 * parameters(run.net) * (5 + 2 * MOMENTS[run.optimizer])


def reduce_time(run: Workload, device: Device) -> float:
    """Seconds to add the gradients of all devices up."""
    return 2 * (run.devices - 1) / run.devices * 4 * parameters(run.net) / device.link_bandwidth


def step_time(run: Workload, device: Device) -> float:
    """Seconds of one training step."""
    moving = bytes_moved(run, device.compute_bytes) / device.memory_bandwidth
    return (step_operations(run) / device.peak + moving) / device.efficiency + reduce_time(run, device)


def fit_efficiency(run: Workload, device: Device, seconds: float) -> Device:
    """The device with the efficiency that makes `step_time` of this run what it was."""
    reducing = reduce_time(run, device)
    at_peak = step_time(run, device._replace(efficiency=1.0)) - reducing
    return device._replace(efficiency=at_peak / (seconds - reducing))


# ---------------------------------------------------------------- tables

def main() -> None:
    """Print the predictions that are asked for."""
    options = read_options()
    if options.run:
        print(json.dumps(RUNS[options.run](json.loads(options.case))))
        return
    if options.measure:
        for network in MEASURED if options.measure == "all" else [options.measure]:
            print_measured(network, options.steps, options.optimizer)
        return
    config = load_config("", "pretrain_config.yaml", [])
    fitted = fit_ascend(config)
    if options.network:
        device = DEVICES[options.device]._replace(efficiency=fitted.efficiency)
        print_predictions([(options.network, run_of(config, options))], device)
        return
    print_predictions([(name, published_batch(config, name, devices)) for name in ("base", "nezha", "large")
                       for devices in (1, 8)], fitted)
    print_published(config, fitted.efficiency)


def read_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--network", choices=["base", "nezha", "large", "large_boost"], help="predict this one alone")
    parser.add_argument("--batch_size", type=int, default=0, help="per device; 0 for that of pretrain_config.yaml")
    parser.add_argument("--seq_length", type=int, default=0, help="0 for that of pretrain_config.yaml")
    parser.add_argument("--devices", type=int, default=1, help="devices of one host")
    parser.add_argument("--device", choices=DEVICES, default="ascend910")
    parser.add_argument("--optimizer", choices=MOMENTS, default="Lamb")
    parser.add_argument("--predictions", type=int, default=20, help="masked positions of a sequence")
    parser.add_argument("--measure", choices=[*MEASURED, "all"], help="train on this machine and compare")
    parser.add_argument("--steps", type=int, default=5, help="timed steps of a measurement, after two that are not")
    parser.add_argument("--run", choices=RUNS, help=argparse.SUPPRESS)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    return parser.parse_args()


def run_of(config: Config, options: argparse.Namespace) -> Workload:
    """The run that the options ask for."""
    net = config[f"{options.network}_net_cfg"]
    return Workload(net, options.batch_size or config[f"{options.network}_batch_size"],
               options.seq_length or net.seq_length, options.devices, options.optimizer, options.predictions)


def published_batch(config: Config, network: str, devices: int) -> Workload:
    """A run of a network as configured."""
    net = config[f"{network}_net_cfg"]
    return Workload(net, config[f"{network}_batch_size"], net.seq_length, devices)


def run_of_published(config: Config, line: Published) -> Workload:
    """The run that a line of the tables is about."""
    return Workload(config[f"{line.network}_net_cfg"], line.batch_size, 128, 8, line.optimizer)


def fit_ascend(config: Config) -> Device:
    """The Ascend 910 with the efficiency of the first published line."""
    return fit_efficiency(run_of_published(config, PUBLISHED[0]), ASCEND, PUBLISHED[0].seconds)


def print_predictions(runs: list[tuple[str, Workload]], device: Device) -> None:
    """Print memory and time of some runs on one kind of device."""
    c = device.compute_bytes
    print(f"{device.name}: {device.efficiency:.0%} of {device.peak / 1e12:g} TFLOPS and of "
          f"{device.memory_bandwidth / GB:.0f} GB/s, {device.memory / GB:.0f} GB\n")
    print("| network | weights, M | batch x length x devices | weights, state, gradients, GB | activations, GB | "
          "at most, GB | TFLOP/step | of it all-reduce, ms | ms/step | samples/s |")
    print("|---" * 10 + "|")
    for name, run in runs:
        used = memory(run, c)
        fixed = used["weights"] + used["state"] + used["gradients"] + used["copies"]
        seconds = step_time(run, device)
        fits = "" if used["total"] <= device.memory else " (does not fit)"
        print(f"| {name} | {parameters(run.net) / 1e6:.1f} | {run.batch_size} x {run.seq_length} x {run.devices} | "
              f"{fixed / GB:.1f} | {used['activations'] / GB:.1f} | {used['total'] / GB:.1f}{fits} | "
              f"{step_operations(run) / 1e12:.1f} | {reduce_time(run, device) * 1e3:.0f} | {seconds * 1e3:.0f} | "
              f"{run.batch_size * run.devices / seconds:.0f} |")


def print_published(config: Config, efficiency: float) -> None:
    """Print the tables' lines with the prediction for each."""
    print("\nPublished by others, not measured here; 128 tokens, eight devices. The first line is the one fitted to.\n")
    print("| network | device | version | batch per device | published ms/step | predicted | error |")
    print("|---" * 7 + "|")
    for line in PUBLISHED:
        predicted = step_time(run_of_published(config, line), line.device._replace(efficiency=efficiency))
        print(f"| {line.network} | {line.device.name} | {line.source} | {line.batch_size} | {line.seconds * 1e3:.0f} | "
              f"{predicted * 1e3:.0f} | {predicted / line.seconds - 1:+.0%} |")


def print_measured(network: str, steps: int, optimizer: str) -> None:
    """Train on this machine and print measurement and prediction."""
    speed = in_process("speed", {})
    device = Device("this CPU", speed["matmul"], speed["stream"], 1.0, 0.0, compute_bytes=4)
    results = []
    for batch_size, length in MEASURED[network]:
        case = {"network": network, "batch_size": batch_size, "seq_length": length, "optimizer": optimizer,
                "steps": steps}
        results.append((run_of_case(case), in_process("train", case)))
    run, first = results[0]
    device = fit_efficiency(run, device, statistics.median(first["seconds"]))
    times, base = fit_memory([(run, measured["peak"]) for run, measured in results[:2]])
    print(f"\n{network}, {optimizer}, float32, on this CPU\n"
          f"seconds, fitted to the first line: {device.efficiency:.0%} of {device.peak / 1e9:.0f} GFLOP/s in matrix "
          f"products and of {device.memory_bandwidth / GB:.1f} GB/s in sums, both measured\n"
          f"memory, fitted to the first two lines: {times:.1f} times the activations that are needed, and "
          f"{base / GB:.2f} GB for MindSpore and its compiler ({first['before'] / GB:.2f} GB before)\n")
    print("| batch x length | s/step measured | predicted | error | GB measured | predicted | error |")
    print("|---" * 7 + "|")
    for run, measured in results:
        seconds, predicted = statistics.median(measured["seconds"]), step_time(run, device)
        used, expected = measured["peak"] / GB, cpu_memory(run, times, base) / GB
        print(f"| {run.batch_size} x {run.seq_length} | {seconds:.3f} | {predicted:.3f} | "
              f"{predicted / seconds - 1:+.0%} | {used:.2f} | {expected:.2f} | {expected / used - 1:+.0%} |")


def fit_memory(peaks: list[tuple[Workload, float]]) -> tuple[float, float]:
    """What makes `cpu_memory` of two runs of one network what it was."""
    (one, of_one), (other, of_other) = peaks
    times = (of_one - of_other) / (activations(one, 4) - activations(other, 4))
    return times, of_one - cpu_memory(one, times, 0.0)


# ---------------------------------------------------------------- measurements, each in a process of its own

def in_process(run: str, case: dict) -> dict:
    """Return what a measurement in a process of its own found."""
    done = subprocess.run([sys.executable, __file__, "--run", run, "--case", json.dumps(case)], cwd=ROOT,
                          capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{run} {case} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def config_of_case(case: dict) -> Config:
    """The configuration of a measurement; the small network has the vocabulary of base."""
    sizes = {"seq_length": case["seq_length"], "compute_type": "float32"}
    if case["network"] == "small":
        sizes |= SMALL
    options = {"device_target": "CPU", "optimizer": case["optimizer"], "batch_size": case["batch_size"]}
    options |= {f"base_net_cfg.{name}": value for name, value in sizes.items()}
    return load_config("", "pretrain_config.yaml", [f"--{name}={value}" for name, value in options.items()])


def run_of_case(case: dict) -> Workload:
    """The run that is measured."""
    return Workload(config_of_case(case).base_net_cfg, case["batch_size"], case["seq_length"], 1, case["optimizer"])


def measure_speed(_: dict) -> dict:
    """Operations per second of matrix products, and bytes per second of sums."""
    import mindspore as ms
    from train_step import matmul_flops

    ms.set_context(mode=ms.GRAPH_MODE)  # as in training: single operators keep to one core
    return {"matmul": matmul_flops(), "stream": stream_bytes()}


def stream_bytes() -> float:
    """Bytes per second of x + y on arrays that no cache holds."""
    import time

    import numpy as np
    from mindspore import Tensor, int32, nn

    class Sums(nn.Cell):
        def construct(self, x, y, count):
            while count > 0:
                x = x + y
                count = count - 1
            return x

    sums, size = Sums(), 1 << 25
    x, y = Tensor(np.zeros(size, np.float32)), Tensor(np.ones(size, np.float32))
    seconds = []
    for _ in range(5):
        begin = time.perf_counter()
        sums(x, y, Tensor(5, dtype=int32)).asnumpy()
        seconds.append(time.perf_counter() - begin)
    return 5 * 3 * 4 * size / min(seconds)


def measure_training(case: dict) -> dict:
    """Seconds of each step, and the peak of the process's memory before and after."""
    import time

    import numpy as np
    from mindspore import Tensor

    from src.model_utils.device_adapter import set_up_device
    from src.tasks.pretraining.training import Pretraining
    from src.training.run import build_training_step

    config = config_of_case(case)
    device = set_up_device(config)
    (Tensor(np.zeros(8, np.float32)) + 1.0).asnumpy()
    before = peak_memory()
    step_cell = build_training_step(Pretraining(config, device), device, total_steps=1000)
    batch = [Tensor(column) for column in make_batch(run_of_case(case))]
    seconds = []
    for _ in range(case["steps"] + 2):
        begin = time.perf_counter()
        loss = float(step_cell(*batch)[0].asnumpy())
        seconds.append(time.perf_counter() - begin)
        if not np.isfinite(loss):
            sys.exit(f"the loss became {loss}")
    return {"seconds": seconds[2:], "before": before, "peak": peak_memory()}


def make_batch(run: Workload) -> list:
    """The columns of a batch, in the order in which the network takes them."""
    import numpy as np

    random = np.random.default_rng(0)
    rows, length, vocabulary = run.batch_size, run.seq_length, run.net.vocab_size
    masked = (rows, run.predictions)
    positions = np.stack([np.sort(random.choice(length, run.predictions, replace=False)) for _ in range(rows)])
    segments = np.broadcast_to(np.arange(length) > length // 2, (rows, length))
    return [random.integers(vocabulary, size=(rows, length), dtype=np.int32), np.ones((rows, length), np.int32),
            segments.astype(np.int32), random.integers(2, size=(rows, 1), dtype=np.int32), positions.astype(np.int32),
            random.integers(vocabulary, size=masked, dtype=np.int32), np.ones(masked, np.float32)]


def peak_memory() -> float:
    """The most bytes that this process has had in memory (VmHWM)."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


RUNS = {"speed": measure_speed, "train": measure_training}

if __name__ == "__main__":
    main()
