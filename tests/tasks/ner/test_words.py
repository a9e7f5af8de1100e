"""Words have the tag of their first piece; which words there are, running text and the data say."""

import pytest

from src.tasks.ner.labels import LabelScheme, Span
from src.tasks.ner.text import Sentence, SentenceTokenizer
from src.tasks.ner.words import split_words
from src.tokenization import SPECIAL_TOKENS, FullTokenizer, Vocabulary

LABELS = LabelScheme(["LOC", "PER"])
O, S, B, M, E = range(5)  # noqa: E741 - the tags of LOC
VOCAB = [*SPECIAL_TOKENS, *"us.-'北京", "all", "round", "##er", "paris"]


@pytest.fixture(scope="module")
def tokenizer():
    return FullTokenizer(Vocabulary(VOCAB))


@pytest.mark.parametrize("text, words", [
    ("An all-rounder (of AT&T), aged 1,000.5.", "An|all-rounder|(|of|AT&T|)|,|aged|1,000.5|."),
    ("the U.S., J.R.R. and Inc.", "the|U.S.|,|J.R.R.|and|Inc|."),
    ("John's O'Brien 's \u2018Paris\u2019 they'RE", "John|'s|O'Brien|'|s|\u2018|Paris|\u2019|they'RE"),
    ("... -- a", ".|.|.|-|-|a"),
    ("他在Paris,北京。 हिन्दी e\u0301\u2028x\xa0y", "他|在|Paris|,|北|京|。|हिन्दी|e\u0301|x|y"),
    ("  ", ""),
])
def test_words_of_running_text(text, words):
    assert "|".join(text[start:end] for start, end in split_words(text)) == words


@pytest.mark.parametrize("text, ids, expected", [
    ("all-rounder", [O, O, S, O], []),  # "rounder" alone is no entity
    ("all-rounder", [S, O, O, O], ["all-rounder"]),
    ("all-rounder", [B, M, M, E], ["all-rounder"]),
    ("us paris", [B, E], ["us paris"]),
    ("u.s. paris", [B, M, M, E, S], ["u.s.", "paris"]),
    ("u.s. paris", [B, O, O, O, M], ["u.s. paris"]),
])
def test_a_word_has_the_tag_of_its_first_piece(tokenizer, text, ids, expected):
    words = SentenceTokenizer(tokenizer, "word")
    units = words.units(Sentence(text), words(text))
    assert [text[e.start:e.end] for e in units.places(units.decode(ids, LABELS))] == expected


def test_the_data_say_what_their_words_are(tokenizer):
    sentence = Sentence("all-rounder 's \u200b us", words=((0, 3), (3, 11), (12, 14), (15, 16), (17, 19)))
    tokenize = SentenceTokenizer(tokenizer, "word")
    units = tokenize.units(sentence, tokenize(sentence.text))
    words = [sentence.text[start:end] for start, end in zip(units.starts, units.ends, strict=True)]
    assert words == ["all", "-rounder", "'s", "us"]
    assert list(units.firsts) == [0, 1, 4, 6]
    later = units.part(2, 7)  # begins inside of a word, whose tag stands before
    assert (list(later.firsts), list(later.starts)) == ([2, 4], [12, 17])


def test_characters_have_tags_of_their_own(tokenizer):
    tokenize = SentenceTokenizer(tokenizer)
    units = tokenize.units(Sentence("北京"), tokenize("北京"))
    assert units.places(units.decode([S, B], LABELS)) == [Span(0, 1, "LOC"), Span(1, 2, "LOC")]
