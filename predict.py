"""Predict on new text with a fine-tuned network; the configuration says which task it is for.

    python predict.py --model output/tnews --text "A sentence." --text "Another."

The folder is that of a training or of a conversion. For weights without such a folder, give the configuration
(`--config_path`), the checkpoint (`--load_finetune_checkpoint_path`), `--vocab_file_path` and `--label_file_path`.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import TextIO

from src.errors import UserError, first_line, run_script
from src.exchange.folders import open_model
from src.files import atomic_write, check_output
from src.inference.predictor import create_predictor, predictor_config
from src.inference.texts import COLUMN_OPTIONS, Item, given_items, read_items
from src.model_utils.device_adapter import set_up_device
from src.tasks.prediction import Predictor

ITEMS_AT_ONCE = 1024


def main(argv: list[str] | None = None) -> None:
    """Read the texts, predict, and write one JSON object a line."""
    arguments, options = parse_arguments(argv)
    config, model = predictor_config(arguments.model, options, open_model)
    if not (arguments.text or arguments.input_file):
        raise UserError("nothing to predict; give --text TEXT, or --input_file FILE (- for standard input)")
    if arguments.output_file:
        check_output(arguments.output_file, "--output_file")
    if arguments.html:
        check_output(arguments.html, "--html")
    set_up_device(config)
    columns = {option: getattr(arguments, option) for option in COLUMN_OPTIONS}
    predictor = create_predictor(config, model)
    with open_output(arguments.output_file) as output, open_page(arguments.html) as show:
        count, mistake = write_predictions(predictor, all_items(arguments, predictor.fields, columns), output, show)
        if mistake and not count:
            raise mistake
    if mistake:
        raise UserError(f"{mistake}; the {count} predictions for what stands before it were written") from mistake


def write_predictions(predictor: Predictor, items: Iterator[Item], output: TextIO, show: Callable[[dict], object]
                      ) -> tuple[int, UserError | None]:
    """Predict on the items up to a mistake in one; return how many predictions were written, and the mistake."""
    count, mistake = 0, None
    while mistake is None:
        some, mistake = take(items, ITEMS_AT_ONCE)
        if not some:
            break
        try:
            for result in predict_up_to_mistake(predictor, some):
                output.write(json.dumps(result, ensure_ascii=False) + "\n")
                show(result)
                count += 1
        except UserError as error:
            mistake = error
        output.flush()
    return count, mistake


def take(items: Iterator[Item], number: int) -> tuple[list[Item], UserError | None]:
    """At most so many items, fewer before the end or a mistake, which is returned too."""
    some = []
    try:
        for item in islice(items, number):
            some.append(item)  # noqa: PERF402 - `extend` need not keep what came before the mistake
    except UserError as error:
        return some, error
    return some, None


def predict_up_to_mistake(predictor: Predictor, items: Sequence[Item]) -> Iterator[dict]:
    """The results of items, in halves where one has a mistake, so that all before it have theirs."""
    try:
        results = iter(predictor.predict([item.values for item in items if item.values is not None]))
    except UserError as error:
        if len(items) == 1:
            raise UserError(f"{items[0].where}: {error}") from error
        for half in (items[:len(items) // 2], items[len(items) // 2:]):
            yield from predict_up_to_mistake(predictor, half)
    else:
        for item in items:
            yield dict(predictor.empty) if item.values is None else next(results)


@contextmanager
def open_output(path: str | None) -> Iterator[TextIO]:
    """The file that the results go to, whole or not at all; without a path standard output."""
    if not path:
        yield sys.stdout
        return
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        yield file


@contextmanager
def open_page(path: str | None) -> Iterator[Callable[[dict], object]]:
    """What shows results on a page, whole or not at all; without a path nothing is shown."""
    if not path:
        yield lambda result: None
        return
    from src.html_page import PAGE_END, page_begin  # only a page needs them
    from src.tasks.item_html import item_html

    hues: dict[str, int] = {}
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(page_begin("Predictions"))
        yield lambda result: file.write(item_html(result, hues) + "\n")
        file.write(PAGE_END)


def parse_arguments(argv: list[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """Split the command line into what this script reads itself and the keys of the configuration."""
    parser = argparse.ArgumentParser(
        description=first_line(__doc__), allow_abbrev=False,
        epilog="All other options are keys of the task's configuration, such as --load_finetune_checkpoint_path, "
               "--vocab_file_path, --label_file_path and --eval_batch_size.")
    parser.add_argument("--text", action="append", default=[],
                        help="a text; may be repeated; a tab separates the texts of a pair")
    parser.add_argument("--input_file", help="a text or a JSON object a line, or a .csv or .tsv table with a header; - "
                                             "reads standard input")
    for option, which in zip(COLUMN_OPTIONS, ("text", "second text"), strict=True):
        parser.add_argument(f"--{option}", default="", metavar="NAME",
                            help=f"column, or key of JSON objects, that holds the {which}, if its name does not tell")
    parser.add_argument("--model", default="", metavar="PATH",
                        help="what to predict with: the folder of a training or a conversion, or an exported .onnx or "
                             ".mindir model")
    parser.add_argument("--output_file", help="where the JSON lines go; without it to standard output")
    parser.add_argument("--html", metavar="FILE", help="a page to look at, in which entities and answers are marked "
                                                       "in their texts")
    return parser.parse_known_args(argv)


def all_items(arguments: argparse.Namespace, fields: tuple[str, ...], columns: Mapping[str, str]) -> Iterator[Item]:
    """The texts of the command line, then those of the file."""
    yield from given_items(arguments.text, fields)
    if arguments.input_file:
        yield from read_items(arguments.input_file, fields, columns)


if __name__ == "__main__":
    run_script(main)
