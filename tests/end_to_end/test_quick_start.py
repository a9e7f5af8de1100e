"""The quick start, whole but small; and whole as it is, which takes minutes, when slow tests are asked for."""

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from paths import REPOSITORY

import quick_start
from src.errors import UserError


def write_text(path: Path, documents: int) -> Path:
    """A small English corpus."""
    subjects, verbs, objects = ("cat", "dog", "bird"), ("sees", "hears", "finds"), ("house", "tree", "river", "road")
    path.write_text("\n\n".join(
        "\n".join(f"The {subjects[(i + j) % 3]} {verbs[j % 3]} the {objects[(i * j) % 4]} of {i}." for j in range(8))
        for i in range(documents)), encoding="utf-8")
    return path


def test_every_step_runs_on_a_text_of_ones_own(tmp_path: Path) -> None:
    text = write_text(tmp_path / "text.txt", 60)
    done = subprocess.run([sys.executable, "quick_start.py", "--output_dir", str(tmp_path / "out put"), "--text",
                           str(text), "--vocab_size", "150", "--train_steps", "6"],
                          cwd=REPOSITORY, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=300)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "out put"
    for name in ("vocab.txt", "train/train.mindrecord", "eval/eval.mindrecord", "checkpoints/metrics.jsonl",
                 "checkpoints/checkpoint_bert-1_6.ckpt", "checkpoints/loss.png"):
        assert (folder / name).stat().st_size, name
    assert re.search(r"masked_lm: acc_num \d+ , total_num \d+, accuracy 0\.\d{6}.* most frequent word", done.stdout)
    assert len(re.findall(r"^The .*\[MASK\].* of \d+\.\n +\S+ 0\.\d\d, ", done.stdout, re.MULTILINE)) == 5


def test_held_out_documents_are_not_trained_on(tmp_path: Path) -> None:
    text = write_text(tmp_path / "text.txt", 45)
    train, held_out = (path.read_text().strip().split("\n\n") for path in quick_start.split_corpus(text, tmp_path))
    assert len(held_out) == 3
    assert sorted(train + held_out) == sorted(text.read_text().split("\n\n"))


def test_a_book_is_split_into_its_chapters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sentences = [f"The {'very ' * (number % 9)}old house of {number} stands by the river." for number in range(400)]
    chapters = [sentences[begin:begin + 10] for begin in range(0, 400, 10)]
    text = tmp_path / "book.txt"
    text.write_text("\n\n\n".join(textwrap.fill(" ".join(chapter), 60) for chapter in chapters), encoding="utf-8")
    train, held_out = (path.read_text().strip().split("\n\n") for path in quick_start.split_corpus(text, tmp_path))
    assert held_out == ["\n".join(chapters[0]), "\n".join(chapters[20])]
    assert train == ["\n".join(chapter) for number, chapter in enumerate(chapters) if number % 20]
    assert re.search(r"^joined \d+ hard-wrapped lines to 40 paragraphs, .* by punctuation$", capsys.readouterr().out)


@pytest.mark.parametrize("content, message",
                         [(None, "cannot read"), (b"\xff\xfe", "UTF-8"), (b"One.\n", "1 documents")])
def test_a_text_of_no_use_is_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    text = tmp_path / "text.txt"
    if content is not None:
        text.write_bytes(content)
    with pytest.raises(UserError, match=message):
        quick_start.split_corpus(text, tmp_path)


@pytest.mark.slow
def test_it_learns(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    quick_start.main(["--output_dir", str(tmp_path)])
    scores = re.search(r"masked_lm: .* accuracy (\S+), loss .* accuracy (\S+)\)", capfd.readouterr().out)
    accuracy, baseline = map(float, scores.groups())
    assert accuracy > 2 * baseline
