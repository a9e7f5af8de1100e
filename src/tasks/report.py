"""The report of an evaluation, `report.html` beside the predictions: scores, curve, where they come from, mistakes."""

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from src.files import check_output, is_passed_on, write_text
from src.html_page import Table, heading, line_chart, page, paragraph, table
from src.records.reader import RecordSource
from src.tasks.finetune_task import Evaluation, FinetuneTask
from src.tasks.item_html import entity_key, item_html, item_row
from src.tokenization import Vocabulary
from src.training.metrics_file import LossCurve, read_metrics

REPORT_NAME = "report.html"
_MOST_ITEMS = 30  # that are shown
_ROWS_OF_TEXT = 8  # of predictions as text
_KEY = "A red frame is around what is wrong, a dashed one around what was missed."

Item = Mapping[str, Any]


def report_path(predictions: Path) -> Path | None:
    """The report beside a file of predictions; None where those go into a device or pipe.

    Raises:
        UserError: it cannot be written.
    """
    return None if is_passed_on(predictions) else check_output(predictions.with_name(REPORT_NAME), "predictions_file")


def write_report(path: Path | None, title: str, parts: Iterable[str]) -> None:
    """Write the page, if there is a place for it."""
    if path:
        write_text(path, page(title, parts))


def curve_parts(metrics_path: Path, score: str) -> list[str]:
    """Charts of the loss and of a score from a metrics file; none if that is a device or pipe."""
    curve = None if is_passed_on(metrics_path) else LossCurve.of(read_metrics(metrics_path), score)
    if curve is None:
        return []
    means, losses = (list(zip(curve.steps, values, strict=True)) for values in (curve.means, curve.losses))
    charts = [line_chart(f"Training loss by step (mean of {curve.window})", means, losses, curve.limits)]
    if len(curve.scores) > 1:
        charts.append(line_chart(f"{score} by step", curve.scores))
    return charts


def evaluation_parts(evaluation: Evaluation, items: Sequence[Item], complete: Callable[[Item], Item]) -> list[str]:
    """What an evaluation found: its scores, what they consist of, and the worst of its predictions.

    Args:
        evaluation: with its results.
        items: what was predicted.
        complete: gives an item its text, if it has none and that is possible.
    """
    parts = [table(Table("Scores", ("", ""), list(evaluation.results.items())))]
    parts += [table(breakdown) for breakdown in evaluation.breakdowns]
    title, chosen = worst_of(items)
    if chosen:
        hues: dict[str, int] = {}
        parts += [heading(title), paragraph(_KEY, "faint"), *(item_html(complete(item), hues) for item in chosen)]
    elif items:
        parts.append(paragraph("No mistake was made."))
    return parts


def worst_of(items: Sequence[Item]) -> tuple[str, list[Item]]:
    """The items that went wrong most clearly, and what they are; without anything to compare with, the first ones."""
    if all(item.get("gold") in (None, []) for item in items):
        return "Predictions", list(items[:_MOST_ITEMS])
    measure, title = next(((measure, title) for key, (measure, title) in _MEASURES.items() if key in items[0]),
                          (_is_other, "Mistakes"))
    badness = [measure(item) for item in items]
    worst = heapq.nlargest(_MOST_ITEMS, range(len(items)), key=badness.__getitem__)  # of equal ones the first
    return title, [items[number] for number in worst if badness[number] > 0]


def _wrong_entities(item: Item) -> int:
    return len(set(map(entity_key, item["entities"])) ^ set(map(entity_key, item["gold"])))


def _wrong_answer(item: Item) -> float:
    return item["score"] * (1.0 - item["f1"] / 100.0)


def _wrong_label(item: Item) -> float:
    return item["probability"] if item["label"] != item["gold"] else 0.0


def _error(item: Item) -> float:
    return abs(item["value"] - item["gold"])


def _is_other(item: Item) -> bool:
    return all(value != item["gold"] for key, value in item.items() if key != "gold")


_MEASURES: dict[str, tuple[Callable[[Item], float], str]] = {
    "entities": (_wrong_entities, "Sentences with the most mistakes"),
    "answer": (_wrong_answer, "The most confident wrong answers"),
    "label": (_wrong_label, "The most confident mistakes"),
    "value": (_error, "The largest errors")}


def predictions_text(items: Iterable[Item], complete: Callable[[Item], Item]) -> str:
    """The first predictions as a table in Markdown; empty without any."""
    rows = [item_row(complete(item)) for item in islice(items, _ROWS_OF_TEXT)]
    return "\n".join(["| text | predicted | expected |", "|---|---|---|", *rows]) if rows else ""


# ---------------------------------------------------------------- texts of records that do not know theirs

def text_completion(task: FinetuneTask, records: RecordSource) -> Callable[[Item], Item]:
    """What gives an item of a record without its text the tokens of the record, where a vocabulary is set.

    Spans of such items count tokens; they then count characters of what is shown.
    """
    path = task.config.vocab_file_path
    read_vocabulary = cache(Vocabulary.from_file)

    def complete(item: Item) -> Item:
        if not path or "index" not in item or "text" in item or "context" in item:
            return item
        vocab = read_vocabulary(path)
        ids = records.read(np.array([item["index"]]), ["input_ids"])["input_ids"][0]
        ids = [token for token in ids[1:] if token != vocab.pad_id]
        text, starts, ends = text_of_tokens(vocab.convert_ids_to_tokens(ids[:-1]))  # without [SEP]
        spans = {key: [{**one, "start": starts[one["start"]], "end": ends[one["end"] - 1]} for one in item[key]]
                 for key in ("entities", "gold") if "entities" in item}
        return {**item, "text": text, **spans}

    return complete


def text_of_tokens(tokens: Sequence[str]) -> tuple[str, list[int], list[int]]:
    """A text that tokens may come from, and the first character and the one after the last of each token."""
    text, starts, ends = "", [], []
    for token in tokens:
        is_piece = token.startswith("##") and len(token) > 2
        shown = token[2:] if is_piece else token
        if text and not is_piece and (text[-1].isascii() or shown[0].isascii()):
            text += " "
        starts.append(len(text))
        text += shown
        ends.append(len(text))
    return text, starts, ends
