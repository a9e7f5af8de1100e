"""SQuAD files: what is read, and how a bad element is named."""

import json

import pytest

from src.errors import UserError
from src.tasks.squad.examples import Answer, Example, read_squad


def squad_json(**changes):
    """A file with one context and three questions; `changes` replace keys of the first question."""
    questions = [{"id": f"q{i}", "question": f"Who {i}?", "answers": [{"text": "Ann", "answer_start": 4 * i}]}
                 for i in range(3)]
    questions[0] |= changes
    return {"version": "1.1", "data": [{"title": "t", "paragraphs": [{"context": "Ann Ann Ann", "qas": questions}]}]}


def write(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


@pytest.fixture
def file(tmp_path):
    return tmp_path / "squad.json"


def test_questions_come_in_file_order(file):
    squad = read_squad(write(file, squad_json()), option="train")
    assert squad.contexts == ["Ann Ann Ann"]
    assert squad.examples[1] == Example("q1", "Who 1?", 0, (Answer("Ann", 4),), False, "data[0].paragraphs[0].qas[1]")
    assert [example.qas_id for example in squad.examples] == ["q0", "q1", "q2"]


@pytest.mark.parametrize("changes", [{"answers": [], "is_impossible": True}, {"answers": []}, {"is_impossible": True}])
def test_question_without_answer_needs_version_2(file, changes):
    write(file, squad_json(**changes))
    squad = read_squad(file, option="train", version_2_with_negative=True)
    assert [example.is_impossible for example in squad.examples] == [True, False, False]
    if not changes.get("answers", True):
        with pytest.raises(UserError, match=r"qas\[0\] has no answer; .*version_2_with_negative to true"):
            read_squad(file, option="train")


def test_answers_may_be_left_out_where_nobody_needs_them(file):
    content = squad_json()
    for question in content["data"][0]["paragraphs"][0]["qas"]:
        del question["answers"]
    examples = read_squad(write(file, content), option="predict", answers_required=False).examples
    assert [example.answers for example in examples] == [(), (), ()]


def test_byte_order_mark_is_no_mistake(file):
    file.write_bytes(b"\xef\xbb\xbf" + json.dumps(squad_json()).encode())
    assert len(read_squad(file, option="train").examples) == 3


QUESTION = r"data\[0\]\.paragraphs\[0\]\.qas\[0\]"
MISTAKES = {
    "cut off": ('{"data": [\n{"title"', r"squad.json, line 2, column 9: no JSON \(.*\); expected a whole SQuAD file"),
    "a list": ("[1, 2]", r"the file is \[1, 2\], expected an object"),
    "no data": ({"version": "1"}, r"data is missing, expected a list"),
    "no article": ({"data": [3]}, r"data\[0\] is 3, expected an object"),
    "no paragraphs": ({"data": [{"title": "x"}]}, r"data\[0\]\.paragraphs is missing"),
    "no context": ({"data": [{"paragraphs": [{"qas": []}]}]}, r"data\[0\]\.paragraphs\[0\]\.context is missing"),
    "a context of another kind": ({"data": [{"paragraphs": [{"context": ["a"], "qas": []}]}]},
                                  r'paragraphs\[0\]\.context is \["a"\], expected a text'),
    "no question at all": ({"data": []}, r"train: .*squad.json holds no question"),
    "an id that is a number": (squad_json(id=7), QUESTION + r"\.id is 7, expected a text"),
    "no question": (squad_json(question=None), QUESTION + r"\.question is null, expected a text"),
    "an id that is there twice": (squad_json(id="q2"), r"qas\[2\]\.id is 'q2', which .*qas\[0\] has too"),
    "an answer that is a text": (squad_json(answers=["Ann"]), QUESTION + r'\.answers\[0\] is "Ann", expected an obj'),
    "a start that is a text": (squad_json(answers=[{"text": "Ann", "answer_start": "0"}]),
                               QUESTION + r'\.answers\[0\]\.answer_start is "0", expected a whole number'),
    "a start that is true": (squad_json(answers=[{"text": "Ann", "answer_start": True}]),
                             QUESTION + r"\.answers\[0\]\.answer_start is true, expected a whole number"),
    "no text": (squad_json(answers=[{"answer_start": 0}]), QUESTION + r"\.answers\[0\]\.text is missing"),
    "nesting": ("[" * 100_000, r"nested more than 100 deep"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_is_named_by_its_place(file, mistake):
    content, message = MISTAKES[mistake]
    with pytest.raises(UserError, match=message) as raised:
        read_squad(write(file, content), option="train")
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 250 + len(str(file))


@pytest.mark.parametrize(("path", "message"), [
    ("", "train is not set; give a SQuAD file"),
    ("/nowhere.json", "train: cannot read /nowhere.json: No such file")])
def test_missing_file_is_named(path, message):
    with pytest.raises(UserError, match=message):
        read_squad(path, option="train")


def test_file_of_another_encoding_is_named(file):
    file.write_bytes(b'{"data": "\xff\xfe\xe4"}')
    with pytest.raises(UserError, match="line 1: byte 0xff is not UTF-8"):
        read_squad(file, option="train")
