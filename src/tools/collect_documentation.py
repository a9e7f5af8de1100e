"""Collect English prose that every machine with this project has: the documentation inside Python and its packages.

The result is a pre-training corpus (one sentence a line, a blank line between documents) that needs no download.
Python's language reference comes from `pydoc_data`, the rest are docstrings of its library and of installed packages:

    python src/tools/collect_documentation.py --output_file corpus.txt
"""

import argparse
import ast
import importlib.util
import re
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from src.errors import UserError, first_line, run_script  # noqa: E402
from src.files import atomic_write, check_output  # noqa: E402
from src.sentences import split_sentences  # noqa: E402

PACKAGES = ("numpy", "scipy", "matplotlib", "mindspore")  # installed with the project and richly documented
MARKUP = re.compile(r"[`*]|:[a-z]+:(?=`)")
NOT_PROSE = re.compile(r">>>|::|---|===|\||\\|https?:")
SHORTEST_PARAGRAPH = 40  # characters; below are headings and one-word summaries
LEAST_WORD_SHARE = 0.85  # a paragraph with fewer plain words is code, a signature or a table


def paragraphs(documentation: str) -> Iterator[str]:
    """The paragraphs of one docstring that read as English prose, each as a single line without markup."""
    for paragraph in re.split(r"\n\s*\n", documentation):
        lines = paragraph.split("\n")
        indents = [len(line) - len(line.lstrip()) for line in lines]
        if NOT_PROSE.search(paragraph) or max(indents) - min(indents) > 2:  # hanging indents are parameter lists
            continue
        text = " ".join(MARKUP.sub("", paragraph).split())
        if len(text) < SHORTEST_PARAGRAPH or not text[0].isupper() or text[-1] not in ".?!":
            continue
        words = text.split()
        if sum(word.strip("(),.;:?!'\"").isalpha() for word in words) >= LEAST_WORD_SHARE * len(words):
            yield text


def docstrings(source_file: Path) -> Iterator[str]:
    """The docstrings of one Python file; none if it cannot be parsed."""
    try:
        tree = ast.parse(source_file.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):  # packages ship templates and files for other Python versions
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            documentation = ast.get_docstring(node)
            if documentation:
                yield documentation


def source_files() -> Iterator[Path]:
    """The Python files of the standard library and of `PACKAGES`, in an order that does not depend on the machine."""
    standard_library = Path(sysconfig.get_paths()["stdlib"])
    folders = [standard_library]
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        if spec and spec.submodule_search_locations:
            folders.append(Path(spec.submodule_search_locations[0]))
    for folder in folders:
        for file in sorted(folder.rglob("*.py")):
            if not {"site-packages", "test", "tests", "idlelib"} & set(file.relative_to(folder).parts):
                yield file


def documents() -> Iterator[list[str]]:
    """Documents as lists of sentences; a paragraph that packages repeat is kept once."""
    from pydoc_data.topics import topics

    seen: set[str] = set()
    reference = ([topic] for _, topic in sorted(topics.items()))
    for document in [*reference, *map(docstrings, source_files())]:
        fresh = [text for documentation in document for text in paragraphs(documentation)
                 if not (text in seen or seen.add(text))]
        if fresh:
            yield [sentence for text in fresh for sentence in split_sentences(text)]


def collect_documentation(output_file: str | Path) -> int:
    """Write the corpus to `output_file` and return its number of characters.

    Raises:
        UserError: the file cannot be written, or this Python carries no documentation.
    """
    check_output(output_file, "--output_file")
    corpus = "\n".join("".join(sentence + "\n" for sentence in document) for document in documents())
    if not corpus:
        raise UserError(f"no documentation found in {sysconfig.get_paths()['stdlib']}: this Python was stripped of its "
                        f"docstrings; use another Python, or a text of your own")
    with atomic_write(output_file) as temporary:
        temporary.write_text(corpus, encoding="utf-8")
    return len(corpus)


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=first_line(__doc__))
    parser.add_argument("--output_file", required=True, help="the corpus to write")
    arguments = parser.parse_args(argv)
    size = collect_documentation(arguments.output_file)
    print(f"{size:,} characters of English written to {arguments.output_file}")


if __name__ == "__main__":
    run_script(main)
