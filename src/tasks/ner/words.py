"""Words as units: those of running text, as data with a word a line have them, and which token gives a word its tag."""

import re
from bisect import bisect_left
from collections.abc import Sequence

from src.tokenization import CJK_CLASS, is_punctuation

_RUN = re.compile(f"[{CJK_CLASS}]|[^\\s{CJK_CLASS}]+")
_ABBREVIATION = re.compile(r"(?:\w\.)+\w")  # its last full stop belongs to it
_POSSESSIVE = ("'s", "’s", "'S", "’S")


def by_first_piece(words: Sequence[tuple[int, int]], starts: Sequence[int]) -> tuple[list[int], list[int], list[int]]:
    """The fields of `Units` for words, each with the tag of its first piece, as conlleval and seqeval have them.

    The network tags every piece, and a CRF finds the best path over all; the tags of the other pieces do not count.

    Args:
        words: the first character of each, and the one after its last; a word without a token is left out.
        starts: the first character of each token.
    """
    firsts = [(bisect_left(starts, start), start, end) for start, end in words]
    kept = [unit for unit in firsts if unit[0] < len(starts) and starts[unit[0]] < unit[2]]
    return [first for first, _, _ in kept], [start for _, start, _ in kept], [end for _, _, end in kept]


def split_words(text: str) -> list[tuple[int, int]]:
    """Words of running text, as data with a word a line would hold them: "(all-rounder" is "(" and "all-rounder".

    What stands between spaces is a word, without the punctuation marks at its ends, which are words of their own, as
    are the possessive 's and Chinese characters. The full stop of an abbreviation such as U.S. stays with it.
    """
    words = []
    for run in _RUN.finditer(text):
        start, end = run.span()
        while start < end and is_punctuation(text[start]):
            words.append((start, start + 1))
            start += 1
        last = end
        while last > start and is_punctuation(text[last - 1]):
            last -= 1
        if text[last:last + 1] == "." and last < end and _ABBREVIATION.fullmatch(text, start, last):
            last += 1
        cut = last - 2 if last - start > 2 and text[last - 2:last] in _POSSESSIVE else last
        words += [word for word in ((start, cut), (cut, last)) if word[0] < word[1]]
        words += [(mark, mark + 1) for mark in range(last, end)]
    return words
