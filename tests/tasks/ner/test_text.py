import random

import pytest

from src.errors import UserError
from src.tasks.ner.corpora import CLUENER_TYPES, TaggedLines, read_cluener, read_msra
from src.tasks.ner.labels import LabelScheme, Span
from src.tasks.ner.text import NerEncoder, Sentence, SentenceTokenizer, SkippedEntities, token_units
from src.tokenization import SPECIAL_TOKENS, FullTokenizer, Vocabulary

TYPES = LabelScheme(["LOC", "PER"])
PIECES = [*"abcdeio19", "##a", "##b", "##ngeles", "los", *"。，.-北京人大", "ᄒ", "##ᅡ", "##ᆫ"]
NASTY = "北 京\u3000Ａb１\u200b人\ufffd é大e\u0301c한。\tα☃𠮷１９.Los\xa0angeles\u202e\x00"


@pytest.fixture(scope="module")
def tokenizer():
    return FullTokenizer(Vocabulary([*SPECIAL_TOKENS, *PIECES]))


def encoder(tokenizer, seq_length=128, unit="character", labels=TYPES):
    return NerEncoder(SentenceTokenizer(tokenizer, unit), labels, seq_length)


def decoded(maker, sentence):
    return sorted(span for tokens, ids in maker.encode(sentence)
                  for span in token_units(tokens.starts, tokens.ends).places(maker.labels.decode(ids)))


def made_up(generator, tokenizer, length=60):
    """A sentence of nasty characters, and short entities that begin and end with characters that have tokens."""
    def has_tokens(position):
        return bool(tokenizer.encode(text[position]))

    text = "".join(generator.choice(NASTY) for _ in range(length))
    cuts = sorted(generator.sample(range(length + 1), 12))
    spans = [Span(a, b, generator.choice(TYPES.types)) for a, b in zip(cuts[::2], cuts[1::2], strict=True)]
    return Sentence(text, tuple(span for span in spans if span.end - span.start <= 12
                                and has_tokens(span.start) and has_tokens(span.end - 1)))


@pytest.mark.parametrize("seq_length", [256, 38])  # of twelve characters at most 36 tokens
def test_decoding_the_labels_gives_every_entity_of_nasty_sentences(tokenizer, seq_length):
    generator = random.Random(3)
    maker = encoder(tokenizer, seq_length)
    entities = 0
    for _ in range(300):
        sentence = made_up(generator, tokenizer)
        entities += len(sentence.entities)
        assert decoded(maker, sentence) == list(sentence.entities)
    assert entities > 500
    assert maker.skipped == SkippedEntities()
    assert (maker.num_cut > 0) == (seq_length == 38)


@pytest.mark.parametrize("read, seq_length, left_out", [
    (lambda data: read_cluener(data / "CLUENER2020/cluener_public/train.json"), 128, 2),  # both inside a book's title
    (lambda data: read_cluener(data / "CLUENER2020/cluener_public/dev.json"), 48, 0),
    (lambda data: TaggedLines(data / "ChineseNER/data/example.train", ""), 202, 0),
    (lambda data: TaggedLines(data / "ChineseNER/data/example.dev", ""), 64, 0),
    (lambda data: read_msra(data / "msra/msra_dataset.xml"), 128, 0),
], ids=["cluener-train", "cluener-dev", "chinesener-train", "chinesener-dev", "msra"])
def test_decoding_the_labels_gives_every_entity_of_the_real_data(shared_data, read, seq_length, left_out):
    sentences = list(read(shared_data))
    types = sorted({entity.type for sentence in sentences for entity in sentence.entities})
    maker = encoder(FullTokenizer(shared_data / "vocab/bert-base-chinese/vocab.txt"), seq_length,
                    labels=LabelScheme(types))
    lost = 0
    for sentence in sentences:
        found = decoded(maker, sentence)
        assert set(found) <= set(sentence.entities)
        lost += len(sentence.entities) - len(found)
    assert lost == left_out == maker.skipped.overlapping
    assert maker.skipped.cut == maker.skipped.changed == maker.skipped.without_token == 0
    assert maker.num_cut > 0 or not any(len(sentence.text) > seq_length for sentence in sentences)


def test_cluener_types_are_in_the_order_of_its_own_file(shared_data):
    assert LabelScheme.from_file(shared_data / "CLUENER2020/tf_version/label2id.json").types == CLUENER_TYPES


def test_words_are_cut_into_pieces_that_share_the_entity(tokenizer):
    maker = encoder(tokenizer, unit="word")
    sentence = Sentence("Los angeles, abc", (Span(0, 11, "LOC"), Span(13, 16, "PER")))
    (tokens, ids), = maker.encode(sentence)
    assert tokenizer.convert_ids_to_tokens(tokens.ids) == ["los", "a", "##ngeles", "[UNK]", "[UNK]"]
    assert [TYPES.tags[i] for i in ids] == ["B_LOC", "M_LOC", "E_LOC", "O", "S_PER"]
    assert decoded(maker, sentence) == list(sentence.entities)


def test_a_character_of_several_pieces_is_one_entity(tokenizer):
    (tokens, ids), = encoder(tokenizer).encode(Sentence("한a", (Span(0, 1, "PER"),)))
    assert len(tokens) == 4
    assert [TYPES.tags[i] for i in ids] == ["B_PER", "M_PER", "E_PER", "O"]
    assert token_units(tokens.starts, tokens.ends).places(TYPES.decode(ids)) == [Span(0, 1, "PER")]


def test_what_no_tag_sequence_can_hold_is_counted(tokenizer):
    maker = encoder(tokenizer)
    nested = Sentence("北京人大a", (Span(0, 2, "LOC"), Span(0, 4, "PER")))
    assert decoded(maker, nested) == [Span(0, 4, "PER")]  # the longer one
    assert decoded(maker, Sentence("a \u3000b", (Span(1, 3, "PER"),))) == []
    assert decoded(maker, Sentence("a 北 b", (Span(1, 4, "PER"),))) == [Span(2, 3, "PER")]  # without the spaces
    assert (maker.skipped.overlapping, maker.skipped.without_token, maker.skipped.changed) == (1, 1, 1)
    words = encoder(tokenizer, unit="word")
    assert decoded(words, Sentence("los a", (Span(1, 3, "LOC"),))) == [Span(0, 3, "LOC")]
    assert words.skipped.changed == 1


def test_long_sentences_are_cut_after_punctuation_and_outside_entities(tokenizer):
    maker = encoder(tokenizer, seq_length=12)
    text = "北京人大。北京人大，人大北京人大北京"
    parts = [text[tokens.starts[0]:tokens.ends[-1]] for tokens, _ in maker.encode(Sentence(text))]
    assert parts == ["北京人大。北京人大，", "人大北京人大北京"]
    sentence = Sentence(text, (Span(8, 12, "PER"),))
    parts = [text[tokens.starts[0]:tokens.ends[-1]] for tokens, _ in maker.encode(sentence)]
    assert parts == ["北京人大。北京人", "大，人大北京人大北京"]
    assert maker.num_cut == 2


def test_an_entity_longer_than_a_record_is_cut(tokenizer):
    maker = encoder(tokenizer, seq_length=5)
    assert decoded(maker, Sentence("北京人大", (Span(0, 4, "LOC"),))) == [Span(0, 3, "LOC"), Span(3, 4, "LOC")]
    assert maker.skipped.cut == 1


def test_records(tokenizer):
    maker = encoder(tokenizer, seq_length=6)
    vocab = tokenizer.vocab
    batch = maker.records([*maker.encode(Sentence("北京", (Span(0, 2, "LOC"),))), *maker.encode(Sentence("a☃b"))])
    ids = vocab.convert_tokens_to_ids
    assert batch["input_ids"].tolist() == [ids(["[CLS]", "北", "京", "[SEP]", "[PAD]", "[PAD]"]),
                                           ids(["[CLS]", "a", "[UNK]", "b", "[SEP]", "[PAD]"])]
    assert batch["input_mask"].tolist() == [[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 0]]
    assert batch["label_ids"].tolist() == [[0, 2, 4, 0, 0, 0], [0] * 6]
    assert not batch["segment_ids"].any()


@pytest.mark.parametrize("sentence, message", [
    (Sentence("北京", (Span(0, 2, "GPE"),), "x.json, line 3"),
     "x.json, line 3: the entity '北京' is of type GPE, which is not in the label file (LOC, PER)"),
    (Sentence("北京", (Span(1, 3, "LOC"),), "x.json, line 4"),
     "x.json, line 4: an entity has the characters 1 to 2 of a text of 2"),
])
def test_impossible_entities_are_named(tokenizer, sentence, message):
    with pytest.raises(UserError) as caught:
        list(encoder(tokenizer).encode(sentence))
    assert message in str(caught.value)


def test_bad_options_are_named(tokenizer):
    with pytest.raises(UserError, match="max_seq_length is 2, expected at least 3"):
        encoder(tokenizer, seq_length=2)
    with pytest.raises(UserError, match="'letter' is unknown, expected character or word"):
        SentenceTokenizer(tokenizer, "letter")
