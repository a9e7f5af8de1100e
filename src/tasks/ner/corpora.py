"""Readers of named-entity data in the forms in which it is published."""

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from src.errors import UserError, quoted
from src.json_files import parse_json
from src.records.sentences import Place
from src.tasks.ner.labels import Span, parse_tag, spans_of_tags
from src.tasks.ner.text import Sentence
from src.text_files import check_path, read_lines

# In the order of their ids in CLUENER's own label2id.json.
CLUENER_TYPES = ("address", "book", "company", "game", "government", "movie", "name", "organization", "position",
                 "scene")
_CLUENER_EXAMPLE = '{"text": "…", "label": {type: {mention: [[first, last], …]}}}'


def read_cluener(path: str | Path) -> Iterator[Sentence]:
    """Sentences of a CLUENER file: a JSON object a line, {"text", "label": {type: {mention: [[first, last], …]}}}.

    A file to predict has no "label".

    Raises:
        UserError: a line is not of this form, or a mention does not stand where the line says.
    """
    for number, line in read_lines(path):
        if not line.strip():
            continue
        where = Place(path, number)
        content = parse_json(line, where, f"a line such as {_CLUENER_EXAMPLE}")
        try:
            text, label = content["text"], content.get("label", {})
            if not isinstance(text, str):
                raise TypeError
            entities = [(first, last, kind, mention) for kind, mentions in label.items()
                        for mention, places in mentions.items() for first, last in places]
            wrong = next((e for e in entities if text[e[0]:e[1] + 1] != e[3]), None)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise UserError(f"{where}: found {quoted(line.strip())}, expected {_CLUENER_EXAMPLE}") from error
        if wrong:
            raise UserError(f"{where}: characters {wrong[0]} to {wrong[1]} are {quoted(text[wrong[0]:wrong[1] + 1])}, "
                            f"not {quoted(wrong[3])}; correct the positions")
        yield Sentence(text, tuple(Span(first, last + 1, kind) for first, last, kind, _ in entities), where)


class TaggedLines:
    """Sentences of a file with a token and its tag on each line and a blank line after each sentence.

    The first column is the token, the last one the tag (B-, I-, M-, E-, S- or O; `_` may stand for `-`), separated by
    tabs or spaces; lines with -DOCSTART- are skipped.

    Args:
        path: the file.
        separator: what joins the tokens to a text: "" for characters, " " for words.

    Attributes:
        num_unopened: entities seen so far that begin with I-, M- or E-; they count as if with B-.
        first_unopened: where the first of them stands.
    """

    def __init__(self, path: str | Path, separator: str) -> None:
        self.path = path
        self.separator = separator
        self.num_unopened = 0
        self.first_unopened = ""

    def __iter__(self) -> Iterator[Sentence]:
        """Yield the sentences; a line without a tag or with an unknown one is a `UserError`."""
        tokens, tags, first_line = [], [], 1
        for number, line in read_lines(self.path):
            if line.strip(" \t\r\n\ufeff"):
                if line.startswith("-DOCSTART-"):
                    continue
                if not tokens:
                    first_line = number
                token, tag = self._parse(line, number)
                tokens.append(token)
                tags.append(tag)
            elif tokens:
                yield self._sentence(tokens, tags, first_line)
                tokens, tags = [], []
        if tokens:
            yield self._sentence(tokens, tags, first_line)

    def _parse(self, line: str, number: int) -> tuple[str, tuple[str, str]]:
        line = line.rstrip(" \t\r\n")
        token, _, rest = line.partition("\t" if "\t" in line else " ")
        if not rest or rest.isspace():
            raise UserError(f"{self.path}, line {number}: {quoted(line)} has no tag; expected a token and its "
                            f"tag, such as 'Paris B-LOC', or a blank line between sentences")
        name = rest.split()[-1]
        tag = parse_tag(name)
        if tag is None:
            raise UserError(f"{self.path}, line {number}: {quoted(name)} is no tag; expected O, or B-, I-, M-, E- or "
                            f"S- and type")
        return token or " ", tag  # a line that begins with the separator is about a space

    def _sentence(self, tokens: list[str], tags: list[tuple[str, str]], first_line: int) -> Sentence:
        starts, ends, position = [], [], 0
        for token in tokens:
            starts.append(position)
            ends.append(position + len(token))
            position = ends[-1] + len(self.separator)
        entities = list(spans_of_tags(tags))
        for entity in entities:
            if tags[entity.start][0] not in "BS":
                self.num_unopened += 1
                self.first_unopened = self.first_unopened or f"line {first_line + entity.start}"
        spans = tuple(Span(starts[e.start], ends[e.end - 1], e.type) for e in entities)
        return Sentence(self.separator.join(tokens), spans, Place(self.path, first_line),
                        tuple(zip(starts, ends, strict=True)))


def read_msra(path: str | Path, class_filter: str = "NAMEX") -> list[Sentence]:
    """Sentences of the MSRA corpus: XML with <SENTENCE> of <w>, in which <NAMEX TYPE="PERSON"> marks an entity.

    Args:
        path: the file.
        class_filter: the elements that mark entities, separated by commas; others only lend their text.

    Raises:
        UserError: the file cannot be read, is no XML, or holds no sentence.
    """
    markers = {name.strip() for name in class_filter.split(",")}
    sentences = []
    try:
        for _, element in ElementTree.iterparse(check_path(str(path))):
            if element.tag == "SENTENCE":
                where = Place(path, len(sentences) + 1, "sentence")
                text, entities = _flatten(element, markers, where)
                sentences.append(Sentence(text, tuple(entities), where))
                element.clear()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; give an existing file") from error
    except (ElementTree.ParseError, ValueError) as error:
        raise UserError(f"{path} cannot be read as XML: {error}; expected the MSRA corpus in UTF-8, with <SENTENCE> "
                        f"and <NAMEX TYPE=\"…\">") from error
    if not sentences:
        raise UserError(f"{path} holds no <SENTENCE>; expected the MSRA corpus in XML")
    return sentences


def _flatten(sentence: ElementTree.Element, markers: set[str], where: str) -> tuple[str, list[Span]]:
    parts, entities, length = [], [], 0

    def add(text: str | None) -> None:
        nonlocal length
        parts.append(text or "")
        length += len(parts[-1])

    def walk(element: ElementTree.Element) -> None:
        start = length
        add(element.text)
        for child in element:
            walk(child)
            add(child.tail)
        if element.tag in markers and length > start:
            if "TYPE" not in element.attrib:
                raise UserError(f"{where}: <{element.tag}> has no TYPE; expected such as <{element.tag} "
                                f"TYPE=\"PERSON\">")
            entities.append(Span(start, length, element.attrib["TYPE"]))

    walk(sentence)
    return "".join(parts), entities
