"""BERT's tokenizer (basic + WordPiece) and a SentencePiece one with the same methods.

The result equals that of `transformers.BertTokenizer` (the pure-Python class), token by token. Two facts make it fast:
cleaning, lower-casing and splitting off punctuation and CJK characters depend on one character at a time, so
`str.translate` does them in C; and whatever depends on neighbouring characters (Unicode normalisation, WordPiece) stays
inside one word, so its result is remembered per word.
"""

import re
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from src.errors import UserError
from src.text_files import read_bytes, read_text

PAD, UNK, CLS, SEP, MASK = SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

MAX_WORD_CHARACTERS = 100  # a longer word is one [UNK]; longest-match search would be quadratic in its length
MAX_CACHED_WORDS = 1 << 17  # some 30 MB; word frequencies are so skewed that refilling a cleared cache is cheap

# The blocks that the BERT authors call Chinese: ideographs, not kana or hangul, whose words are separated otherwise.
CJK_BLOCKS = ((0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F), (0x2B740, 0x2B81F),
              (0x2B820, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F))
CJK_CLASS = "".join(f"{chr(first)}-{chr(last)}" for first, last in CJK_BLOCKS)  # inside [] of a regular expression


class Vocabulary:
    """A WordPiece vocabulary: `tokens[id]` and `ids[token]`.

    Args:
        tokens: the tokens in the order of their ids; must hold the five special tokens and no token twice.
        source: where they came from, for error messages.
        special_tokens: the names of the tokens for padding, unknown, first, separator and mask, in this order.
    """

    def __init__(self, tokens: Iterable[str], source: str = "vocabulary",
                 special_tokens: Sequence[str] = SPECIAL_TOKENS) -> None:
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
        missing = [token for token in special_tokens if token not in self.ids]
        if missing:
            raise UserError(f"{source}: {' '.join(missing)} not found among its {len(self.tokens)} tokens; "
                            f"expected a BERT vocabulary with {' '.join(special_tokens)}")
        self.pad_id, self.unk_id, self.cls_id, self.sep_id, self.mask_id = (self.ids[t] for t in special_tokens)

    @classmethod
    def from_file(cls, path: str | Path) -> "Vocabulary":
        """Read a `vocab.txt`: UTF-8, one token a line, with Unix or Windows line ends; blank lines may follow.

        Raises:
            UserError: the file is missing, unreadable, empty, not UTF-8, or not a vocabulary.
        """
        lines = read_text(path, "vocabulary").split("\n")  # not splitlines(): U+2028 is a token of some
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
        return _split_at_punctuation(self.normalise(word))

    def normalise(self, word: str) -> str:
        """Canonical form of a word: without accents when lower-casing, composed otherwise."""
        if word.isascii():
            return word
        if not self.do_lower_case:
            return unicodedata.normalize("NFC", word)
        return "".join(c for c in unicodedata.normalize("NFD", word) if unicodedata.category(c) != "Mn")

    def align(self, word: str) -> list[tuple[int, int]]:
        """For each character of `normalise(word)`, the span of `word` that it comes from."""
        if self.normalise(word) == word:
            return [(i, i + 1) for i in range(len(word))]
        spans = []
        for start, end in self._clusters(word):
            parts = [self.normalise(c) for c in word[start:end]]
            whole = self.normalise(word[start:end])
            if "".join(parts) != whole:  # composed or put into another order: no character stands for itself any more
                parts, starts = [whole], [start]
            else:  # a stripped accent belongs to the letter before it
                starts = [start + i for i, part in enumerate(parts) if part]
                parts = [part for part in parts if part]
            for part, first, last in zip(parts, starts, [*starts[1:], end], strict=False):
                spans += [(first, last)] * len(part)
        return spans

    def _clusters(self, word: str) -> Iterator[tuple[int, int]]:
        """Spans of a base character with what Unicode may combine with it, so that each normalises by itself."""
        start = 0
        for i in range(1, len(word)):
            if unicodedata.category(word[i])[0] == "M":
                continue
            before, c = word[start:i], word[i]
            if self.normalise(before + c) == self.normalise(before) + self.normalise(c):  # not so for hangul letters
                yield start, i
                start = i
        yield start, len(word)


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


class Tokenizer(ABC):
    """What every tokenizer offers; a subclass says how it encodes text without special tokens.

    Args:
        vocab: the tokens and their ids.
        never_split: tokens of the vocabulary that stay whole where the text holds them literally, such as `[MASK]` in a
            sentence to fill in. By default there are none, so that no text can smuggle a special token into data.
    """

    def __init__(self, vocab: Vocabulary, never_split: Iterable[str] = ()) -> None:
        self.vocab = vocab
        self._never_split = _alternatives(never_split, vocab)

    @abstractmethod
    def _encode(self, text: str) -> list[int]:
        """Ids of the tokens of `text`."""

    @abstractmethod
    def _encode_with_offsets(self, text: str) -> Iterator[tuple[int, int, int]]:
        """The same ids, each with the start and end of its characters in `text`."""

    def encode(self, text: str) -> list[int]:
        """Ids of `tokenize(text)`; no [CLS] or [SEP] is added."""
        if self._never_split is None:
            return self._encode(text)
        ids = []
        for index, part in enumerate(self._never_split.split(text)):  # odd parts are the never-split tokens
            ids += [self.vocab.ids[part]] if index % 2 else self._encode(part)
        return ids

    def tokenize(self, text: str) -> list[str]:
        """Tokens of `text`."""
        tokens = self.vocab.tokens
        return [tokens[index] for index in self.encode(text)]

    def tokenize_with_offsets(self, text: str) -> list[tuple[str, int, int]]:
        """Tokens of `text`, each with its start and end: `text[start:end]` is what the token was made from.

        Spans are in order and overlap only where several tokens are made from one character, such as the letters of a
        hangul syllable: each of them has the span of that character.
        """
        found = []
        offset = 0
        for index, part in enumerate(self._never_split.split(text) if self._never_split else [text]):
            pieces = [(self.vocab.ids[part], 0, len(part))] if index % 2 else self._encode_with_offsets(part)
            found += [(self.vocab.tokens[piece], offset + start, offset + end) for piece, start, end in pieces]
            offset += len(part)
        return found

    def convert_tokens_to_ids(self, tokens: Iterable[str]) -> list[int]:
        """Ids of `tokens`; a token that the vocabulary lacks becomes [UNK]."""
        return self.vocab.convert_tokens_to_ids(tokens)

    def convert_ids_to_tokens(self, ids: Iterable[int]) -> list[str]:
        """Tokens of `ids`; an id outside the vocabulary is a `UserError`."""
        return self.vocab.convert_ids_to_tokens(ids)


class FullTokenizer(Tokenizer):
    """BERT's tokenizer: basic tokenization, then WordPiece.

    Args:
        vocab_file: a `vocab.txt`, or a vocabulary that was read before.
        do_lower_case: whether the vocabulary is an uncased one.
        never_split: see `Tokenizer`.
    """

    def __init__(self, vocab_file: str | Path | Vocabulary, do_lower_case: bool = True,
                 never_split: Iterable[str] = ()) -> None:
        super().__init__(vocab_file if isinstance(vocab_file, Vocabulary) else Vocabulary.from_file(vocab_file),
                         never_split)
        self.basic_tokenizer = BasicTokenizer(do_lower_case)
        self.wordpiece_tokenizer = WordpieceTokenizer(self.vocab)
        self._word_ids = _WordCache(self._encode_word)
        self._word_pieces = _WordCache(self._align_word)

    def _encode(self, text: str) -> list[int]:
        words = text.translate(self.basic_tokenizer.characters).split()
        return list(chain.from_iterable(map(self._word_ids.__getitem__, words)))

    def _encode_word(self, word: str) -> tuple[int, ...]:
        return tuple(chain.from_iterable(map(self.wordpiece_tokenizer.encode, self.basic_tokenizer.split_word(word))))

    def _encode_with_offsets(self, text: str) -> Iterator[tuple[int, int, int]]:
        replacements = [self.basic_tokenizer.characters[ord(c)] for c in text]
        origins = [i for i, replacement in enumerate(replacements) for _ in replacement]
        for word in re.finditer(r"\S+", "".join(replacements)):
            before = word.start()
            for index, start, end in self._word_pieces[word.group()]:
                yield index, origins[before + start], origins[before + end - 1] + 1

    def _align_word(self, word: str) -> list[tuple[int, int, int]]:
        """Ids of a word of the translated text, each with its span in this word."""
        spans = self.basic_tokenizer.align(word)
        pieces = []
        first = 0  # of the piece, among the characters of the normalised word
        for part in self.basic_tokenizer.split_word(word):
            for i, index in enumerate(self.wordpiece_tokenizer.encode(part)):
                prefix = "##" if i else ""
                length = len(part) if index == self.vocab.unk_id else len(self.vocab.tokens[index]) - len(prefix)
                pieces.append((index, spans[first][0], spans[first + length - 1][1]))
                first += length
        return pieces


class SentencePieceTokenizer(Tokenizer):
    """Tokenizer of a SentencePiece model; lower-casing and normalisation are the model's own.

    The span of a token leaves out the space that the model takes for its first character.

    Args:
        model_file: a trained `.model` whose pieces include the special tokens, named as in BERT, ALBERT, XLNet or
            RoBERTa. `spm_train --pad_id=0 --pad_piece=[PAD] --unk_id=1 --unk_piece=[UNK] --bos_id=-1 --eos_id=-1
            --control_symbols=[CLS],[SEP],[MASK]` makes such a model.
        never_split: see `Tokenizer`.
    """

    SPECIAL_NAMES = (("[PAD]", "<pad>"), ("[UNK]", "<unk>"), ("[CLS]", "<cls>", "<s>"), ("[SEP]", "<sep>", "</s>"),
                     ("[MASK]", "<mask>"))

    def __init__(self, model_file: str | Path, never_split: Iterable[str] = ()) -> None:
        from sentencepiece import SentencePieceProcessor  # whoever uses WordPiece needs no sentencepiece

        self._processor = SentencePieceProcessor()
        try:
            self._processor.load_from_serialized_proto(read_bytes(model_file, "SentencePiece model"))
        except RuntimeError as error:
            raise UserError(f"{model_file} is not a SentencePiece model; give the .model file that its trainer wrote"
                            ) from error
        pieces = [self._processor.id_to_piece(i) for i in range(self._processor.get_piece_size())]
        special_tokens = [next((name for name in names if name in pieces), names[0]) for names in self.SPECIAL_NAMES]
        super().__init__(Vocabulary(pieces, f"SentencePiece model {model_file}", special_tokens), never_split)

    def _encode(self, text: str) -> list[int]:
        return self._processor.encode(_without_surrogates(text))

    def _encode_with_offsets(self, text: str) -> Iterator[tuple[int, int, int]]:
        text = _without_surrogates(text)
        mapping = self._processor.encode_as_offset_mapping(text)
        for index, (start, end) in zip(mapping["ids"], mapping["offsets"], strict=True):
            spaces = end - start - len(text[start:end].lstrip())
            yield index, start + spaces, end


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
        if any(first <= ord(c) <= last for first, last in CJK_BLOCKS):
            return f" {c} "
        if is_punctuation(c) and self._is_inert(c):
            return f" {c} "
        return c

    def _is_inert(self, c: str) -> bool:
        """Whether normalisation leaves this punctuation mark alone: "=" can join a stroke to become "≠", no mark."""
        return (unicodedata.normalize("NFD", c) == c
                and (self.do_lower_case or unicodedata.normalize("NFC", c + "\u0338") == c + "\u0338"))


class _WordCache(dict):
    """Remembers what a function makes of each word, within bounds."""

    def __init__(self, function: Callable[[str], Any]) -> None:
        super().__init__()
        self.function = function

    def __missing__(self, word: str) -> Any:
        value = self.function(word)
        if len(word) <= MAX_WORD_CHARACTERS:
            if len(self) >= MAX_CACHED_WORDS:
                self.clear()
            self[word] = value
        return value


def is_punctuation(c: str) -> bool:
    """Whether BERT takes a character for a punctuation mark, and so for a token of its own."""
    # Every ASCII character but letters, digits and space counts: "$" and "^" too, which Unicode calls symbols.
    return ("!" <= c <= "~" and not c.isalnum()) or unicodedata.category(c)[0] == "P"


def _split_at_punctuation(word: str) -> list[str]:
    return "".join(f" {c} " if is_punctuation(c) else c for c in word).split()


def _without_surrogates(text: str) -> str:
    """Halves of surrogate pairs, as undecodable bytes leave them, cannot be given to a library that works in UTF-8."""
    return re.sub("[\ud800-\udfff]", " ", text)


def _alternatives(never_split: Iterable[str], vocab: Vocabulary) -> re.Pattern[str] | None:
    """A pattern with one group that matches any of the tokens, the longest first; None when there are none."""
    tokens = sorted(set(never_split), key=len, reverse=True)
    unknown = [token for token in tokens if token not in vocab.ids]
    if unknown:
        raise UserError(f"never_split: {' '.join(unknown)} not in the vocabulary; name tokens that it holds")
    return re.compile(f"({'|'.join(map(re.escape, tokens))})") if tokens else None
