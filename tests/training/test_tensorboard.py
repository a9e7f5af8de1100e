"""Event files: TensorBoard's own form, whole at any moment, and one curve for a run however often it was resumed."""

import struct
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from events import curve, read_events, records, texts
from toy_reports import PLAN, at

from src.errors import UserError
from src.records.tfrecord import crc32c, mask_crc
from src.training import tensorboard
from src.training.tensorboard import TensorBoard

pytest.importorskip("tensorboardX")


def board(folder: Path, steps: range) -> None:
    """A run of some steps that is killed, so that nothing is closed, with a score at every third step."""
    writer = TensorBoard(folder, replace(PLAN, start_step=steps.start - 1))
    for step in steps:
        writer.on_step(at(step, loss=10.0 - step, samples_per_second=0.0 if step == steps.start else 50.0))
        if step % 3 == 0:
            writer.write(step, f1=step / 100)
            writer.write_text(step, f"| after {step} |")
    writer.write_text(steps[-1], "")


def test_every_number_is_in_the_file_at_once(tmp_path: Path) -> None:
    board(tmp_path / "new", range(1, 4))
    [path] = (tmp_path / "new").iterdir()
    assert path.name.startswith("events.out.tfevents.")
    events = read_events(path)
    assert events[0].file_version == "brain.Event:2"
    assert curve(events, "train/loss") == {1: 9.0, 2: 8.0, 3: 7.0}
    assert curve(events, "train/learning_rate") == pytest.approx(dict.fromkeys((1, 2, 3), 1e-4))
    assert curve(events, "train/loss_scale") == dict.fromkeys((1, 2, 3), 65536.0)
    assert curve(events, "train/samples_per_second") == dict.fromkeys((2, 3), 50.0)  # not known for the first step
    assert curve(events, "evaluation/f1") == pytest.approx({3: 0.03})
    assert texts(events, "predictions") == [(3, "| after 3 |")]


@pytest.mark.parametrize("seconds", [0, 5])
def test_a_resumed_run_goes_on_in_the_same_curves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                  seconds: int) -> None:
    now = 1_700_000_000.0
    monkeypatch.setattr(tensorboard.time, "time", lambda: now)
    board(tmp_path, range(1, 8))
    now += seconds  # within one second the file is the same
    board(tmp_path, range(6, 11))  # from the checkpoint after step 5
    events = read_events(*sorted(tmp_path.iterdir()))
    assert curve(events, "train/loss") == {step: 10.0 - step for step in range(1, 11)}
    assert list(curve(events, "evaluation/f1")) == [3, 6, 9]


def test_a_new_run_replaces_the_curves_of_an_earlier_one(tmp_path: Path) -> None:
    board(tmp_path, range(1, 8))
    board(tmp_path, range(1, 3))
    assert list(curve(read_events(*sorted(tmp_path.iterdir())), "train/loss")) == [1, 2]


def test_records_are_framed_as_in_tfrecord(tmp_path: Path) -> None:
    board(tmp_path, range(1, 4))
    content = next(tmp_path.iterdir()).read_bytes()
    assert len(records(content)) == 2 + 3 + 2
    framed = [np.frombuffer(part, np.uint8) for data in records(content)
              for part in (struct.pack("<Q", len(data)), data)]
    sizes = np.array([len(part) for part in framed])
    checksums = mask_crc(crc32c(np.concatenate(framed), np.cumsum(sizes) - sizes, sizes))
    assert content == b"".join(part.tobytes() + struct.pack("<I", checksum)
                               for part, checksum in zip(framed, checksums.tolist(), strict=True))


@pytest.mark.slow  # imports TensorFlow
def test_tensorflow_reads_it(tmp_path: Path) -> None:
    pytest.importorskip("tensorflow")
    from tensorflow.compat.v1.train import summary_iterator

    board(tmp_path, range(1, 4))
    events = list(summary_iterator(str(next(tmp_path.iterdir()))))  # checks the checksums
    assert [value.simple_value for event in events for value in event.summary.value if value.tag == "train/loss"] == [
        9.0, 8.0, 7.0]


def test_without_the_package_it_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX.proto", None)
    with pytest.raises(UserError, match=r"^tensorboard_dir needs the package tensorboardX; install it with: pip "
                                        r"install -r requirements-tensorboard\.txt$"):
        TensorBoard(tmp_path / "new", PLAN)
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=f"^tensorboard_dir: cannot write to the directory {tmp_path}/file: "):
        TensorBoard(tmp_path / "file", PLAN)


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    writer = TensorBoard(tmp_path, PLAN)
    writer.file.close()
    full = pytest.raises(UserError, match="cannot write .*; free space")
    with Path("/dev/full").open("wb", buffering=0) as writer.file, full:
        writer.on_step(at(1))
    assert writer.path.stat().st_size > 0
