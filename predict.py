"""Predict on new text with a fine-tuned network; the configuration says which task it is for.

    python predict.py --config_path output/tnews/classifier_config.yaml --load_finetune_checkpoint_path output/tnews \\
        --vocab_file_path vocab.txt --text "A sentence." --text "Another."

`classifier_config.yaml` was written by the training beside its checkpoints; a task_*_config.yaml does as well.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TextIO

from src.errors import UserError, first_line, run_script
from src.files import atomic_write, check_output
from src.inference.predictor import create_predictor
from src.inference.texts import read_items
from src.model_utils.device_adapter import set_up_device
from src.tasks.registry import load_task_config

ITEMS_AT_ONCE = 1024


def main(argv: list[str] | None = None) -> None:
    """Read the texts, predict, and write one JSON object a line."""
    arguments, options = parse_arguments(argv)
    config = load_task_config("Predict on new text with a fine-tuned network.", options)
    if not (arguments.text or arguments.input_file):
        raise UserError("nothing to predict; give --text TEXT, or --input_file FILE (- for standard input)")
    if arguments.output_file:
        check_output(arguments.output_file, "--output_file")
    set_up_device(config)
    predictor = create_predictor(config, Path(arguments.model) if arguments.model else None)
    with open_output(arguments.output_file) as output:
        items = all_items(arguments, predictor.fields)
        while some := list(islice(items, ITEMS_AT_ONCE)):
            for result in predictor.predict(some):
                output.write(json.dumps(result, ensure_ascii=False) + "\n")
            output.flush()


@contextmanager
def open_output(path: str | None) -> Iterator[TextIO]:
    """The file that the results go to, whole or not at all; without a path standard output."""
    if not path:
        yield sys.stdout
        return
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        yield file


def parse_arguments(argv: list[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """Split the command line into what this script reads itself and the keys of the configuration."""
    parser = argparse.ArgumentParser(
        description=first_line(__doc__), allow_abbrev=False,
        epilog="All other options are keys of the task's configuration, such as --load_finetune_checkpoint_path, "
               "--vocab_file_path, --label_file_path and --eval_batch_size.")
    parser.add_argument("--text", action="append", default=[],
                        help="a text; may be repeated; a tab separates the texts of a pair")
    parser.add_argument("--input_file", help="a text or a JSON object a line; - reads standard input")
    parser.add_argument("--model", metavar="FILE", help="an exported .onnx or .mindir model to compute with, in place "
                                                        "of --load_finetune_checkpoint_path")
    parser.add_argument("--output_file", help="where the JSON lines go; without it to standard output")
    return parser.parse_known_args(argv)


def all_items(arguments: argparse.Namespace, fields: tuple[str, ...]) -> Iterator[dict]:
    """The texts of the command line, then those of the file."""
    for text in arguments.text:
        yield dict(zip(fields, text.split("\t", len(fields) - 1), strict=False))
    if arguments.input_file:
        yield from read_items(arguments.input_file, fields)


if __name__ == "__main__":
    run_script(main)
