"""Evaluation on records goes back to the words of the data: the printed figures are seqeval's and conlleval's on words.

Networks are made up: they give the tags of the records, with some replaced at random.
"""

import json
from typing import NamedTuple

import numpy as np
import pytest
from mindspore import Tensor
from paths import FIXTURES
from toy_ner import ner_options

from src.errors import UserError
from src.generate_mindrecord import generate_conll_mindrecord
from src.records.sentences import sentences_path
from src.tasks.ner.task import NerTask
from src.tasks.registry import load_task_config
from src.tokenization import SPECIAL_TOKENS, FullTokenizer, Vocabulary

NEWS = FIXTURES / "words" / "news.txt"
LETTERS = [chr(code) for code in range(33, 127) if not chr(code).isupper()]
VOCAB = [*SPECIAL_TOKENS, *LETTERS, *(f"##{letter}" for letter in LETTERS if letter.isalnum()), "round", "paris",
         "united"]
SENTENCES = [[tuple(line.split(" "))[::3] for line in block.split("\n")]
             for block in NEWS.read_text(encoding="utf-8").strip().split("\n\n")[1:]]  # (word, tag)


@pytest.fixture(scope="module", params=[256, 32])
def data(request, tmp_path_factory):
    """Records, whole sentences and cut ones, beside their vocabulary."""
    folder = tmp_path_factory.mktemp("words")
    (folder / "vocab.txt").write_text("\n".join(VOCAB))
    generate_conll_mindrecord.main(["--dev_file", str(NEWS), "--vocab_file", str(folder / "vocab.txt"), "--output_dir",
                                    str(folder), "--max_seq_length", str(request.param)])
    return folder, request.param


class Outcome(NamedTuple):
    """Of an evaluation: scores, printed lines, what was written, and the tags of the pieces of each sentence."""

    results: dict
    lines: list
    items: list
    tags: list


def evaluate(data, tmp_path, share, **options):
    """Evaluate a network that gives random tags for a share of the pieces."""
    folder, length = data
    options = {"text_unit": "word", "use_crf": "false", "with_lstm": "false"} | options
    task = NerTask.from_config(load_task_config("", ["--description", "run_ner", *ner_options(
        folder, tmp_path, bert_net_cfg__seq_length=length, bert_net_cfg__max_position_embeddings=length,
        bert_net_cfg__vocab_size=len(VOCAB), **options)]))
    rows = task.eval_records().read(np.arange(task.eval_records().num_rows))
    generator = np.random.default_rng(int(100 * share))
    noise = generator.integers(0, task.num_class, rows["label_ids"].shape)
    tags = np.where(generator.random(noise.shape) < share, noise, rows["label_ids"]).astype(np.int32)

    def network(ids, mask, segments):
        known = {row.tobytes(): answer for row, answer in zip(rows["input_ids"], tags, strict=True)}
        width = ids.shape[1]
        full = np.zeros((ids.shape[0], length), np.int32)
        full[:, :width] = ids.asnumpy()
        return Tensor(np.stack([known[row.tobytes()][:width] for row in full]) * mask.asnumpy())

    evaluation = task.evaluate(network, task.evaluation_batches())
    evaluation.write(tmp_path / "found.jsonl", evaluation.items())
    items = [json.loads(line) for line in (tmp_path / "found.jsonl").read_text(encoding="utf-8").splitlines()]
    ends = rows["input_mask"].sum(axis=1) - 1
    flat = np.concatenate([row[1:end] for row, end in zip(tags, ends, strict=True)])
    return Outcome(evaluation.results, evaluation.lines, items, [task.labels.tags[tag] for tag in flat])


def tags_of_words(tags):
    """The tag of the first piece of every word, cut into sentences; found by tokenizing each word alone."""
    tokenizer, tags = FullTokenizer(Vocabulary(VOCAB)), iter(tags)
    found = []
    for sentence in SENTENCES:
        pieces = [len(tokenizer.encode(word)) for word, _ in sentence]
        of_words = [[next(tags) for _ in range(count)] for count in pieces]
        found.append([of_word[0].replace("M_", "I_").replace("_", "-") if of_word else "O" for of_word in of_words])
    assert next(tags, None) is None
    return found


def conlleval(gold, found):
    """(right, found, gold) entities as conlleval.pl counts chunks, transcribed; the tags are B-, I- and O."""
    def changes(before, now, starts):
        (tag_before, type_before), (tag, kind) = (one.partition("-")[::2] for one in (before, now))
        pairs = "BB IB OB OI" if starts else "BB BO IB IO"
        return tag_before + tag in pairs.split() or (tag if starts else tag_before) != "O" and type_before != kind

    right = num_found = num_gold = 0
    for true, guessed in zip(gold, found, strict=True):
        in_correct = False
        before = guess_before = "O"
        for tag, guess in zip([*true, "O"], [*guessed, "O"], strict=True):
            ends, guess_ends = changes(before, tag, False), changes(guess_before, guess, False)
            starts, guess_starts = changes(before, tag, True), changes(guess_before, guess, True)
            if in_correct:
                if ends and guess_ends and before[2:] == guess_before[2:]:
                    in_correct = False
                    right += 1
                elif ends != guess_ends or tag[2:] != guess[2:]:
                    in_correct = False
            if starts and guess_starts and tag[2:] == guess[2:]:
                in_correct = True
            num_gold += starts
            num_found += guess_starts
            before, guess_before = tag, guess
    return right, num_found, num_gold


def tags_of_entities(sentence, entities):
    """B- and I- tags of words for entities that are spans of characters of the words joined by spaces."""
    tags, position = [], 0
    for word, _ in sentence:
        inside = next((e for e in entities if e["start"] <= position < e["end"]), None)
        tags.append("O" if inside is None else ("B-" if inside["start"] == position else "I-") + inside["type"])
        position += len(word) + 1
    return tags


@pytest.mark.parametrize("share", [0.0, 0.2, 0.7])
def test_figures_are_those_of_seqeval_and_conlleval_on_words(data, tmp_path, share):
    seqeval = pytest.importorskip("seqeval.metrics")
    outcome = evaluate(data, tmp_path, share)
    gold = [[tag for _, tag in sentence] for sentence in SENTENCES]
    found = tags_of_words(outcome.tags)
    expected = [measure(gold, found) for measure in (seqeval.precision_score, seqeval.recall_score, seqeval.f1_score)]
    assert [outcome.results[f"entity_{name}"] for name in ("precision", "recall", "f1")] == pytest.approx(expected)
    assert (outcome.results["entity_f1"] == 1) == (share == 0)
    written = [tags_of_entities(sentence, item["entities"])
               for sentence, item in zip(SENTENCES, outcome.items, strict=True)]
    right, num_found, num_gold = conlleval(gold, written)
    assert f"(right {right}, predicted {num_found}, gold {num_gold})" in next(
        line for line in outcome.lines if line.startswith("entities: "))
    assert any(line.startswith("scores by word: a word has the tag of its first piece") for line in outcome.lines)
    right_words = sum(one == other for pair in zip([tags_of_entities(s, i["gold"]) for s, i in
                                                    zip(SENTENCES, outcome.items, strict=True)], written, strict=True)
                      for one, other in zip(*pair, strict=True))
    assert share or right_words == sum(map(len, SENTENCES))
    assert share or outcome.results["accuracy"] == 1


def test_predictions_name_sentence_place_and_characters(data, tmp_path):
    outcome = evaluate(data, tmp_path, 0.3)
    lines = NEWS.read_text(encoding="utf-8").split("\n")
    assert [item["index"] for item in outcome.items] == list(range(len(SENTENCES)))
    for item, sentence in zip(outcome.items, SENTENCES, strict=True):
        assert item["text"] == " ".join(word for word, _ in sentence)
        assert item["file"] == str(NEWS)
        assert lines[item["line"] - 1].startswith(sentence[0][0])
        assert tags_of_entities(sentence, item["gold"]) == [
            tag if number and sentence[number - 1][1][2:] == tag[2:] else tag.replace("I-", "B-")
            for number, (_, tag) in enumerate(sentence)]
        places = {position for place in item["entities"] for position in (place["start"], place["end"])}
        for entity in item["entities"]:
            assert item["text"][entity["start"]:entity["end"]] == entity["text"]
        ends = {0, *(p for p, c in enumerate(item["text"]) if c == " "), len(item["text"])}
        assert places <= ends | {end + 1 for end in ends}  # no word is cut


def test_older_records_tell_pieces_by_the_vocabulary(data, tmp_path):
    hidden = sentences_path(data[0] / "dev.mindrecord").rename(tmp_path / "hidden")
    try:
        by_word = evaluate(data, tmp_path, 0.3)
        by_piece = evaluate(data, tmp_path, 0.3, vocab_file_path="")
        as_before = evaluate(data, tmp_path, 0.3, text_unit="character", vocab_file_path="")
    finally:
        hidden.rename(sentences_path(data[0] / "dev.mindrecord"))
    assert any("dev.sentences.jsonl each punctuation mark is a word" in line for line in by_word.lines)
    assert any("scores by piece of a word, for want of" in line for line in by_piece.lines)
    assert by_piece.results == as_before.results != by_word.results
    assert not any(line.startswith("scores by") for line in as_before.lines)
    for item in by_word.items:
        assert "file" not in item
        assert not any(entity["text"].startswith("##") for entity in item["entities"])
    assert by_word.items[0]["gold"][0] == {"type": "LOC", "start": 0, "end": 4, "text": "u . s ."}
    assert set(as_before.items[0]["gold"][0]) == {"type", "start", "end"}


@pytest.mark.parametrize("change, expected", [
    (lambda fields: fields.pop("tokens"), "line 1: no tokens, words and entities of NER (KeyError"),
    (lambda fields: fields.update(entities=[[1, 2]]), "line 1: no tokens, words and entities of NER (ValueError"),
    (lambda fields: fields["tokens"].pop(), "tokens, but its records hold"),
])
def test_sentences_of_other_records_are_named(data, tmp_path, change, expected):
    path = sentences_path(data[0] / "dev.mindrecord")
    whole = path.read_text(encoding="utf-8")
    first, rest = whole.split("\n", 1)
    fields = json.loads(first)
    change(fields)
    path.write_text(f"{json.dumps(fields)}\n{rest}", encoding="utf-8")
    try:
        with pytest.raises(UserError) as caught:
            evaluate(data, tmp_path, 0)
    finally:
        path.write_text(whole, encoding="utf-8")
    assert str(caught.value).startswith(str(path)) and expected in str(caught.value)
