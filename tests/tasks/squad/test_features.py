"""Records of questions: equal to those of transformers, answers where they are annotated, any text and any language."""

import functools
import json

import numpy as np
import pytest
from paths import FIXTURES

from src.errors import UserError
from src.tasks.squad.contexts import TextTokenizer
from src.tasks.squad.examples import read_squad
from src.tasks.squad.features import FeatureOptions, SquadFeatures, report_lines
from src.tokenization import SPECIAL_TOKENS, FullTokenizer, Vocabulary

REFERENCES = FIXTURES / "squad"
OPTIONS = FeatureOptions(max_seq_length=48, doc_stride=10, max_query_length=8)
COLUMNS = ("input_ids", "input_mask", "segment_ids", "start_positions", "end_positions", "is_impossible")


@pytest.fixture(scope="module")
def tokenizer():
    return FullTokenizer(REFERENCES / "vocab.txt")


def squad_file(path, *paragraphs):
    """Write a file of (context, [(question, [(answer, start), ...]), ...]) and read it."""
    content = [{"context": context, "qas": [
        {"id": f"{p}-{q}", "question": question,
         "answers": [{"text": text, "answer_start": start} for text, start in answers]}
        for q, (question, answers) in enumerate(questions)]} for p, (context, questions) in enumerate(paragraphs)]
    path.write_text(json.dumps({"data": [{"paragraphs": content}]}), encoding="utf-8")
    return read_squad(path, option="train")


@pytest.fixture
def make(tmp_path, tokenizer):
    """Training records of the paragraphs."""
    def make(*paragraphs, tokenizer=tokenizer, options=OPTIONS):
        return SquadFeatures(squad_file(tmp_path / "squad.json", *paragraphs), tokenizer, options, True)
    return make


def answers_of(features):
    """What the positions of each record point at in the context; None for [CLS]."""
    columns = features.read(np.arange(features.num_rows))
    pairs = zip(columns["start_positions"][:, 0], columns["end_positions"][:, 0], strict=True)
    found = []
    for row, (start, end) in enumerate(pairs):
        first, last = features.characters(row, start, end) if end else (0, 0)
        found.append(features.texts[features.examples[features.example_of[row]].context][first:last] or None)
    return found


# ---------------------------------------------------------------- equal to transformers

@pytest.mark.parametrize("split", ["train", "eval"])
def test_records_equal_those_of_transformers(tokenizer, split):
    expected = np.load(REFERENCES / "features.npz")
    squad = read_squad(REFERENCES / "questions.json", option="x", version_2_with_negative=True)
    features = SquadFeatures(squad, tokenizer, OPTIONS, is_training=split == "train")
    rows = np.arange(features.num_rows)
    columns = features.read(rows)
    names = COLUMNS if split == "train" else COLUMNS[:3]
    assert list(columns) == ["unique_ids", *names]
    for name in names:
        np.testing.assert_array_equal(columns[name], expected[f"{split}/{name}"], err_msg=name)
    assert [squad.examples[e].qas_id for e in features.example_of] == expected[f"{split}/qas_ids"].tolist()
    np.testing.assert_array_equal(columns["unique_ids"][:, 0], 10**9 + rows)
    np.testing.assert_array_equal(features.in_context(rows, 48), expected[f"{split}/in_context"])
    np.testing.assert_array_equal(features.max_context(rows, 48), expected[f"{split}/max_context"])
    left_out = sum("not there" in note for note in features.notes)
    assert len(features.notes) == features.num_left_out == left_out == (8 if split == "train" else 0)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dev-v1.1.json", "train-v1.1.head.json"])
def test_records_of_squad_equal_those_of_transformers(shared_data, monkeypatch, name):
    """Every record of the file; half a minute, most of it in transformers."""
    monkeypatch.setenv("USE_TORCH", "0")
    reference = pytest.importorskip("transformers")
    processors = pytest.importorskip("transformers.data.processors.squad")
    vocab = str(shared_data / "vocab" / "bert-base-uncased" / "vocab.txt")
    slow = reference.BertTokenizer(vocab, model_max_length=512)
    tokenize = functools.lru_cache(None)(slow.tokenize)
    monkeypatch.setattr(slow, "tokenize", lambda text, **_: list(tokenize(text)))
    features = SquadFeatures(read_squad(shared_data / "squad" / name, option="x"), FullTokenizer(vocab),
                             FeatureOptions(), is_training=True)
    rows = np.arange(features.num_rows)
    columns = features.read(rows)
    best, inside = features.max_context(rows, 384), features.in_context(rows, 384)
    processors.squad_convert_example_to_features_init(slow)
    row = 0
    for example in processors.SquadV1Processor().get_train_examples(shared_data / "squad", name):
        for f in processors.squad_convert_example_to_features(example, 384, 128, 64, "max_length", True):
            expected = [f.input_ids, f.attention_mask, f.token_type_ids, [f.start_position], [f.end_position],
                        [int(f.is_impossible)]]
            assert [columns[name][row].tolist() for name in COLUMNS] == expected, f.qas_id
            assert {int(i): best[row, i] for i in np.flatnonzero(inside[row])} == f.token_is_max_context, f.qas_id
            row += 1
    assert row == features.num_rows


# ---------------------------------------------------------------- answers

def test_tokens_know_their_characters(tokenizer):
    text = "\u202f The  Ångström,\tnaïve\n(BC)  "
    context = TextTokenizer(tokenizer)(text)
    assert len(context.ids) == context.first_tokens[-1]
    spans = [text[start:end] for start, end in zip(context.starts, context.ends, strict=True)]
    assert "".join(spans) == "".join(text.split())
    assert context.word_starts.tolist() == [2, 7, 17, 23]


def test_every_window_is_searched_for_the_answer(make):
    """A long context: the answer is in some of the overlapping windows, and [CLS] stands for it in the others."""
    words = ["king"] * 30 + ["bridge"] + ["river"] * 60
    context = " ".join(words)
    features = make((context, [("the king", [("bridge", context.index("bridge"))])]))
    # 48 - 3 - 2 = 43 tokens of context in a window; windows begin at 0, 10, ... 50
    assert features.num_rows == 6
    assert answers_of(features) == ["bridge"] * 4 + [None] * 2
    columns = features.read(np.arange(6))
    assert columns["is_impossible"][:, 0].tolist() == [0, 0, 0, 0, 1, 1]
    assert columns["start_positions"][:, 0].tolist() == [34, 24, 14, 4, 0, 0]
    best = features.max_context(np.arange(6), 48)
    assert best.sum() == 91, "every token of the context has one best window"


def test_first_annotation_and_the_right_one_of_two_mentions_count(make):
    context = "the king of the king in the north"
    features = make((context, [("the river", [("king", 16), ("king", 4)])]))
    assert features.read([0])["start_positions"].tolist() == [[4 + 4]]


@pytest.mark.parametrize(("context", "answer", "start", "found"), [
    ("born in 1066-1920.", "1066", 8, "1066"),  # within a word
    ("born in 1066-1920.", "1920", 13, "1920"),
    ("born in 1066-1920.", "1066-1920", 9, "1066-1920"),  # a character too late, but in the word
    ("the $12 bridge", "12", 5, "12"),
    ("the King army", "Kin", 4, "King"),  # not at a token's end: the whole word
    ("of the  Ångström\n river", "Ångström\n river", 8, "Ångström\n river"),
    ("in  the\u202fcity", "the city", 4, "the\u202fcity"),  # other spaces than annotated
    ("in non\u00a0king won", "non king", 3, "non\u00a0king"),
])
def test_answers_are_realigned(make, context, answer, start, found):
    features = make((context, [("the", [(answer, start)])]))
    assert answers_of(features) == [found]
    assert features.notes == []
    assert features.num_realigned == (not context.startswith(answer, start))


@pytest.mark.parametrize(("answer", "start"), [
    ("queen", 4), ("king", 0), ("king", 200), ("king", -1), ("", 0), (" ", 3), ("king\x00", 4)])
def test_answer_that_is_not_there_is_left_out_and_listed(make, answer, start):
    features = make(("the king won", [("the", [("king", 4)]), ("a", [(answer, start)])]))
    assert answers_of(features) == ["king"]
    assert features.num_left_out == 1
    note, = features.notes
    assert note.startswith("data[0].paragraphs[0].qas[1]: the answer ")
    assert f"is not at character {start}" in note


def test_note_names_what_stands_there(make):
    features = make(("the king won", [("a", [("queen", 4)])]))
    assert "the answer 'queen' is not at character 4, where the context has 'king" in features.notes[0]


# ---------------------------------------------------------------- unusual files

@pytest.mark.parametrize("context", ["", " \n", "\u200b\ufeff"])
def test_empty_context_gives_no_record_and_a_note(make, context):
    features = make((context, [("the king", [("king", 0)])]), ("the king", [("a", [("king", 4)])]))
    assert features.num_rows == 1
    assert features.read([0])["unique_ids"].tolist() == [[10**9]]
    assert features.notes == ["data[0].paragraphs[0].qas[0]: the context is empty; there is nothing to answer from"]
    assert features.num_left_out == 1
    assert features.where(0).endswith("squad.json: data[0].paragraphs[1].qas[0]")


def test_empty_question_is_a_question(make):
    features = make(("the king", [("", [("king", 4)])]))
    assert features.read([0])["input_ids"][0, :5].tolist()[:2] == [2, 3]
    assert answers_of(features) == ["king"]


def test_chinese_answers_are_found_by_character(make):
    """As in CMRC 2018: no spaces, so a wider search would find the first mention."""
    context = "1990年，北京大学在北京成立；北京大学出版社於1990年出版《北京》。Ａ"
    chinese = FullTokenizer(Vocabulary([*SPECIAL_TOKENS, *sorted(set(context)), "1990", "##年"]))
    where = [context.index("北京成立"), context.rindex("1990"), context.rindex("北京"), context.index("，")]
    questions = [("北京", [(answer, start)]) for answer, start in
                 zip(("北京成立", "1990年出版", "北京", "北京大学"), where, strict=True)]
    features = make((context, questions), tokenizer=chinese)
    assert answers_of(features) == ["北京成立", "1990年出版", "北京"]
    starts = [features.characters(row, *features.read([row])["start_positions"][0].repeat(2))[0] for row in range(3)]
    assert starts == where[:3]
    assert len(features.notes) == 1, "the character there is another"


def test_foreign_vocabulary_is_noticed(make, tokenizer):
    assert not any("UNK" in line for line in report_lines(make(("the king", [("a", [("king", 4)])]))))
    lines = report_lines(make(("北京大学 the king", [("a", [("king", 9)])])))
    assert "67% of the contexts' tokens are [UNK]; is the vocabulary of another language" in lines[-1]


def test_report_counts_and_shows_some(make):
    questions = [("the", [("queen", 4)])] * 12 + [("a", [("king", 4)]), ("a", [("king", 5)])]
    lines = report_lines(make(("the king-river", questions)), shown_notes=2)
    assert lines[0].endswith("squad.json: 14 questions, 1 contexts, 2 records")
    assert "1 answers do not begin exactly" in lines[1]
    assert "12 questions have a bad annotation or an empty context; 12 are left out:" in lines[2]
    assert [line[:30] for line in lines[3:]] == ["  data[0].paragraphs[0].qas[0]", "  data[0].paragraphs[0].qas[1]",
                                                "  and 10 more"]


def test_stride_of_more_than_a_window_leaves_no_gap(make):
    context = "king " * 100
    features = make((context, [("the", [("king", 0)])]),
                    options=FeatureOptions(max_seq_length=20, doc_stride=128, max_query_length=8))
    assert features.in_context(np.arange(features.num_rows), 20).sum() == 100


@pytest.mark.parametrize(("options", "message"), [
    ({"doc_stride": 0}, "doc_stride is 0, expected at least 1"),
    ({"max_query_length": 0}, "max_query_length is 0"),
    ({"max_seq_length": 67}, "max_seq_length is 67, which a question of max_query_length 64 and three special tokens"),
])
def test_impossible_lengths_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        FeatureOptions(**options)


def test_columns_can_be_read_one_by_one(tokenizer):
    squad = read_squad(REFERENCES / "questions.json", option="x", version_2_with_negative=True)
    features = SquadFeatures(squad, tokenizer, OPTIONS, is_training=True)
    rows = np.array([5, 0, 5, features.num_rows - 1])
    everything = features.read(rows)
    for name, (dtype, length) in features.columns.items():
        alone = features.read(rows, [name])
        assert list(alone) == [name]
        assert alone[name].dtype == dtype
        assert alone[name].shape == (4, length)
        np.testing.assert_array_equal(alone[name], everything[name])
