"""Raw text for pre-training: find the files, tell documents apart, and hand them on in chunks of bounded size.

Plain text has one sentence a line and a blank line between documents. The output of WikiExtractor is recognised by
itself: `<doc id=… title=…>` … `</doc>`, or (with its --json) one JSON object a line; each article is a document
there, each line a paragraph, and the title, which WikiExtractor repeats as the first paragraph, is left out.
Hard-wrapped text, and what Project Gutenberg puts around a book, are recognised as well; see `wrapped_text.py`.
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
from src.generate_mindrecord.wrapped_text import SAMPLE_CHARACTERS, Layout, join_lines, without_licence
from src.json_files import parse_json
from src.sentences import split_sentences

JOIN_LINES = ("auto", "true", "false")
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


class Selection(NamedTuple):
    """Documents of a corpus, of which every so many-th, from the first on, may be held out for the evaluation."""

    every: int = 0  # none
    held_out: bool = False  # these, or all the others

    def has(self, document: int) -> bool:
        """Whether the document of this number belongs to it."""
        return (self.every > 0 and document % self.every == 0) == self.held_out


EVERYTHING = Selection()


class Corpus:
    """The documents of some text files, in order.

    Args:
        files: UTF-8 text files.
        chunk_characters: size of a chunk at most. A document of more than a quarter of it is split into pieces of that
            size, if need be in the middle of a line.
        join_lines: whether the lines of a paragraph are joined, one of `JOIN_LINES`; auto joins hard-wrapped text.
        selection: the documents to take.
        option: what named the files.
    """

    def __init__(self, files: list[Path], chunk_characters: int, join_lines: str = "auto",
                 selection: Selection = EVERYTHING, option: str = "--input_file") -> None:
        self.files = files
        self.chunk_characters = chunk_characters
        self.join_lines = join_lines
        self.selection = selection
        self.option = option
        try:
            self.size = sum(file.stat().st_size for file in files)  # bytes
        except OSError as error:
            raise UserError(f"{option}: cannot read {error.filename}: {error.strerror}") from error
        self.num_chunks = 0  # so far
        self.num_documents = 0  # so far
        self.num_selected = 0  # of them
        self.num_split_documents = 0  # so far, those larger than a piece
        self.bytes_read = 0
        self.joined_lines = self.joined_paragraphs = self.licence_lines = 0  # so far

    def documents(self) -> Iterator[list[str]]:
        """The selected documents, a sentence a line as far as the text says or punctuation shows."""
        sentences = []
        for line, is_article in self._paragraphs():
            sentences += split_sentences(line) if is_article else [line] if line else []
            if not line and sentences:
                if self._end_document():
                    yield sentences
                sentences = []

    def chunks(self) -> Iterator[Chunk]:
        """Group the pieces of all files; what a chunk holds depends on nothing but the text and the chunk size."""
        pieces, size = [], 0
        other = None  # the last piece so far whose document is not the newest one's
        for piece in self._pieces():
            if pieces and pieces[-1].document != piece.document:
                other = pieces[-1]
            length = sum(map(len, piece.lines))
            if pieces and size + length > self.chunk_characters:
                yield self._chunk(pieces, other)
                pieces, size = [], 0
            pieces.append(piece)
            size += length
        if pieces:
            yield self._chunk(pieces, other)

    def _chunk(self, pieces: list[Piece], other: Piece | None) -> Chunk:
        self.num_chunks += 1
        return Chunk(self.num_chunks - 1, pieces, self._donor(pieces, other), self.bytes_read)

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
                    if self.selection.has(self.num_documents):
                        yield Piece(self.num_documents, lines, is_article)
                    lines, size, parts = [], 0, parts + 1
                lines.append(part)
                size += len(part)
            if not line and lines:
                piece = Piece(self.num_documents, lines, is_article)
                if self._end_document():
                    yield piece
                    self.num_split_documents += parts > 0
                lines, size, parts = [], 0, 0

    def _end_document(self) -> bool:
        """Count a document; return whether it is one of the selected."""
        is_selected = self.selection.has(self.num_documents)
        self.num_documents += 1
        self.num_selected += is_selected
        return is_selected

    def _paragraphs(self) -> Iterator[tuple[str, bool]]:
        """Each line of text and whether it belongs to an article; an empty line at the end of each document."""
        for file in self.files:
            layout = self._layout(file)
            lines = self._read_lines(file)
            if layout.has_licence:
                lines = self._of_book(lines)
            if layout.is_wrapped:
                yield from self._joined(lines, layout.has_chapters)
                continue
            title = None  # of the article that the line is in
            is_json = False  # whether an article came as JSON; then all do
            for number, line in enumerate(lines, 1):
                if title is not None and line.startswith("<doc ") and _ARTICLE_BEGIN.match(line):
                    raise UserError(f"{self.option}: {file}, line {number}: an article begins before </doc> ended the "
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
                    raise UserError(f"{self.option}: {file}, line {number}: found {quoted(line)}, expected an article "
                                    f"as in the lines before, a JSON object with a \"text\"; is the file whole?")
                else:
                    yield line, False
            yield "", title is not None

    def _layout(self, file: Path) -> Layout:
        """What is seen of a file's beginning. The lines of articles are never joined, as each is a paragraph."""
        try:
            with file.open(encoding="utf-8-sig", errors="replace") as text:
                lines = [line.strip() for line in text.read(SAMPLE_CHARACTERS).split("\n")]
        except OSError as error:
            raise UserError(f"{self.option}: cannot read {file}: {error.strerror}") from error
        layout = Layout.of(lines)
        has_articles = any(_ARTICLE_BEGIN.match(line) or _json_article(line) for line in lines if line[:1] in "<{")
        joins = layout.is_wrapped if self.join_lines == "auto" else self.join_lines == "true"
        return layout._replace(is_wrapped=joins and not has_articles)

    def _of_book(self, lines: Iterator[str]) -> Iterator[str]:
        """The lines of the book; those that Project Gutenberg put around it are counted, and blank, as a gap."""
        for line in without_licence(lines):
            self.licence_lines += line is None
            yield line or ""

    def _joined(self, lines: Iterator[str], has_chapters: bool) -> Iterator[tuple[str, bool]]:
        """The paragraphs of wrapped lines, which are counted; an empty one at the end of each document."""
        for paragraph, num_lines in join_lines(lines, has_chapters):
            if num_lines > 1:
                self.joined_lines += num_lines
                self.joined_paragraphs += 1
            yield paragraph, True

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
            raise _not_utf8(file, self.option) from None
        except OSError as error:
            raise UserError(f"{self.option}: cannot read {file}: {error.strerror}") from error


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


def _not_utf8(file: Path, option: str) -> UserError:
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                return UserError(f"{option}: {file}, line {number}: byte 0x{line[error.start]:02x} is not UTF-8; "
                                 f"convert the file to UTF-8")
    return UserError(f"{option}: {file} is not UTF-8; convert the file to UTF-8")
