"""Hard-wrapped text, as Project Gutenberg's: find out that it is, join its lines to paragraphs, leave the licence out.

A blank line ends a paragraph there, and two or more a chapter, which is the document. In a text without such gaps each
paragraph is a document, as a blank line says everywhere else.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

SAMPLE_CHARACTERS = 300_000  # that the layout of a text is seen from: 4,000 wrapped lines
_FEWEST_JOINTS = 10  # with fewer ends of lines inside of paragraphs nothing can be told
_NARROWEST, _WIDEST = 30, 200  # characters of a line on a screen or a page
_MOST_PERCENT_WIDER = 2  # lines that were left longer than the others, as addresses are
# Measured on English and Chinese: 67 to 100 % of wrapped lines are full and 0 to 6 % end with a sentence; where a line
# is a sentence, these are 2 to 4 % and 84 to 100 %.
_FULL_LINES, _SENTENCE_ENDS = 0.4, 0.5

_ENDS_SENTENCE = re.compile(r"[.!?:;。！？：；…][\"'”’」』）)\]]*$")
_CJK = re.compile(r"[\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef]")
_START = re.compile(r"\*\*\* ?START OF (THE|THIS) PROJECT GUTENBERG E(BOOK|TEXT)\b", re.IGNORECASE)
_END = re.compile(r"(\*\*\* ?)?END OF (THE |THIS )?PROJECT GUTENBERG('S)? E(BOOK|TEXT)\b", re.IGNORECASE)


class Layout(NamedTuple):
    """How a text lies in its file, from its first lines."""

    is_wrapped: bool  # lines end where they are full, not where sentences do
    has_chapters: bool  # there are gaps of several blank lines
    has_licence: bool  # Project Gutenberg says where the book begins

    @classmethod
    def of(cls, lines: Sequence[str]) -> "Layout":
        """The layout of a text whose stripped first lines are these."""
        starts = [number for number, line in enumerate(lines) if _START.match(line)]
        lines = lines[starts[0] + 1:] if starts else lines
        has_chapters = any(not before and not line for before, line in pairwise(_without_edges(lines)))
        return cls(_is_wrapped(lines), has_chapters, bool(starts))


def _without_edges(lines: Sequence[str]) -> Sequence[str]:
    """The lines from the first to the last that is not blank."""
    used = [number for number, line in enumerate(lines) if line]
    return lines[used[0]:used[-1] + 1] if used else ()


def _is_wrapped(lines: Sequence[str]) -> bool:
    """Whether lines inside of paragraphs are full: the first word of the next one would make them wider than most."""
    joints = [(before, line) for before, line in pairwise(lines) if before and line]
    if len(joints) < _FEWEST_JOINTS:
        return False
    lengths = np.array([len(before) for before, _ in joints])
    width = np.percentile(lengths, 100 - _MOST_PERCENT_WIDER)
    longer = lengths + [len(_first_word(line)) + _needs_space(before, line) for before, line in joints]
    ends = [bool(_ENDS_SENTENCE.search(before)) for before, _ in joints]
    return bool(_NARROWEST <= width <= _WIDEST and np.mean(longer > width) >= _FULL_LINES
                and np.mean(ends) <= _SENTENCE_ENDS)


def _first_word(line: str) -> str:
    """What cannot be parted from the begin of a line: a character of Chinese, or what stands before a space."""
    return line[0] if _CJK.match(line) else line.split(maxsplit=1)[0]


def _needs_space(before: str, line: str) -> bool:
    """Whether two lines are joined by a space: not in Chinese, nor inside of a word with a hyphen, nor at a dash."""
    has_hyphen = before[-1] in "-—" and before[-2:-1].strip() != ""
    return not has_hyphen and not (_CJK.match(before[-1]) and _CJK.match(line[0]))


def join_lines(lines: Iterable[str], has_chapters: bool) -> Iterator[tuple[str, int]]:
    """The paragraphs of wrapped lines, each with the number of its lines; ("", 0) ends a document.

    A chapter's heading belongs to what follows: a document has running text, a paragraph of two lines or more.
    """
    paragraph: list[str] = []
    blank_lines, has_text = 0, False
    for line in lines:
        if line:
            if has_text and blank_lines >= (2 if has_chapters else 1):
                yield "", 0
                has_text = False
            blank_lines = 0
            paragraph.append(line)
            continue
        blank_lines += 1
        if paragraph:
            yield _joined(paragraph), len(paragraph)
            has_text = has_text or len(paragraph) > 1 or not has_chapters
            paragraph = []
    if paragraph:
        yield _joined(paragraph), len(paragraph)
    yield "", 0


def _joined(lines: Sequence[str]) -> str:
    parts = [lines[0]]
    for before, line in pairwise(lines):
        parts += [" ", line] if _needs_space(before, line) else [line]
    return "".join(parts)


def without_licence(lines: Iterable[str]) -> Iterator[str | None]:
    """The lines of the books in a file of Project Gutenberg; None for each that stands outside of them."""
    is_inside = False
    for line in lines:
        if _START.match(line) or _END.match(line):
            is_inside = bool(_START.match(line))
            yield None
        else:
            yield line if is_inside else None
