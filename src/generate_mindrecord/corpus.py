"""Raw text for pre-training: find the files, tell documents apart, and hand them on in chunks of bounded size.

Plain text has one sentence a line and a blank line between documents. The output of WikiExtractor is recognised by
itself: `<doc id=… title=…>` … `</doc>`, or (with its --json) one JSON object a line; each article is a document
there, each line a paragraph, and the title, which WikiExtractor repeats as the first paragraph, is left out.
"""

import glob
import html
import re
from collections.abc import Iterator
from io import TextIOWrapper
from itertools import count
from pathlib import Path
from typing import NamedTuple

from src.errors import UserError, quoted
from src.json_files import parse_json

MAX_LINE_CHARACTERS = 1 << 22  # a longer line is read in parts, so that a file without line ends does no harm

_ARTICLE_BEGIN = re.compile(r'<doc\s+id="[^"]*".*>$')
_TITLE = re.compile(r'\btitle="([^"]*)"')


class Piece(NamedTuple):
    """A document, or a part of one that is larger than a piece may be."""

    document: int  # number in the corpus; parts of one document share it
    lines: list[str]  # stripped, none empty
    is_article: bool  # the lines are paragraphs, not sentences


class Chunk(NamedTuple):
    """What one worker turns into instances at a time."""

    number: int
    pieces: list[Piece]
    donor: Piece | None  # of another document, when all the pieces are of one; only a source of random sentences
    bytes_read: int  # of the corpus, up to the end of this chunk


def find_input_files(input_file: str) -> list[Path]:
    """Files that `--input_file` stands for: a file, a directory with all that is below it, a glob, or a comma list.

    Raises:
        UserError: a part of the list stands for no file.
    """
    # A comma may also belong to the name of an existing file.
    parts = [input_file] if Path(input_file).exists() else [part.strip() for part in input_file.split(",")]
    files = []
    for part in filter(None, parts):
        path = Path(part)
        if path.is_dir():
            found = sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith("."))
        elif path.is_file():
            found = [path]
        else:
            matches = glob.glob(part, recursive=True)  # noqa: PTH207, Path.glob takes no absolute pattern
            found = sorted(match for match in map(Path, matches) if match.is_file())
        if not found:
            what = "the directory holds no files" if path.is_dir() else "no such file, directory or pattern match"
            raise UserError(f"--input_file: {part}: {what}; give text files")
        files += found
    if not files:
        raise UserError("--input_file is empty; give text files")
    return files


class Corpus:
    """The documents of some text files, in order.

    Args:
        files: UTF-8 text files.
        chunk_characters: size of a chunk at most. A document of more than a quarter of it is split into pieces of that
            size, if need be in the middle of a line.
    """

    def __init__(self, files: list[Path], chunk_characters: int) -> None:
        self.files = files
        self.chunk_characters = chunk_characters
        try:
            self.size = sum(file.stat().st_size for file in files)  # bytes
        except OSError as error:
            raise UserError(f"--input_file: cannot read {error.filename}: {error.strerror}") from error
        self.num_documents = 0  # so far
        self.num_split_documents = 0  # so far, those larger than a piece
        self.bytes_read = 0

    def chunks(self) -> Iterator[Chunk]:
        """Group the pieces of all files; what a chunk holds depends on nothing but the text and the chunk size."""
        number, pieces, size = 0, [], 0
        other = None  # the last piece so far whose document is not the newest one's
        for piece in self._pieces():
            if pieces and pieces[-1].document != piece.document:
                other = pieces[-1]
            length = sum(map(len, piece.lines))
            if pieces and size + length > self.chunk_characters:
                yield Chunk(number, pieces, self._donor(pieces, other), self.bytes_read)
                number, pieces, size = number + 1, [], 0
            pieces.append(piece)
            size += length
        if pieces:
            yield Chunk(number, pieces, self._donor(pieces, other), self.bytes_read)

    @staticmethod
    def _donor(pieces: list[Piece], other: Piece | None) -> Piece | None:
        documents = {piece.document for piece in pieces}
        return other if len(documents) == 1 and other is not None and other.document not in documents else None

    def _pieces(self) -> Iterator[Piece]:
        limit = self.chunk_characters // 4
        lines, size, parts = [], 0, 0
        for line, is_article in self._paragraphs():
            for begin in range(0, len(line), limit):  # only a line that is larger than a piece gives several parts
                part = line[begin:begin + limit]
                if lines and size + len(part) > limit:
                    yield Piece(self.num_documents, lines, is_article)
                    lines, size, parts = [], 0, parts + 1
                lines.append(part)
                size += len(part)
            if not line and lines:
                yield Piece(self.num_documents, lines, is_article)
                self.num_documents += 1
                self.num_split_documents += parts > 0
                lines, size, parts = [], 0, 0

    def _paragraphs(self) -> Iterator[tuple[str, bool]]:
        """Each line of text and whether it belongs to an article; an empty line at the end of each document."""
        for file in self.files:
            title = None  # of the article that the line is in
            is_json = False  # whether an article came as JSON; then all do
            for number, line in enumerate(self._read_lines(file), 1):
                if title is not None and line.startswith("<doc ") and _ARTICLE_BEGIN.match(line):
                    raise UserError(f"--input_file: {file}, line {number}: an article begins before </doc> ended the "
                                    f"one before; is the file whole?")
                if title is not None and line != "</doc>":
                    if line and line != title:
                        yield line, True
                elif begin := line.startswith("<doc ") and _ARTICLE_BEGIN.match(line):
                    yield "", False
                    found = _TITLE.search(begin.group())
                    title = html.unescape(found.group(1)) if found else ""
                elif line == "</doc>":  # also of an article whose beginning was cut off; its lines are paragraphs too
                    yield "", True
                    title = None
                elif line.startswith("{") and (article := _json_article(line)) is not None:
                    is_json = True
                    yield "", False
                    yield from ((paragraph, True) for paragraph in article)
                    yield "", True
                elif is_json and line:
                    raise UserError(f"--input_file: {file}, line {number}: found {quoted(line)}, expected an article "
                                    f"as in the lines before, a JSON object with a \"text\"; is the file whole?")
                else:
                    yield line, False
            yield "", title is not None

    def _read_lines(self, file: Path) -> Iterator[str]:
        bytes_before = self.bytes_read
        try:
            with file.open("rb") as data, TextIOWrapper(data, encoding="utf-8-sig") as text:
                for number in count():
                    if number % 256 == 0:  # asking after each line would take as long as reading it
                        self.bytes_read = bytes_before + data.tell()
                    line = text.readline(MAX_LINE_CHARACTERS)
                    if not line:
                        break
                    yield line.strip()
                self.bytes_read = bytes_before + data.tell()
        except UnicodeDecodeError:
            raise _not_utf8(file) from None
        except OSError as error:
            raise UserError(f"--input_file: cannot read {file}: {error.strerror}") from error


def _json_article(line: str) -> list[str] | None:
    """Paragraphs of an article written by `WikiExtractor --json`; None when the line is something else."""
    try:
        article = parse_json(line, "", "an article")
    except UserError:
        return None
    if not isinstance(article, dict) or not isinstance(article.get("text"), str):
        return None
    paragraphs = [paragraph.strip() for paragraph in article["text"].split("\n")]
    return [paragraph for paragraph in paragraphs if paragraph and paragraph != article.get("title")]


def _not_utf8(file: Path) -> UserError:
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                return UserError(f"--input_file: {file}, line {number}: byte 0x{line[error.start]:02x} is not UTF-8; "
                                 f"convert the file to UTF-8")
    return UserError(f"--input_file: {file} is not UTF-8; convert the file to UTF-8")
