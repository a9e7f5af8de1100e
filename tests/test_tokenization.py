"""Tokens equal those of transformers' BertTokenizer; vocabularies are checked; spans point at their text."""

import io
import json
import pickle
import random
import subprocess
import sys
import unicodedata

import pytest
from paths import FIXTURES, REPOSITORY

from src import tokenization
from src.errors import UserError
from src.tokenization import (
    SPECIAL_TOKENS,
    BasicTokenizer,
    FullTokenizer,
    SentencePieceTokenizer,
    Vocabulary,
    WordpieceTokenizer,
)

REFERENCES = FIXTURES / "tokenization"
HARD_STRINGS = json.loads((REFERENCES / "hard_strings.json").read_text(encoding="utf-8"))
CASES = pytest.mark.parametrize("do_lower_case", [True, False], ids=["uncased", "cased"])


@pytest.fixture(scope="module")
def reference_class():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("USE_TORCH", "0")  # its tokenizer needs none, and importing torch takes seconds
        return pytest.importorskip("transformers").BertTokenizer


@pytest.fixture(scope="module")
def vocab():
    return Vocabulary.from_file(REFERENCES / "vocab.txt")


def small_vocabulary(*tokens):
    return Vocabulary([*SPECIAL_TOKENS, *tokens])


def random_strings(seed, count):
    """Strings in which combining marks, punctuation, removed characters and decomposable letters meet by chance."""
    characters = [chr(c) for c in range(0x1FFFF) if unicodedata.category(chr(c)) not in ("Cn", "Cs")]
    marks = [c for c in characters if unicodedata.category(c)[0] == "M"]
    separators = [c for c in characters if unicodedata.category(c)[0] in "PZC"]
    decomposable = [c for c in characters if unicodedata.normalize("NFD", c) != c]
    pools = [characters, marks, separators, decomposable, "<=>abcABC  Σİ中é", "\u0338\u0301\u0327\u1161\u11ab"]
    rng = random.Random(seed)
    for _ in range(count):
        yield "".join(rng.choice(rng.choice(pools)) for _ in range(rng.randrange(1, 25)))


# ---- equal to the reference

@CASES
def test_hard_strings(vocab, do_lower_case):
    tokenizer = FullTokenizer(vocab, do_lower_case, never_split=SPECIAL_TOKENS)
    for case in HARD_STRINGS:
        expected = case["uncased" if do_lower_case else "cased"]
        assert tokenizer.tokenize(case["text"]) == expected, case["text"]
        assert tokenizer.encode(case["text"]) == tokenizer.convert_tokens_to_ids(expected)
        assert [token for token, _, _ in tokenizer.tokenize_with_offsets(case["text"])] == expected


@CASES
def test_random_strings_equal_transformers(reference_class, do_lower_case):
    reference = reference_class(str(REFERENCES / "vocab.txt"), do_lower_case=do_lower_case)
    ours = BasicTokenizer(do_lower_case)
    for text in random_strings(seed=0, count=3000):
        given = "".join(map(str.lower, text)) if do_lower_case else text  # as the reference's full tokenizer does first
        assert ours.tokenize(text) == reference.basic_tokenizer.tokenize(given), ascii(text)


@CASES
@pytest.mark.parametrize("name", ["bert-base-uncased", "bert-base-chinese"])
@pytest.mark.parametrize("stride", [8, pytest.param(1, marks=pytest.mark.slow)])
def test_real_text_equals_transformers(shared_data, reference_class, name, do_lower_case, stride):
    vocab_file = shared_data / "vocab" / name / "vocab.txt"
    reference = reference_class(str(vocab_file), do_lower_case=do_lower_case)
    tokenizer = FullTokenizer(vocab_file, do_lower_case)
    files = sorted((shared_data / "text").rglob("*.txt"))
    assert files
    for file in files:
        for number, line in enumerate(file.read_text(encoding="utf-8").split("\n")[::stride]):
            assert tokenizer.tokenize(line) == reference.tokenize(line), f"{file}:{number * stride + 1}"


def test_greedy_longest_match():
    tokenizer = WordpieceTokenizer(small_vocabulary("un", "unaff", "##aff", "##able", "##abl", "##e"))
    assert tokenizer.tokenize("unaffable") == ["unaff", "##able"]
    assert tokenizer.tokenize("unaffablex") == ["[UNK]"]
    assert tokenizer.tokenize("##able") == ["##able"]  # a word of itself, if someone calls it so


def test_words_are_lower_cased_and_split():
    assert BasicTokenizer().tokenize("Don't É=\u0338中文!") == ["don", "'", "t", "e", "=", "中", "文", "!"]
    assert BasicTokenizer(do_lower_case=False).tokenize("É=\u0338É") == ["É≠É"]


# ---- special tokens in the text

def test_special_tokens_are_split_unless_asked_for(vocab):
    text = "the [MASK] play[SEP]"
    assert FullTokenizer(vocab).tokenize(text)[:2] == ["the", "["]
    assert not set(SPECIAL_TOKENS) & set(FullTokenizer(vocab).tokenize(text))
    masked = FullTokenizer(vocab, never_split=["[MASK]"])
    assert masked.tokenize(text)[:3] == ["the", "[MASK]", "play"]
    assert "[SEP]" not in masked.tokenize(text)
    assert masked.tokenize_with_offsets(text)[1] == ("[MASK]", 4, 10)


def test_never_split_prefers_the_longest():
    tokenizer = FullTokenizer(small_vocabulary("[E", "[E1]"), never_split=["[E", "[E1]"])
    assert tokenizer.tokenize("[E1][E") == ["[E1]", "[E"]


def test_never_split_must_be_in_the_vocabulary(vocab):
    with pytest.raises(UserError, match=r"\[BLANK\] not in the vocabulary"):
        FullTokenizer(vocab, never_split=["[BLANK]"])


# ---- offsets

def assert_spans_point_at_tokens(tokenizer, text):
    found = tokenizer.tokenize_with_offsets(text)
    assert [token for token, _, _ in found] == tokenizer.tokenize(text)
    groups = []  # tokens made from one character share its span and are judged together
    for token, start, end in found:
        assert 0 <= start < end <= len(text), ascii(text)
        if groups and start < groups[-1][2]:
            assert start >= groups[-1][1]
            groups[-1][0].append(token)
            groups[-1][2] = end
        else:
            groups.append([[token], start, end])
    for tokens, start, end in groups:
        if "[UNK]" not in tokens:
            words = tokenizer.basic_tokenizer.tokenize(text[start:end])
            assert "".join(words) == "".join(token.removeprefix("##") for token in tokens), ascii(text)
    return groups


@CASES
def test_spans_point_at_their_tokens(vocab, do_lower_case):
    texts = [case["text"] for case in HARD_STRINGS] + list(random_strings(seed=1, count=3000))
    # A vocabulary with every character in it, so that [UNK] hides nothing.
    basic = BasicTokenizer(do_lower_case)
    letters = sorted({c for text in texts for c in "".join(basic.tokenize(text))} - set(vocab.tokens))
    tokenizer = FullTokenizer(Vocabulary(dict.fromkeys([*vocab.tokens, *letters, *("##" + c for c in letters)])),
                              do_lower_case)
    for text in texts:
        assert_spans_point_at_tokens(tokenizer, text)


def test_spans_by_hand():
    uncased = FullTokenizer(small_vocabulary("cafe", "i", "##s", "中", ",", "ᄒ", "##ᅡ", "##ᆫ"))
    assert uncased.tokenize_with_offsets(" Cafe\u0301,\u200bİS中xyz") == [
        ("cafe", 1, 6), (",", 6, 7), ("i", 8, 9), ("##s", 9, 10), ("中", 10, 11), ("[UNK]", 11, 14)]
    assert uncased.tokenize_with_offsets("한") == [("ᄒ", 0, 1), ("##ᅡ", 0, 1), ("##ᆫ", 0, 1)]
    cased = FullTokenizer(small_vocabulary("é", "##≠"), do_lower_case=False)
    assert cased.tokenize_with_offsets("\ufeffe\u0301=\u0338") == [("é", 1, 3), ("##≠", 3, 5)]


def test_spans_cover_real_text(shared_data):
    tokenizer = FullTokenizer(shared_data / "vocab" / "bert-base-chinese" / "vocab.txt")
    for name in ("cn_wiki_sample.txt", "1342-0.txt"):
        for line in (shared_data / "text" / name).read_text(encoding="utf-8").split("\n")[:300]:
            groups = assert_spans_point_at_tokens(tokenizer, line)
            assert sum(end - start for _, start, end in groups) >= 0.6 * len(line.replace(" ", ""))


# ---- bounded work and memory

def test_cache_is_bounded_and_changes_nothing(vocab, monkeypatch):
    monkeypatch.setattr(tokenization, "MAX_CACHED_WORDS", 5)
    tokenizer = FullTokenizer(vocab)
    text = "the play un caf cafe abc def ghi the play " * 3
    assert tokenizer.tokenize(text) == FullTokenizer(vocab).tokenize(text)
    assert len(tokenizer._word_ids) <= 5
    tokenizer.encode("x" * 101)
    assert max(map(len, tokenizer._word_ids)) <= 100  # megabytes without a space would not be worth keeping


def test_pickled_tokenizer_works(vocab):
    tokenizer = FullTokenizer(vocab, never_split=["[MASK]"])
    text = "Café [MASK] playing"
    expected = tokenizer.tokenize_with_offsets(text)
    assert pickle.loads(pickle.dumps(tokenizer)).tokenize_with_offsets(text) == expected


def test_import_is_light():
    code = "import sys, src.tokenization; print(sorted({'mindspore', 'sentencepiece', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True).stdout == "[]\n"


# ---- vocabulary

def test_vocabulary_file_is_read_as_lines(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_bytes("\ufeff[PAD]\r\n[UNK]\r\n[CLS]\r\n[SEP]\r\n[MASK]\r\n\u2028\r\na\u0085\r\n\r\n\n".encode())
    vocab = Vocabulary.from_file(path)
    assert vocab.tokens == [*SPECIAL_TOKENS, "\u2028", "a\u0085"]
    assert len(vocab) == 7
    assert (vocab.pad_id, vocab.unk_id, vocab.cls_id, vocab.sep_id, vocab.mask_id) == (0, 1, 2, 3, 4)


def test_vocabulary_is_read_once(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join([*SPECIAL_TOKENS, "a"]))
    tokenizer = FullTokenizer(path)
    path.unlink()
    assert tokenizer.encode("a b") == tokenizer.convert_tokens_to_ids(["a", "b"]) == [5, 1]


@pytest.mark.parametrize(("content", "message"), [
    (b"", "is empty"),
    (b"\n\r\n \n", "is empty"),
    (b"[PAD]\n[UNK]\n[CLS]\na\n", r"\[SEP\] \[MASK\] not found among its 4 tokens"),
    (b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nab\n\nc\n", "line 7: blank line"),
    (b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nab\nc\nab\n", "line 8: token 'ab' already stands on line 6"),
    (b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nab\n\xd6l\n", "line 7: byte 0xd6 is not UTF-8"),
])
def test_bad_vocabulary_is_one_clear_line(tmp_path, content, message):
    path = tmp_path / "vocab.txt"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        FullTokenizer(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_vocabulary_that_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match="cannot read .*no_such.txt: No such file"):
        FullTokenizer(tmp_path / "no_such.txt")
    with pytest.raises(UserError, match="cannot read .*: Is a directory"):
        FullTokenizer(tmp_path)


def test_ids_outside_the_vocabulary(vocab):
    tokenizer = FullTokenizer(vocab)
    assert tokenizer.convert_ids_to_tokens(range(5)) == list(SPECIAL_TOKENS)
    for index in (-1, len(vocab)):
        with pytest.raises(UserError, match=f"token id {index} is outside the vocabulary of {len(vocab)} tokens"):
            tokenizer.convert_ids_to_tokens([0, index])


# ---- SentencePiece

def train_sentencepiece(path, **options):
    sentencepiece = pytest.importorskip("sentencepiece")
    model = io.BytesIO()
    lines = ["the cat sat on the mat", "a dog sat on the log", "我爱北京天安门。", "１２３ café"] * 20
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, vocab_size=60, hard_vocab_limit=False, minloglevel=2,
        **options)
    path.write_bytes(model.getvalue())
    return path


@pytest.fixture(scope="module")
def sentencepiece_model(tmp_path_factory):
    return train_sentencepiece(tmp_path_factory.mktemp("sentencepiece") / "tiny.model",
                               pad_id=0, pad_piece="[PAD]", unk_id=1, unk_piece="[UNK]", bos_id=-1, eos_id=-1,
                               control_symbols="[CLS],[SEP],[MASK]")


def test_sentencepiece_has_the_same_methods(sentencepiece_model):
    tokenizer = SentencePieceTokenizer(sentencepiece_model)
    text = "the cat １天安门 Ж"
    tokens = tokenizer.tokenize(text)
    assert "".join(tokens) == "▁the▁cat▁1天安门▁[UNK]"
    assert tokenizer.encode(text) == tokenizer.convert_tokens_to_ids(tokens)
    assert tokenizer.convert_ids_to_tokens(tokenizer.encode(text)) == tokens
    vocab = tokenizer.vocab
    assert (vocab.pad_id, vocab.unk_id, vocab.cls_id, vocab.sep_id, vocab.mask_id) == (0, 1, 2, 3, 4)
    assert len(vocab) == len(vocab.tokens)


def test_sentencepiece_offsets(sentencepiece_model):
    tokenizer = SentencePieceTokenizer(sentencepiece_model, never_split=["[MASK]"])
    for text in ("the  cat １天安门 Ж", "", "a[MASK] cafe\u0301", "a\ud83d\ude00\udc00 cat", " dog "):
        found = tokenizer.tokenize_with_offsets(text)
        assert [token for token, _, _ in found] == tokenizer.tokenize(text)
        assert sorted(found, key=lambda item: item[1:]) == found
        for token, start, end in found:
            assert 0 <= start <= end <= len(text)
            if token not in SPECIAL_TOKENS:
                assert unicodedata.normalize("NFKC", text[start:end]) == token.removeprefix("▁")
    assert ("[MASK]", 1, 7) in tokenizer.tokenize_with_offsets("a[MASK] cafe")


def test_sentencepiece_model_of_another_family(tmp_path):
    model = train_sentencepiece(tmp_path / "roberta.model", pad_id=3, user_defined_symbols="<mask>")
    vocab = SentencePieceTokenizer(model).vocab
    assert [vocab.tokens[i] for i in (vocab.pad_id, vocab.unk_id, vocab.cls_id, vocab.sep_id, vocab.mask_id)] == [
        "<pad>", "<unk>", "<s>", "</s>", "<mask>"]


def test_bad_sentencepiece_model(tmp_path):
    with pytest.raises(UserError, match="cannot read .*: No such file"):
        SentencePieceTokenizer(tmp_path / "none.model")
    for content in (b"", b"not a model"):
        (tmp_path / "bad.model").write_bytes(content)
        with pytest.raises(UserError, match="bad.model is not a SentencePiece model"):
            SentencePieceTokenizer(tmp_path / "bad.model")
    with pytest.raises(UserError, match=r"\[PAD\] \[MASK\] not found among its \d+ tokens"):
        SentencePieceTokenizer(train_sentencepiece(tmp_path / "plain.model"))
