"""Hard-wrapped text is told from a sentence a line, and joined to what it was; documents that are held out."""

import random
import textwrap

import numpy as np
import pytest

import src.generate_mindrecord.generate_pretrain_mindrecord as generator
from src.errors import UserError
from src.generate_mindrecord.corpus import Corpus, Selection
from src.records.columns import pretrain_columns
from src.records.mindrecord import MindRecordFile
from src.tokenization import SPECIAL_TOKENS

WORDS = [f"{'bcdfghklmnprst'[i % 14]}{'aeiou'[i % 5]}{'nrstl' * (i % 3)}".ljust(2 + i % 9, "o") for i in range(200)]


def sentences(rng: random.Random, count: int, ends: str = ".") -> list[str]:
    return [" ".join(rng.choices(WORDS, k=rng.randint(2, 30))).capitalize() + ends for _ in range(count)]


def chinese(rng: random.Random, count: int) -> list[str]:
    return ["".join(chr(rng.randint(0x4e00, 0x9f00)) for _ in range(rng.randint(4, 60))) + "。" for _ in range(count)]


@pytest.fixture
def book() -> list[list[list[str]]]:
    """Chapters of paragraphs of sentences."""
    rng = random.Random(7)
    return [[sentences(rng, rng.randint(2, 6)) for _ in range(rng.randint(3, 6))] for _ in range(50)]


def written(path, text: str) -> Corpus:
    path.write_text(text, encoding="utf-8")
    return Corpus([path], 100_000)


@pytest.mark.parametrize("width", [40, 66, 72, 110])
def test_a_wrapped_book_gives_its_sentences_by_chapters(tmp_path, book, width):
    text = "\n\n\n\n".join(
        f"Chapter {number}\n\n\n" + "\n\n".join(textwrap.fill(" ".join(paragraph), width) for paragraph in chapter)
        for number, chapter in enumerate(book, 1))
    corpus = written(tmp_path / "book.txt", text)
    chapters = [[f"Chapter {number}", *sum(chapter, [])] for number, chapter in enumerate(book, 1)]
    assert list(corpus.documents()) == chapters
    paragraphs = sum(map(len, book))
    assert 0 < corpus.joined_paragraphs <= paragraphs
    # The records' generator takes it in pieces, whose paragraphs it splits by itself.
    pieces = [piece for chunk in written(tmp_path / "book.txt", text).chunks() for piece in chunk.pieces]
    assert all(piece.is_article for piece in pieces) and len({piece.document for piece in pieces}) == len(book)


def test_without_chapters_a_paragraph_is_a_document(tmp_path, book):
    text = "\n\n".join(textwrap.fill(" ".join(paragraph), 70) for paragraph in sum(book, []))
    assert list(written(tmp_path / "book.txt", text).documents()) == sum(book, [])


def test_wrapped_chinese_is_joined_without_spaces(tmp_path):
    rng = random.Random(3)
    paragraphs = [chinese(rng, 8) for _ in range(20)]
    text = "\n\n".join("\n".join(textwrap.wrap("".join(paragraph), 40)) for paragraph in paragraphs)
    assert list(written(tmp_path / "book.txt", text).documents()) == paragraphs


@pytest.mark.parametrize(("before", "after", "joined"), [
    ("a drawing-", "room of", "a drawing-room of"), ("he said--", "and went", "he said--and went"),
    ("one -", "two", "one - two"), ("the 1990", "年代", "the 1990 年代"), ("年", "代", "年代")])
def test_what_stands_between_joined_lines(tmp_path, before, after, joined):
    corpus = written(tmp_path / "text.txt", f"{before}\n{after}\n")
    corpus.join_lines = "true"
    assert list(corpus.documents()) == [[joined]]


SENTENCE_A_LINE = {
    "English": lambda rng: sentences(rng, 300), "Chinese": lambda rng: chinese(rng, 300),
    "without marks": lambda rng: sentences(rng, 300, ends=""),
    "words": lambda rng: rng.choices(WORDS, k=300),
    "nearly equal": lambda rng: [line[:60] + "." for line in sentences(rng, 300) if len(line) > 60]}


@pytest.mark.parametrize("kind", SENTENCE_A_LINE)
def test_a_sentence_a_line_stays_as_it_is(tmp_path, kind):
    for seed in range(20):
        rng = random.Random(seed)
        lines = SENTENCE_A_LINE[kind](rng)
        documents = [lines[begin:begin + 7] for begin in range(0, len(lines), 7)]
        corpus = written(tmp_path / "text.txt", "\n\n".join("\n".join(document) for document in documents))
        assert list(corpus.documents()) == documents
        assert not corpus.joined_lines


def test_articles_are_never_joined(tmp_path, book):
    body = "\n".join(textwrap.fill(" ".join(paragraph), 70) for paragraph in book[0])
    corpus = written(tmp_path / "wiki_00", f'<doc id="1" title="T">\nT\n{body}\n</doc>\n' * 3)
    corpus.join_lines = "true"
    lines = next(corpus.chunks()).pieces[0].lines
    assert lines == body.split("\n")


def test_what_gutenberg_puts_around_a_book_is_left_out(tmp_path, book):
    inside = ["\n".join(sentences(random.Random(seed), 30)) for seed in range(2)]
    ebook = "PROJECT GUTENBERG EBOOK X ***\n"
    text = "".join(f"The Project Gutenberg EBook of X\nNo cost.\n\n*** START OF {which} {ebook}{part}\n"
                   f"End of the Project Gutenberg EBook of X\n*** END OF {which} {ebook}\n*** START: FULL LICENSE ***\n"
                   for which, part in zip(("THE", "THIS"), inside, strict=True))
    corpus = written(tmp_path / "text.txt", text)
    assert list(corpus.documents()) == [part.split("\n") for part in inside]
    assert corpus.licence_lines == 2 * 8


# ---------------------------------------------------------------- held-out documents

def test_held_out_documents_are_the_others(tmp_path, book):
    text = "\n\n".join("\n".join(paragraph) for paragraph in sum(book, []))
    path = tmp_path / "text.txt"
    path.write_text(text, encoding="utf-8")
    parts = []
    for held_out in (False, True):
        corpus = Corpus([path], 20_000, selection=Selection(7, held_out))
        pieces = [piece for chunk in corpus.chunks() for piece in chunk.pieces]
        parts.append({piece.document: piece.lines for piece in pieces})
        assert corpus.num_selected == len(parts[-1]) and corpus.num_documents == len(sum(book, []))
    assert list(parts[1]) == list(range(0, len(sum(book, [])), 7))
    assert [(parts[0] | parts[1])[number] for number in range(len(sum(book, [])))] == sum(book, [])


@pytest.fixture
def run(tmp_path, book):
    """Run the command on the wrapped book."""
    (tmp_path / "vocab.txt").write_text("\n".join([*SPECIAL_TOKENS, ".", *sorted(set(WORDS))]) + "\n", encoding="utf-8")
    (tmp_path / "book.txt").write_text("\n\n\n".join("\n\n".join(textwrap.fill(" ".join(paragraph), 70)
                                                                  for paragraph in chapter) for chapter in book))

    def command(*options):
        return generator.main(["--input_file", str(tmp_path / "book.txt"), "--vocab_file", str(tmp_path / "vocab.txt"),
                               "--output_file", str(tmp_path / "out" / "book.mindrecord"), "--max_seq_length", "48",
                               "--dupe_factor", "2", *options])

    return command


def test_the_command_says_what_it_did(run, tmp_path, book, capsys):
    summary = run("--held_out_every", "10")
    printed = capsys.readouterr().out
    lines = [len(textwrap.wrap(" ".join(paragraph), 70)) for chapter in book for paragraph in chapter]
    joined = [count for count in lines if count > 1]
    assert f"joined {sum(joined)} hard-wrapped lines to {len(joined)} paragraphs" in printed
    counts = [len(MindRecordFile(tmp_path / name / "book.mindrecord")) for name in ("out", "out_eval")]
    assert summary.instances == counts[0] and summary.documents == 45
    assert f"Wrote {counts[1]} held-out instances to {tmp_path / 'out_eval/book.mindrecord'}\n5 documents, " in printed
    assert counts[0] > 12 * counts[1] > 0  # nine times the documents, twice


def test_held_out_records_share_no_sentence_with_the_others(run, tmp_path):
    def tokens(name):
        file = MindRecordFile(tmp_path / "out" / name)
        columns = file.read(np.arange(len(file)), pretrain_columns(48, 20))
        ids = columns["input_ids"].copy()
        rows, slots = np.nonzero(columns["masked_lm_weights"])
        ids[rows, columns["masked_lm_positions"][rows, slots]] = columns["masked_lm_ids"][rows, slots]
        return {tuple(row[begin:begin + 6]) for row in ids.tolist() for begin in range(1, 30)
                if not {0, 2, 3} & set(row[begin:begin + 6])}

    run("--held_out_every", "10", "--held_out_file", str(tmp_path / "other" / "dev.mindrecord"))
    train, held_out = tokens("book.mindrecord"), tokens("../other/dev.mindrecord")
    assert len(held_out) > 100
    assert len(train & held_out) < 0.01 * len(held_out)  # six words by chance


@pytest.mark.parametrize(("options", "message"), [
    (["--held_out_every", "1"], "--held_out_every is 1, expected at least 2"),
    (["--held_out_file", "x.mindrecord"], "--held_out_file needs --held_out_every N"),
    (["--held_out_every", "5", "--held_out_file", "{out}/a/dev.mindrecord"], "where a training would read it as well"),
    (["--held_out_every", "5", "--held_out_file", "{tmp}/book.txt"], "book.txt is an input file")])
def test_mistakes(run, tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        run(*(option.format(out=tmp_path / "out", tmp=tmp_path) for option in options))
    assert (tmp_path / "book.txt").read_text()


def test_lines_as_they_are_on_demand(run, capsys):
    summary = run("--join_lines", "false")
    assert "joined" not in capsys.readouterr().out
    assert summary.sentences > run().sentences


# ---------------------------------------------------------------- real data

def test_real_texts(shared_data):
    paths = [path for folder in ("text", "text_large") for path in (shared_data / folder).rglob("*.txt")]
    assert len(paths) >= 8
    joined = set()
    for path in paths:
        corpus = Corpus([path], 100_000)
        next(corpus.chunks())
        joined |= {path.name} if corpus.joined_lines else set()
    assert joined == {"1342-0.txt", "2600-0.txt"}
