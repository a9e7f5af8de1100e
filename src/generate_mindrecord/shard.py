"""Several machines share a corpus: each reads all of it, and makes the instances of every so many-th chunk only.

Nothing but its number, the text and the options decides what is made of a chunk, so the machines need not talk to each
other, and together they write the instances of one run. Each has file names of its own, for a file system that they
share.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from src.errors import UserError, shown
from src.files import is_passed_on
from src.generate_mindrecord.corpus import Chunk, Corpus

_DIVISION = re.compile(r"_\d+_of_(\d+)$")


class EmptyShardError(UserError):
    """The text has fewer chunks than there are machines, and none for this one."""


class Shard(NamedTuple):
    """The part of one of `count` machines, `number` counting from 1."""

    number: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Read I/N."""
        match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
        shard = cls(int(match[1]), int(match[2])) if match else None
        if shard is None or not 1 <= shard.number <= shard.count:
            raise UserError(f"--shard {shown(text)}: expected I/N such as 2/8 with 1 <= I <= N, the number of this "
                            f"machine and that of all")
        return shard

    def __str__(self) -> str:
        """As the user writes it."""
        return f"{self.number}/{self.count}"

    @property
    def is_whole(self) -> bool:
        """Whether this machine does everything."""
        return self.count == 1

    def chunks_of(self, corpus: Corpus) -> Iterator[Chunk]:
        """The chunks of a corpus that are this machine's."""
        return (chunk for chunk in corpus.chunks() if chunk.number % self.count == self.number - 1)

    def check_chunks(self, corpus: Corpus) -> None:
        """Make sure that a corpus that was read had a chunk for this machine.

        Raises:
            EmptyShardError: it had not.
        """
        if 0 < corpus.num_chunks < self.number:
            what = "the held-out documents make" if corpus.selection.held_out else "the text makes"
            raise EmptyShardError(f"--shard {self}: {what} {corpus.num_chunks} chunks of {corpus.chunk_characters} "
                                  f"characters at most, which are in the shards before, and none is left for this one; "
                                  f"share it among {corpus.num_chunks} machines at most")

    def file(self, path: Path) -> Path:
        """The name of this machine's part of a file: a.mindrecord becomes a_2_of_8.mindrecord."""
        if self.is_whole or is_passed_on(path):
            return path
        return path.with_stem(f"{path.stem}_{self.number}_of_{self.count}")

    def check_others(self, paths: Sequence[Path]) -> None:
        """Make sure that beside this machine's files there are none that hold the same text, otherwise divided.

        Raises:
            UserError: there is one, and a training would take its instances twice.
        """
        for path in () if self.is_whole else paths:
            stem = _DIVISION.sub("", path.stem)
            for other in path.parent.iterdir():
                division = _DIVISION.search(other.stem)
                is_same_text = other.suffix == path.suffix and _DIVISION.sub("", other.stem) == stem
                if is_same_text and (division is None or int(division[1]) != self.count):
                    raise UserError(f"--shard {self}: {other} lies beside {path.name} and is no part of the same "
                                    f"division, so that a training would read its text twice; move it away, or give "
                                    f"another directory")


WHOLE = Shard()
