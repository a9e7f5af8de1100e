"""The corpus of documentation: what counts as prose, and how the corpus is laid out."""

from pathlib import Path

import pytest

from src.errors import UserError
from src.tools import collect_documentation
from src.tools.collect_documentation import docstrings, documents, main, paragraphs, source_files

PROSE = "Return the sorted list of the names that were given, without those that occur more than once."


def test_prose_loses_its_markup_and_line_breaks() -> None:
    marked = "Return the :func:`sorted` list of\nthe *names* that were ``given``,\n  without those that occur twice."
    assert list(paragraphs(marked)) == ["Return the sorted list of the names that were given, without those that "
                                        "occur twice."]


@pytest.mark.parametrize("text", [
    ">>> sorted(names)  # the sorted list of all names that were given to it.",
    "Parameters\n----------\nnames the list of all the names that are to be sorted.",
    "The example that shows what is meant by all of this reads like so::",
    "names: the list of\n        all the names that are to be sorted, each of them once.",
    "Short one.",
    "and this does not begin like a sentence but it is long enough to be one.",
    "This does not end like a sentence but it is long enough to be one",
    "A[i, j] = (b[k] + 2) * c_7 -> x.y(z) and f(a=1, b=2) <= 3e-4 % q[::-1].",
])
def test_what_is_not_prose_is_left_out(text: str) -> None:
    assert list(paragraphs(text)) == []


def test_each_paragraph_is_judged_by_itself() -> None:
    assert list(paragraphs(f"{PROSE}\n\n>>> sorted(names)\n\n{PROSE}")) == [PROSE, PROSE]


def test_docstrings_of_modules_classes_and_functions(tmp_path: Path) -> None:
    source = tmp_path / "module.py"
    source.write_text('"""Module."""\nclass A:\n    """Class."""\n    async def f(self):\n        """Method."""\n'
                      'x = "no docstring"\n')
    assert sorted(docstrings(source)) == ["Class.", "Method.", "Module."]


@pytest.mark.parametrize("content", [b"def f(:\n", b"\xff\xfe\x00", b"x = '\x00'"])
def test_files_that_are_no_python_are_passed_over(tmp_path: Path, content: bytes) -> None:
    source = tmp_path / "template.py"
    source.write_bytes(content)
    assert list(docstrings(source)) == []
    assert list(docstrings(tmp_path / "missing.py")) == []


def test_documents_are_lists_of_sentences_and_repeat_no_paragraph(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one.py", "two.py"):
        own = f"This paragraph is in file {name.removesuffix('.py')} alone, as can be seen. It has a second sentence."
        (tmp_path / name).write_text(f'"""{PROSE}\n\n{own}"""\n')
    monkeypatch.setattr(collect_documentation, "source_files", lambda: sorted(tmp_path.glob("*.py")))
    first, second = list(documents())[-2:]
    assert first == [PROSE, "This paragraph is in file one alone, as can be seen.", "It has a second sentence."]
    assert second == ["This paragraph is in file two alone, as can be seen.", "It has a second sentence."]


@pytest.mark.slow
def test_standard_library_alone_has_a_megabyte_of_english(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(collect_documentation, "PACKAGES", ())
    output_file = tmp_path / "new" / "corpus.txt"
    main(["--output_file", str(output_file)])
    corpus = output_file.read_text(encoding="utf-8")
    assert capsys.readouterr().out == f"{len(corpus):,} characters of English written to {output_file}\n"
    assert len(corpus) > 1_000_000
    texts = corpus.split("\n\n")
    assert len(texts) > 200
    assert all(text and not text.startswith("\n") for text in texts)
    words = corpus.split()
    assert sum(word.lower() in {"the", "a", "of", "to", "is", "and", "in"} for word in words) > 0.15 * len(words)


def test_packages_are_read_without_their_tests() -> None:
    files = [str(file) for file in source_files()]
    assert len(files) == len(set(files)) > 500
    assert not [file for file in files if "/tests/" in file or "/idlelib/" in file]


def test_stripped_python_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collect_documentation, "documents", lambda: iter(()))
    with pytest.raises(UserError, match="no documentation found in .*use another Python, or a text of your own"):
        main(["--output_file", str(tmp_path / "corpus.txt")])
    assert list(tmp_path.iterdir()) == []


def test_unwritable_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="--output_file: cannot write to the directory"):
        main(["--output_file", str(tmp_path / "file" / "corpus.txt")])
