"""BERT's tokenizer (basic + WordPiece) and a SentencePiece one with the same methods.

The result equals that of `transformers.BertTokenizer` (the pure-Python class), token by token. Two facts make it fast:
cleaning, lower-casing and splitting off punctuation and CJK characters depend on one character at a time, so
`str.translate` does them in C; and whatever depends on neighbouring characters (Unicode normalisation, WordPiece) stays
inside one word, so its result is remembered per word.
"""

import re
import unicodedata
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

from src.errors import UserError

PAD, UNK, CLS, SEP, MASK = SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

MAX_WORD_CHARACTERS = 100  # a longer word is one [UNK]; longest-match search would be quadratic in its length
MAX_CACHED_WORDS = 1 << 18  # about 60 MB at most; word frequencies are so skewed that a refill after clearing is cheap

# The blocks that the BERT authors call Chinese: ideographs, not kana or hangul, whose words are separated otherwise.
_CJK_BLOCKS = ((0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F), (0x2B740, 0x2B81F),
               (0x2B820, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F))


class Vocabulary:
    """A WordPiece vocabulary: `tokens[id]` and `ids[token]`.

    Args:
        tokens: the tokens in the order of their ids; must hold the five special tokens and no token twice.
        source: where they came from, for error messages.
    """

    def __init__(self, tokens: Iterable[str], source: str | Path = "vocabulary") -> None:
        self.tokens = list(tokens)
        self.ids: dict[str, int] = {}
        for index, token in enumerate(self.tokens):
            if not token:
                raise UserError(f"{source}, line {index + 1}: blank line between tokens; the line number of a token "
                                f"decides its id, so restore the token that belongs here")
            first = self.ids.setdefault(token, index)
            if first != index:
                raise UserError(f"{source}, line {index + 1}: token {token!r} already stands on line {first + 1}; "
                                f"a vocabulary holds each token once")
        missing = [token for token in SPECIAL_TOKENS if token not in self.ids]
        if missing:
            raise UserError(f"{source}: {' '.join(missing)} not found in its {len(self.tokens)} lines; "
                            f"expected a BERT vocabulary with {' '.join(SPECIAL_TOKENS)}, one token a line")
        self.pad_id, self.unk_id, self.cls_id, self.sep_id, self.mask_id = (self.ids[t] for t in SPECIAL_TOKENS)

    @classmethod
    def from_file(cls, path: str | Path) -> "Vocabulary":
        """Read a `vocab.txt`: UTF-8, one token a line, with Unix or Windows line ends; blank lines may follow.

        Raises:
            UserError: the file is missing, unreadable, empty, not UTF-8, or not a vocabulary.
        """
        lines = _read_utf8(path, "vocabulary").removeprefix("\ufeff").split("\n")  # other line ends may be tokens
        tokens = [line.strip(" \t\r") for line in lines]
        while tokens and not tokens[-1]:
            tokens.pop()
        if not tokens:
            raise UserError(f"vocabulary {path} is empty; expected one token a line")
        return cls(tokens, source=f"vocabulary {path}")

    def __len__(self) -> int:
        """The number of tokens, V."""
        return len(self.tokens)

    def convert_tokens_to_ids(self, tokens: Iterable[str]) -> list[int]:
        """Ids of `tokens`; a token that the vocabulary lacks becomes [UNK]."""
        return [self.ids.get(token, self.unk_id) for token in tokens]

    def convert_ids_to_tokens(self, ids: Iterable[int]) -> list[str]:
        """Tokens of `ids`; an id outside the vocabulary is a `UserError`."""
        ids = list(ids)
        for index in ids:
            if not 0 <= index < len(self.tokens):
                raise UserError(f"token id {index} is outside the vocabulary of {len(self.tokens)} tokens; "
                                f"use the vocabulary that made the ids")
        return [self.tokens[index] for index in ids]


class BasicTokenizer:
    """Splits text into words: at white space, around every punctuation mark and every CJK character.

    Control characters are removed. `do_lower_case` also lower-cases and strips accents.
    """

    def __init__(self, do_lower_case: bool = True) -> None:
        self.do_lower_case = do_lower_case
        self.characters = _CharacterTable(do_lower_case)

    def tokenize(self, text: str) -> list[str]:
        """The words of `text`, normalised."""
        return [part for word in text.translate(self.characters).split() for part in self.split_word(word)]

    def split_word(self, word: str) -> list[str]:
        """Normalise a word of the translated text, then split at the punctuation that only now can be told."""
        return "".join(f" {c} " if _is_punctuation(c) else c for c in self.normalise(word)).split()

    def normalise(self, word: str) -> str:
        """Canonical form of a word: without accents when lower-casing, composed otherwise."""
        if word.isascii():
            return word
        if not self.do_lower_case:
            return unicodedata.normalize("NFC", word)
        return "".join(c for c in unicodedata.normalize("NFD", word) if unicodedata.category(c) != "Mn")


class WordpieceTokenizer:
    """Splits a word into the pieces of a vocabulary, each the longest that matches; all but the first begin with ##."""

    def __init__(self, vocab: Vocabulary) -> None:
        self.vocab = vocab
        self._inner = {token[2:]: index for token, index in vocab.ids.items() if token.startswith("##")}
        self._longest = max(map(len, vocab.ids))

    def tokenize(self, word: str) -> list[str]:
        """Pieces of one word; [UNK] when it cannot be made of pieces or is longer than `MAX_WORD_CHARACTERS`."""
        return self.vocab.convert_ids_to_tokens(self.encode(word))

    def encode(self, word: str) -> list[int]:
        """Ids of `tokenize(word)`."""
        if len(word) > MAX_WORD_CHARACTERS:
            return [self.vocab.unk_id]
        ids = []
        pieces = self.vocab.ids
        start = 0
        while start < len(word):
            end = min(len(word), start + self._longest)
            while (found := pieces.get(word[start:end])) is None:
                end -= 1
                if end == start:
                    return [self.vocab.unk_id]
            ids.append(found)
            start = end
            pieces = self._inner
        return ids


class FullTokenizer:
    """BERT's tokenizer: basic tokenization, then WordPiece.

    Args:
        vocab_file: a `vocab.txt`, or a vocabulary that was read before.
        do_lower_case: whether the vocabulary is an uncased one.
        never_split: tokens of the vocabulary that stay whole where the text holds them literally, such as `[MASK]` in a
            sentence to fill in. By default there are none, so that text can never smuggle a special token into data.
    """

    def __init__(self, vocab_file: str | Path | Vocabulary, do_lower_case: bool = True,
                 never_split: Iterable[str] = ()) -> None:
        self.vocab = vocab_file if isinstance(vocab_file, Vocabulary) else Vocabulary.from_file(vocab_file)
        self.basic_tokenizer = BasicTokenizer(do_lower_case)
        self.wordpiece_tokenizer = WordpieceTokenizer(self.vocab)
        self._pieces = _WordCache(self.basic_tokenizer, self.wordpiece_tokenizer)
        self._never_split = _alternatives(never_split, self.vocab)

    def tokenize(self, text: str) -> list[str]:
        """WordPiece tokens of `text`."""
        tokens = self.vocab.tokens
        return [tokens[index] for index in self.encode(text)]

    def encode(self, text: str) -> list[int]:
        """Ids of `tokenize(text)`; no [CLS] or [SEP] is added."""
        if self._never_split is None:
            return self._encode_plain(text)
        ids = []
        for index, part in enumerate(self._never_split.split(text)):  # odd parts are the never-split tokens
            ids += [self.vocab.ids[part]] if index % 2 else self._encode_plain(part)
        return ids

    def _encode_plain(self, text: str) -> list[int]:
        words = text.translate(self.basic_tokenizer.characters).split()
        return list(chain.from_iterable(map(self._pieces.__getitem__, words)))

    def convert_tokens_to_ids(self, tokens: Iterable[str]) -> list[int]:
        """Ids of `tokens`; a token that the vocabulary lacks becomes [UNK]."""
        return self.vocab.convert_tokens_to_ids(tokens)

    def convert_ids_to_tokens(self, ids: Iterable[int]) -> list[str]:
        """Tokens of `ids`; an id outside the vocabulary is a `UserError`."""
        return self.vocab.convert_ids_to_tokens(ids)


class _CharacterTable(dict):
    """For `str.translate`: what becomes of each character regardless of its neighbours; filled as characters occur."""

    def __init__(self, do_lower_case: bool) -> None:
        super().__init__()
        self.do_lower_case = do_lower_case

    def __missing__(self, code: int) -> str:
        character = chr(code)
        # Lower-casing by character, not by word, makes every capital sigma a medial one, as the reference does.
        characters = character.lower() if self.do_lower_case else character
        self[code] = "".join(map(self._replace, characters))
        return self[code]

    def _replace(self, c: str) -> str:
        category = unicodedata.category(c)
        if c in " \t\n\r" or category == "Zs":
            return " "
        if c == "\ufffd" or category[0] == "C":  # control, format, private use, surrogate, unassigned
            return ""
        if any(first <= ord(c) <= last for first, last in _CJK_BLOCKS):
            return f" {c} "
        if _is_punctuation(c) and self._is_inert(c):
            return f" {c} "
        return c

    def _is_inert(self, c: str) -> bool:
        """Whether normalisation leaves this punctuation mark alone: "=" can join a stroke to become "≠", no mark."""
        return (unicodedata.normalize("NFD", c) == c
                and (self.do_lower_case or unicodedata.normalize("NFC", c + "\u0338") == c + "\u0338"))


class _WordCache(dict):
    """Piece ids of each word of the translated text, found when first asked for."""

    def __init__(self, basic: BasicTokenizer, wordpiece: WordpieceTokenizer) -> None:
        super().__init__()
        self.basic = basic
        self.wordpiece = wordpiece

    def __missing__(self, word: str) -> tuple[int, ...]:
        ids = tuple(chain.from_iterable(map(self.wordpiece.encode, self.basic.split_word(word))))
        if len(word) <= MAX_WORD_CHARACTERS:
            if len(self) >= MAX_CACHED_WORDS:
                self.clear()
            self[word] = ids
        return ids


def _is_punctuation(c: str) -> bool:
    # Every ASCII character but letters, digits and space counts: "$" and "^" too, which Unicode calls symbols.
    return ("!" <= c <= "~" and not c.isalnum()) or unicodedata.category(c)[0] == "P"


def _alternatives(never_split: Iterable[str], vocab: Vocabulary) -> re.Pattern[str] | None:
    """A pattern with one group that matches any of the tokens, the longest first; None when there are none."""
    tokens = sorted(set(never_split), key=len, reverse=True)
    unknown = [token for token in tokens if token not in vocab.ids]
    if unknown:
        raise UserError(f"never_split: {' '.join(unknown)} not in the vocabulary; name tokens that it holds")
    return re.compile(f"({'|'.join(map(re.escape, tokens))})") if tokens else None


def _read_utf8(path: str | Path, what: str) -> str:
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{what} {path} cannot be read: {error.strerror}; give an existing file") from error
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{what} {path}, line {line}: byte 0x{content[error.start]:02x} is not UTF-8; "
                        f"convert the file to UTF-8") from error
