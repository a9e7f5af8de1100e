import os
from pathlib import Path

import pytest

from src.errors import UserError
from src.files import atomic_files, atomic_write, make_output_dir, write_json_lines


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_make_output_dir_makes_parents_and_leaves_nothing_behind(tmp_path):
    path = make_output_dir(tmp_path / "a b" / "c", "--output_dir")
    assert path.is_dir() and names(path) == []
    assert make_output_dir(path, "--output_dir") == path, "an existing directory is fine"


def test_make_output_dir_refuses_a_file(tmp_path):
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match=f"--output_dir: cannot write to the directory {path}"):
            make_output_dir(path, "--output_dir")


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a directory that not even root may write to")
def test_make_output_dir_refuses_a_directory_without_permission():
    with pytest.raises(UserError, match="--save_checkpoint_path: cannot write to the directory /proc/self"):
        make_output_dir("/proc/self", "--save_checkpoint_path")


def test_atomic_write_shows_nothing_until_the_end(tmp_path):
    path = tmp_path / "result"
    path.write_text("old")
    with atomic_write(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new" and names(tmp_path) == ["result"]


def test_atomic_write_keeps_the_old_file_on_errors(tmp_path):
    path = tmp_path / "result"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_write(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old" and names(tmp_path) == ["result"]


def test_atomic_write_of_nothing_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "result"):
        pass
    assert names(tmp_path) == []


def test_atomic_write_reaches_the_disk_before_the_rename(tmp_path, monkeypatch):
    order = []
    real_fsync, real_replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (order.append("fsync"), real_fsync(fd)))
    monkeypatch.setattr(Path, "replace", lambda self, target: (order.append("rename"), real_replace(self, target)))
    with atomic_write(tmp_path / "result") as temporary:
        temporary.write_text("new")
    assert order == ["fsync", "rename"]


def test_atomic_files_moves_all_or_nothing(tmp_path):
    with atomic_files(tmp_path) as temporary:
        for name in ("a.mindrecord", "a.mindrecord.db"):
            (temporary / name).write_text(name)
        assert names(tmp_path) == [temporary.name]
    assert names(tmp_path) == ["a.mindrecord", "a.mindrecord.db"]
    with pytest.raises(RuntimeError), atomic_files(tmp_path) as temporary:
        (temporary / "a.mindrecord").write_text("half")
        raise RuntimeError
    assert names(tmp_path) == ["a.mindrecord", "a.mindrecord.db"]
    assert (tmp_path / "a.mindrecord").read_text() == "a.mindrecord"


def test_json_lines_keep_characters_readable(tmp_path):
    write_json_lines(tmp_path / "out.jsonl", [{"label": "体育"}, {"label": "b"}])
    assert (tmp_path / "out.jsonl").read_text(encoding="utf-8") == '{"label": "体育"}\n{"label": "b"}\n'
