"""The result of an earlier training is in one place or the other, whatever happens, and never overwritten."""

import os
import shutil
from contextlib import suppress
from pathlib import Path

import pytest
import toy_pretraining
from toy_finetuning import tiny_options, toy_rows, write_rows

import run_classifier
from src.checkpoint_files import find_newest
from src.errors import UserError
from src.model_utils.config import load_config
from src.model_utils.device_adapter import DeviceInfo
from src.tasks.pretraining.task import PretrainTask
from src.tasks.pretraining.training import Pretraining
from src.training.earlier_result import move_aside


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for name, seed in (("train", 0), ("dev", 1)):
        write_rows(folder / f"{name}.mindrecord", toy_rows(16, seed))
    return folder


@pytest.fixture(scope="module")
def trained(data) -> Path:
    """The folder of a training, which was allowed to overwrite."""
    run_classifier.main(tiny_options(data, data / "out", epoch_num=1, overwrite="true"))
    return data / "out"


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a folder and what is in them."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_a_second_training_is_refused_and_touches_nothing(data, trained):
    before = contents(trained)
    with pytest.raises(UserError) as refusal:
        run_classifier.main(tiny_options(data, trained, epoch_num=1, seed=3))
    assert str(refusal.value) == (
        f"save_finetune_checkpoint_path: {trained} holds a training's result (classifier_best.ckpt); go on with it by "
        f"--resume true, move it aside to {trained / 'old-1'} by --overwrite true, or give another directory; to "
        f"evaluate it only, give --do_train false")
    assert contents(trained) == before


def test_the_saved_configuration_is_no_trap(trained):
    """Who evaluates with it and forgets `--do_train false` loses nothing, however the training was started."""
    before = contents(trained)
    with pytest.raises(UserError, match="classifier_best.ckpt.*--do_train false"):
        run_classifier.main(["--config_path", str(trained / "classifier_config.yaml"),
                             "--load_finetune_checkpoint_path", str(trained)])
    assert contents(trained) == before and not list(trained.glob("old-*"))


def test_overwrite_moves_all_of_the_old_result_and_nothing_else(data, trained, tmp_path, capsys):
    out = tmp_path / "out"
    shutil.copytree(trained, out)
    before = contents(out)
    others = {"notes.txt": b"mine", "classifier.ckpt": b"mine", "classifier_best_of_all.ckpt": b"mine",
              "checkpoint_bert-1_2.ckpt": b"of another training"}
    for name, content in others.items():
        (out / name).write_bytes(content)
    run_classifier.main(tiny_options(data, out, epoch_num=1, seed=3, overwrite="true"))
    assert f"moved the result of an earlier training to {out / 'old-1'}\n" in capsys.readouterr().out
    assert contents(out / "old-1") == before
    after = contents(out)
    assert set(after) == {*before, *others} and all(after[name] == content for name, content in others.items())
    assert after["classifier_best.ckpt"] != before["classifier_best.ckpt"]
    assert find_newest(out / "old-1", "classifier")


def test_a_training_that_cannot_begin_moves_nothing(data, trained):
    before = contents(trained)
    with pytest.raises(UserError, match="resume and overwrite are both true"):
        run_classifier.main(tiny_options(data, trained, resume="true", overwrite="true"))
    with pytest.raises(UserError, match="there is no checkpoint"):
        run_classifier.main(tiny_options(data, trained, overwrite="true", load_pretrain_checkpoint_path=data / "none"))
    assert contents(trained) == before and not list(trained.glob("old-*"))


@pytest.mark.parametrize(("path", "goes_on"), [
    ("", False), ("out", True), ("out/checkpoint_bert-1_1.ckpt", True), ("out/bert_base.ckpt", False),
    ("other/checkpoint_bert-1_1.ckpt", False)])
def test_a_pretraining_goes_on_from_a_checkpoint_of_its_folder(tmp_path, path, goes_on):
    config = load_config("", PretrainTask.config_file, toy_pretraining.tiny_options(
        save_checkpoint_path=tmp_path / "out", load_checkpoint_path=path and tmp_path / path))
    assert Pretraining(config, DeviceInfo("CPU", 0, 0, 1)).goes_on(tmp_path / "out") is goes_on


class Killed(BaseException):
    """A SIGKILL, for a test."""


def write_result(folder: Path) -> dict[str, bytes]:
    """Files as a training leaves them; their contents, those of a link's end too."""
    (folder / "elsewhere").mkdir(parents=True)
    for number, name in enumerate(("toy-1_5.ckpt", "toy-1_5.state.safetensors", "toy-1_5.json", "toy_best.about.json",
                                   "elsewhere/best", "metrics.jsonl")):
        (folder / name).write_bytes(bytes([number]) * 9)
    (folder / "toy_best.ckpt").symlink_to("elsewhere/best")
    return contents(folder)


CALLS = [(os, "link"), (Path, "unlink"), (Path, "rename")]


@pytest.mark.parametrize("links", [True, False])
def test_a_kill_leaves_the_result_in_one_place(tmp_path, monkeypatch, links):
    """After every call that changes something; the next try moves what is left."""
    if not links:
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError("no links here")))
    whole = None
    for moment in range(40):
        folder = tmp_path / str(moment)
        before = write_result(folder)
        calls = 0

        def killing(function, moment=moment):
            def call(*arguments, **options):
                nonlocal calls
                calls += 1
                if calls > moment:
                    raise Killed
                return function(*arguments, **options)
            return call

        with monkeypatch.context() as patch:
            for owner, name in (*CALLS, (shutil, "copy2")):
                patch.setattr(owner, name, killing(getattr(owner, name)))
            with suppress(Killed):
                whole = move_aside(folder, "toy", ("metrics.jsonl",))
        places = [contents(place) for place in (folder, folder / "old-1") if place.is_dir()]
        assert before in places, moment
        if whole:
            break
        move_aside(folder, "toy", ("metrics.jsonl",))
        assert contents(folder) == {} and contents(folder / "old-1") == before
    assert whole and moment > 10
    assert (folder / "elsewhere/best").read_bytes() == before["toy_best.ckpt"]
    assert {path.name for path in folder.iterdir()} == {"elsewhere", "old-1"}
