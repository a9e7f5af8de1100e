"""Time fine-tuning of BERT-base, or its evaluation, against PyTorch with transformers doing the same work, on CPU.

    python benchmarks/finetune.py --task classifier --records train.mindrecord --batch_size 8
    python benchmarks/finetune.py --task squad --records train.mindrecord --vocab_size 30522 --batch_size 4
    python benchmarks/finetune.py --task squad --records train.mindrecord --vocab_size 30522 --evaluate

The same records in the same batches, each run in a process of its own, by turns: ours at full length, cut to the
longest sentence of each batch ("trim"), and with batches of similar length ("group"); PyTorch at full length and cut to
the longest. Forward, backward, clipping to a global norm of 1, AdamW, dropout 0.1, float32; with --evaluate forward
alone. One batch of each length is computed before the clock starts. PyTorch runs as a user finds it: eager,
scaled-dot-product attention, erf GELU, fused AdamW.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

SIZES = {"base": (12, 768, 12, 3072), "small": (4, 256, 4, 1024)}  # layers, width, heads, intermediate
COLUMNS = {"classifier": ("input_ids", "input_mask", "segment_ids", "label_ids"),
           "squad": ("input_ids", "input_mask", "segment_ids", "start_positions", "end_positions")}
RUNS = ("ours none", "pytorch none", "ours trim", "pytorch trim", "ours group")
RUN_LENGTH = 5000  # steps of the training that the timed ones stand for: decides how many lengths are worth a graph


def main():
    """Run everything by turns and print the table, or be one of the runs."""
    options = parse_arguments()
    if options.run:
        print(json.dumps(measure(options)))
        return
    results = {run: [] for run in options.runs.split(",")}
    for _ in range(options.rounds):
        for run, runs in results.items():
            runs.append(run_in_process(run))
    what = "evaluation" if options.evaluate else "training"
    print(f"\n{options.task}, {options.network}, {what}, batch {options.batch_size}, {options.steps} steps")
    print(f"{'':14} {'samples/s':>10} {'mean length':>12} {'peak GB':>8} {'s to first step':>16}")
    for run, runs in results.items():
        print(f"{run:14} {statistics.median(r['rate'] for r in runs):10.2f} {runs[0]['mean_length']:12.1f} "
              f"{max(r['peak_gb'] for r in runs):8.2f} {statistics.median(r['first_step'] for r in runs):16.1f}",
              flush=True)


def parse_arguments():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--task", choices=list(COLUMNS), default="classifier")
    parser.add_argument("--records", required=True, help="MindRecord file of the task's training records")
    parser.add_argument("--network", choices=list(SIZES), default="base")
    parser.add_argument("--vocab_size", type=int, default=21128)
    parser.add_argument("--num_class", type=int, default=15)
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--steps", type=int, default=8, help="timed batches in each process")
    parser.add_argument("--rounds", type=int, default=2, help="processes of each kind")
    parser.add_argument("--runs", default=",".join(RUNS), help="which kinds")
    parser.add_argument("--evaluate", action="store_true", help="forward alone")
    parser.add_argument("--run", choices=RUNS, help=argparse.SUPPRESS)
    parser.add_argument("--started", type=float, help=argparse.SUPPRESS)
    return parser.parse_args()


def run_in_process(run):
    """Return what one run in a process of its own measured."""
    command = [sys.executable, __file__, *sys.argv[1:], "--run", run, "--started", repr(time.time())]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{run} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(options):
    """Time the batches; the step returns a number, so that nothing is left undone."""
    framework, grouping = options.run.split()
    batches = read_batches(options, grouping)
    step = (our_step if framework == "ours" else pytorch_step)(options)
    first_step = None
    for batch in {batch[0].shape: batch for batch in batches}.values():
        step(batch)
        first_step = first_step or time.time() - options.started
    begin = time.perf_counter()
    for batch in batches:
        step(batch)
    seconds = time.perf_counter() - begin
    return {"rate": len(batches) * options.batch_size / seconds, "first_step": first_step,
            "mean_length": sum(batch[0].shape[1] for batch in batches) / len(batches),
            "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6}


def read_batches(options, grouping):
    """Return the first batches of a long training."""
    from src.dataset import BatchStream, Bucketing, open_records

    records = open_records(options.records, "mindrecord", dict.fromkeys(COLUMNS[options.task], "int32"))
    stream = BatchStream(records, options.batch_size, RUN_LENGTH, seed=0, bucketing=Bucketing(length_grouping=grouping))
    return list(islice(stream, options.steps))


def our_step(options):
    """Return a function that trains on, or evaluates, one batch."""
    import mindspore as ms
    from mindspore import Tensor

    from src.bert_for_finetune import BertCLS, BertSquad
    from src.bert_for_pre_training import initialize_parameters
    from src.bert_model import BertConfig
    from src.training.create_optimizer import create_optimizer
    from src.training.train_step import TrainStep

    ms.set_context(mode=ms.GRAPH_MODE)
    layers, width, heads, intermediate = SIZES[options.network]
    config = BertConfig(vocab_size=options.vocab_size, hidden_size=width, num_hidden_layers=layers,
                        num_attention_heads=heads, intermediate_size=intermediate, type_vocab_size=2)
    is_training = not options.evaluate
    network = (BertCLS(config, is_training, options.num_class, 0.1) if options.task == "classifier"
               else BertSquad(config, is_training))
    initialize_parameters(network, 0.02, seed=0)
    if options.evaluate:
        encoder = network.bert.set_train(False)

        def evaluate(batch):
            outputs = encoder(*map(Tensor, batch[:3]))
            (outputs if options.task == "classifier" else outputs[0]).asnumpy()

        return evaluate
    group = {"learning_rate": 2e-5, "weight_decay": 0.01, "bias_correction": True}
    step_cell = TrainStep(network, create_optimizer("AdamWeightDecay", network, group, total_steps=1000))
    return lambda batch: float(step_cell(*map(Tensor, batch))[0].asnumpy())


def pytorch_step(options):
    """Return a function that trains on, or evaluates, one batch."""
    import torch
    from transformers import BertConfig, BertForQuestionAnswering, BertForSequenceClassification

    layers, width, heads, intermediate = SIZES[options.network]
    config = BertConfig(vocab_size=options.vocab_size, hidden_size=width, num_hidden_layers=layers,
                        num_attention_heads=heads, intermediate_size=intermediate, num_labels=options.num_class)
    if options.task == "squad":
        config.num_labels = 2
    network = (BertForSequenceClassification if options.task == "classifier" else BertForQuestionAnswering)(config)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-5, eps=1e-6, weight_decay=0.01, fused=True)
    network.train(not options.evaluate)

    def step(batch):
        ids, mask, segments, *labels = (torch.from_numpy(column).long() for column in batch)
        inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": segments}
        if options.evaluate:
            with torch.no_grad():
                return network(**inputs)[0].sum().item()
        names = ("labels",) if options.task == "classifier" else ("start_positions", "end_positions")
        loss = network(**inputs, **{name: label[:, 0] for name, label in zip(names, labels, strict=True)}).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    return step


if __name__ == "__main__":
    main()
