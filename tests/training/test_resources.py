"""What does not fit the machine is said before anything is allocated."""

import os
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from src.bert_model import BertConfig
from src.errors import UserError
from src.training.cost import Workload
from src.training.resources import check_disk, check_memory, machine_memory

GB = 10**9
BASE = BertConfig(vocab_size=30522, type_vocab_size=2)  # 110 M weights, 0.44 GB


def check(machine: float, has_one_length: bool = True, **changes: int) -> None:
    """Check a training of BERT-base, 8 sequences of 128 tokens, with some sizes changed."""
    sizes = {key: changes.pop(key) for key in ("vocab_size", "num_hidden_layers") if key in changes}
    workload = Workload(BertConfig(**{"vocab_size": 30522, "type_vocab_size": 2, **sizes}), 8, 128)
    check_memory(workload._replace(**changes), 4, has_one_length, round(machine * GB))


def test_a_training_that_fits_is_not_mentioned(capsys):
    check(8)
    assert capsys.readouterr() == ("", "")


def test_one_that_may_not_fit_is_warned_of(capsys):
    check(3)  # it was measured to take 4.05 GB
    assert capsys.readouterr().err == ("warning: this training may take 4.0 GB of memory, and this machine has 3.0 GB; "
                                       "lower batch_size if it is killed\n")


@pytest.mark.parametrize(("changes", "message"), [
    ({"batch_size": 10**9}, r"^batch_size: this training needs at least [\d,]{11} GB of memory, [\d,]{11} GB of it"),
    ({"batch_size": 10**9, "has_one_length": False}, "^batch_size: .* 24.0 GB; give less$"),
    ({"vocab_size": 10**12}, "^vocab_size, num_hidden_layers, hidden_size: "),
    ({"num_hidden_layers": 10**9}, "^vocab_size, num_hidden_layers, hidden_size: ")])
def test_one_that_cannot_fit_is_refused(changes, message):
    with pytest.raises(UserError, match=message):
        check(24, **changes)


def test_batches_that_may_be_cut_are_not_refused_for_their_full_length():
    check(24, batch_size=1000, has_one_length=False)
    with pytest.raises(UserError, match="^batch_size: "):
        check(24, batch_size=1000)


# ---------------------------------------------------------------- disk

Usage = namedtuple("Usage", "total used free")


@pytest.mark.parametrize(("free", "count", "warning", "error"), [
    (10, 7, False, False), (9, 7, True, False), (0.7, 1, True, False), (0.6, 1, False, True), (0, 0, False, False)])
def test_room_for_checkpoints(tmp_path, monkeypatch, capsys, free, count, warning, error):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, round(free * GB)))  # a checkpoint takes 1.32 GB
    try:
        check_disk(Workload(BASE, 8, 128), count, tmp_path, "checkpoint_bert")
        assert not error
    except UserError as refusal:
        assert error and str(refusal).startswith("the checkpoints of this training take at least 1.3 GB, and 0.6 GB")
    assert ("the checkpoints of this training take up to" in capsys.readouterr().err) == warning


def test_earlier_checkpoints_make_room(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, 0))
    with (tmp_path / "checkpoint_bert-1_2.ckpt").open("wb") as file:
        file.truncate(GB)  # takes no room itself
    check_disk(Workload(BASE, 8, 128), 1, tmp_path, "checkpoint_bert")
    with pytest.raises(UserError, match="the checkpoints of this training take at least"):
        check_disk(Workload(BASE, 8, 128), 1, tmp_path, "classifier")


# ---------------------------------------------------------------- containers

def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(("cgroup", "files", "expected"), [
    ("0::/a/b", {"a/b/memory.max": "max", "a/memory.max": "3000000", "memory.max": "4000000"}, 3_000_000),
    ("0::/", {"memory.max": "2000000"}, 2_000_000),
    ("0::/not/to/be/seen", {"memory.max": "2000000"}, 2_000_000),
    ("11:cpu,cpuacct:/a\n9:memory:/docker/x\n0::/", {"memory/docker/x/memory.limit_in_bytes": "1000000",
                                                     "memory/memory.limit_in_bytes": "9223372036854771712"}, 1_000_000),
    ("9:memory:/docker/x", {"memory/memory.limit_in_bytes": "1000000"}, 1_000_000),
    ("0::/", {"memory.max": "max"}, None), (None, {}, None)])
def test_limits_of_containers_count(tmp_path, cgroup, files, expected):
    if cgroup is not None:
        write(tmp_path / "proc/self/cgroup", cgroup + "\n")
    for name, content in files.items():
        write(tmp_path / "sys/fs/cgroup" / name, content + "\n")
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert machine_memory(tmp_path) == (expected or whole)


def test_this_machine():
    assert 10**8 < machine_memory() <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
