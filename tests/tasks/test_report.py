"""Reports and pages of predictions: what is wrong is marked where it is wrong, and the worst comes first."""

import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from pages import Page

from src.errors import UserError
from src.html_page import page
from src.tasks.classifier.confusion import confusion_table
from src.tasks.finetune_task import Evaluation
from src.tasks.item_html import item_html, item_row
from src.tasks.report import (
    REPORT_NAME,
    curve_parts,
    evaluation_parts,
    predictions_text,
    report_path,
    text_completion,
    text_of_tokens,
    worst_of,
    write_report,
)
from src.tasks.squad.question_kinds import kind_of, kinds_table

PERSON, PLACE = {"type": "PER", "start": 0, "end": 6}, {"type": "LOC", "start": 10, "end": 16}
TEXT = "Angela in Berlin"
CONTEXT = "x" * 500 + " in Normandy, a region in France. " + "y" * 500


def answer(text, gold, f1=0.0, score=0.5):
    place = (CONTEXT.index(text), CONTEXT.index(text) + len(text)) if text else (None, None)
    return {"id": text, "question": "Where?", "context": CONTEXT, "answer": text, "start": place[0], "end": place[1],
            "score": score, "f1": f1, "gold": gold, "gold_starts": [CONTEXT.index(one) for one in gold]}


def shown(item):
    return Page(item_html(item, {}))


def test_entities_are_marked_where_they_are_wrong_and_missed():
    item = {"text": TEXT, "entities": [{**PERSON, "type": "ORG"}, PLACE], "gold": [PERSON, PLACE]}
    assert shown(item).marks == [("wrong", "Angela"), ("", "Berlin"), ("missed", "Angela"), ("", "Berlin")]
    right = shown(item | {"entities": [PERSON, PLACE]})
    assert right.marks == [("", "Angela"), ("", "Berlin")]  # nothing is expected besides
    assert shown({"text": TEXT, "entities": [PLACE]}).marks == [("", "Berlin")]  # as predict.py has it


def test_types_have_colours_of_their_own():
    hues = {}
    item_html({"text": TEXT, "entities": [PERSON, PLACE]}, hues)
    item_html({"text": TEXT, "entities": [PLACE]}, hues)
    assert list(hues) == ["PER", "LOC"] and len(set(hues.values())) == 2


@pytest.mark.parametrize(("found", "gold", "marks"), [
    ("France", ["Normandy"], [("missed", "Normandy"), ("wrong", "France")]),
    ("Normandy, a region", ["Normandy"], [("", "Normandy"), ("wrong", ", a region")]),
    ("Normandy", ["Normandy, a region"], [("", "Normandy"), ("missed", ", a region")]),
    ("Normandy", ["Normandy"], [("", "Normandy")]), ("", ["Normandy"], [("missed", "Normandy")]), ("", [], [])])
def test_answers_are_marked_in_the_context_around_them(found, gold, marks):
    page = shown(answer(found, gold))
    assert page.marks == marks
    assert "Where?" in page.text and len(page.text) < 950 and "…" in page.text


def test_answers_of_new_texts_have_nothing_expected():
    item = {key: value for key, value in answer("France", []).items() if key not in ("id", "f1", "gold", "gold_starts")}
    assert shown(item).marks == [("", "France")] and "expected" not in shown(item).text


@pytest.mark.parametrize(("item", "texts"), [
    ({"text": "a", "text_pair": "b", "label": "good", "label_id": 1, "probability": 0.9, "gold": "bad"},
     ["a", "b", "good", "0.900", "expected bad"]),
    ({"text": "a", "value": 2.5, "gold": 3.5}, ["a", "value 2.50", "expected 3.50"]),
    ({"text": "a [MASK]", "masks": [[{"token": "b", "probability": 0.5}]]}, ["a [MASK]", "masks", '"token": "b"']),
    ({"index": 3, "entities": [PERSON], "gold": []}, ["index 3", "PER", "0 to 6", "no entity"]),
    ({"text": "a", "labels": ["x"], "gold": ["y"]}, ["labels", '["x"]', 'expected ["y"]'])])
def test_every_kind_of_item_is_shown(item, texts):
    assert all(text in shown(item).text for text in texts), shown(item).text


def test_the_worst_come_first():
    labels = [{"label": "a", "gold": "ab"[wrong], "probability": probability}
              for wrong, probability in ((0, 0.99), (1, 0.6), (1, 0.9), (0, 0.5))]
    assert [item["probability"] for item in worst_of(labels)[1]] == [0.9, 0.6]
    answers = [answer("France", ["Normandy"], 0, 0.5), answer("France", ["France"], 100, 0.9),
               answer("Normandy, a region", ["Normandy"], 50, 0.8), answer("", ["Normandy"], 0, 0.7)]
    assert [item["answer"] for item in worst_of(answers)[1]] == ["", "France", "Normandy, a region"]
    entities = [{"entities": [PERSON], "gold": [PERSON, PLACE]}, {"entities": [PERSON], "gold": [PERSON]},
                {"entities": [], "gold": [PERSON, PLACE]}]
    assert worst_of(entities)[1] == [entities[2], entities[0]]
    values = [{"value": 1.0, "gold": 1.5}, {"value": 1.0, "gold": 0.0}, {"value": 2.0, "gold": 2.0}]
    assert worst_of(values)[1] == [values[1], values[0]]
    others = [{"labels": ["x"], "gold": ["x"]}, {"labels": ["x"], "gold": ["y"]}]
    assert worst_of(others)[1] == [others[1]]


def test_without_anything_to_compare_with_the_first_are_shown():
    items = [{"text": TEXT, "entities": [PERSON], "gold": []}] * 40
    assert worst_of(items) == ("Predictions", items[:30])


def test_classes_that_are_taken_for_each_other():
    table = confusion_table(np.array([0, 1, 1, 2]), np.array([0, 1, 2, 2]), ["a", "b", "c"])
    assert table.rows == [["a", 1, 0, 0], ["b", 0, 1, 0], ["c", 0, 1, 1]]  # a row is what was expected
    many = confusion_table(np.array([7, 7, 8, 9]), np.array([3, 3, 8, 4]), range(50))
    assert many.rows == [("3", "7", 2), ("4", "9", 1)]


@pytest.mark.parametrize(("question", "kind"), [
    ("Who wrote it?", "who"), ("In which year did the man who wrote it die?", "when"), ("What year was it?", "when"),
    ("How many are there?", "how many, how much"), ("How is it made?", "how"), ("To what does it refer?", "what"),
    ("The capital is called?", "other"), ("somewhat whose", "who"), ("该片的导演是谁？", "who"),
    ("哪一年成立？", "when"), ("位于哪里？", "where"), ("有多少人？", "how many, how much"),
    ("属于哪个省？", "which"), ("为什么？", "why")])
def test_kinds_of_questions(question, kind):
    assert kind_of(question) == kind


def test_scores_by_kind_of_question():
    assert kinds_table(["Who?", "What?", "Who else?"], [100.0, 0.0, 50.0]).rows == [("who", 2, 75.0), ("what", 1, 0.0)]


# ---------------------------------------------------------------- texts of records without theirs

def test_tokens_become_a_text_with_the_places_of_the_tokens():
    text, starts, ends = text_of_tokens(["江", "疏", "play", "##ing", "##s", "u", ".", "影"])
    assert text == "江疏 playings u . 影"
    assert [text[start:end] for start, end in zip(starts, ends, strict=True)] == [
        "江", "疏", "play", "ing", "s", "u", ".", "影"]


def test_records_show_their_tokens(tmp_path):
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nold\nBer\n##lin\n")
    task = SimpleNamespace(config=SimpleNamespace(vocab_file_path=str(tmp_path / "vocab.txt")))
    records = SimpleNamespace(read=lambda rows, columns: {"input_ids": np.array([[2, 5, 6, 7, 3, 0, 0]])})
    complete = text_completion(task, records)
    item = complete({"index": 0, "entities": [{"type": "LOC", "start": 1, "end": 3}], "gold": []})
    assert shown(item).marks == [("wrong", "Berlin")]
    several = {"index": 0, "labels": ["a"], "gold": ["b"]}
    assert complete(several) == several | {"text": "old Berlin"}
    has_text = {"index": 0, "text": "x", "entities": []}
    assert complete(has_text) is has_text


# ---------------------------------------------------------------- the whole

def test_a_report_of_ten_thousand_rows_is_quick(tmp_path):
    generator = np.random.default_rng(0)
    logits, labels = generator.random((10000, 15)), generator.integers(0, 15, 10000)
    items = [{"index": number, "text": "some text", "label": int(row.argmax()), "probability": float(row.max()),
              "gold": int(label)} for number, (row, label) in enumerate(zip(logits, labels, strict=True))]
    begin = time.process_time()
    evaluation = Evaluation({"accuracy": 0.1}, [], breakdowns=[confusion_table(logits.argmax(1), labels, range(15))])
    parts = evaluation_parts(evaluation, items, lambda item: item)
    write_report(report_path(tmp_path / "predictions.jsonl"), "run", parts)
    assert time.process_time() - begin < 0.5
    read = Page((tmp_path / REPORT_NAME).read_text(encoding="utf-8"))
    assert sum(tag == "article" for tag, _ in read.tags) == 30


def test_places_where_there_is_no_report(tmp_path):
    assert report_path(Path("/dev/null")) is None
    write_report(None, "run", [])
    (tmp_path / REPORT_NAME).mkdir()
    with pytest.raises(UserError, match=f"predictions_file: {tmp_path / REPORT_NAME} is a directory"):
        report_path(tmp_path / "predictions.jsonl")


def test_curves_are_those_of_the_metrics_file(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = [f'{{"step": {step}, "loss": {9 - step}, "learning_rate": 0.1}}\n' for step in range(1, 5)]
    path.write_text("".join(lines) + '{"step": 2, "f1": 0.5}\n{"step": 4, "f1": 0.7}\n')
    charts = page("title", curve_parts(path, "f1"))
    assert sum(tag == "svg" for tag, _ in Page(charts).tags) == 2
    assert curve_parts(tmp_path / "none.jsonl", "f1") == []
    assert curve_parts(Path("/dev/null"), "f1") == []


def test_predictions_as_text():
    item = {"text": "a | b\nc <i>", "label": "x", "gold": "y"}
    assert item_row(item) == "| a &#124; b c &lt;i&gt; | x | y |"
    assert predictions_text([item] * 20, lambda item: item).count("\n") == 9
    assert predictions_text([], lambda item: item) == ""
