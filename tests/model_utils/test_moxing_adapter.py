"""Runs on ModelArts, with a stand-in for its moxing (tests/fixtures/moxing)."""

import os
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import toy_pretraining
import yaml
from paths import FIXTURES
from toy_finetuning import tiny_options, toy_rows, write_rows

import run_classifier
import run_pretrain
import train
from src.errors import UserError
from src.inference.export import portable_values
from src.model_utils.config import REPOSITORY, load_config
from src.model_utils.moxing_adapter import cloud_storage
from src.training.metrics_file import read_metrics
from src.weights import read_weights

STAND_IN = FIXTURES / "moxing"
LAUNCHER = ("DEVICE_ID", "RANK_ID", "RANK_SIZE", "DEVICE_NUM", "RANK_TABLE_FILE", "OMPI_COMM_WORLD_RANK", "MS_ROLE")


class Cloud:
    """Buckets, and the local folders of one host."""

    def __init__(self, root):
        self.root = root
        self.buckets = root / "buckets"
        self.host = root / "host"
        self.data, self.results = self.buckets / "mine" / "data", self.buckets / "mine" / "results"
        self.data.mkdir(parents=True)
        (self.data / "train.mindrecord").write_text("records")

    def options(self, **options):
        named = {"enable_modelarts": "True", "data_url": "s3://mine/data/", "train_url": "s3://mine/results/",
                 "data_path": self.host / "data", "load_path": self.host / "load", "output_path": self.host / "train",
                 **options}
        return [f"--{name}={value}" for name, value in named.items()]

    def config(self, yaml_file="task_ner_config.yaml", **options):
        return load_config("", yaml_file, self.options(**options))

    def log(self):
        log = self.buckets / "log"
        return log.read_text().splitlines() if log.exists() else []

    def uploaded(self):
        return {str(path.relative_to(self.results)) for path in self.results.rglob("*") if path.is_file()}


@pytest.fixture
def cloud(tmp_path, monkeypatch):
    for variable in LAUNCHER:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("TOY_BUCKETS", str(tmp_path / "buckets"))
    monkeypatch.syspath_prepend(STAND_IN)
    monkeypatch.delitem(sys.modules, "moxing", raising=False)
    yield Cloud(tmp_path)
    sys.modules.pop("moxing", None)


def write_result(config, name="result.ckpt"):
    folder = Path(config.save_finetune_checkpoint_path)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("weights")


# ---------------------------------------------------------------- what is copied

def test_nothing_happens_when_it_is_off(cloud):
    config = cloud.config(enable_modelarts="false")
    with cloud_storage(config) as same:
        assert same is config
    assert "moxing" not in sys.modules and not cloud.host.exists()


def test_data_come_and_results_go(cloud):
    with zipfile.ZipFile(cloud.data / "labels.zip", "w") as archive:
        archive.writestr("labels/label_file", "name")
    (cloud.buckets / "mine" / "models").mkdir()
    (cloud.buckets / "mine" / "models" / "bert.ckpt").write_text("weights")
    with cloud_storage(cloud.config(checkpoint_url="s3://mine/models", label_file_path="labels/label_file",
                                    load_pretrain_checkpoint_path="bert.ckpt")) as config:
        assert Path(config.label_file_path).read_text() == "name"
        assert Path(config.load_pretrain_checkpoint_path) == cloud.host / "load" / "bert.ckpt"
        assert sorted(path.name for path in Path(config.data_path).iterdir()) == ["labels", "train.mindrecord"]
        write_result(config)
        assert not cloud.results.exists(), "only at the end"
    assert cloud.uploaded() == {"ner_finetune/ckpt/result.ckpt"}


@pytest.mark.parametrize("ending", [ValueError("broken"), UserError("wrong"), KeyboardInterrupt(), SystemExit(3)])
def test_results_go_also_when_the_run_fails(cloud, ending):
    with pytest.raises(type(ending)) as raised, cloud_storage(cloud.config()) as config:
        write_result(config)
        raise ending
    assert raised.value is ending and cloud.uploaded() == {"ner_finetune/ckpt/result.ckpt"}


def test_an_upload_that_fails(cloud, capsys):
    message = "^train_url: cannot copy .*/train to s3://forbidden/x: 403 Forbidden: [^\n]*$"
    with (pytest.raises(UserError, match=message),
          cloud_storage(cloud.config(train_url="s3://forbidden/x")) as config):
        write_result(config)
    # The error of the run itself is not hidden by that of the upload.
    with pytest.raises(ValueError, match="broken"), cloud_storage(cloud.config(train_url="s3://forbidden/x")) as config:
        write_result(config)
        raise ValueError("broken")
    assert "error: train_url: cannot copy" in capsys.readouterr().err


def test_a_resumed_run_gets_its_results_back_first(cloud):
    with cloud_storage(cloud.config(resume="true")) as config:
        write_result(config)
    (cloud.host / "train" / "ner_finetune" / "ckpt" / "result.ckpt").unlink()  # another host now
    with cloud_storage(cloud.config(resume="true")) as config:
        assert (Path(config.save_finetune_checkpoint_path) / "result.ckpt").read_text() == "weights"
    assert f"s3://mine/results/ -> {cloud.host / 'train'}" in cloud.log()


# ---------------------------------------------------------------- paths

def test_paths_of_pretraining(cloud):
    with cloud_storage(cloud.config("pretrain_config.yaml", save_checkpoint_path="ckpt", schema_dir="schema.json",
                                    metrics_file="m.jsonl", tensorboard_dir="curves")) as config:
        assert config.data_dir == str(cloud.host / "data"), "the whole data folder, unless a part is named"
        assert config.schema_dir == str(cloud.host / "data" / "schema.json")
        assert config.save_checkpoint_path == str(cloud.host / "train" / "ckpt")
        assert config.metrics_file == str(cloud.host / "train" / "m.jsonl")
        assert config.tensorboard_dir == str(cloud.host / "train" / "curves")
        assert config.eval_data_dir == config.load_checkpoint_path == config.plot_file == ""
        assert (config.device_id, config.distribute) == (0, False)
    with cloud_storage(cloud.config("pretrain_config.yaml", data_dir="wiki")) as config:
        assert config.data_dir == str(cloud.host / "data" / "wiki")
        assert config.save_checkpoint_path == str(cloud.host / "train")


def test_paths_of_a_task(cloud):
    absolute = cloud.root / "vocab.txt"
    with cloud_storage(cloud.config(train_data_file_path="train.mindrecord", vocab_file_path=absolute,
                                    load_pretrain_checkpoint_path="none", export_file_name="bert_ner")) as config:
        assert Path(config.train_data_file_path).read_text() == "records"
        assert config.vocab_file_path == str(absolute) and config.schema_file_path == ""
        assert config.load_pretrain_checkpoint_path == "none"
        assert config.save_finetune_checkpoint_path == str(cloud.host / "train" / "ner_finetune" / "ckpt")
        assert config.export_file_name == str(cloud.host / "train" / "bert_ner")
        # What is written beside the checkpoints serves elsewhere as it is.
        assert config.enable_modelarts is False and config.data_url == config.train_url == ""
        assert "data_url" not in portable_values(config) and "data_path" not in portable_values(config)


def test_a_checkpoint_is_looked_for_in_the_code_directory_too(cloud, capsys):
    with cloud_storage(cloud.config(export_ckpt_file="./README.md", load_pretrain_checkpoint_path="train.mindrecord",
                                    load_finetune_checkpoint_path="absent.ckpt")) as config:
        assert Path(config.export_ckpt_file) == REPOSITORY / "README.md"
        assert Path(config.load_pretrain_checkpoint_path) == cloud.host / "data" / "train.mindrecord"
        assert Path(config.load_finetune_checkpoint_path) == cloud.host / "data" / "absent.ckpt"
    printed = f"load_finetune_checkpoint_path: there is no absent.ckpt in {cloud.host / 'data'}, {REPOSITORY}"
    assert printed in capsys.readouterr().err


@pytest.mark.parametrize("path", ["../elsewhere", "/elsewhere"])
def test_results_elsewhere_would_be_lost(cloud, path):
    with (pytest.raises(UserError, match=f"save_finetune_checkpoint_path: {path} is not in output_path"),
          cloud_storage(cloud.config(save_finetune_checkpoint_path=path))):
        pytest.fail("the run began")


# ---------------------------------------------------------------- mistakes

@pytest.mark.parametrize(("options", "message"), [
    ({"train_url": ""}, "^train_url is not set, and results would be lost"),
    ({"data_url": "", "vocab_file_path": "vocab.txt"}, "^data_url is not set, and vocab_file_path is relative to"),
    ({"data_url": "s3://mine/absent"}, "^data_url: cannot copy s3://mine/absent to .*/host/data: "),
    ({"data_url": "s3://forbidden/x"}, "^data_url: cannot copy .*: 403 Forbidden: s3://forbidden/x$"),
    ({"checkpoint_url": "s3://mine/absent"}, "^checkpoint_url: cannot copy"),
    ({"resume": "true", "train_url": "s3://mine/data/train.mindrecord"}, "^train_url: cannot copy"),
    ({"output_path": ""}, "^output_path: found '', expected a local folder"),
])
def test_mistakes_end_the_run_before_it_begins(cloud, options, message):
    with pytest.raises(UserError, match=message), cloud_storage(cloud.config(**options)):
        pytest.fail("the run began")


def test_data_are_needed_only_where_they_are_used(cloud):
    with cloud_storage(cloud.config("pretrain_config.yaml", data_url="", eval_ckpt="README.md")) as config:
        assert config.data_dir == ""
    assert cloud.log() == []


def test_without_moxing(cloud, monkeypatch):
    monkeypatch.setitem(sys.modules, "moxing", None)
    with pytest.raises(UserError, match="^enable_modelarts true: moxing cannot be imported .*ModelArts only") as raised:
        run_classifier.main(cloud.options())
    assert "\n" not in str(raised.value) and not cloud.host.exists()


def test_a_package_that_leads_out(cloud):
    with zipfile.ZipFile(cloud.data / "evil.zip", "w") as archive:
        archive.writestr("../../outside", "")
    with pytest.raises(UserError, match="evil.zip: entry '../../outside' may lead out"):
        run_pretrain.main(cloud.options())
    assert not (cloud.root / "outside").exists()


# ---------------------------------------------------------------- several processes

CODE = f"""
import sys
from pathlib import Path
sys.path[:0] = [{str(REPOSITORY)!r}, {str(STAND_IN)!r}]
from src.errors import run_script
from src.model_utils.config import load_config
from src.model_utils.moxing_adapter import cloud_storage

def main():
    with cloud_storage(load_config("", "pretrain_config.yaml")) as config:
        assert Path(config.data_dir, "train.mindrecord").read_text() == "records"
        Path(config.metrics_file).write_text(f"device {{config.device_id}}, distribute {{config.distribute}}")
        print("running", config.save_checkpoint_path, flush=True)
        assert sys.stdin.readline() == "end\\n"

run_script(main)
"""


def start_ranks(cloud, **options):
    """Two processes of one host, as ModelArts starts them."""
    return [subprocess.Popen(
        [sys.executable, "-c", CODE, *cloud.options(metrics_file="metrics.jsonl", **options)], text=True,
        env=os.environ | {"RANK_ID": str(rank), "DEVICE_ID": str(rank), "RANK_SIZE": "2"},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for rank in range(2)]


def test_processes_of_a_host_copy_once_and_upload_apart(cloud):
    (cloud.buckets / "slow").symlink_to(cloud.buckets / "mine")
    ranks = start_ranks(cloud, data_url="s3://slow/data")
    lines = []
    for rank in ranks:
        for line in rank.stdout:
            if line.startswith("running"):
                lines.append(line)
                break
    assert lines == [f"running {cloud.host / 'train'}\n"] * 2, "both resume from where rank 0 saves"
    for rank in ranks:
        _, errors = rank.communicate("end\n", timeout=60)
        assert rank.returncode == 0, errors
    assert [line.split(" -> ")[0] for line in cloud.log()].count("s3://slow/data") == 1
    assert (cloud.results / "metrics.jsonl").read_text() == "device 0, distribute True"
    assert (cloud.results / "rank_1" / "metrics.jsonl").read_text() == "device 1, distribute True"


def test_processes_of_a_host_fail_together(cloud):
    for rank in start_ranks(cloud, data_url="s3://forbidden/data"):
        _, errors = rank.communicate(timeout=60)
        assert rank.returncode == 2
        assert "403 Forbidden" in errors and errors.startswith("error: ") and errors.count("\n") == 1


def test_the_scheduler_of_msrun_copies_nothing(cloud, monkeypatch):
    monkeypatch.setenv("MS_ROLE", "MS_SCHED")
    with cloud_storage(cloud.config()) as config:
        assert config.train_url
    assert cloud.log() == []


# ---------------------------------------------------------------- a whole run

def test_fine_tuning_on_modelarts(cloud):
    """Train and evaluate from a zip package; only what the documentation says is given as an option."""
    for name, rows in (("train", toy_rows(24)), ("dev", toy_rows(9, seed=1))):
        write_rows(cloud.root / f"{name}.mindrecord", rows)
    (cloud.data / "train.mindrecord").unlink()
    with zipfile.ZipFile(cloud.data / "tnews.zip", "w") as archive:
        for path in cloud.root.glob("*.mindrecord*"):
            archive.write(path, f"tnews/{path.name}")
    folder = Path("tnews")
    scores = run_classifier.main([*tiny_options(folder, Path("ckpt"), epoch_num=1), *cloud.options()])
    assert scores["accuracy"] >= 0
    assert {"ckpt/classifier_best.ckpt", "ckpt/classifier-1_3.ckpt", "ckpt/metrics.jsonl"} <= cloud.uploaded()
    assert len(read_metrics(cloud.results / "ckpt" / "metrics.jsonl")) > 3
    assert read_weights(cloud.results / "ckpt" / "classifier_best.ckpt")
    written = yaml.safe_load((cloud.results / "ckpt" / "classifier_config.yaml").read_text())
    assert written["enable_modelarts"] is False

    # Evaluation alone, of what was uploaded: its predictions are uploaded as well.
    cloud.results.rename(cloud.buckets / "mine" / "trained")
    again = run_classifier.main([*tiny_options(folder, Path("ckpt"), do_train="false"), *cloud.options(
        checkpoint_url="s3://mine/trained", load_finetune_checkpoint_path="ckpt/classifier_best.ckpt",
        output_path=cloud.host / "evaluation")])
    assert again["accuracy"] == scores["accuracy"]
    assert cloud.uploaded() == {"classifier_predictions.jsonl", "report.html"}


def test_names_that_modelarts_users_give(tmp_path, monkeypatch):
    assert train.main is run_pretrain.main
    monkeypatch.chdir(tmp_path)  # ModelArts starts scripts in a directory of its own
    config = load_config("", "task_ner_config.yaml", ["--config_path=task_ner_cpu_config.yaml"])
    assert config.device_target == "auto"


def test_a_pretraining_job_that_is_stopped(cloud, toy_records):
    """The documented start-up file, stopped by the platform: the last checkpoint is saved and uploaded."""
    shutil.copytree(toy_records / "mindrecord", cloud.data, dirs_exist_ok=True)
    (cloud.data / "train.mindrecord").unlink()
    options = toy_pretraining.tiny_options(train_steps=100_000)
    job = toy_pretraining.start_script("train.py", [*options, *cloud.options()], cloud.root, env=os.environ | {
        "PYTHONPATH": str(STAND_IN)})
    for line in job.stdout:
        if line.startswith("epoch"):
            break
    job.send_signal(signal.SIGTERM)
    _, errors = job.communicate(timeout=120)
    assert job.returncode == 130, errors
    assert "interrupted after step" in errors
    assert {"metrics.jsonl"} < cloud.uploaded()
    assert any(name.endswith(".ckpt") for name in cloud.uploaded())
