"""Build a WordPiece vocabulary (`vocab.txt`) of a chosen size from raw text in any language.

    python src/tools/build_vocab.py --input_file corpus.txt --vocab_size 8000 --output_file vocab.txt

Words are told apart by the project's own tokenizer. Pieces are learnt from the counts of the words by byte-pair merging
(Sennrich, Haddow and Birch 2016), written as WordPiece writes them: the most frequent pair of neighbouring pieces
becomes a new piece, again and again. Ties are broken by the alphabet, so the same text always gives the same file.
"""

import argparse
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from heapq import heapify, heappop, heappush
from itertools import pairwise
from pathlib import Path

from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the repository, when this file is run by its path
from src.errors import UserError, first_line, run_script  # noqa: E402
from src.files import atomic_write, check_output  # noqa: E402
from src.generate_mindrecord.corpus import Corpus, find_input_files  # noqa: E402
from src.model_utils.switch import SWITCH  # noqa: E402
from src.tokenization import MAX_WORD_CHARACTERS, SPECIAL_TOKENS, BasicTokenizer  # noqa: E402

CHUNK_CHARACTERS = 1 << 20  # text in memory at a time
MAX_COUNTED_WORDS = 1 << 20  # different ones; beyond that the rarest are forgotten, which bounds memory to some 350 MB
MAX_LEARNT_WORDS = 1 << 18  # the most frequent ones, which pieces are learnt from; rarer ones would hardly add any


def build_vocab(files: Iterable[str | Path], vocab_size: int, do_lower_case: bool = True, min_frequency: int = 2,
                limit_alphabet: int | None = None) -> list[str]:
    """Learn the tokens of a vocabulary: the special ones, the alphabet, then merged pieces, the most frequent first.

    Args:
        files: text files, directories or patterns, read as the record generator reads them.
        vocab_size: tokens in all; the result is shorter when the text has too few pairs of pieces to merge.
        do_lower_case: for an uncased vocabulary.
        min_frequency: rarer pieces are left out, single characters excepted.
        limit_alphabet: keep this many characters, the most frequent ones; words with others become [UNK] (default:
            keep all).

    Raises:
        UserError: no text, text that is not UTF-8, or a `vocab_size` that the alphabet does not fit in.
    """
    for option, value in (("--vocab_size", vocab_size), ("--min_frequency", min_frequency),
                          ("--limit_alphabet", limit_alphabet)):
        if value is not None and value < 1:
            raise UserError(f"{option} is {value}, expected at least 1")
    paths = [path for part in files for path in find_input_files(str(part))]
    words = count_words(paths, do_lower_case)
    if not words:
        raise UserError(f"--input_file: no words in {', '.join(map(str, paths[:3]))}{', …' * (len(paths) > 3)}; "
                        f"give files with text")
    alphabet = find_alphabet(words, limit_alphabet)
    tokens = [*SPECIAL_TOKENS, *alphabet]
    if len(tokens) > vocab_size:
        raise UserError(f"--vocab_size is {vocab_size}, but the special tokens and the alphabet of the text need "
                        f"{len(tokens)}; give more than that, or keep fewer characters with --limit_alphabet")
    return tokens + learn_pieces(words, alphabet, vocab_size - len(tokens), min_frequency)


def count_words(paths: Sequence[Path], do_lower_case: bool) -> dict[str, int]:
    """How often each word occurs, the most frequent first, words of equal count in the order of the alphabet."""
    tokenizer = BasicTokenizer(do_lower_case)
    corpus = Corpus(list(paths), CHUNK_CHARACTERS)
    raw: Counter[str] = Counter()  # words before normalisation, which each different one needs only once
    threshold = 0
    with tqdm(total=corpus.size, unit="B", unit_scale=True, desc="counting words", disable=None) as progress:
        for chunk in corpus.chunks():
            for piece in chunk.pieces:
                raw.update("\n".join(piece.lines).translate(tokenizer.characters).split())
            while len(raw) > MAX_COUNTED_WORDS:
                threshold += 1
                raw = Counter({word: count for word, count in raw.items() if count > threshold})
            progress.update(chunk.bytes_read - progress.n)
    words: Counter[str] = Counter()
    for word, count in raw.items():
        for part in tokenizer.split_word(word):
            if len(part) <= MAX_WORD_CHARACTERS:
                words[part] += count
    return dict(sorted(words.items(), key=lambda item: (-item[1], item[0])))


def find_alphabet(words: dict[str, int], limit: int | None) -> list[str]:
    """The pieces of one character: each as the beginning of a word and, if words are made of it, inside of one."""
    counts: Counter[str] = Counter()
    for word, count in words.items():
        for character in word:
            counts[character] += count
    frequent = sorted(counts, key=lambda c: (-counts[c], c))[:limit]
    inside_words = {c for word in words if len(word) > 1 for c in word}  # not ideographs and punctuation
    return sorted(frequent) + sorted("##" + c for c in frequent if c in inside_words)


def learn_pieces(words: dict[str, int], alphabet: Sequence[str], number: int, min_frequency: int) -> list[str]:
    """At most `number` pieces of more than one character, in the order in which they are merged."""
    known = set(alphabet)
    spelled = (([word[0], *("##" + c for c in word[1:])], count) for word, count in words.items() if len(word) > 1)
    usable = [(pieces, count) for pieces, count in spelled if known.issuperset(pieces)]
    merger = _PairMerger(usable[:MAX_LEARNT_WORDS])
    learnt: dict[str, None] = {}  # the same piece can come from different pairs
    with tqdm(total=number, unit=" pieces", desc="merging", disable=None) as progress:
        while len(learnt) < number and (piece := merger.merge_most_frequent(min_frequency)):
            learnt[piece] = None
            progress.update(len(learnt) - progress.n)
    return list(learnt)


class _PairMerger:
    """Words as lists of pieces, with the counts of all pairs of neighbours kept up to date."""

    def __init__(self, words: Iterable[tuple[list[str], int]]) -> None:
        self.words, self.frequencies = [], []
        self.counts: defaultdict[tuple[str, str], int] = defaultdict(int)
        self.places: defaultdict[tuple[str, str], list[int]] = defaultdict(list)  # words that hold or held the pair
        for index, (pieces, count) in enumerate(words):
            self.words.append(pieces)
            self.frequencies.append(count)
            for pair in pairwise(pieces):
                self.counts[pair] += count
                self.places[pair].append(index)
        self.queue = [(-count, pair) for pair, count in self.counts.items()]
        heapify(self.queue)

    def merge_most_frequent(self, min_frequency: int) -> str | None:
        """Merge the most frequent pair everywhere and return the piece; None when all pairs are too rare."""
        while self.queue:
            count, pair = heappop(self.queue)
            current = self.counts.get(pair, 0)
            if current == -count:
                return self._merge(pair) if current >= min_frequency else None
            if 0 < current < -count:  # lowered since; a raised count has been queued already
                heappush(self.queue, (-current, pair))
        return None

    def _merge(self, pair: tuple[str, str]) -> str:
        piece = pair[0] + pair[1].removeprefix("##")
        changes: defaultdict[tuple[str, str], int] = defaultdict(int)
        for index in set(self.places.pop(pair)):
            frequency = self.frequencies[index]
            before = self.words[index]
            after = self.words[index] = _join(before, pair, piece)
            for old in pairwise(before):
                changes[old] -= frequency
            for new in pairwise(after):
                changes[new] += frequency
                if piece in new:
                    self.places[new].append(index)
        for changed, change in changes.items():
            self.counts[changed] += change
            if change > 0:
                heappush(self.queue, (-self.counts[changed], changed))
            elif self.counts[changed] == 0:
                self.counts.pop(changed)
                self.places.pop(changed, None)
        return piece


def _join(pieces: list[str], pair: tuple[str, str], piece: str) -> list[str]:
    joined = []
    for current in pieces:
        if joined and current == pair[1] and joined[-1] == pair[0]:
            joined[-1] = piece
        else:
            joined.append(current)
    return joined


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command with `argv`, by default the process's own arguments."""
    parser = argparse.ArgumentParser(description=first_line(__doc__), allow_abbrev=False)
    add = parser.add_argument
    add("--input_file", required=True, action="append", metavar="PATH",
        help="text: a file, a directory, a glob pattern or a comma-separated list of them; may be repeated")
    add("--output_file", required=True, metavar="FILE", help="vocabulary to write, one token a line")
    add("--vocab_size", type=int, required=True, metavar="N", help="tokens in all, the five special ones included")
    add("--do_lower_case", default=True, **SWITCH, help="for an uncased vocabulary (default true)")
    add("--min_frequency", type=int, default=2, metavar="N",
        help="leave out rarer pieces, single characters excepted (default %(default)s)")
    add("--limit_alphabet", type=int, metavar="N", help="keep only the N most frequent characters (default: all)")
    arguments = parser.parse_args(argv)

    output = check_output(arguments.output_file, "--output_file")
    tokens = build_vocab(arguments.input_file, arguments.vocab_size, arguments.do_lower_case,
                         arguments.min_frequency, arguments.limit_alphabet)
    with atomic_write(output) as temporary:
        temporary.write_text("".join(f"{token}\n" for token in tokens), encoding="utf-8", newline="\n")
    letters = sum(len(token.removeprefix("##")) == 1 for token in tokens)
    print(f"Wrote {len(tokens)} tokens to {output}, {letters} of them single characters")
    if len(tokens) < arguments.vocab_size:
        print(f"note: that is fewer than {arguments.vocab_size}, as no other pair of pieces occurs "
              f"{arguments.min_frequency} times; a network may still use the larger vocab_size")


if __name__ == "__main__":
    run_script(main)
