"""Model folders: what a configuration takes from one, what contradicts it, and what was done to it."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from paths import FIXTURES

import src
from src.checkpoint_files import crc32
from src.errors import UserError
from src.exchange.folders import open_model
from src.exchange.huggingface import read_safetensors
from src.model_folder import ModelFolder
from src.model_utils.config import Config, WeightsOption, load_config
from src.tasks.finetuning import Finetuning
from src.tasks.registry import WEIGHTS_OPTIONS, load_task_config
from src.tools import convert_checkpoint
from src.weights import find_weights, read_weights

REFERENCES = FIXTURES / "exchange"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of a pre-trained network, a classifier and a tagger."""
    root = tmp_path_factory.mktemp("folders")
    for model in ("pretrain", "classifier", "ner", "nezha"):
        convert_checkpoint.main(["--input_path", str(REFERENCES / model), "--output_dir", str(root / model)])
    return root


@pytest.fixture
def folder(folders: Path, tmp_path: Path) -> Path:
    """A classifier that a test may spoil, at another place than where it was written."""
    return shutil.copytree(folders / "classifier", tmp_path / "moved")


def finetuning(*options: object) -> Config:
    """The configuration of run_classifier.py."""
    weights = WeightsOption(Finetuning.weights_in_use)
    return load_config("", "task_classifier_config.yaml", [*map(str, options)], weights)


def refusal(*options: object) -> str:
    with pytest.raises(UserError) as caught:
        finetuning(*options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---------------------------------------------------------------- what need not be said

def test_a_fine_tuned_model_says_everything(folder: Path) -> None:
    config = finetuning("--do_train", "false", "--load_finetune_checkpoint_path", folder)
    theirs = json.loads((REFERENCES / "classifier" / "config.json").read_text())
    assert {key: config.bert_net_cfg[key] for key in ("hidden_size", "vocab_size", "num_hidden_layers")} == \
        {key: theirs[key] for key in ("hidden_size", "vocab_size", "num_hidden_layers")}
    assert config.num_class == len(theirs["id2label"])
    assert Path(config.vocab_file_path) == folder / "vocab.txt"
    assert Path(config.label_file_path) == folder / "labels.txt"
    assert not config.is_explicit("num_class")
    assert config.bert_net_cfg.compute_type == "float16"  # the script's: it belongs to the device


def test_its_weights_by_name_say_the_same(folder: Path, tmp_path: Path) -> None:
    by_folder = finetuning("--do_train", "false", "--load_finetune_checkpoint_path", folder)
    file = folder / "classifier.ckpt"
    by_file = finetuning("--do_train", "false", "--load_finetune_checkpoint_path", file)
    assert by_file.load_finetune_checkpoint_path == str(file)
    assert by_file.bert_net_cfg.to_dict() == by_folder.bert_net_cfg.to_dict()
    foreign = shutil.copy(file, folder / "published.ckpt")
    assert finetuning("--do_train", "false", "--load_finetune_checkpoint_path", foreign).num_class == 2
    assert ModelFolder.find(tmp_path / "nothing.ckpt") is None


def test_fine_tuning_takes_the_encoder_and_its_words_alone(folders: Path) -> None:
    usual = finetuning()
    for model in ("pretrain", "classifier"):
        config = finetuning("--do_train", "true", "--load_pretrain_checkpoint_path", folders / model)
        assert config.bert_net_cfg.hidden_size == 16
        assert Path(config.vocab_file_path) == folders / model / "vocab.txt"
        assert config.num_class == usual.num_class
        assert config.label_file_path == ""
        assert config.bert_net_cfg.seq_length == usual.bert_net_cfg.seq_length
        assert config.bert_net_cfg.hidden_dropout_prob == usual.bert_net_cfg.hidden_dropout_prob
    nezha = finetuning("--do_train", "true", "--load_pretrain_checkpoint_path", folders / "nezha")
    assert nezha.bert_net_cfg.relative_position_kind == "sinusoidal"
    assert nezha.bert_net_cfg.use_relative_positions is True


def test_a_resumed_training_takes_its_own_folder(folder: Path) -> None:
    options = ("--do_train", "true", "--load_pretrain_checkpoint_path", "none", "--save_finetune_checkpoint_path",
               folder)
    assert finetuning(*options, "--resume", "true").bert_net_cfg.hidden_size == 16
    assert finetuning(*options).bert_net_cfg.hidden_size == 768


def test_the_task_follows_from_the_folder(folders: Path) -> None:
    weights = WeightsOption(lambda _: "export_ckpt_file")
    for model, task in (("pretrain", "run_pretrain"), ("ner", "run_ner")):
        assert load_task_config("", ["--export_ckpt_file", str(folders / model)], weights).description == task
    with pytest.raises(UserError, match="--config_path is not set; .* or the folder of a model"):
        load_task_config("", ["--export_ckpt_file", str(REFERENCES)], weights)
    assert "load_pretrain_checkpoint_path" not in WEIGHTS_OPTIONS  # whose task it is, the script says


def test_names_in_its_yaml_files_mean_what_lies_beside_them(folder: Path) -> None:
    written = yaml.safe_load((folder / "classifier.yaml").read_text())
    assert written["vocab_file_path"] == "vocab.txt"
    config = finetuning("--config_path", folder / "classifier.yaml")
    assert config.vocab_file_path == str(folder / "vocab.txt")
    assert config.load_finetune_checkpoint_path == str(folder / "classifier.ckpt")


# ---------------------------------------------------------------- what the user says wins, or contradicts

def test_options_win(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("a\nb\nc\n")
    (tmp_path / "own.yaml").write_text("do_lower_case: 'false'\n")
    config = finetuning("--do_train", "false", "--load_finetune_checkpoint_path", folder, "--label_file_path",
                        tmp_path / "names.txt", "--config_path", tmp_path / "own.yaml")
    assert config.label_file_path == str(tmp_path / "names.txt")
    assert config.do_lower_case is False
    assert config.is_explicit("do_lower_case") and not config.was_given("do_lower_case")


def test_sizes_that_the_weights_do_not_have(folder: Path, tmp_path: Path) -> None:
    options = ("--do_train", "false", "--load_finetune_checkpoint_path", folder)
    found = refusal(*options, "--bert_net_cfg.hidden_size", 32)
    assert found == (f"the command line: bert_net_cfg.hidden_size is 32, but the weights in {folder} have 16 "
                     f"({folder / 'model.json'}); leave the option out, or give other weights")
    (tmp_path / "own.yaml").write_text("bert_net_cfg: {use_relative_positions: true}\n")
    found = refusal(*options, "--config_path", tmp_path / "own.yaml")
    assert found.startswith(f"{tmp_path / 'own.yaml'}: bert_net_cfg.use_relative_positions is True, but")
    same = finetuning(*options, "--bert_net_cfg.hidden_size", 16)
    assert same.bert_net_cfg.hidden_size == 16


def test_another_vocabulary(folder: Path, folders: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.txt"
    lines = (folder / "vocab.txt").read_text(encoding="utf-8").splitlines()
    other.write_text("\n".join([*lines[:-2], lines[-1], lines[-2]]) + "\n", encoding="utf-8")  # as many, other places
    for options in (("--do_train", "false", "--load_finetune_checkpoint_path", folder),
                    ("--do_train", "true", "--load_pretrain_checkpoint_path", folders / "pretrain")):
        found = refusal(*options, "--vocab_file_path", other)
        assert found.startswith(f"the command line: vocab_file_path: {other} is not the vocabulary of {options[-1]}")
        same = shutil.copy(folder / "vocab.txt", tmp_path / "same.txt")
        assert finetuning(*options, "--vocab_file_path", same).vocab_file_path == str(same)


# ---------------------------------------------------------------- damage

def test_files_that_are_gone_or_changed(folder: Path, tmp_path: Path) -> None:
    options = ("--do_train", "false", "--load_finetune_checkpoint_path", folder)
    labels = folder / "labels.txt"
    before = labels.read_bytes()
    labels.write_bytes(before + b"x\n")
    assert f"{labels} does not match its checksum in {folder / 'model.json'}" in refusal(*options)
    labels.unlink()
    assert f"{labels} is missing, which {folder / 'model.json'} names" in refusal(*options)
    (tmp_path / "mine.txt").write_bytes(before)
    assert finetuning(*options, "--label_file_path", tmp_path / "mine.txt").num_class


@pytest.mark.parametrize(("change", "message"), [
    ({"format_version": 2}, "format_version is 2, this program reads 1"),
    ({"network": []}, "network is [], expected an object"),
    ({"files": {"vocab_file_path": {"name": "../vocab.txt", "crc32": ""}}}, "found '../vocab.txt', expected the name"),
    ({"network": {"hidden_size": "wide"}}, 'bert_net_cfg.hidden_size: expected a whole number, found "wide"'),
    ({"task": None}, "task is null, expected a text"),
])
def test_a_description_that_is_damaged(folder: Path, change: dict, message: str) -> None:
    source = folder / "model.json"
    source.write_text(json.dumps(json.loads(source.read_text()) | change))
    found = refusal("--do_train", "false", "--load_finetune_checkpoint_path", folder)
    assert found.startswith(str(source)) and message in found


# ---------------------------------------------------------------- cards, and models of others

def test_the_card(folders: Path) -> None:
    text = (folders / "classifier" / "README.md").read_text(encoding="utf-8")
    front = yaml.safe_load(text.split("---\n")[1])
    assert front["pipeline_tag"] == "text-classification"
    assert front["library_name"] == "mindspore"
    assert f"python predict.py --model {folders / 'classifier'} --text" in text
    assert "2 layers of width 16 with" in text
    names = (folders / "classifier" / "labels.txt").read_text(encoding="utf-8").splitlines()
    assert f"Classes: {', '.join(names)}." in text


def test_the_readme_of_somebody_else_stays(folder: Path, capsys: pytest.CaptureFixture) -> None:
    (folder / "README.md").write_text("mine\n")
    convert_checkpoint.main(["--input_path", str(REFERENCES / "classifier"), "--output_dir", str(folder)])
    assert f"{folder / 'README.md'} is no model card and stays as it is" in capsys.readouterr().err
    assert (folder / "README.md").read_text() == "mine\n"


@pytest.fixture
def converted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelFolder:
    """A folder of transformers, opened."""
    monkeypatch.setenv("BERT_CACHE", str(tmp_path / "cache"))
    found = open_model(str(REFERENCES / "classifier"))
    assert found is not None
    return found


def test_a_folder_of_transformers_is_converted_once(converted: ModelFolder, capsys: pytest.CaptureFixture) -> None:
    capsys.readouterr()
    theirs = read_safetensors(REFERENCES / "classifier" / "model.safetensors")
    ours = read_weights(find_weights(converted.path))
    np.testing.assert_array_equal(ours["bert.dense_1.weight"], theirs["classifier.weight"])
    written = crc32(find_weights(converted.path))
    again = open_model(str(REFERENCES / "classifier" / "model.safetensors"))
    assert again == converted
    assert crc32(find_weights(converted.path)) == written
    assert "converted" not in capsys.readouterr().out


def test_a_folder_of_transformers_that_changed_is_converted_anew(converted: ModelFolder, tmp_path: Path) -> None:
    changed = shutil.copytree(REFERENCES / "classifier", tmp_path / "classifier")
    again = open_model(str(changed))
    assert again == converted  # the same contents at another place
    config = json.loads((changed / "config.json").read_text())
    (changed / "config.json").write_text(json.dumps(config | {"id2label": {"0": "x", "1": "y", "2": "z"},
                                                              "label2id": {"x": 0, "y": 1, "z": 2}}))
    anew = open_model(str(changed))
    assert anew is not None and anew.path != converted.path
    assert re.search("x, y, z", (anew.path / "README.md").read_text())


def test_one_line_predicts(converted: ModelFolder) -> None:
    """Against the logits of transformers for the same model, from the same texts by two ways."""
    predict = src.load_predictor(converted.path, device_target="CPU")
    first, second = predict(["a b", {"text": "c"}])
    assert predict("c")[0].probability == pytest.approx(second.probability, abs=1e-6)
    assert first.text == "a b"
    names = (converted.path / "labels.txt").read_text(encoding="utf-8").splitlines()
    assert names[first.label_id] == first.label
    with pytest.raises(UserError, match="--model: .* is neither .onnx nor .mindir nor the folder of a model"):
        src.load_predictor(converted.path / "labels.txt")
