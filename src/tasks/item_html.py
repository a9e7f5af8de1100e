"""Predictions as HTML, for the report of an evaluation and for predict.py, and in short as Markdown.

An item is what a predictor returns, or a line of a file of predictions: it shows by its fields what it is. `gold` is
what was expected, where that is known; of answers they are the annotated texts, and `gold_starts` where these begin.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from src.html_page import Span, escaped, marked, number

_GOLDEN_ANGLE = 137  # degrees: however many colours there are, each new one is far from the others
_AROUND = 400  # characters of a context that are shown before and behind the answers
_PLACE = ("file", "line", "place", "id", "index")  # fields that say which item it is
_SHOWN_ELSEWHERE = {"text", "sentence", "text_pair", "label", "label_id", "probability", "gold", *_PLACE}


def item_html(item: Mapping[str, Any], hues: dict[str, int]) -> str:
    """An item in a box of its own.

    Args:
        item: the item.
        hues: colours of the types of entities on the page so far, degrees on their circle; new types are added.
    """
    if isinstance(item.get("entities"), Sequence):
        for entity in (*item["entities"], *(item.get("gold") or ())):
            hues.setdefault(entity["type"], len(hues) * _GOLDEN_ANGLE % 360)
        lines = _entities(item, hues)
    elif "answer" in item and isinstance(item.get("context"), str):
        lines = _answer(item)
    else:
        lines = _labelled(item)
    place = ", ".join(f"{item[key]}" if key == "file" else f"{key} {item[key]}" for key in _PLACE if key in item)
    head = f'<p class="faint">{escaped(place)}</p>' if place else ""
    return f"<article>{head}{''.join(lines)}</article>"


def item_row(item: Mapping[str, Any]) -> str:
    """An item as a row of a Markdown table: its text, what was predicted, what was expected."""
    gold = item.get("gold")
    if isinstance(item.get("entities"), Sequence):
        cells = [item.get("text", ""), _entity_names(item["entities"]), "" if gold is None else _entity_names(gold)]
    elif "answer" in item:
        cells = [item.get("question", ""), item["answer"], " / ".join(dict.fromkeys(gold or ()))]
    else:
        predicted = next((item[key] for key in ("label", "value", "labels", "masks") if key in item), "")
        cells = [" / ".join(item[key] for key in ("text", "sentence", "text_pair") if isinstance(item.get(key), str)),
                 predicted, "" if gold is None else gold]
    return f"| {' | '.join(escaped(' '.join(str(cell).split())).replace('|', '&#124;') for cell in cells)} |"


# ---------------------------------------------------------------- entities

def _entities(item: Mapping[str, Any], hues: Mapping[str, int]) -> Iterable[str]:
    found, gold, text = item["entities"], item.get("gold"), item.get("text")
    if not isinstance(text, str):
        yield _line(escaped(_entity_names(found)), "found")
        if gold is not None:
            yield _line(escaped(_entity_names(gold)), "expected")
        return
    if gold is None:
        yield _line(_marked_entities(text, found, hues))
        return
    keys_found, keys_there = set(map(entity_key, found)), set(map(entity_key, gold))
    yield _line(_marked_entities(text, found, hues, keys_there, "wrong"), "found")
    if keys_there != keys_found:
        yield _line(_marked_entities(text, gold, hues, keys_found, "missed"), "expected")


def entity_key(entity: Mapping[str, Any]) -> tuple[int, int, str]:
    """What makes an entity the same as another."""
    return entity["start"], entity["end"], entity["type"]


def _marked_entities(text: str, entities: Iterable[Mapping[str, Any]], hues: Mapping[str, int],
                     others: set[tuple[int, int, str]] | None = None, otherwise: str = "") -> str:
    """A text with its entities; those that are not among the others are marked as something else."""
    return marked(text, (Span(one["start"], one["end"], one["type"], hues[one["type"]],
                              "" if others is None or entity_key(one) in others else otherwise) for one in entities))


def _entity_names(entities: Iterable[Mapping[str, Any]]) -> str:
    return ", ".join(f"{one['type']} {one.get('text', '')} ({one['start']} to {one['end']})"
                     for one in entities) or "no entity"


# ---------------------------------------------------------------- answers

def _answer(item: Mapping[str, Any]) -> Iterable[str]:
    gold = item.get("gold")
    answer = (item["start"], item["end"]) if item["answer"] and item.get("start") is not None else None
    starts = item.get("gold_starts", ())
    expected = [(start, start + len(text)) for text, start in zip(gold or (), starts, strict=False)]
    yield f"<p><b>{escaped(item['question'])}</b></p>"
    yield _line(_context(item["context"], answer, expected))
    given = escaped(item["answer"] or "no answer")
    yield _line(f"{given} {_probability(item.get('score'))}", "answer")
    if gold is not None:
        texts = list(dict.fromkeys(gold)) or ["no answer"]
        yield _line(escaped(" / ".join(texts)), "expected")


def _context(text: str, answer: tuple[int, int] | None, expected: Sequence[tuple[int, int]]) -> str:
    """The text around the answers, in which what was answered, what was expected and what is both are marked."""
    spans = [*expected, *([answer] if answer else [])]
    first = max(0, min((start for start, _ in spans), default=0) - _AROUND)
    last = min(len(text), max((end for _, end in spans), default=_AROUND) + _AROUND)
    bounds = sorted({place for span in spans for place in span if first <= place <= last} | {first, last})
    marks = []
    for start, end in zip(bounds, bounds[1:], strict=False):
        is_answer = answer is not None and answer[0] <= start < answer[1]
        is_expected = any(begin <= start < stop for begin, stop in expected)
        if is_answer or is_expected:
            kind = "missed" if not is_answer else "wrong" if expected and not is_expected else ""
            marks.append(Span(start - first, end - first, kind=kind))
    return ("… " if first else "") + marked(text[first:last], marks) + (" …" if last < len(text) else "")


# ---------------------------------------------------------------- classes, values, words, and what other tasks predict

def _labelled(item: Mapping[str, Any]) -> Iterable[str]:
    for key in ("text", "sentence", "text_pair"):
        if isinstance(item.get(key), str):
            yield _line(escaped(item[key]))
    gold = item.get("gold")
    if "label" in item:
        kind = "" if gold is None else "right" if item["label"] == gold else "wrong"
        yield _line(f'<b class="{kind}">{escaped(item["label"])}</b> {_probability(item.get("probability"))}', "label")
    for key, value in item.items():
        if key not in _SHOWN_ELSEWHERE:
            yield _line(escaped(number(value) if isinstance(value, str | float) else
                                json.dumps(value, ensure_ascii=False)), key)
    if gold is not None and gold != item.get("label"):
        yield _line(escaped(number(gold) if isinstance(gold, str | float) else json.dumps(gold, ensure_ascii=False)),
                    "expected")


def _line(content: str, name: str = "") -> str:
    label = f'<small class="faint">{escaped(name)}</small> ' if name else ""
    return f'<p dir="auto">{label}{content}</p>'


def _probability(value: object) -> str:
    return f'<small class="faint">{value:.3f}</small>' if isinstance(value, float) else ""
