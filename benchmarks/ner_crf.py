"""What a CRF costs in training named-entity recognition: samples/s with it against without, and time to compile.

    python benchmarks/ner_crf.py                                   # the small network at three lengths
    python benchmarks/ner_crf.py --network base --batch_size 8 --lengths 128

CLUENER's 41 tags, AdamW, clipping to a global norm of 1, dropout 0.1, float32. Each length has a process of its own, in
which steps with and without the CRF alternate, so that other work on the machine hits both alike. The time to compile
is that of the first step less that of a later one.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

SIZES = {"base": (12, 768, 12, 3072), "small": (4, 256, 4, 1024), "tiny": (2, 128, 2, 512)}  # layers, width, heads, ...
TAGS, VOCABULARY = 41, 21128
KINDS = {"without": False, "with": True}


def main():
    """Print the table, or be the run of one length."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--network", choices=list(SIZES), default="small")
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--lengths", default="32,128,512")
    parser.add_argument("--steps", type=int, default=10, help="timed steps of each kind, after two that are not")
    parser.add_argument("--run", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        print(json.dumps(measure(options)))
        return
    print(f"{options.network}, batch {options.batch_size}\n{'length':>6} {'samples/s without, with CRF':>28} "
          f"{'ratio':>6} {'compile without, with CRF':>26}")
    for length in options.lengths.split(","):
        done = subprocess.run([sys.executable, __file__, *sys.argv[1:], "--run", length], cwd=ROOT, capture_output=True,
                              text=True)
        if done.returncode:
            sys.exit(done.stderr)
        steps, compilation = json.loads(done.stdout.splitlines()[-1])
        rates = [options.batch_size / steps[kind] for kind in KINDS]
        print(f"{length:>6} {rates[0]:14.2f} {rates[1]:13.2f} {rates[1] / rates[0]:6.2f} "
              f"{compilation['without']:12.1f} s {compilation['with']:11.1f} s", flush=True)


def measure(options):
    """Seconds of a step and of the compilation, for each kind."""
    cells = {kind: training_step(options, use_crf) for kind, use_crf in KINDS.items()}
    columns = batch(options.batch_size, options.run)
    compilation = {kind: compiled(cell, columns) for kind, cell in cells.items()}
    for cell in [*cells.values()] * 2:
        timed(cell, columns)
    later = {kind: [] for kind in KINDS}
    for _ in range(options.steps):
        for kind, cell in cells.items():
            later[kind].append(timed(cell, columns))
    steps = {kind: statistics.median(times) for kind, times in later.items()}
    return steps, compilation


def compiled(cell, columns):
    """Compile the graph of a step; return the processor's seconds."""
    from mindspore import Tensor

    started = time.process_time()
    cell.compile(*map(Tensor, columns))
    return time.process_time() - started


def timed(cell, columns):
    """Seconds until the loss of one step is there."""
    from mindspore import Tensor

    started = time.perf_counter()
    loss = float(cell(*map(Tensor, columns))[0].asnumpy())
    assert np.isfinite(loss)
    return time.perf_counter() - started


def training_step(options, use_crf):
    """The step that trains."""
    import mindspore as ms

    from src.bert_for_finetune import BertNER
    from src.bert_for_pre_training import initialize_parameters
    from src.bert_model import BertConfig
    from src.training.create_optimizer import create_optimizer
    from src.training.train_step import TrainStep

    ms.set_context(mode=ms.GRAPH_MODE)
    layers, width, heads, intermediate = SIZES[options.network]
    config = BertConfig(vocab_size=VOCABULARY, hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads,
                        intermediate_size=intermediate, type_vocab_size=2)
    network = BertNER(config, True, TAGS, use_crf, dropout_prob=0.1)
    initialize_parameters(network, 0.02, seed=0)
    group = {"learning_rate": 2e-5, "weight_decay": 0.01}
    return TrainStep(network, create_optimizer("AdamWeightDecay", network, group, total_steps=1000))


def batch(batch_size, length):
    """Ids, mask, segments and labels of random sentences, the longest of full length."""
    generator = np.random.default_rng(0)
    lengths = generator.integers(length // 2, length + 1, (batch_size, 1))
    lengths[0] = length
    mask = (np.arange(length) < lengths).astype(np.int32)
    ids = generator.integers(1, VOCABULARY, mask.shape).astype(np.int32) * mask
    return ids, mask, np.zeros_like(mask), generator.integers(0, TAGS, mask.shape).astype(np.int32) * mask


if __name__ == "__main__":
    main()
