import json
import os
import random
import resource
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn
from paths import REPOSITORY
from safetensors.numpy import save_file

from src.checkpoint_files import Checkpoint, find_newest, list_checkpoints, open_checkpoint, read_about
from src.errors import UserError
from src.training import checkpoint as cp
from src.weights import LoadReport, load_weights, read_weights, save_weights


class Inner(nn.Cell):
    """Stands for BertModel: names without a prefix."""

    def __init__(self, width=4):
        super().__init__()
        self.embedding_table = ms.Parameter(np.zeros((width, 3), np.float32), name="embedding_table")
        self.dense = nn.Dense(3, 3, weight_init="zeros", bias_init="zeros")


class Network(nn.Cell):
    """Stands for the pre-training network: `bert.bert.` names and a head."""

    def __init__(self, width=4):
        super().__init__()
        self.bert = Inner(width)
        for parameter in self.bert.get_parameters():
            parameter.name = "bert.bert." + parameter.name.removeprefix("bert.")
        self.head = ms.Parameter(np.zeros(2, np.float32), name="bert.cls2.dense.bias")


class Step(nn.Cell):
    """Stands for TrainStep: the network, moments, a step counter and a loss scale."""

    def __init__(self, width=4, optimizer="adam"):
        super().__init__(auto_prefix=False)
        self.network = Network(width)
        self.moments = ms.ParameterTuple([
            ms.Parameter(np.zeros(parameter.shape, np.float32), name=f"{optimizer}.{parameter.name}")
            for parameter in self.network.get_parameters()])
        self.global_step = ms.Parameter(ms.Tensor(0, ms.int32), name="global_step")
        self.scale = ms.Parameter(ms.Tensor(1.0, ms.float32), name="scale")

        self.scratch = ms.Parameter(np.zeros(5, np.float32), name="accumulated")  # no state: not to be saved

    def state(self):
        return {parameter.name: parameter for parameter in (*self.moments, self.global_step, self.scale)}

    def fill(self, seed):
        for index, parameter in enumerate(self.get_parameters()):
            values = np.random.default_rng((seed, index)).normal(0, 10, parameter.shape)
            parameter.set_data(ms.Tensor(values, parameter.dtype))
        return self

    def values(self):
        return {parameter.name: parameter.asnumpy().copy() for parameter in self.get_parameters()
                if parameter.name != "accumulated"}


def same(left, right):
    return left.keys() == right.keys() and all(np.array_equal(left[name], right[name]) for name in left)


def save(directory, step, keep=10, epoch=1, seed=None, **metadata):
    return cp.save_training_checkpoint(directory, epoch, step, Step().fill(step if seed is None else seed),
                                       {"position": step, **metadata}, keep)


def names(directory):
    return sorted(path.name for path in Path(directory).iterdir())


# ---------------------------------------------------------------- save and restore

def test_restore_brings_back_every_parameter_and_the_metadata(tmp_path):
    path = save(tmp_path, 7, seed=5, digest="abc", counts={2: 0.1, 10: None})
    assert names(tmp_path) == ["checkpoint_bert-1_7.ckpt", "checkpoint_bert-1_7.json",
                               "checkpoint_bert-1_7.state.safetensors"]
    assert path == tmp_path / "checkpoint_bert-1_7.ckpt"
    step = Step()
    found = find_newest(tmp_path)
    assert (found.path, found.epoch, found.step) == (path, 1, 7)
    assert cp.restore_training(step, found) == {"position": 7, "digest": "abc", "counts": {"2": 0.1, "10": None}}
    assert same(step.values(), Step().fill(5).values())


def test_weights_of_a_directory_are_those_of_its_newest_checkpoint(tmp_path):
    save(tmp_path, 3)
    newest = save(tmp_path, 7)
    network = Step().network
    assert load_weights(network, tmp_path).path == newest
    assert all(np.array_equal(parameter.asnumpy(), read_weights(newest)[parameter.name])
               for parameter in network.get_parameters())


def test_ckpt_holds_only_the_network_and_is_read_by_mindspore(tmp_path):
    loaded = ms.load_checkpoint(str(save(tmp_path, 7)))
    network = Step().fill(7).network
    assert same({name: value.asnumpy() for name, value in loaded.items()},
                {parameter.name: parameter.asnumpy() for parameter in network.get_parameters()})


def test_files_have_the_permissions_of_ordinary_files(tmp_path):
    old = os.umask(0o027)
    try:
        save(tmp_path, 1)
    finally:
        os.umask(old)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o640}


def test_saving_the_same_step_again_replaces_it(tmp_path):
    save(tmp_path, 3, seed=1)
    save(tmp_path, 3, seed=2)
    step = Step()
    cp.restore_training(step, find_newest(tmp_path))
    assert same(step.values(), Step().fill(2).values())


@pytest.mark.parametrize("cell, told", [
    (lambda: Step(width=5), "another network: bert.bert.embedding_table is [4, 3] there and [5, 3] here"),
    (lambda: Step(optimizer="lamb"), "another optimizer or loss scaling: it has no lamb.bert."),
])
def test_another_setup_is_refused_and_changes_nothing(tmp_path, cell, told):
    save(tmp_path, 3)
    step = cell().fill(9)
    before = step.values()
    with pytest.raises(UserError) as caught:
        cp.restore_training(step, find_newest(tmp_path))
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
    assert same(step.values(), before)


@pytest.mark.parametrize("name", ["absent", "file"])
def test_directory_that_cannot_be_written(tmp_path, name):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="cannot save a checkpoint in"):
        save(tmp_path / name, 1)


@pytest.mark.parametrize("room", [100, 300])  # too little for the .ckpt, for the .state.safetensors
def test_full_disk_leaves_the_old_checkpoint(tmp_path, room):
    save(tmp_path, 1)
    before = names(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        with pytest.raises(UserError) as caught:
            save(tmp_path, 2, keep=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert "File too large" in str(caught.value)
    assert names(tmp_path) == before
    assert find_newest(tmp_path).step == 1


# ---------------------------------------------------------------- which one is the newest, which ones stay

def test_keeps_the_last_n(tmp_path):
    for step in (1, 2, 3, 4):
        save(tmp_path, step, keep=2)
    assert {name.split(".")[0] for name in names(tmp_path)} == {"checkpoint_bert-1_3", "checkpoint_bert-1_4"}
    assert find_newest(tmp_path).step == 4


def test_a_new_training_does_not_delete_later_steps_of_an_old_one(tmp_path):
    save(tmp_path, 5000, keep=1)
    save(tmp_path, 10, keep=1)
    save(tmp_path, 20, keep=1)
    assert {name.split(".")[0] for name in names(tmp_path)} == {"checkpoint_bert-1_5000", "checkpoint_bert-1_20"}
    assert find_newest(tmp_path).step == 20  # the last one written


def test_nothing_found(tmp_path):
    (tmp_path / "checkpoint_bert-1_3.ckpt").write_bytes(b"weights of another program")
    (tmp_path / "other-1_3.json").write_text("{}")
    assert find_newest(tmp_path) is None


def damage_truncate(path):
    path.write_bytes(path.read_bytes()[:-5])


def damage_flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def damage_remove(path):
    path.unlink()


@pytest.mark.parametrize("ending", [".ckpt", ".state.safetensors", ".json"])
@pytest.mark.parametrize("damage", [damage_truncate, damage_flip, damage_remove])
def test_torn_newest_is_skipped_with_one_line(tmp_path, capsys, ending, damage):
    save(tmp_path, 1)
    torn = save(tmp_path, 2)
    damage(torn.with_name(f"checkpoint_bert-1_2{ending}"))
    assert find_newest(tmp_path).step == 1
    warnings = capsys.readouterr().err.splitlines()
    assert len(warnings) == 1
    assert warnings[0].startswith(f"warning: skipping the checkpoint {torn}: checkpoint_bert-1_2{ending}")
    if not (ending == ".state.safetensors" and damage is damage_remove):
        with pytest.raises(UserError, match="is damaged"):
            open_checkpoint(torn)


@pytest.mark.parametrize("ending", [".ckpt", ".json"])
def test_a_damaged_checkpoint_gives_no_weights_either(tmp_path, ending):
    path = save(tmp_path, 2)
    damage_flip(path.with_suffix(ending))
    with pytest.raises(UserError, match=f"{path} is damaged: checkpoint_bert-1_2{ending} does not match"):
        load_weights(Step().network, path)


@pytest.mark.parametrize("manifest", ["", "{}", "[1]", "no JSON"])
def test_weights_beside_a_json_file_of_another_program_are_taken_as_they_are(tmp_path, manifest):
    path = save(tmp_path, 2)
    path.with_suffix(".state.safetensors").unlink()
    path.with_suffix(".json").write_text(manifest)
    assert not load_weights(Step().network, path).missing


def test_weights_of_an_interrupted_save_are_taken_as_they_are(tmp_path):
    path = save(tmp_path, 2)
    path.with_suffix(".json").unlink()
    assert not load_weights(Step().network, path).missing


def test_weights_alone_have_a_checksum_beside_them(tmp_path):
    path = tmp_path / "classifier_best.ckpt"
    network = Step().fill(1).network
    save_weights(network, path, step=7)
    first, about = path.read_bytes(), read_about(path)
    assert about["step"] == 7 and not load_weights(Step().network, path).missing
    damage_flip(path)
    with pytest.raises(UserError, match="classifier_best.ckpt is damaged: classifier_best.ckpt does not match its"):
        load_weights(Step().network, path)

    save_weights(Step().fill(2).network, path, step=8)
    path.write_bytes(first)  # as if killed between the two files, of which the weights come last
    assert read_about(path)["step"] == 8 and not load_weights(Step().network, path).missing
    save_weights(Step().fill(3).network, path, step=9)
    path.write_bytes(first)
    with pytest.raises(UserError, match="does not match its checksum"):
        load_weights(Step().network, path)


def test_every_flipped_byte_of_a_manifest_is_noticed(tmp_path, capsys):
    manifest = save(tmp_path, 2).with_suffix(".json")
    content = manifest.read_bytes()
    noticed = 0
    for place in range(0, len(content), 7):
        flipped = bytearray(content)
        flipped[place] ^= 1
        if json.loads(content) == _parsed(flipped):
            continue  # white space
        manifest.write_bytes(flipped)
        assert find_newest(tmp_path) is None, place
        noticed += 1
    assert noticed > 20
    capsys.readouterr()


def _parsed(content):
    try:
        return json.loads(content)
    except ValueError:
        return None


def test_leftovers_of_a_killed_save_are_removed_by_the_next(tmp_path):
    torn = save(tmp_path, 1)
    torn.with_suffix(".json").unlink()
    unfinished = tmp_path / ".saving-checkpoint_bert-1_2-abc"
    unfinished.mkdir()
    (unfinished / "checkpoint_bert-1_2.ckpt").write_bytes(b"x")
    weights_only = tmp_path / "checkpoint_bert-1_9.ckpt"
    weights_only.write_bytes(b"y")
    save(tmp_path, 3)
    assert {name.split(".")[0] for name in names(tmp_path)} == {"checkpoint_bert-1_3", "checkpoint_bert-1_9"}


SAVE_FOREVER = """
import sys
sys.path.insert(0, "tests")
from training.test_checkpoint import save
step = int(sys.argv[2])
print("ready", flush=True)
while True:
    step += 1
    save(sys.argv[1], step, keep=2, check=step * 17)
"""


def test_sigkill_at_any_moment_leaves_a_consistent_checkpoint(tmp_path):
    moments = random.Random(1)
    last = 0
    for _ in range(4):
        process = subprocess.Popen([sys.executable, "-c", SAVE_FOREVER, str(tmp_path), str(last)], cwd=REPOSITORY,
                                   stdout=subprocess.PIPE)
        assert process.stdout.readline() == b"ready\n"
        begin = last
        while not (tmp_path / f"checkpoint_bert-1_{begin + 2}.json").exists():
            assert process.poll() is None
            time.sleep(0.001)
        time.sleep(moments.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        found = find_newest(tmp_path)
        assert found.step > begin
        step = Step()
        assert cp.restore_training(step, found) == {"position": found.step, "check": found.step * 17}
        assert same(step.values(), Step().fill(found.step).values())
        last = found.step
    save(tmp_path, last + 1, keep=1)
    assert len(names(tmp_path)) == 3


def consistent(checkpoint):
    cell = Step()
    metadata = cp.restore_training(cell, checkpoint)
    return same(cell.values(), Step().fill(metadata["content"]).values())


@pytest.mark.parametrize("same_step", [False, True])
def test_a_save_may_end_before_any_of_its_renames_and_removals(tmp_path, monkeypatch, capsys, same_step):
    class Killed(BaseException):
        pass

    def counted(method):
        def call(self, *args, **kwargs):
            nonlocal count
            count += 1
            if count == stop_at:
                raise Killed
            return method(self, *args, **kwargs)
        return call

    count, stop_at, last_event = 0, None, 0
    save(tmp_path, 1, content=1, seed=1)
    monkeypatch.setattr(Path, "replace", counted(Path.replace))
    monkeypatch.setattr(Path, "unlink", counted(Path.unlink))
    monkeypatch.setattr(cp.tempfile.TemporaryDirectory, "cleanup", lambda self: None)
    killed = True
    while killed:
        last_event += 1
        step, content = (2 if same_step else 10 + last_event), 10 + last_event
        if same_step:  # there is a whole one to replace
            stop_at = None
            save(tmp_path, step, keep=2, content=2, seed=2)
        count, stop_at = 0, last_event
        try:
            save(tmp_path, step, keep=2, content=content, seed=content)
            killed = False
        except Killed:
            pass
        assert consistent(find_newest(tmp_path))
        assert all(map(consistent, list_checkpoints(tmp_path)))
        for path in tmp_path.glob("*.ckpt"):  # none may pass for a file of weights alone
            try:
                assert consistent(open_checkpoint(path))
            except UserError as error:
                assert "is damaged" in str(error)
    assert last_event > 4
    capsys.readouterr()


# ---------------------------------------------------------------- weights alone

def save_values(path, values):
    if path.suffix == ".safetensors":
        save_file(values, path)
    else:
        ms.save_checkpoint([{"name": name, "data": ms.Tensor(value)} for name, value in values.items()], str(path))
    return path


@pytest.fixture(params=[".ckpt", ".safetensors"])
def ending(request):
    return request.param


def test_report_has_all_four_classes_and_counts_optimizer_leftovers(tmp_path, ending):
    path = save_values(tmp_path / f"old{ending}", {
        "bert.bert.embedding_table": np.ones((9, 3), np.float32),
        "bert.bert.dense.weight": np.full((3, 3), 2, np.float16),
        "bert.bert.dense.bias": np.full(3, 3, np.float32),
        "bert.cls9.weight": np.zeros(1, np.float32),
        "adam_m.bert.bert.dense.bias": np.zeros(3, np.float32),
        "adam_v.bert.bert.dense.bias": np.zeros(3, np.float32),
        "global_step": np.zeros(1, np.int32),
    })
    network = Network()
    report = load_weights(network, path)
    assert sorted(report.loaded) == ["bert.bert.dense.bias", "bert.bert.dense.weight"]
    assert report.missing == ["bert.cls2.dense.bias"]
    assert report.unexpected == ["bert.cls9.weight"]
    assert report.wrong_shape == {"bert.bert.embedding_table": ([9, 3], [4, 3])}
    assert report.optimizer_entries == 3
    assert report.renaming == ""
    assert network.bert.dense.weight.asnumpy().dtype == np.float32
    assert (network.bert.dense.weight.asnumpy() == 2).all()
    assert (network.bert.dense.bias.asnumpy() == 3).all()
    assert (network.bert.embedding_table.asnumpy() == 0).all()
    text = str(report)
    assert text.splitlines() == [
        f"loaded 2 of the network's 4 parameters from {path}",
        "  missing from the file, left at their initial values (1): bert.cls2.dense.bias",
        "  of another shape, left at their initial values (1): bert.bert.embedding_table [9, 3] in the file, [4, 3] in "
        "the network",
        "  unknown to the network, ignored (1): bert.cls9.weight",
        "  optimizer state in the file, ignored: 3 entries",
    ]
    fine_tuned = str(load_weights(network, path, body="bert.bert."))
    assert fine_tuned.splitlines()[1] == "  new head, to be trained from its initial values (1): bert.cls2.dense.bias"
    assert "missing" not in fine_tuned and "missing from the file" in str(load_weights(network, path, body="bert."))


def test_bfloat16_weights(tmp_path, ending):
    path = tmp_path / f"half{ending}"
    ms.save_checkpoint([{"name": "dense.bias", "data": ms.Tensor([1.5, -2, 3], ms.bfloat16)}], str(path),
                       format=ending[1:])
    network = Inner()
    assert load_weights(network, path).loaded == ["dense.bias"]
    assert network.dense.bias.asnumpy().tolist() == [1.5, -2, 3]
    assert network.dense.bias.dtype == ms.float32


def weights(prefix=""):
    return {prefix + "embedding_table": np.ones((4, 3), np.float32),
            prefix + "dense.weight": np.ones((3, 3), np.float32),
            prefix + "dense.bias": np.ones(3, np.float32)}


@pytest.mark.parametrize("network, prefix, renaming", [
    (Inner, "", ""),
    (Inner, "bert.bert.", "without the prefix bert.bert."),
    (Network, "bert.bert.", ""),
    (Network, "", "with the prefix bert.bert. added"),
    (Network, "network.bert.bert.", "without the prefix network."),
])
def test_one_prefix_is_removed_or_added(tmp_path, network, prefix, renaming):
    head = {"bert.cls2.dense.bias": np.ones(2, np.float32)} if prefix == "bert.bert." else {}
    path = save_values(tmp_path / "weights.ckpt", {**head, **weights(prefix)})
    cell = network()
    report = load_weights(cell, path)
    assert report.renaming == renaming
    assert len(report.loaded) == 3 + (network is Network and bool(head))
    assert report.unexpected == (list(head) if network is Inner else [])
    assert all((parameter.asnumpy() == 1).all() for parameter in cell.get_parameters()
               if parameter.name in report.loaded)


def test_no_prefix_is_guessed_when_two_fit_equally(tmp_path):
    path = save_values(tmp_path / "two.ckpt", {**weights("student."), **weights("teacher.")})
    with pytest.raises(UserError, match="has nothing for this network"):
        load_weights(Inner(), path)


def test_unrelated_weights_are_an_error(tmp_path, ending):
    path = save_values(tmp_path / f"resnet{ending}", {"conv1.weight": np.ones(3, np.float32),
                                                      "layer1.0.dense.bias.x": np.ones(3, np.float32)})
    network = Network()
    with pytest.raises(UserError) as caught:
        load_weights(network, path)
    assert str(path) in str(caught.value)
    assert "conv1.weight" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_weights_of_another_size_are_named_so(tmp_path):
    path = save_values(tmp_path / "large.ckpt", {"bert.bert.embedding_table": np.ones((8, 6), np.float32)})
    with pytest.raises(UserError, match=r"another size: bert.bert.embedding_table is \[8, 6\] there and \[4, 3\]"):
        load_weights(Network(), path)


@pytest.mark.parametrize("kind", ["garbage", "empty", "text", "cut", "flipped"])
def test_unreadable_files_end_in_one_line(tmp_path, ending, kind, capfd):
    path = save_values(tmp_path / f"x{ending}", weights())
    content = path.read_bytes()
    path.chmod(0o600)
    path.write_bytes({"garbage": random.Random(2).randbytes(4000), "empty": b"", "text": b"hello\n" * 99,
                      "cut": content[:-3], "flipped": bytes([255 - content[0]]) + content[1:]}[kind])
    with pytest.raises(UserError) as caught:
        load_weights(Inner(), path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_missing_file_and_foreign_name(tmp_path):
    with pytest.raises(UserError, match="there is no checkpoint"):
        load_weights(Inner(), tmp_path / "absent.ckpt")
    (tmp_path / "model.bin").write_bytes(b"pickle?")
    with pytest.raises(UserError, match="give a .ckpt or .safetensors file"):
        load_weights(Inner(), tmp_path / "model.bin")


# ---------------------------------------------------------------- load_checkpoint_path

def test_dispatch(tmp_path):
    newest = [save(tmp_path, 1), save(tmp_path, 2)][-1]
    for given, step in ((tmp_path, 2), (newest, 2), (tmp_path / "checkpoint_bert-1_1.ckpt", 1)):
        cell = Step()
        found = cp.load_checkpoint_path(given, cell)
        assert isinstance(found, Checkpoint)
        assert found.step == step
        assert same(cell.values(), Step().fill(step).values())

    alone = tmp_path / "alone" / newest.name
    alone.parent.mkdir()
    alone.write_bytes(newest.read_bytes())
    alone.with_suffix(".json").write_text('{"hidden_size": 4}')  # a network's description, say: no manifest
    cell = Step()
    report = cp.load_checkpoint_path(alone, cell)
    assert isinstance(report, LoadReport)
    assert len(report.loaded) == 4
    assert cell.global_step.asnumpy() == 0
    with pytest.raises(UserError, match="no complete checkpoint"):
        cp.load_checkpoint_path(alone.parent, cell)
