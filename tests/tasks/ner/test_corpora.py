import pytest

from src.errors import UserError
from src.tasks.ner.corpora import TaggedLines, read_cluener, read_msra
from src.tasks.ner.labels import Span


@pytest.fixture
def file_of(tmp_path):
    def write(content, name="data"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path
    return write


def error_of(read, *args):
    with pytest.raises(UserError) as caught:
        list(read(*args))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_cluener_lines(file_of):
    path = file_of('{"text": "北京 的北京", "label": {"address": {"北京": [[0, 1], [4, 5]]}}}\n\n'
                   '{"id": 0, "text": "x"}\n')
    first, second = read_cluener(path)
    assert first.text == "北京 的北京"
    assert first.entities == (Span(0, 2, "address"), Span(4, 6, "address"))
    assert second.entities == ()
    assert second.where == f"{path}, line 3"


@pytest.mark.parametrize("line, message", [
    ("{", "line 1, column 2: no JSON"),
    ('{"label": {}}', "expected"),
    ('{"text": 3}', "expected"),
    ('{"text": "北京", "label": {"address": ["北京"]}}', "expected"),
    ('{"text": "北京", "label": {"address": {"北京": [[1, 2]]}}}', "line 1: characters 1 to 2 are '京', not '北京'"),
])
def test_bad_cluener_lines_are_named(file_of, line, message):
    assert message in error_of(read_cluener, file_of(line))


def test_tagged_words(file_of):
    path = file_of("-DOCSTART- -X- -X- O\n\nEU NNP B-NP B-ORG\nrejects VBZ B-VP O\nNew\tNNP\tI-NP\tB-LOC\r\n"
                   "York NNP I-NP I-LOC\n\n\n. . O O")
    first, second = TaggedLines(path, " ")
    assert first.text == "EU rejects New York"
    assert first.entities == (Span(0, 2, "ORG"), Span(11, 19, "LOC"))
    assert first.where == f"{path}, line 3"
    assert second.text == "."


def test_tagged_characters_of_each_scheme(file_of):
    for tags in ("BIO", "BIE", "BME"):
        content = "".join(f"{c} {t if t == 'O' else f'{t}-PER'}\n" for c, t in zip("abc", tags, strict=True))
        sentence, = TaggedLines(file_of(content), "")
        assert sentence.text == "abc"
        assert sentence.entities == (Span(0, 2 + (tags != "BIO"), "PER"),)
    sentence, = TaggedLines(file_of("a S_PER\nb S_PER\n"), "")
    assert sentence.entities == (Span(0, 1, "PER"), Span(1, 2, "PER"))


def test_spaces_are_characters_too(file_of):
    sentence, = TaggedLines(file_of("a B-X\n  I-X\n\u3000 I-X\nb I-X\n"), "")
    assert sentence.text == "a \u3000b"
    assert sentence.entities == (Span(0, 4, "X"),)


def test_entities_without_a_beginning_are_counted(file_of):
    lines = TaggedLines(file_of("a O\n\nb O\nc I-X\nd I-X\ne I-Y\nf B-X\ng I-X\n"), "")
    assert lines.num_unopened == 0
    assert [sentence.entities for sentence in lines] == [(), (Span(1, 3, "X"), Span(3, 4, "Y"), Span(4, 6, "X"))]
    assert lines.num_unopened == 2
    assert lines.first_unopened == "line 4"


@pytest.mark.parametrize("content, message", [
    ("a O\nb\n", "line 2: 'b' has no tag; expected a token and its tag"),
    ("a O\nb PER\n", "line 2: 'PER' is no tag"),
    ("a O\n\u3000\n", "line 2: '\\u3000' has no tag"),
    ("a O\n".encode("utf-16"), "line 1: byte 0xff is not UTF-8"),
])
def test_bad_tagged_lines_are_named(file_of, content, message):
    path = file_of(content)
    error = error_of(TaggedLines, path, "")
    assert message in error
    assert str(path) in error


def test_msra(file_of):
    path = file_of('<?xml version="1.0" encoding="UTF-8"?>\n<TEXT>\n<SENTENCE><w>在</w>'
                   '<w><NAMEX TYPE="LOCATION">北京</NAMEX></w>'
                   '<w>，<TIMEX TYPE="DATE">今天</TIMEX></w><w><NAMEX TYPE="PERSON">A&amp;B</NAMEX>来</w></SENTENCE>\n'
                   "<SENTENCE><w>无</w></SENTENCE>\n</TEXT>")
    first, second = read_msra(path)
    assert first.text == "在北京，今天A&B来"
    assert first.entities == (Span(1, 3, "LOCATION"), Span(6, 9, "PERSON"))
    assert second.text == "无"
    assert second.where == f"{path}, sentence 2"
    assert read_msra(path, "TIMEX, NAMEX")[0].entities[1] == Span(4, 6, "DATE")


@pytest.mark.parametrize("content, message", [
    ("<TEXT><SENTENCE>", "cannot be read as XML"),
    ("北京 O", "cannot be read as XML"),
    ("<TEXT></TEXT>", "holds no <SENTENCE>"),
    ("<TEXT><SENTENCE>a<NAMEX>b</NAMEX></SENTENCE></TEXT>", "sentence 1: <NAMEX> has no TYPE"),
])
def test_bad_xml_is_named(file_of, content, message):
    assert message in error_of(read_msra, file_of(content))


def test_missing_files_are_named(tmp_path):
    for read, *args in ((read_cluener,), (TaggedLines, ""), (read_msra,)):
        assert "nowhere: No such file" in error_of(read, tmp_path / "nowhere", *args)
