import random

import numpy as np
import pytest

from src.tasks.ner.labels import LabelScheme, Span
from src.tasks.ner.text import NerEncoder, Sentence, SentenceTokenizer
from src.tasks.ner.windows import SentenceWindows, cut_windows
from src.tokenization import SPECIAL_TOKENS, FullTokenizer, Vocabulary

LABELS = LabelScheme(["LOC", "PER"])


@pytest.fixture(scope="module")
def tokenizer():
    return SentenceTokenizer(FullTokenizer(Vocabulary([*SPECIAL_TOKENS, *"abcdefgh"])))


def windows_of(sentences, tokenizer, seq_length):
    return SentenceWindows(sentences, NerEncoder(tokenizer, LABELS, seq_length))


@pytest.mark.parametrize("num_tokens", [0, 1, 9, 10, 11, 14, 15, 16, 100])
def test_windows_cover_every_token_and_decide_about_it_once(num_tokens):
    windows = cut_windows(3, num_tokens, room=10)
    assert all(window.sentence == 3 and window.end - window.begin <= 10 for window in windows)
    assert [p for window in windows for p in range(window.first, window.last)] == list(range(num_tokens))
    for window in windows:
        assert window.begin <= window.first <= window.last <= window.end
    assert len(windows) == 1 or all(window.end - window.begin == 10 for window in windows)


@pytest.mark.parametrize("room", [1, 2])
def test_tiny_windows_move_on(room):
    assert [p for w in cut_windows(0, 5, room) for p in range(w.first, w.last)] == list(range(5))


@pytest.mark.parametrize("seq_length", [12, 22, 64])
def test_right_tags_of_the_windows_give_every_entity_once(tokenizer, seq_length):
    generator = random.Random(0)
    sentences = []
    for length in (0, 1, 7, 10, 11, 23, 60):
        cuts = sorted(generator.sample(range(length + 1), min(length // 3, 12) // 2 * 2))
        entities = tuple(Span(a, b, generator.choice(LABELS.types)) for a, b in zip(cuts[::2], cuts[1::2], strict=True)
                         if b - a <= (seq_length - 2) // 4)
        sentences.append(Sentence("".join(generator.choices("abc ", k=length)).replace(" ", "d"), entities))
    windows = windows_of(sentences, tokenizer, seq_length)
    tags = [LABELS.encode(sentences[w.sentence].entities, len(sentences[w.sentence].text))[w.begin:w.end]
            for w in windows.windows]
    assert windows.entities(tags, LABELS) == [list(sentence.entities) for sentence in sentences]


def test_windows_that_disagree_do_not_overlap(tokenizer):
    windows = windows_of([Sentence("a" * 15)], tokenizer, 12)
    assert [(w.begin, w.end, w.first, w.last) for w in windows.windows] == [(0, 10, 0, 7), (5, 15, 7, 15)]
    first, second = np.zeros(10, np.int32), np.zeros(10, np.int32)
    first[5:9] = [2, 3, 3, 4]  # characters 5 to 8, begun where the first window decides
    second[3:6] = [2, 3, 4]  # characters 8 to 10, begun where the second does
    assert windows.entities([first, second], LABELS) == [[Span(5, 9, "LOC")]]


def test_they_read_like_records(tokenizer):
    windows = windows_of([Sentence("ab"), Sentence("", where="x.json, line 2"), Sentence("c" * 11)], tokenizer, 12)
    assert windows.num_rows == 4
    batch = windows.read(np.array([1, 3]))
    assert list(batch) == ["input_ids", "input_mask", "segment_ids"]
    vocab = tokenizer.tokenizer.vocab
    assert batch["input_ids"][0].tolist() == [vocab.cls_id, vocab.sep_id] + [vocab.pad_id] * 10
    assert batch["input_mask"].sum(axis=1).tolist() == [2, 12]
    assert list(windows.read([0], ["input_mask"])) == ["input_mask"]
    assert [windows.where(row) for row in range(4)] == ["sentence 1", "x.json, line 2", "sentence 3", "sentence 3"]


def test_a_word_has_the_tag_of_its_first_piece_also_where_windows_meet():
    words = SentenceTokenizer(FullTokenizer(Vocabulary([*SPECIAL_TOKENS, "ab", "##cd", "##ef"])), unit="word")
    single = LABELS.encode([Span(0, 1, "PER")], 1)[0]
    windows = windows_of([Sentence("abcdef ab")], words, 16)
    assert windows.entities([np.array([single, 0, single, 0])], LABELS) == [[Span(0, 6, "PER")]]
    assert windows.entities([np.array([0, single, single, single])], LABELS) == [[Span(7, 9, "PER")]]
    windows = windows_of([Sentence("abcdef ab abcdef")], words, 7)  # five pieces of seven at once
    assert [(w.begin, w.end, w.first, w.last) for w in windows.windows] == [(0, 5, 0, 3), (2, 7, 3, 7)]
    begin, _, end = LABELS.encode([Span(0, 3, "LOC")], 3)
    tags = [np.array([0, 0, 0, single, 0]), np.array([single, begin, end, 0, 0])]
    assert windows.entities(tags, LABELS) == [[Span(7, 16, "LOC")]]
    characters = windows_of([Sentence("abcdef ab")], SentenceTokenizer(words.tokenizer), 16)
    tags = np.zeros(8, np.int32)
    tags[0] = single
    assert characters.entities([tags], LABELS) == [[Span(0, 1, "PER")]]
