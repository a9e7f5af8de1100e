"""The whole of pre-training in a few minutes on a CPU, on real English that every machine has, without a download.

    bash scripts/quick_start.sh

Collects the documentation inside Python and its packages, builds a vocabulary, generates records, pre-trains a small
BERT, evaluates it on text it has not seen, and fills in masked words. Each step is one of this repository's commands,
printed before it runs, so that it can be repeated with other text and other sizes.

With a classifier fine-tuned on TNEWS it shows what that makes of five headlines instead:

    python quick_start.py --load_finetune_checkpoint_path output/tnews --vocab_file_path vocab.txt
"""

import argparse
import shlex
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import predict
import pretrain_eval
import run_pretrain
from src.bert_for_pre_training import BertPreTraining
from src.bert_model import BertConfig
from src.checkpoint_files import newest_in
from src.errors import UserError, first_line, run_script
from src.files import atomic_write, make_output_dir
from src.generate_mindrecord import generate_pretrain_mindrecord
from src.generate_mindrecord.corpus import MAX_LINE_CHARACTERS, Corpus, Selection
from src.initialization import undrawn_weights
from src.tasks.pretraining.fill_mask import MaskFiller
from src.tokenization import MASK, FullTokenizer
from src.tools import build_vocab, collect_documentation
from src.weights import load_weights

SENTENCES = (
    "Return the [MASK] of the array elements over the given axis.",
    "If the file does not [MASK], an exception is raised.",
    "The function takes two [MASK] and returns a new list.",
    "This method is called [MASK] the object is created.",
    "The default [MASK] is None.",
)
HEADLINES = (
    "主队终场前攻入制胜一球，提前两轮锁定联赛冠军",
    "新款纯电轿车下月上市，一次充电可行驶六百公里",
    "多所大学公布明年研究生招生计划，网上报名下周开始",
    "悬疑电影上映三天票房过亿，导演讲述拍摄幕后",
    "国产手机发布折叠屏新机，芯片和电池全面升级",
)
# At this size and in minutes, NEZHA's relative positions learn several times faster than absolute ones, wider initial
# weights keep a narrow network from starting blind, and nothing is seen often enough for dropout to help.
NETWORK = {"seq_length": 64, "hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2,
           "intermediate_size": 512, "use_relative_positions": True, "relative_position_kind": "sinusoidal",
           "initializer_range": 0.05, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
BATCH_SIZE = 32
BASE_CONFIG = "task_classifier_cpu_config.yaml"  # of a checkpoint with no configuration beside it
TNEWS_CLASSES = 15
HELD_OUT = 20  # every 20th document is kept for the evaluation


def main(argv: list[str] | None = None) -> None:
    """Run every step, from text to filled-in masks."""
    arguments = parse_arguments(argv)
    if arguments.load_finetune_checkpoint_path:
        classify_headlines(arguments)
        return
    folder = make_output_dir(arguments.output_dir, "--output_dir")
    started = time.monotonic()

    corpus = Path(arguments.text) if arguments.text else folder / "corpus.txt"
    if not arguments.text:
        run(collect_documentation.main, "src/tools/collect_documentation.py", output_file=corpus)
    train_text, eval_text = split_corpus(corpus, folder)
    vocab_file = folder / "vocab.txt"
    run(build_vocab.main, "src/tools/build_vocab.py", input_file=train_text, output_file=vocab_file,
        vocab_size=arguments.vocab_size)
    for name, text, duplicates in (("train", train_text, 4), ("eval", eval_text, 1)):
        run(generate_pretrain_mindrecord.main, "src/generate_mindrecord/generate_pretrain_mindrecord.py",
            input_file=text, output_file=make_output_dir(folder / name, "--output_dir") / f"{name}.mindrecord",
            vocab_file=vocab_file, max_seq_length=NETWORK["seq_length"], max_predictions_per_seq=10,
            dupe_factor=duplicates)

    network = NETWORK | {"vocab_size": arguments.vocab_size}
    sizes = {f"base_net_cfg.{key}": str(value).lower() for key, value in network.items()}
    checkpoints = make_output_dir(folder / "checkpoints", "--output_dir")
    run(run_pretrain.main, "run_pretrain.py", device_target="CPU", data_dir=folder / "train",
        vocab_file_path=vocab_file, save_checkpoint_path=checkpoints, overwrite="true", batch_size=BATCH_SIZE,
        train_steps=arguments.train_steps, optimizer="Lamb",
        **{"Lamb.learning_rate": arguments.learning_rate, "Lamb.warmup_steps": arguments.train_steps // 25,
           "Lamb.power": 1, "Lamb.beta1": 0.9, "Lamb.eps": 1e-6}, enable_lossscale="false", log_steps=50, **sizes)
    newest = newest_in(checkpoints)
    run(pretrain_eval.main, "pretrain_eval.py", device_target="CPU", eval_data_dir=folder / "eval",
        eval_ckpt=newest.path, batch_size=BATCH_SIZE, **sizes)

    tokenizer = FullTokenizer(vocab_file, never_split=[MASK])
    sentences = masked_sentences(eval_text, tokenizer) if arguments.text else SENTENCES
    show_masks(BertConfig(**network), newest.path, tokenizer, sentences)
    print(f"\n{folder} holds the vocabulary, the records, the checkpoint {newest.path.name} and the loss curve "
          f"{checkpoints / 'loss.png'}; all of it took {time.monotonic() - started:.0f} s")


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=first_line(__doc__))
    parser.add_argument("--output_dir", default="output/quick_start", help="where everything is written")
    parser.add_argument("--text", help="a text of your own in place of the collected documentation: a book, or one "
                                       "sentence a line and a blank line between documents")
    parser.add_argument("--vocab_size", type=int, default=4000, help="tokens of the vocabulary")
    parser.add_argument("--train_steps", type=int, default=2000,
                        help=f"optimizer steps of {BATCH_SIZE} samples")
    parser.add_argument("--learning_rate", type=float, default=0.006, help="highest learning rate of LAMB")
    finetuned = parser.add_argument_group("headlines, by a classifier fine-tuned on TNEWS")
    finetuned.add_argument("--load_finetune_checkpoint_path", help="the checkpoint, or the directory of its training")
    finetuned.add_argument("--vocab_file_path", help="vocab.txt that the records were made with")
    finetuned.add_argument("--label_file_path", help="names of the classes, one a line")
    finetuned.add_argument("--config_path", help="configuration of the classifier; by default the one that the "
                                                 "training wrote beside the checkpoint")
    return parser.parse_args(argv)


def classify_headlines(arguments: argparse.Namespace) -> None:
    """Print the class of five headlines, by predict.py."""
    checkpoint = Path(arguments.load_finetune_checkpoint_path)
    beside = (checkpoint if checkpoint.is_dir() else checkpoint.parent) / "classifier_config.yaml"
    argv = ["--config_path", arguments.config_path or (str(beside) if beside.is_file() else BASE_CONFIG)]
    if argv[-1] == BASE_CONFIG:
        argv += ["--num_class", str(TNEWS_CLASSES)]
    for option in ("load_finetune_checkpoint_path", "vocab_file_path", "label_file_path"):
        if getattr(arguments, option):
            argv += [f"--{option}", getattr(arguments, option)]
    print(f"$ python predict.py {shlex.join(argv)} --text ...", flush=True)
    predict.main([*argv, *(part for headline in HEADLINES for part in ("--text", headline))])


def run(command: Callable[[list[str]], object], script: str, **options: object) -> None:
    """Print a command as the user would type it, and run it in this process, which spares the start of another."""
    argv = [part for key, value in options.items() for part in (f"--{key}", str(value))]
    print(f"\n$ python {script} {shlex.join(argv)}", flush=True)
    command(argv)


def split_corpus(corpus: Path, folder: Path) -> tuple[Path, Path]:
    """Write the documents of `corpus` to two files, for training and for evaluation."""
    paths = folder / "train.txt", folder / "eval.txt"
    for path, held_out in zip(paths, (False, True), strict=True):
        text = Corpus([corpus], MAX_LINE_CHARACTERS, selection=Selection(HELD_OUT, held_out), option="--text")
        documents = ["\n".join(sentences) for sentences in text.documents()]
        if text.num_documents < HELD_OUT:
            raise UserError(f"--text: {corpus} has {text.num_documents} documents, expected at least {HELD_OUT}; "
                            f"separate documents by blank lines")
        if not held_out:
            generate_pretrain_mindrecord.print_notes(text)
        with atomic_write(path) as temporary:
            temporary.write_text("\n\n".join(documents) + "\n", encoding="utf-8")
    return paths


def masked_sentences(text: Path, tokenizer: FullTokenizer, count: int = 5) -> list[str]:
    """The first sentences of a fitting length, each with its middle token masked."""
    sentences = []
    with text.open(encoding="utf-8") as lines:
        for line in map(str.strip, lines):
            if len(sentences) == count:
                break
            tokens = tokenizer.tokenize_with_offsets(line)
            if 8 <= len(tokens) <= NETWORK["seq_length"] - 2:
                _, start, end = tokens[len(tokens) // 2]
                sentences.append(f"{line[:start]}{MASK}{line[end:]}")
    return sentences


def show_masks(config: BertConfig, checkpoint: Path, tokenizer: FullTokenizer, sentences: Sequence[str]) -> None:
    """Print what the trained network puts in place of [MASK]."""
    with undrawn_weights():
        network = BertPreTraining(config, is_training=False)
    load_weights(network, checkpoint)
    filler = MaskFiller(network, tokenizer, config.seq_length)
    print()
    for sentence in sentences:
        guesses = ", ".join(f"{guess.token} {guess.probability:.2f}" for guess in filler.fill(sentence)[0])
        print(f"{sentence}\n    {guesses}")


if __name__ == "__main__":
    run_script(main)
