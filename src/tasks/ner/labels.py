"""Entity types, the tags that mark them in a token sequence, and the ids of the tags.

Id 0 is "O", then each type has four tags in the order of the label file: S_ (an entity of one token), B_ (its first
token), M_ (inside) and E_ (its last token). With a CRF the two ids after these are its start and stop states.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from src.errors import UserError
from src.files import atomic_write
from src.json_files import parse_json
from src.text_files import read_text

LARGEST_LABEL_FILE = 1 << 20  # bytes
LABEL_FILE = "label_file"  # what the generators write beside the records
OUTSIDE = "O"
PREFIXES = "SBME"
CRF_STATES = ("<START>", "<STOP>")  # their ids follow those of the tags
OPENING, _CLOSING = "BS", "ES"
_INSIDE = "IM"  # BIO and BIOES say I, this scheme and BMES say M


class Span(NamedTuple):
    """Positions `start` to `end - 1` of a sequence are an entity of this type."""

    start: int
    end: int
    type: str


def spans_of_tags(tags: Iterable[tuple[str, str]]) -> Iterator[Span]:
    """Entities of a sequence of (prefix, type), the prefix one of O B I M E S, in any of the usual schemes.

    The rules are those of the CoNLL evaluation script, so that every sequence has a meaning: an entity ends before O,
    B, S or another type, and after E or S; what follows without a beginning of its own (I, M or E) begins one.
    """
    start, kind, end = None, "", 0
    for position, (prefix, type_) in enumerate(tags):
        if start is not None and (prefix == OUTSIDE or prefix in OPENING or type_ != kind):
            yield Span(start, position, kind)
            start = None
        if prefix != OUTSIDE:
            if start is None:
                start, kind = position, type_
            if prefix in _CLOSING:
                yield Span(start, position + 1, kind)
                start = None
        end = position + 1
    if start is not None:
        yield Span(start, end, kind)


def parse_tag(tag: str) -> tuple[str, str] | None:
    """Split "B-PER" or "B_PER" into ("B", "PER") and "O" into ("O", ""); None when it is no tag."""
    if tag == OUTSIDE:
        return OUTSIDE, ""
    if len(tag) > 2 and tag[0] in PREFIXES + _INSIDE and tag[1] in "-_":
        return tag[0], tag[2:]
    return None


class LabelScheme:
    """The entity types of a task in the order of their ids.

    Attributes:
        types: names of the types.
        tags: names of the tags by id, without the states of a CRF.

    Raises:
        UserError: no type, an empty one, or one named twice.
    """

    def __init__(self, types: Sequence[str], source: str = "the label file") -> None:
        if not types:
            raise UserError(f"{source} names no entity type; expected one type a line")
        for line, name in enumerate(types, 1):
            if not name or any(c.isspace() for c in name):
                raise UserError(f"{source}, line {line}: {name!r} is no entity type; expected one type a line, a name "
                                f"without spaces")
            if name in types[:line - 1]:
                raise UserError(f"{source}, line {line}: the type {name} is there already on line "
                                f"{types.index(name) + 1}; name each type once")
        self.types = tuple(types)
        self.source = source
        self.tags = [OUTSIDE, *(f"{prefix}_{name}" for name in types for prefix in PREFIXES)]
        self._pairs = [(OUTSIDE, ""), *((prefix, name) for name in types for prefix in PREFIXES)]
        self._first_ids = {name: 1 + len(PREFIXES) * i for i, name in enumerate(types)}

    @classmethod
    def from_file(cls, path: str | Path, option: str = "label_file_path") -> "LabelScheme":
        """Read a label file: one type a line, or the JSON object {tag: id} that CLUENER comes with.

        Raises:
            UserError: the file cannot be read or is no label file.
        """
        if not str(path):
            raise UserError(f"{option} is not set; give the label file that was written beside the records, one entity "
                            f"type a line")
        text = read_text(path, option, "expected one entity type a line", LARGEST_LABEL_FILE)
        if text.lstrip().startswith("{"):
            return cls(_types_of_json(text, path, option), f"label file {path}")
        lines = [line.strip() for line in text.rstrip().splitlines()]
        if OUTSIDE in lines or any(line in lines for name in lines for line in (f"B-{name}", f"B_{name}")):
            raise UserError(f"{option}: {path} lists tags ({', '.join(lines[:3])}, …); expected the entity types "
                            f"alone, one a line, such as PER")
        return cls(lines, f"label file {path}")

    def write(self, path: str | Path) -> None:
        """Write the label file that `from_file` reads."""
        with atomic_write(path) as temporary:
            temporary.write_text("".join(f"{name}\n" for name in self.types), encoding="utf-8")

    def num_labels(self, use_crf: bool) -> int:
        """Number of ids, K; a CRF adds the states <START> and <STOP>."""
        return len(self.tags) + len(CRF_STATES) * use_crf

    def encode(self, spans: Iterable[Span], length: int) -> np.ndarray:
        """Ids int32 [length] of a sequence with these entities, which must not overlap and be of known types."""
        ids = np.zeros(length, np.int32)
        for start, end, name in spans:
            single, begin, middle, last = range(self._first_ids[name], self._first_ids[name] + len(PREFIXES))
            ids[start:end] = middle
            ids[start], ids[end - 1] = begin, last
            if end - start == 1:
                ids[start] = single
        return ids

    def decode(self, ids: Iterable[int]) -> list[Span]:
        """Entities of a sequence of tag ids; ids that this scheme lacks mark none."""
        pairs = self._pairs
        return list(spans_of_tags(pairs[i] if 0 <= i < len(pairs) else pairs[0] for i in ids))


def _types_of_json(text: str, path: str | Path, option: str) -> list[str]:
    expected = "one entity type a line, or an object of tags and ids"
    ids = parse_json(text, f"{option}: {path}", expected)
    if not all(type(number) is int for number in ids.values()):
        raise UserError(f"{option}: {path} holds an id that is no whole number; expected {expected}")
    tags = sorted(ids, key=ids.__getitem__)
    types = [tag[2:] for tag in tags if tag.startswith("S_")]
    ours = {tag: i for i, tag in enumerate(LabelScheme(types, f"label file {path}").tags)} if types else {}
    states = dict(zip(CRF_STATES, range(len(ours), len(ours) + 2), strict=True))
    if ids not in (ours, {**ours, **states}):
        raise UserError(f"{option}: the ids of {path} are not O = 0 followed by S_, B_, M_ and E_ of each type, which "
                        f"the records and the network use; give the types alone, one a line")
    return types
