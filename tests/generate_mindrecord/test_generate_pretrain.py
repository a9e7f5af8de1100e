"""Pre-training data: the properties of the task, of the files that hold it, and of the command that makes it."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from paths import REPOSITORY

import src.generate_mindrecord.generate_pretrain_mindrecord as generator
from src.errors import UserError
from src.generate_mindrecord.corpus import Chunk, Corpus, Piece, find_input_files
from src.generate_mindrecord.pretrain_instances import (
    InstanceMaker,
    InstanceOptions,
    TokenizedChunk,
    draw_masks,
    draw_pairs,
    truncate,
)
from src.records.columns import pretrain_columns
from src.records.mindrecord import MindRecordFile
from src.records.tfrecord import TFRecordFile
from src.tokenization import SPECIAL_TOKENS, Vocabulary

SCRIPT = REPOSITORY / "src" / "generate_mindrecord" / "generate_pretrain_mindrecord.py"
CHINESE = "我们在北京大学学习自然语言处理"
WORDS = [f"w{index:03}" for index in range(150)]
TOKENS = [*SPECIAL_TOKENS, "[unused1]", *WORDS, "##x", "##y", ".", *sorted(set(CHINESE))]


@pytest.fixture(scope="session")
def vocab_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("vocab") / "vocab.txt"
    path.write_text("\n".join(TOKENS) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def vocab():
    return Vocabulary(TOKENS)


def make_document(rng, num_sentences, word=lambda rng: rng.choice(WORDS)):
    return [" ".join(word(rng) for _ in range(rng.randint(3, 25))) for _ in range(num_sentences)]


def make_documents(count=60, seed=0, **kwargs):
    rng = random.Random(seed)
    return [make_document(rng, rng.randint(2, 12), **kwargs) for _ in range(count)]


def write_text(path, documents):
    path.write_text("\n\n".join("\n".join(document) for document in documents) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def text(tmp_path):
    return write_text(tmp_path / "text.txt", make_documents())


def make(vocab, documents, number=0, **options):
    """Instances of one chunk: (the columns, the chunk's tokens)."""
    maker = InstanceMaker(vocab, InstanceOptions(**options))
    chunk = Chunk(number, [Piece(index, lines, False) for index, lines in enumerate(documents)], None, 0)
    return maker.make(chunk), maker.tokenize(chunk)


def original_ids(columns):
    """input_ids with the labels put back in the place of the masks."""
    ids = columns["input_ids"].copy()
    rows, slots = np.nonzero(columns["masked_lm_weights"])
    ids[rows, columns["masked_lm_positions"][rows, slots]] = columns["masked_lm_ids"][rows, slots]
    return ids


def halves(ids, vocab):
    """Tokens of A and of B of one row of original ids."""
    first, second = np.flatnonzero(ids == vocab.sep_id)
    return ids[1:first].tolist(), ids[first + 1:second].tolist()


# ---------------------------------------------------------------- instances

def test_layout(vocab):
    made, _ = make(vocab, make_documents(), max_seq_length=48, max_predictions_per_seq=7)
    columns = made.columns
    ids = original_ids(columns)
    lengths = columns["input_mask"].sum(axis=1)
    assert len(made) > 500
    for row, length in enumerate(lengths.tolist()):
        a, b = halves(ids[row], vocab)
        assert a and b and length == len(a) + len(b) + 3 <= 48
        assert ids[row, 0] == vocab.cls_id
        assert columns["input_mask"][row].tolist() == [1] * length + [0] * (48 - length)
        assert columns["segment_ids"][row].tolist() == [0] * (len(a) + 2) + [1] * (len(b) + 1) + [0] * (48 - length)
        assert (columns["input_ids"][row, length:] == vocab.pad_id).all()
    assert lengths.max() == 48  # the room is used


def test_masks_are_whole_sound_and_in_order(vocab):
    made, _ = make(vocab, make_documents(), max_seq_length=64, max_predictions_per_seq=6, masked_lm_prob=0.2)
    columns = made.columns
    weights, positions, labels = (columns[f"masked_lm_{name}"] for name in ("weights", "positions", "ids"))
    counts = weights.sum(axis=1).astype(int)
    lengths = columns["input_mask"].sum(axis=1)
    assert counts.tolist() == [min(6, max(1, round(int(length) * 0.2))) for length in lengths]
    special = {vocab.ids[token] for token in SPECIAL_TOKENS} | {vocab.ids["[unused1]"]}
    for row, count in enumerate(counts):
        assert weights[row].tolist() == [1.0] * count + [0.0] * (6 - count)
        assert (np.diff(positions[row, :count].astype(int)) > 0).all()
        assert not special & set(labels[row, :count].tolist())
        assert not positions[row, count:].any() and not labels[row, count:].any()
        assert (positions[row, :count] < lengths[row]).all()


def test_masked_tokens_are_replaced_80_10_10(vocab):
    made, _ = make(vocab, make_documents(200), max_seq_length=64, max_predictions_per_seq=9)
    columns = made.columns
    rows, slots = np.nonzero(columns["masked_lm_weights"])
    now = columns["input_ids"][rows, columns["masked_lm_positions"][rows, slots]]
    was = columns["masked_lm_ids"][rows, slots]
    n = len(rows)
    assert n > 20_000
    kept = (now == was).mean()
    replaced = ((now != was) & (now != vocab.mask_id)).mean()
    tolerance = 5 * np.sqrt(0.16 / n)  # five standard deviations of the widest
    assert abs((now == vocab.mask_id).mean() - 0.8) < tolerance
    assert abs(kept - 0.1) < tolerance and abs(replaced - 0.1) < tolerance
    drawn = set(now[(now != was) & (now != vocab.mask_id)].tolist())
    assert not drawn & {vocab.ids[token] for token in (*SPECIAL_TOKENS, "[unused1]")}
    assert len(drawn) > 100  # from the whole vocabulary


def test_every_position_is_masked_equally_often(vocab):
    made, _ = make(vocab, make_documents(200), max_seq_length=32, max_predictions_per_seq=5)
    full = made.columns["input_mask"].all(axis=1)
    ids = original_ids(made.columns)[full]
    rows, slots = np.nonzero(made.columns["masked_lm_weights"][full])
    hits = np.zeros(ids.shape, bool)
    hits[rows, made.columns["masked_lm_positions"][full][rows, slots]] = True
    is_text = (ids != vocab.cls_id) & (ids != vocab.sep_id)
    share = hits.sum(axis=0)[1:31] / is_text.sum(axis=0)[1:31]
    expected = 5 / 29
    assert np.abs(share - expected).max() < 5 * np.sqrt(expected * (1 - expected) / is_text.sum(axis=0)[1:31].min())


def test_half_of_the_pairs_follow_each_other(vocab):
    # Sentences of one word that says which document and place they have: what follows what can be read off the ids.
    documents = [[f"w{doc * 10 + place:03} " * 6 for place in range(10)] for doc in range(15)]
    made, _ = make(vocab, documents, max_seq_length=32, max_predictions_per_seq=2, dupe_factor=60)
    labels = made.columns["next_sentence_labels"][:, 0]
    first_word = vocab.ids["w000"]
    ids = original_ids(made.columns)
    for row, is_random in enumerate(labels):
        a, b = ([token - first_word for token in half] for half in halves(ids[row], vocab))
        assert len({token // 10 for token in a}) == len({token // 10 for token in b}) == 1
        assert np.isin(np.diff(a + b if not is_random else a), (0, 1)).all()  # as in the document, nothing left out
        assert (a[0] // 10 != b[0] // 10) == bool(is_random)
    # The last sentence of a document has no next one, so there are somewhat more random ones; a coin decides the rest.
    assert 0.5 < labels.mean() < 0.62


def test_the_coin_of_the_next_sentence_is_fair():
    # Two long documents of one-token sentences: every chunk has many, so only the coin decides.
    chunk = TokenizedChunk(np.zeros(80_000, np.int32), np.ones(80_000, bool), list(range(80_001)), [0, 40_000, 80_000],
                           [0, 1], 2)
    pairs, has_random = draw_pairs(chunk, InstanceOptions(max_seq_length=23), random.Random(3))
    assert has_random
    assert abs(pairs[:, 4].mean() - 0.5) < 5 * 0.5 / np.sqrt(len(pairs))
    follows = pairs[pairs[:, 4] == 0]
    assert (follows[:, 1] == follows[:, 2]).all()
    sizes = follows[:, 1] - follows[:, 0]
    assert sizes.min() == 1 and sizes.max() == 19  # A may be any but the last sentence of the 20
    own_document = pairs[:, 0] // 40_000
    assert ((pairs[:, 2] // 40_000 != own_document) == pairs[:, 4]).all()


def test_short_sequences_are_as_frequent_as_asked():
    chunk = TokenizedChunk(np.zeros(60_000, np.int32), np.ones(60_000, bool), list(range(60_001)),
                           list(range(0, 60_001, 30)), list(range(2000)), 2000)
    pairs, _ = draw_pairs(chunk, InstanceOptions(max_seq_length=23, short_seq_prob=0.3), random.Random(3))
    first_of_document = np.unique(pairs[:, 0] // 30, return_index=True)[1]
    followed = pairs[first_of_document][pairs[first_of_document][:, 4] == 0]
    short = followed[:, 3] - followed[:, 0] < 20
    assert abs(short.mean() - 0.3 * 18 / 19) < 0.07  # a "short" target may be the full length, in 1 of 19
    assert set((followed[short][:, 3] - followed[short][:, 0]).tolist()) <= set(range(2, 20))


@pytest.mark.parametrize(("size_a", "size_b"), [(30, 30), (31, 30), (30, 31), (50, 3), (3, 50), (19, 19), (10, 10)])
def test_truncation_equals_dropping_one_token_at_a_time(size_a, size_b):
    a, b = list(range(size_a)), list(range(100, 100 + size_b))
    while len(a) + len(b) > 37:
        (a if len(a) > len(b) else b).pop()
    pairs = np.tile([0, size_a, 100, 100 + size_b, 0], (4000, 1))
    new_a, new_b = truncate(pairs, 37, np.random.default_rng(0))
    for new, size, begin, expected in ((new_a, size_a, 0, a), (new_b, size_b, 100, b)):
        assert (new[:, 1] - new[:, 0] == len(expected)).all()
        assert (new[:, 0] >= begin).all() and (new[:, 1] <= begin + size).all()
        dropped = size - len(expected)
        assert abs((new[:, 0] - begin).mean() - dropped / 2) <= 5 * np.sqrt(dropped / 4 / 4000)  # front or back: a coin


def test_all_tokens_come_from_the_corpus_and_all_are_used(vocab):
    documents = make_documents(30)
    made, chunk = make(vocab, documents, max_seq_length=128, dupe_factor=3)
    sentences = {tuple(chunk.tokens[begin:end].tolist())
                 for begin, end in zip(chunk.sentences[:-1], chunk.sentences[1:], strict=True)}
    text = "".join(f" {token} " for token in chunk.tokens.tolist())
    for row in original_ids(made.columns):
        for half in halves(row, vocab):
            assert "".join(f" {token} " for token in half) in text  # a stretch of the text, unchanged
    assert len(sentences) == sum(map(len, documents)) == made.num_sentences
    assert set(chunk.tokens.tolist()) == {token for row in original_ids(made.columns) for token in row.tolist()
                                          if token > vocab.ids["[unused1]"]}


def test_duplicates_multiply_and_differ(vocab):
    documents = make_documents(600)
    counts = [len(make(vocab, documents, dupe_factor=factor)[0]) for factor in (1, 2, 6)]
    np.testing.assert_allclose(counts, np.array([1, 2, 6]) * counts[2] / 6, rtol=0.06)
    rows = make(vocab, documents, dupe_factor=6)[0].columns["input_ids"]
    assert len(np.unique(rows, axis=0)) == len(rows)


def test_the_seed_decides(vocab):
    documents = make_documents(10)
    one, again, other, elsewhere = (make(vocab, documents, **kwargs)[0].columns for kwargs in (
        {"random_seed": 1}, {"random_seed": 1}, {"random_seed": 2}, {"random_seed": 1, "number": 1}))
    for name, values in one.items():
        np.testing.assert_array_equal(values, again[name])
    for different in (other, elsewhere):
        assert not np.array_equal(different["input_ids"], one["input_ids"])


def test_instances_are_shuffled(vocab):
    documents = [[f"w{doc:03}"] * 3 for doc in range(100)]
    made, _ = make(vocab, documents, max_seq_length=16, max_predictions_per_seq=1, dupe_factor=1)
    order = original_ids(made.columns)[:, 1].astype(int)
    assert abs(np.corrcoef(order, np.arange(len(order)))[0, 1]) < 0.3


# ---------------------------------------------------------------- whole words

def masked_positions(columns):
    rows, slots = np.nonzero(columns["masked_lm_weights"])
    hits = np.zeros(columns["input_ids"].shape, bool)
    hits[rows, columns["masked_lm_positions"][rows, slots]] = True
    return hits


def test_word_pieces_are_masked_together(vocab):
    documents = make_documents(word=lambda rng: rng.choice(WORDS) + rng.choice(["", "x", "xy", "xyx"]))
    options = {"max_seq_length": 64, "max_predictions_per_seq": 10}
    made, chunk = make(vocab, documents, do_whole_word_mask=True, **options)
    inner = {vocab.ids["##x"], vocab.ids["##y"]}
    assert set(np.unique(chunk.tokens[~chunk.word_starts]).tolist()) == inner
    ids, hits = original_ids(made.columns), masked_positions(made.columns)
    continues = np.isin(ids[:, 1:], list(inner)) & ~np.isin(ids[:, :-1], [vocab.cls_id, vocab.sep_id])
    assert continues.sum() > 10_000
    assert (hits[:, 1:] == hits[:, :-1])[continues].all()
    lengths = made.columns["input_mask"].sum(axis=1)
    wanted = np.clip(np.rint(lengths * 0.15), 1, 10)
    counts = hits.sum(axis=1)
    assert (counts <= wanted).all() and (counts == wanted).mean() > 0.9  # nothing but full words, up to the number
    # Without the option pieces are masked one by one.
    hits = masked_positions(make(vocab, documents, **options)[0].columns)
    assert hits.any()
    split = make(vocab, documents, **options)[0]
    ids, hits = original_ids(split.columns), masked_positions(split.columns)
    continues = np.isin(ids[:, 1:], list(inner)) & ~np.isin(ids[:, :-1], [vocab.cls_id, vocab.sep_id])
    assert not (hits[:, 1:] == hits[:, :-1])[continues].all()


def test_whole_words_are_drawn_with_equal_chance():
    # One row form: words of 1, 2, 3, 1 tokens; 2 wanted. Taken in random order while they fit.
    n = 24_000
    starts = np.tile([0, 1, 1, 0, 1, 0, 0, 1, 0], (n, 1)).astype(bool)
    is_text = np.tile([0, 1, 1, 1, 1, 1, 1, 1, 0], (n, 1)).astype(bool)
    masks = draw_masks(starts, is_text, np.full(n, 2), np.random.default_rng(0))
    kinds, counts = np.unique(masks, axis=0, return_counts=True)
    found = {"".join(map(str, kind.astype(int))): count / n for kind, count in zip(kinds, counts, strict=True)}
    # Of the words 1, 2, 1 (the one of 3 never fits) the first in order is the two-token one in a third of the rows.
    assert set(found) == {"001100000", "010000010"}
    assert abs(found["001100000"] - 1 / 3) < 5 * np.sqrt(2 / 9 / n)


def test_chinese_words_are_masked_together(vocab):
    pytest.importorskip("jieba")
    sentence = "我们在北京大学学习自然语言处理 w001 ."
    documents = [[sentence] * 5 for _ in range(10)]
    options = {"do_whole_word_mask": True, "max_seq_length": 64, "max_predictions_per_seq": 10}
    made, chunk = make(vocab, documents, segmenter="jieba", **options)
    tokens = vocab.convert_ids_to_tokens(chunk.tokens[:17].tolist())
    assert "".join(tokens) == sentence.replace(" ", "")
    words = "".join(("|" if start else "") + token for token, start in zip(tokens, chunk.word_starts, strict=False))
    assert words == "|我们|在|北京大学|学习|自然语言|处理|w001|."
    hits, ids = masked_positions(made.columns), original_ids(made.columns)
    we, people = vocab.ids["我"], vocab.ids["们"]
    both = (ids[:, :-1] == we) & (ids[:, 1:] == people)
    assert hits[:, :-1][both].any() and (hits[:, 1:] == hits[:, :-1])[both].all()
    assert make(vocab, documents, **options)[1].word_starts.all()  # without a segmenter each character is a word


def test_the_segmenter_does_not_change_the_tokens(vocab):
    pytest.importorskip("jieba")
    # An unassigned character inside a Chinese block gives no token; accents, digits and marks stand between words.
    lines = ["在北京\u9fff大学 caf\u00e9w001x，w002。学习", "\ufa6e自然", "w001", "，"]
    plain = make(vocab, [lines], do_whole_word_mask=True)[1]
    segmented = make(vocab, [lines], do_whole_word_mask=True, segmenter="jieba")[1]
    np.testing.assert_array_equal(plain.tokens, segmented.tokens)
    assert (plain.word_starts >= segmented.word_starts).all()


# ---------------------------------------------------------------- reading text

def chunks(*files, size=100_000):
    return list(Corpus(list(files), size).chunks())


def documents_of(*files):
    return [(piece.lines, piece.is_article) for chunk in chunks(*files) for piece in chunk.pieces]


def test_plain_text(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffone\r\n two \r\n\r\n \t\nthree\n\n\nfour".encode())
    other = tmp_path / "b.txt"
    other.write_text("five\n")
    assert documents_of(path, other) == [(["one", "two"], False), (["three"], False), (["four"], False),
                                         (["five"], False)]


def test_wikiextractor_text(tmp_path):
    path = tmp_path / "wiki_00"
    path.write_text('<doc id="1" url="https://x/?curid=1" title="A &amp; B">\nA & B\n\nFirst paragraph. Second.\n\n'
                    'Third.\n\n</doc>\n\n<doc id="2" url="" title="数学">\n数学\n\n数学是科学。它很美。\n</doc>\n',
                    encoding="utf-8")
    assert documents_of(path) == [(["First paragraph. Second.", "Third."], True), (["数学是科学。它很美。"], True)]
    # Cut out of the middle, as `split` does it.
    path.write_text('tail of an article\n</doc>\n<doc id="3" url="" title="C">\nC\nhead\n', encoding="utf-8")
    assert documents_of(path) == [(["tail of an article"], True), (["head"], True)]


def test_wikiextractor_json(tmp_path):
    path = tmp_path / "wiki_00"
    articles = [{"id": "1", "title": "数学", "text": "数学\n\n数学是科学。它很美。\nmore"},
                {"id": "2", "title": "E", "text": "  "}, {"id": "3", "title": "B", "text": "last"}]
    path.write_text("".join(json.dumps(article, ensure_ascii=index % 2 == 0) + "\n"
                            for index, article in enumerate(articles)), encoding="utf-8")
    assert documents_of(path) == [(["数学是科学。它很美。", "more"], True), (["last"], True)]
    with path.open("a") as file:
        file.write('{"id": "4", "text": "cut of')
    with pytest.raises(UserError, match="wiki_00, line 4: found '.\"id\": .*, expected an article"):
        documents_of(path)
    path.write_text('{"no article\n', encoding="utf-8")
    assert documents_of(path) == [(['{"no article'], False)]


def test_an_article_that_begins_inside_another(tmp_path):
    (tmp_path / "wiki_00").write_text('<doc id="1" title="A">\nhead\n<doc id="2" title="B">\n', encoding="utf-8")
    with pytest.raises(UserError, match="wiki_00, line 3: an article begins before </doc>"):
        documents_of(tmp_path / "wiki_00")


def test_paragraphs_and_overlong_lines_become_sentences(vocab):
    maker = InstanceMaker(vocab, InstanceOptions(max_seq_length=16, max_predictions_per_seq=2))

    def count(line, is_article):
        return len(maker.tokenize(Chunk(0, [Piece(0, [line], is_article)], None, 0)).sentences) - 1

    assert count("W001 w002. W003 w004.", is_article=True) == 2
    assert count("W001 w002. W003 w004.", is_article=False) == 1  # a sentence a line, whatever is in it
    assert count("W001 w002 w003 w004 w005 w006. W003 w004 w005 w006 w007 w008 w009.", is_article=False) == 2
    assert count("我们学习。自然语言。", is_article=True) == 2


def test_chunks_are_bounded_and_lose_nothing(tmp_path):
    documents = make_documents(80) + [make_document(random.Random(1), 400)] + make_documents(5, seed=2)
    path = write_text(tmp_path / "text.txt", documents)
    corpus = Corpus([path], 5_000)
    made = list(corpus.chunks())
    assert [chunk.number for chunk in made] == list(range(len(made)))
    assert all(sum(len(line) for piece in chunk.pieces for line in piece.lines) <= 5_000 for chunk in made)
    lines = [line for chunk in made for piece in chunk.pieces for line in piece.lines]
    assert lines == [line for document in documents for line in document]
    assert corpus.num_documents == 86 and corpus.num_split_documents == 1
    assert made[-1].bytes_read == corpus.size == path.stat().st_size
    # Chunks inside the large document hold nothing else; a piece of another document is lent to them.
    alone = [chunk for chunk in made if {piece.document for piece in chunk.pieces} == {80}]
    assert len(alone) > 3
    assert all(chunk.donor.document == 79 for chunk in alone)
    assert all(chunk.donor is None for chunk in made if len({piece.document for piece in chunk.pieces}) > 1)


def test_a_file_without_line_ends_is_cut(tmp_path):
    path = tmp_path / "one_line.txt"
    path.write_text("".join(random.Random(0).choices(CHINESE + "。", k=50_000)), encoding="utf-8")
    corpus = Corpus([path], 8_000)
    made = list(corpus.chunks())
    assert all(sum(len(line) for piece in chunk.pieces for line in piece.lines) <= 8_000 for chunk in made)
    assert "".join(line for chunk in made for piece in chunk.pieces for line in piece.lines) == path.read_text("utf-8")
    assert (corpus.num_documents, corpus.num_split_documents) == (1, 1)


def test_a_donor_gives_random_sentences_only(vocab):
    maker = InstanceMaker(vocab, InstanceOptions(max_seq_length=32, max_predictions_per_seq=2))
    pieces = [Piece(4, ["w001 w002 w003"] * 50, False)]
    made = maker.make(Chunk(9, pieces, Piece(3, ["w100 w101"] * 5, False), 0))
    assert made.num_sentences == 50 and made.num_without_random == 0
    ids = original_ids(made.columns)
    for row, is_random in zip(ids, made.columns["next_sentence_labels"][:, 0], strict=True):
        a, b = halves(row, vocab)
        assert vocab.ids["w100"] not in a
        assert bool({vocab.ids["w100"], vocab.ids["w101"]} & set(b)) == bool(is_random)
    assert 0.3 < made.columns["next_sentence_labels"].mean() < 0.7


def test_a_single_document_gives_true_next_sentences(vocab):
    made, _ = make(vocab, [make_document(random.Random(0), 40)], max_seq_length=64)
    assert len(made) == made.num_without_random > 10
    assert not made.columns["next_sentence_labels"].any()


def test_input_file_forms(tmp_path):
    for name in ("a/x.txt", "a/y.txt", "a/b/z.txt", "a/.hidden", "c,d.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("text\n")
    one = str(tmp_path / "a" / "x.txt")
    assert find_input_files(one) == [Path(one)]
    assert [path.name for path in find_input_files(str(tmp_path / "a"))] == ["z.txt", "x.txt", "y.txt"]
    assert [path.name for path in find_input_files(f"{tmp_path}/a/*.txt")] == ["x.txt", "y.txt"]
    assert [path.name for path in find_input_files(f"{tmp_path}/a/y.txt, {one}")] == ["y.txt", "x.txt"]
    assert [path.name for path in find_input_files(f"{tmp_path}/c,d.txt")] == ["c,d.txt"]
    (tmp_path / "void").mkdir()
    for wrong, message in (("absent.txt", "absent.txt: no such file"), ("*.none", "no such file"), (",", "is empty"),
                           ("void", "the directory holds no files")):
        with pytest.raises(UserError, match=message):
            find_input_files(wrong if wrong == "," else f"{tmp_path}/{wrong}")


# ---------------------------------------------------------------- files

def run(text, output, vocab_file, *options, num_workers=1):
    return generator.main(["--input_file", str(text), "--output_file", str(output), "--vocab_file", str(vocab_file),
                           "--max_seq_length", "32", "--max_predictions_per_seq", "5", "--dupe_factor", "2",
                           "--num_workers", str(num_workers), *options])


def read_tfrecord(path):
    file = TFRecordFile(path)
    file.check_data()
    return file.read(np.arange(len(file)), pretrain_columns(32, 5))


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(generator, "CHUNK_CHARACTERS", 8_000)


def test_the_number_of_workers_changes_nothing(tmp_path, text, vocab_file, small_chunks):
    for num_workers in (1, 2, 3):
        run(text, tmp_path / f"{num_workers}.tfrecord", vocab_file, "--dataset_format", "tfrecord",
            num_workers=num_workers)
    files = [(tmp_path / f"{num_workers}.tfrecord").read_bytes() for num_workers in (1, 2, 3)]
    assert len(Corpus([text], 8_000).files) == 1 and len(list(Corpus([text], 8_000).chunks())) >= 4
    assert files[0] == files[1] == files[2]


def test_both_formats_hold_the_same(tmp_path, text, vocab_file):
    import mindspore.dataset as ds

    made = run(text, tmp_path / "a.mindrecord", vocab_file)
    schema = tmp_path / "schema.json"
    run(text, tmp_path / "a.tfrecord", vocab_file, "--dataset_format", "tfrecord", "--schema_file", str(schema))
    expected = read_tfrecord(tmp_path / "a.tfrecord")
    assert json.loads(schema.read_text())["numRows"] == made.instances == len(expected["input_ids"])
    assert len(MindRecordFile(tmp_path / "a.mindrecord")) == made.instances
    rows = ds.MindDataset(str(tmp_path / "a.mindrecord"), shuffle=False, num_parallel_workers=1)
    rows = list(rows.create_dict_iterator(num_epochs=1, output_numpy=True))
    for name, values in expected.items():
        np.testing.assert_array_equal(np.stack([row[name] for row in rows]), values)


def test_several_outputs_share_the_instances(tmp_path, text, vocab_file, small_chunks):
    names = [tmp_path / f"{part}.tfrecord" for part in range(3)]
    tfrecord = ("--dataset_format", "tfrecord")
    run(text, ",".join(map(str, names)), vocab_file, *tfrecord)
    run(text, tmp_path / "all.tfrecord", vocab_file, *tfrecord)
    whole, parts = read_tfrecord(tmp_path / "all.tfrecord"), [read_tfrecord(name) for name in names]
    assert len(whole["input_ids"]) > 3
    for number, part in enumerate(parts):
        assert part.keys() == whole.keys()
        for column, values in part.items():
            np.testing.assert_array_equal(values, whole[column][number::3])


def test_booleans_are_what_they_say(tmp_path, vocab_file):
    # An uncased run finds W001 in the vocabulary, a cased one does not.
    text = write_text(tmp_path / "t.txt", [["W001 W002", "W003"], ["W004", "W005"]])
    known = {}
    for value in ("true", "false", "False", "TRUE"):
        run(text, tmp_path / "a.tfrecord", vocab_file, "--dataset_format", "tfrecord", "--do_lower_case", value)
        labels = read_tfrecord(tmp_path / "a.tfrecord")["masked_lm_ids"]
        known[value] = bool((labels > TOKENS.index("[unused1]")).any())
    assert known == {"true": True, "TRUE": True, "false": False, "False": False}
    with pytest.raises(SystemExit):
        run(text, tmp_path / "a.tfrecord", vocab_file, "--do_lower_case", "maybe")


def test_what_is_printed(tmp_path, text, vocab_file, capsys):
    made = run(text, tmp_path / "records.tfrecord", vocab_file, "--dataset_format", "tfrecord")
    out = capsys.readouterr().out.splitlines()
    assert f"Wrote {made.instances} total instances to {tmp_path / 'records.tfrecord'}" in out
    assert made.documents == 60 and made.sentences == sum(map(len, make_documents()))
    assert out[-1].startswith(f"{made.documents} documents, {made.sentences} sentences, ")
    run(write_text(tmp_path / "one.txt", make_documents(1)), tmp_path / "x.data", vocab_file,
        "--dataset_format", "tfrecord")
    notes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note: ")]
    assert "'tfrecord' in their name" in notes[0] and "separate documents by blank lines" in notes[1]


def test_records_that_do_not_fit_the_disk(tmp_path, text, vocab_file, monkeypatch, capsys):
    expected = 2.1 * 3 * text.stat().st_size
    (tmp_path / "out").mkdir()
    for free, is_warned in ((expected + 1, False), (0.6 * expected, True)):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: SimpleNamespace(free=free))
        run(text, tmp_path / "out" / "a.tfrecord", vocab_file, "--dupe_factor", "3", "--dataset_format", "tfrecord")
        assert ("warning: the records of this text take up to" in capsys.readouterr().err) == is_warned
    before = list((tmp_path / "out").iterdir())
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0.4 * expected))
    with pytest.raises(UserError, match=f"take at least .* are free in {tmp_path / 'out'}; free space"):
        run(text, tmp_path / "out" / "b.mindrecord", vocab_file, "--dupe_factor", "3")
    assert list((tmp_path / "out").iterdir()) == before


def test_wrong_inputs_are_user_errors(tmp_path, text, vocab_file):
    empty = tmp_path / "empty.txt"
    empty.write_text("\n \n\n")
    lonely = write_text(tmp_path / "lonely.txt", [["w001 w002"]])
    invisible = write_text(tmp_path / "invisible.txt", [["\u200b", "\x07"]])
    latin = tmp_path / "latin.txt"
    latin.write_bytes("fine\nfine\ncafé\n".encode("latin-1"))
    poor = tmp_path / "poor.txt"
    poor.write_text("\n".join(SPECIAL_TOKENS))
    directory = tmp_path / "directory"
    directory.mkdir()
    out = tmp_path / "out" / "a.mindrecord"
    cases = [
        ((tmp_path / "absent", out, vocab_file), "--input_file: .*absent: no such file"),
        ((empty, out, vocab_file), "--input_file: no instance can be made of 0 sentences in 1 files"),
        ((lonely, out, vocab_file), "--input_file: no instance can be made of 1 sentences"),
        ((invisible, out, vocab_file), "--input_file: no instance can be made of 0 sentences"),
        ((latin, out, vocab_file), r"latin\.txt, line 3: byte 0xe9 is not UTF-8"),
        ((text, out, tmp_path / "no_vocab"), "vocabulary: cannot read .*no_vocab: No such file"),
        ((text, out, poor), "nothing but special tokens"),
        ((text, directory, vocab_file), "--output_file: .*directory is a directory"),
        ((text, text, vocab_file), "--output_file: .* is an input file or named twice"),
        ((text, f"{out},{out}", vocab_file), "named twice"),
        ((text, ",", vocab_file), "--output_file is empty"),
        ((text, text / "a.mindrecord", vocab_file), "--output_file: cannot write"),
        ((text, out, vocab_file, "--max_seq_length", "4"), "--max_seq_length is 4, expected at least 5"),
        ((text, out, vocab_file, "--max_predictions_per_seq", "0"), "--max_predictions_per_seq is 0, expected 1 to 29"),
        ((text, out, vocab_file, "--max_predictions_per_seq", "30"), "is 30, expected 1 to 29"),
        ((text, out, vocab_file, "--masked_lm_prob", "0"), "--masked_lm_prob is 0.0, expected above 0"),
        ((text, out, vocab_file, "--short_seq_prob", "1.5"), "--short_seq_prob is 1.5, expected 0 to 1"),
        ((text, out, vocab_file, "--dupe_factor", "0"), "--dupe_factor is 0, expected at least 1"),
        ((text, out, vocab_file, "--random_seed", "-1"), "--random_seed is -1, expected 0 or more"),
        ((text, out, vocab_file, "--num_workers", "0"), "--num_workers is 0, expected at least 1"),
        ((text, out, vocab_file, "--segmenter", "jieba"), "unless --do_whole_word_mask true"),
        ((text, out, vocab_file, "--schema_file", "x.json"), "needs --dataset_format tfrecord"),
    ]
    for arguments, message in cases:
        with pytest.raises(UserError, match=message) as raised:
            run(*arguments)
        assert "\n" not in str(raised.value)
    assert not any((tmp_path / "out").glob("*")) and not any((tmp_path / "out").glob(".*"))


def test_a_missing_segmenter_says_how_to_install_it(monkeypatch, vocab):
    monkeypatch.setitem(sys.modules, "jieba", None)
    with pytest.raises(UserError, match="pip install jieba"):
        InstanceMaker(vocab, InstanceOptions(do_whole_word_mask=True, segmenter="jieba"))


@pytest.mark.parametrize("num_workers", [1, 2])
@pytest.mark.parametrize("dataset_format", ["mindrecord", "tfrecord"])
def test_an_error_late_in_the_text_leaves_nothing(tmp_path, vocab_file, small_chunks, num_workers, dataset_format):
    text = write_text(tmp_path / "text.txt", make_documents())
    with text.open("ab") as file:
        file.write(b"\xff\n")
    out = tmp_path / "out"
    with pytest.raises(UserError, match=r"line \d+: byte 0xff"):
        run(text, out / f"a.{dataset_format}", vocab_file, "--dataset_format", dataset_format, num_workers=num_workers)
    assert list(out.iterdir()) == []


class _FailingMaker(InstanceMaker):
    def make(self, chunk):
        if chunk.number == 2:
            raise MemoryError("told to fail")
        return super().make(chunk)


class _DyingMaker(InstanceMaker):
    def make(self, chunk):
        if chunk.number == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().make(chunk)


def fail_in_worker(*arguments):
    maker = _FailingMaker(*arguments)
    return lambda chunk: (maker.make(chunk),)


def die_in_worker(*arguments):
    maker = _DyingMaker(*arguments)
    return lambda chunk: (maker.make(chunk),)


@pytest.mark.parametrize(("work", "error", "message"), [
    (fail_in_worker, RuntimeError, "(?s)in a worker process:.*told to fail"),
    (die_in_worker, UserError, r"a worker process ended too early \(exit code -9"),
])
def test_a_failed_worker_fails_the_command(tmp_path, text, vocab_file, small_chunks, monkeypatch, work, error, message):
    monkeypatch.setattr(generator, "_maker_of_chunks", work)
    with pytest.raises(error, match=message):
        run(text, tmp_path / "out" / "a.tfrecord", vocab_file, "--dataset_format", "tfrecord", num_workers=2)
    assert list((tmp_path / "out").iterdir()) == []


# ---------------------------------------------------------------- the commands as users run them

def command(*arguments, **kwargs):
    return subprocess.run(list(map(str, arguments)), capture_output=True, text=True, timeout=120, **kwargs)


def test_the_command_line(tmp_path, vocab_file):
    text = tmp_path / "维基 text.txt"
    write_text(text, make_documents())
    out = tmp_path / "my records" / "wiki.mindrecord"
    done = command(sys.executable, SCRIPT.name, "--input_file", text, "--output_file", out, "--vocab_file", vocab_file,
                   "--do_lower_case", "True", "--max_seq_length", 32, "--max_predictions_per_seq=5", cwd=SCRIPT.parent)
    assert (done.returncode, done.stderr) == (0, "")
    count = len(MindRecordFile(out))
    assert f"Wrote {count} total instances" in done.stdout
    assert sorted(path.name for path in out.parent.iterdir()) == [
        "vocab.txt", "wiki.about.json", "wiki.mindrecord", "wiki.mindrecord.db"]

    wrong = command(sys.executable, SCRIPT.name, "--input_file", text, "--output_file", out, "--vocab_file", "absent",
                    cwd=SCRIPT.parent)
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("error: vocabulary: cannot read absent") and wrong.stderr.count("\n") == 1


@pytest.mark.parametrize("stop", [
    lambda process: os.killpg(process.pid, signal.SIGINT),  # Ctrl-C in a terminal: the workers get it too
    lambda process: process.terminate(),
])
def test_stopping_it_leaves_nothing(tmp_path, vocab_file, stop):
    text = write_text(tmp_path / "text.txt", make_documents(9000))
    out = tmp_path / "out"
    process = subprocess.Popen([sys.executable, SCRIPT, "--input_file", text, "--output_file", out / "a.tfrecord",
                                "--vocab_file", vocab_file, "--dataset_format", "tfrecord", "--dupe_factor", "40",
                                "--num_workers", "2"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                               start_new_session=True)
    deadline = time.monotonic() + 60
    while not any(file.stat().st_size for file in out.glob(".*")) and time.monotonic() < deadline:
        time.sleep(0.02)  # until something has been written
    stop(process)
    _, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (130, "interrupted\n")
    assert list(out.iterdir()) == []


def test_the_shell_script(tmp_path, vocab_file):
    script = SCRIPT.with_name("generate_pretrain_mindrecords.sh")
    texts = tmp_path / "my texts"
    (texts / "AA").mkdir(parents=True)
    write_text(texts / "AA" / "wiki_00", make_documents(20))
    write_text(texts / "two words, a comma.txt", make_documents(20, seed=1))
    options = ("--max_seq_length", 32, "--max_predictions_per_seq", 5, "--dataset_format", "tfrecord",
               "--num_workers", 1)
    environment = {**os.environ, "PYTHON": sys.executable}
    done = command("bash", script, texts, tmp_path / "my out", vocab_file, *options, cwd=tmp_path, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(path.name for path in (tmp_path / "my out").iterdir()) == [
        "AA_wiki_00.about.json", "AA_wiki_00.tfrecord", "two words_ a comma.txt.about.json",
        "two words_ a comma.txt.tfrecord", "vocab.txt"]
    one = command("bash", script, texts / "AA" / "wiki_00", f"{tmp_path}/one/", vocab_file, *options, env=environment)
    assert one.returncode == 0
    assert (tmp_path / "one" / "wiki_00.tfrecord").read_bytes() == (
        tmp_path / "my out" / "AA_wiki_00.tfrecord").read_bytes()

    usage = command("bash", script, texts)
    assert usage.returncode == 2 and "INPUT_FILES_PATH OUTPUT_FILES_PATH VOCAB_FILE" in usage.stderr
    failed = command("bash", script, texts, tmp_path / "out", "absent", env=environment)
    assert failed.returncode == 2 and failed.stderr.startswith("error: vocabulary: cannot read absent")


def test_real_text(tmp_path, shared_data):
    chinese = shared_data / "text" / "cn_wiki_sample.txt"
    vocab_file = shared_data / "vocab" / "bert-base-chinese" / "vocab.txt"
    made = generator.main(["--input_file", str(chinese), "--output_file", str(tmp_path / "a.tfrecord"), "--vocab_file",
                           str(vocab_file), "--dataset_format", "tfrecord", "--dupe_factor", "1"])
    file = TFRecordFile(tmp_path / "a.tfrecord")
    read = file.read(np.arange(len(file)), pretrain_columns(128, 20))
    assert len(file) == made.instances > 2000
    assert 0.4 < read["next_sentence_labels"].mean() < 0.65
    assert (read["input_ids"] < 21128).all() and (read["masked_lm_weights"].sum(axis=1) >= 1).all()
