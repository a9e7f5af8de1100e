"""From text to masked sentence pairs, the task that BERT is pre-trained on (https://arxiv.org/abs/1810.04805, 3.1).

Every chunk of text is tokenized once. Then, for each duplicate anew: `draw_pairs` chooses which sentences form a pair,
as token numbers only; `lay_out` builds the arrays of all the pairs together; `draw_masks` masks them together.

Sentence A and B of a pair are ranges of the chunk's tokens. In half of the pairs B follows A (label 0), in the others
(label 1) it is taken from another document of the chunk.
"""

import random
import re
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from src.errors import UserError
from src.generate_mindrecord.corpus import Chunk, Piece
from src.sentences import split_sentences
from src.tokenization import CJK_CLASS, SPECIAL_TOKENS, FullTokenizer, Vocabulary

NUM_SPECIAL = 3  # [CLS] A [SEP] B [SEP]
SEGMENTERS = ("none", "jieba")

_CHINESE_RUN = re.compile(f"([{CJK_CLASS}]+)")


@dataclass(frozen=True)
class InstanceOptions:
    """The options of the task; defaults are those of the paper's authors."""

    max_seq_length: int = 128
    max_predictions_per_seq: int = 20
    masked_lm_prob: float = 0.15
    short_seq_prob: float = 0.1
    dupe_factor: int = 10
    random_seed: int = 12345
    do_lower_case: bool = True
    do_whole_word_mask: bool = False
    segmenter: str = "none"

    def __post_init__(self) -> None:
        """Refuse impossible values."""
        self._need("max_seq_length", self.max_seq_length >= NUM_SPECIAL + 2,
                   f"at least {NUM_SPECIAL + 2}: [CLS] a [SEP] b [SEP]")
        room = self.max_seq_length - NUM_SPECIAL
        self._need("max_predictions_per_seq", 1 <= self.max_predictions_per_seq <= room,
                   f"1 to {room}, which is max_seq_length without the {NUM_SPECIAL} special tokens")
        self._need("masked_lm_prob", 0 < self.masked_lm_prob <= 1, "above 0 and at most 1")
        self._need("short_seq_prob", 0 <= self.short_seq_prob <= 1, "0 to 1")
        self._need("dupe_factor", self.dupe_factor >= 1, "at least 1")
        self._need("random_seed", self.random_seed >= 0, "0 or more")
        self._need("segmenter", self.segmenter in SEGMENTERS, " or ".join(SEGMENTERS))
        self._need("segmenter", self.segmenter == "none" or self.do_whole_word_mask,
                   "none, unless --do_whole_word_mask true asks for whole words")

    def _need(self, option: str, is_met: bool, expected: str) -> None:
        if not is_met:
            raise UserError(f"--{option} is {getattr(self, option)}, expected {expected}")


@dataclass
class TokenizedChunk:
    """All tokens of a chunk in one array, and where its sentences and pieces begin and end."""

    tokens: np.ndarray  # int32 [T]
    word_starts: np.ndarray  # bool [T], False where a token continues the word of the token before it
    sentences: list[int]  # token number where each sentence begins, and T
    pieces: list[int]  # sentence number where each piece begins, and the number of sentences
    documents: list[int]  # document number of each piece
    num_own_pieces: int  # those to make pairs from; a donor may follow them


@dataclass
class Instances:
    """The instances of one chunk as columns, in the smallest integer types that hold them."""

    columns: dict[str, np.ndarray]  # each [n, length]
    num_sentences: int
    num_without_random: int  # instances that could only be made with the true next sentence

    def __len__(self) -> int:
        """Number of instances."""
        return len(self.columns["input_ids"])


class InstanceMaker:
    """Turns chunks into instances; the result depends on the chunk and the options only."""

    def __init__(self, vocab: Vocabulary, options: InstanceOptions) -> None:
        self.options = options
        self.vocab = vocab
        self._encode = FullTokenizer(vocab, options.do_lower_case).encode
        self._is_inner = np.array([token.startswith("##") for token in vocab.tokens])
        # What a masked word may be replaced with: any token that can occur in text.
        self._replacements = np.array([index for index, token in enumerate(vocab.tokens)
                                       if token not in SPECIAL_TOKENS and not token.startswith("[unused")], np.int32)
        if not len(self._replacements):
            raise UserError("--vocab_file holds nothing but special tokens; give the vocabulary of the text's language")
        self._segment = _load_segmenter(options.segmenter)

    def make(self, chunk: Chunk) -> Instances:
        """All the instances of a chunk, every duplicate, shuffled."""
        options = self.options
        tokenized = self.tokenize(chunk)
        blocks, num_without_random = [], 0
        for duplicate in range(options.dupe_factor):
            rng = np.random.default_rng([options.random_seed, chunk.number, duplicate])
            pairs, has_random = draw_pairs(tokenized, options, random.Random(int(rng.integers(1 << 62))))
            num_without_random += 0 if has_random else len(pairs)
            blocks.append(self.build(tokenized, pairs, rng))
        rng = np.random.default_rng([options.random_seed, chunk.number, options.dupe_factor])
        order = rng.permutation(sum(len(block["input_ids"]) for block in blocks))
        columns = {name: np.concatenate([block[name] for block in blocks])[order] for name in blocks[0]}
        num_sentences = tokenized.pieces[tokenized.num_own_pieces]
        return Instances(columns, num_sentences, num_without_random)

    def tokenize(self, chunk: Chunk) -> TokenizedChunk:
        """Encode the sentences of a chunk; those without a token are dropped, and documents without a sentence."""
        tokens, breaks, sentences, pieces, documents = [], [], [0], [0], []
        num_own_pieces = 0
        for piece in (*chunk.pieces, *([chunk.donor] if chunk.donor else [])):
            for sentence, ids in self._sentences(piece):
                if self._segment:
                    breaks += self._inner_of_words(self._segment, sentence, ids, len(tokens))
                tokens += ids
                sentences.append(len(tokens))
            if len(sentences) - 1 > pieces[-1]:
                pieces.append(len(sentences) - 1)
                documents.append(piece.document)
            if piece is not chunk.donor:
                num_own_pieces = len(documents)
        tokens = np.array(tokens, np.int32)
        word_starts = ~self._is_inner[tokens]
        word_starts[breaks] = False
        return TokenizedChunk(tokens, word_starts, sentences, pieces, documents, num_own_pieces)

    def _sentences(self, piece: Piece) -> Iterator[tuple[str, list[int]]]:
        """Sentences and their ids.

        A line of plain text is a sentence, but one that is too long for any instance is a paragraph more likely;
        cut to size, most of it would be lost.
        """
        room = self.options.max_seq_length - NUM_SPECIAL
        for line in piece.lines:
            ids = [] if piece.is_article else self._encode(line)
            if piece.is_article or len(ids) > room:
                for sentence in split_sentences(line):
                    ids = self._encode(sentence)
                    if ids:
                        yield sentence, ids
            elif ids:
                yield line, ids

    def _inner_of_words(self, segment: Callable[[str], list[str]], sentence: str, ids: list[int], begin: int
                        ) -> list[int]:
        """Numbers of the tokens that continue a word that `segment` finds in a run of Chinese characters.

        The sentence's first token has number `begin`.
        """
        inner, at = [], begin
        for index, part in enumerate(_CHINESE_RUN.split(sentence)):  # odd parts are runs of Chinese characters
            count = len(self._encode(part))
            if index % 2 and count == len(part):  # else some character is not assigned and gave no token
                end = at
                for word in segment(part):
                    inner += range(end + 1, end + len(word))
                    end += len(word)
            at += count
        return inner if at == begin + len(ids) else []

    def build(self, chunk: TokenizedChunk, pairs: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Columns of the pairs (rows of `draw_pairs`): truncated, laid out and masked."""
        options, S = self.options, self.options.max_seq_length
        a, b = truncate(pairs, S - NUM_SPECIAL, rng)
        ids, word_starts, is_text = lay_out(chunk, a, b, self.vocab, S)
        lengths = (a[:, 1] - a[:, 0]) + (b[:, 1] - b[:, 0]) + NUM_SPECIAL  # [n]
        columns = np.arange(S)
        # As many as the authors: a share of all tokens, the special ones included, at least one.
        wanted = np.rint(lengths * options.masked_lm_prob).astype(np.int64).clip(1, options.max_predictions_per_seq)
        if not options.do_whole_word_mask:
            word_starts = is_text
        rows, positions = np.nonzero(draw_masks(word_starts, is_text, wanted, rng))
        counts = np.bincount(rows, minlength=len(ids))
        slots = np.arange(len(rows)) - (np.cumsum(counts) - counts)[rows]
        labels = ids[rows, positions]
        ids[rows, positions] = self._replace(labels, rng)

        P = options.max_predictions_per_seq
        out = {
            "input_ids": ids,  # [n, S]
            "input_mask": (columns < lengths[:, None]).view(np.uint8),  # [n, S]
            "segment_ids": np.zeros(ids.shape, np.uint8),
            "next_sentence_labels": pairs[:, 4:].astype(np.uint8),  # [n, 1]
            "masked_lm_positions": np.zeros((len(ids), P), np.uint16),
            "masked_lm_ids": np.zeros((len(ids), P), np.int32),
            "masked_lm_weights": np.zeros((len(ids), P), np.float32),
        }
        first_of_b = (a[:, 1] - a[:, 0])[:, None] + 2
        out["segment_ids"][(columns >= first_of_b) & (columns < lengths[:, None])] = 1
        out["masked_lm_positions"][rows, slots] = positions
        out["masked_lm_ids"][rows, slots] = labels
        out["masked_lm_weights"][rows, slots] = 1.0
        return out

    def _replace(self, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """What stands in the place of masked tokens: 80 % [MASK], 10 % the token itself, 10 % a random one."""
        draw = rng.random(len(labels))
        words = self._replacements[rng.integers(len(self._replacements), size=len(labels))]
        return np.where(draw < 0.8, self.vocab.mask_id, np.where(draw < 0.9, labels, words))


def draw_pairs(chunk: TokenizedChunk, options: InstanceOptions, rng: random.Random) -> tuple[np.ndarray, bool]:
    """Choose the sentences of each instance, as the authors do.

    Sentences of a document are collected up to the target length, which is the largest possible or, with probability
    `short_seq_prob`, a random shorter one. A random number of them is A. B is the rest, or in half of the instances
    (and always when there is no rest) sentences from a random place of another document; the rest is then used again.

    Returns:
        int64 [n, 5]: A's first token, A's end, B's first token, B's end, 1 for a random B. And whether there was
        another document to take a random B from; if not, B always follows A, and single sentences are dropped.
    """
    room = options.max_seq_length - NUM_SPECIAL
    draw, bounds, pieces = rng.random, chunk.sentences, chunk.pieces
    has_random = len(set(chunk.documents)) > 1
    pairs = []
    for piece in range(chunk.num_own_pieces):
        first, end = pieces[piece], pieces[piece + 1]
        target = room if draw() >= options.short_seq_prob else 2 + int(draw() * (room - 1))
        while first < end:
            begin = bounds[first]
            last = min(end, bisect_left(bounds, begin + target, first + 1, end + 1))  # exclusive
            count = last - first
            middle = first + 1 + (int(draw() * (count - 1)) if count > 1 else 0)  # end of A
            if has_random and (count == 1 or draw() < 0.5):
                other = _other_piece(chunk.documents, piece, draw)
                start = pieces[other] + int(draw() * (pieces[other + 1] - pieces[other]))
                enough = bounds[start] + target - (bounds[middle] - begin)
                stop = min(pieces[other + 1], bisect_left(bounds, enough, start + 1, pieces[other + 1] + 1))
                pairs.append((begin, bounds[middle], bounds[start], bounds[stop], 1))
                first = middle
            else:
                if count > 1:
                    pairs.append((begin, bounds[middle], bounds[middle], bounds[last], 0))
                first = last
    return np.array(pairs, np.int64).reshape(-1, 5), has_random


def _other_piece(documents: list[int], piece: int, draw: Callable[[], float]) -> int:
    """Number of a random piece of another document; there must be one."""
    other = int(draw() * len(documents))
    while documents[other] == documents[piece]:
        other = (other + 1) % len(documents)
    return other


def truncate(pairs: np.ndarray, room: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Shorten A and B until both fit into `room` tokens; int64 [n, 2] (first token, end) each.

    Equal to the authors' loop, which drops one token at a time from the longer (B when equal), at its front or its back
    with equal probability.
    """
    a, b = pairs[:, 0:2].copy(), pairs[:, 2:4].copy()
    size_a, size_b = a[:, 1] - a[:, 0], b[:, 1] - b[:, 0]
    excess = np.maximum(size_a + size_b - room, 0)
    from_a = np.minimum(excess, np.maximum(size_a - size_b, 0))  # until they are equally long
    from_b = np.minimum(excess, np.maximum(size_b - size_a, 0))
    rest = excess - from_a - from_b
    for side, drop in ((a, from_a + rest // 2), (b, from_b + rest - rest // 2)):
        at_front = rng.binomial(drop, 0.5)
        side[:, 0] += at_front
        side[:, 1] -= drop - at_front
    return a, b


def lay_out(chunk: TokenizedChunk, a: np.ndarray, b: np.ndarray, vocab: Vocabulary,
            S: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """[CLS] A [SEP] B [SEP] [PAD]…: ids int32, whether a word begins, whether it is A or B; each [n, S]."""
    size_a, size_b = (a[:, 1] - a[:, 0])[:, None], (b[:, 1] - b[:, 0])[:, None]
    columns, rows = np.arange(S), np.arange(len(a))
    begin_b = size_a + 2
    in_a = (columns >= 1) & (columns <= size_a)
    in_b = (columns >= begin_b) & (columns < begin_b + size_b)
    is_text = in_a | in_b
    source = np.where(in_a, a[:, :1] + columns - 1, np.where(in_b, b[:, :1] + columns - begin_b, 0))
    ids = np.where(is_text, chunk.tokens[source], np.int32(vocab.pad_id))
    ids[:, 0] = vocab.cls_id
    ids[rows, begin_b[:, 0] - 1] = vocab.sep_id
    ids[rows, (begin_b + size_b)[:, 0]] = vocab.sep_id
    word_starts = chunk.word_starts[source] & is_text
    word_starts[:, 1] = True  # truncation may have cut off the beginning of a word; what is left is one
    word_starts[rows, begin_b[:, 0]] = True
    return ids, word_starts, is_text


def draw_masks(word_starts: np.ndarray, is_text: np.ndarray, wanted: np.ndarray,
               rng: np.random.Generator) -> np.ndarray:
    """Choose whole words at random, `wanted` tokens in each row at most; bool [n, S].

    In random order, each word is taken that does not exceed what is still wanted.
    """
    n, S = is_text.shape
    word = np.cumsum(word_starts, axis=1) - 1  # [n, S] number of each token's word
    cells = np.arange(n)[:, None] * S
    sizes = np.bincount((cells + word)[is_text], minlength=n * S)  # of each word, flat [n * S]
    num_words = word_starts.sum(axis=1, keepdims=True)
    keys = rng.random((n, S), np.float32)
    keys[np.arange(S) >= num_words] = 2
    order = np.argsort(keys, axis=1)[:, :int(num_words.max(initial=0))] + cells
    is_chosen = np.zeros(n * S, bool)
    left = wanted.copy()
    for candidates in np.ascontiguousarray(order.T):  # the j-th word of every row
        size = sizes[candidates]
        takes = size <= left
        is_chosen[candidates[takes]] = True
        left -= size * takes
        if not left.any():
            break
    return is_chosen[cells + np.maximum(word, 0)] & is_text


def _load_segmenter(name: str) -> Callable[[str], list[str]] | None:
    """A function that splits a run of Chinese characters into words; None for `none`."""
    if name == "none":
        return None
    try:
        import jieba
    except ImportError as error:
        raise UserError("--segmenter jieba needs the package jieba; install it with: pip install jieba") from error
    jieba.setLogLevel("ERROR")  # it reports the loading of its dictionary otherwise, once for each worker
    return jieba.lcut
