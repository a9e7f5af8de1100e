import copy
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from src.errors import UserError
from src.model_utils.config import REPOSITORY, Config, load_config, select_network

VALUES = """\
device_target: Ascend
epoch_size: 40
train_steps: -1
do_shuffle: "true"
use_crf: false
data_dir: ""
schema_dir:
bucket_list: []
bert_network: base
batch_size: 0
base_batch_size: 256
nezha_batch_size: 96
base_net_cfg: &base
  hidden_size: 768
  hidden_dropout_prob: 0.1
nezha_net_cfg:
  <<: *base
  hidden_size: 1024
Lamb:
  learning_rate: 2e-5
  eps: 1.0e-8
"""
HELP = """\
epoch_size: passes over the data
hidden_size: width of the encoder
base_net_cfg.hidden_dropout_prob: dropout of base
"""
ALLOWED = """\
device_target: [Ascend, GPU, CPU]
do_shuffle: ["true", "false"]
bert_network: [base, nezha]
epoch_size: ">= 1"
hidden_dropout_prob: ">= 0, < 1"
"""


@pytest.fixture
def yaml_file(tmp_path: Path) -> Path:
    path = tmp_path / "the defaults.yaml"
    path.write_text(f"{VALUES}---\n{HELP}---\n{ALLOWED}")
    return path


@pytest.fixture
def load(yaml_file):
    return lambda *argv: load_config("Does something.", yaml_file, argv)


@pytest.fixture
def fails(load):
    """Load with these arguments, which must be refused in one line; return that line."""
    def message(*argv: str) -> str:
        with pytest.raises(UserError) as caught:
            load(*argv)
        assert "\n" not in str(caught.value)
        return str(caught.value)
    return message


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_values_keep_the_types_of_the_yaml_file(load):
    config = load()
    assert config.epoch_size == 40 and type(config.epoch_size) is int
    assert config.do_shuffle is True and config.use_crf is False
    assert config.Lamb.learning_rate == 2e-5, "YAML 1.1 reads 2e-5 as text"
    assert config.schema_dir == "" and config.bucket_list == []
    assert config.nezha_net_cfg.to_dict() == {"hidden_size": 1024, "hidden_dropout_prob": 0.1}


@pytest.mark.parametrize(("argv", "key", "expected"), [
    (["--epoch_size", "3"], "epoch_size", 3),
    (["--epoch_size=3"], "epoch_size", 3),
    (["--epoch_size", "3", "--epoch_size", "4"], "epoch_size", 4),
    (["--train_steps", "-1"], "train_steps", -1),
    (["--do_shuffle", "False"], "do_shuffle", False),
    (["--device_target", "cpu"], "device_target", "CPU"),
    (["--use_crf", "true"], "use_crf", True),
    (["--data_dir", "/a path/=x"], "data_dir", "/a path/=x"),
    (["--data_dir="], "data_dir", ""),
    (["--data_dir", ""], "data_dir", ""),
    (["--schema_dir", "7"], "schema_dir", "7"),
    (["--bucket_list", "32,64"], "bucket_list", [32, 64]),
    (["--bucket_list", "[32, 64]"], "bucket_list", [32, 64]),
    (["--bucket_list", "[]"], "bucket_list", []),
])
def test_command_line_values_take_the_type_of_the_key(load, argv, key, expected):
    value = load(*argv)[key]
    assert value == expected and type(value) is type(expected)


def test_members_of_groups_are_dotted_options(load):
    config = load("--Lamb.learning_rate", "1e-4", "--base_net_cfg.hidden_size=128")
    assert config.Lamb.learning_rate == 1e-4
    assert config.base_net_cfg.hidden_size == 128
    assert config.nezha_net_cfg.hidden_size == 1024 and config.Lamb.eps == 1e-8


def test_command_line_overrules_ini_overrules_yaml(load, tmp_path):
    own_yaml = write(tmp_path / "own.yaml", "epoch_size: 1\ntrain_steps: 1\ndata_dir: yaml\ndo_shuffle: false\n")
    ini = write(tmp_path / "own.ini",
                '[config]\nepoch_size = 2\ntrain_steps=2\nLamb.learning_rate = 1\nschema_dir=""\n')
    config = load("--config_path", own_yaml, "--epoch_size", "3", "--ini_path", ini)
    assert (config.epoch_size, config.train_steps, config.data_dir) == (3, 2, "yaml")
    assert config.do_shuffle is False, "an unquoted YAML boolean is fine for a switch"
    assert config.Lamb.learning_rate == 1.0 and config.schema_dir == ""
    assert config.base_batch_size == 256, "what nobody names keeps its default"


def test_given_means_command_line_or_ini(load, tmp_path):
    own_yaml = write(tmp_path / "own.yaml", "data_dir: yaml\n")
    ini = write(tmp_path / "own.ini", "[config]\ntrain_steps = 2\n")
    config = load("--config_path", own_yaml, "--ini_path", ini, "--base_net_cfg.hidden_size", "768")
    assert config.was_given("train_steps") and config.was_given("base_net_cfg.hidden_size")
    assert not config.was_given("data_dir") and not config.was_given("epoch_size")
    assert config.is_explicit("data_dir") and config.is_explicit("train_steps")
    assert not config.is_explicit("epoch_size")


def test_config_path_from_the_current_directory_and_from_the_module(load, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "own.yaml", "epoch_size: 5\n")
    assert load("--config_path", "own.yaml").epoch_size == 5
    assert load("--config_path", "./own.yaml").epoch_size == 5
    documented = load_config("", "pretrain_config.yaml", ["--config_path", "../../pretrain_config.yaml"])
    assert documented == load_config("", REPOSITORY / "pretrain_config.yaml", [])


@pytest.mark.parametrize(("argv", "parts"), [
    (["--epoch_sise", "3"], ["--epoch_sise", "did you mean epoch_size?"]),
    (["--hidden_size", "3"], ["base_net_cfg.hidden_size", "nezha_net_cfg.hidden_size"]),
    (["--qqqq", "3"], ["--qqqq", "--help"]),
    (["--Lamb", "3"], ["--Lamb", "Lamb.learning_rate"]),
    (["--epoch_size", "1.5"], ["--epoch_size", "whole number", '"1.5"']),
    (["--epoch_size", "many"], ["--epoch_size", "whole number", '"many"']),
    (["--epoch_size", "0"], ["--epoch_size", ">= 1", '"0"']),
    (["--Lamb.learning_rate", "high"], ["--Lamb.learning_rate", "a number", '"high"']),
    (["--base_net_cfg.hidden_dropout_prob", "1"], ["--base_net_cfg.hidden_dropout_prob", ">= 0, < 1"]),
    (["--base_net_cfg.hidden_dropout_prob", "nan"], ["--base_net_cfg.hidden_dropout_prob", ">= 0, < 1"]),
    (["--use_crf", "maybe"], ["--use_crf", "true or false"]),
    (["--do_shuffle", "yes"], ["--do_shuffle", "true, false", '"yes"']),
    (["--device_target", "ascent"], ["Ascend, GPU, CPU", "did you mean Ascend?"]),
    (["--bucket_list", "32,many"], ["--bucket_list", "32,64,128"]),
    (["--epoch_size"], ["--epoch_size needs a value"]),
    (["--epoch_size", "--train_steps", "3"], ["--epoch_size needs a value"]),
    (["epoch_size", "3"], ["'epoch_size'", "--key value"]),
    (["--config_path", "nowhere.yaml"], ["--config_path", "nowhere.yaml", "no such file"]),
    (["--ini_path", "nowhere.ini"], ["--ini_path", "nowhere.ini", "no such file"]),
])
def test_mistakes_on_the_command_line(fails, argv, parts):
    message = fails(*argv)
    assert all(part in message for part in parts), message


@pytest.mark.parametrize(("text", "parts"), [
    ("epoch_size: 3\n  data_dir: x\n", ["line 2, column 11"]),
    ("a: [1, 2\nb: 3\n", ["line 2"]),
    ("epoch_size: 3\nepoch_size: 4\n", ["line 2, column 1", "duplicate key 'epoch_size'"]),
    ("\tepoch_size: 3\n", ["line 1, column 1"]),
    ("- epoch_size\n", ["document 1", "key: value"]),
    ("epoch_sise: 3\n", ["'epoch_sise'", "did you mean epoch_size?"]),
    ("Lamb:\n  learning_rat: 3\n", ["'Lamb.learning_rat'", "did you mean Lamb.learning_rate?"]),
    ("Lamb: 3\n", ["'Lamb'", "group"]),
    ("epoch_size: {a: 3}\n", ["'epoch_size.a'"]),
    ("epoch_size: many\n", ["epoch_size", "whole number", '"many"']),
    ("epoch_size: 1.5\n", ["epoch_size", "whole number", "1.5"]),
    ("epoch_size: true\n", ["epoch_size", "whole number"]),
    ("Lamb: {learning_rate: [1]}\n", ["Lamb.learning_rate", "a number"]),
    ("device_target: TPU\n", ["device_target", "Ascend, GPU, CPU", '"TPU"']),
    ("data_dir: 2026-01-01\n", ["data_dir", "2026-01-01", "quote it"]),
    ("3: 4\n", ["3", "not text"]),
    ("a: 1\n---\n---\n---\n", ["4 documents", "at most three"]),
    ("data_dir: \x01\n", ["line 1", "cannot stand in YAML"]),
])
def test_mistakes_in_a_yaml_file_name_the_file_and_the_place(fails, tmp_path, text, parts):
    path = write(tmp_path / "own.yaml", text)
    message = fails("--config_path", path)
    assert all(part in message for part in [path, *parts]), message


@pytest.mark.parametrize(("text", "parts"), [
    ("[config]\nepoch_sise = 3\n", ["'epoch_sise'", "did you mean epoch_size?"]),
    ("[config]\nepoch_size = many\n", ["epoch_size", "whole number"]),
    ("[config]\nepoch_size = 3\nepoch_size = 4\n", ["line 3", "epoch_size"]),
    ("epoch_size = 3\n", ["no section headers", "line: 1"]),
    ("[other]\nepoch_size = 3\n", ["other", "[config]"]),
    ("", ["[config]"]),
])
def test_mistakes_in_an_ini_file_name_the_file_and_the_place(fails, tmp_path, text, parts):
    path = write(tmp_path / "own.ini", text)
    message = fails("--ini_path", path)
    assert all(part in message for part in [path, *parts]), message


@pytest.mark.parametrize(("document", "text", "parts"), [
    (VALUES, VALUES.replace("epoch_size: 40", "epoch_size: many"), ["epoch_size", ">= 1", '"many"']),
    (ALLOWED, "device_target: Ascend\n", ["device_target", "list or bounds"]),
    (HELP, "epoch_sizes: passes\n", ["epoch_sizes", "no value"]),
])
def test_mistakes_in_the_scripts_own_file(load, yaml_file, document, text, parts):
    yaml_file.write_text(yaml_file.read_text().replace(document, text))
    with pytest.raises(UserError) as caught:
        load()
    assert all(part in str(caught.value) for part in [str(yaml_file), *parts]), caught.value


def test_help_lists_every_key_with_text_default_and_choices(load, capsys):
    with pytest.raises(SystemExit) as stop:
        load("--epoch_size", "3", "--help")
    assert stop.value.code == 0
    words = " ".join(capsys.readouterr().out.split())
    assert "Does something." in words and "--config_path" in words and "--ini_path" in words
    assert "--epoch_size passes over the data; default: 40; >= 1" in words
    assert '--device_target default: "Ascend"; one of: Ascend, GPU, CPU' in words
    assert "--nezha_net_cfg.hidden_size width of the encoder; default: 1024" in words
    assert "--base_net_cfg.hidden_dropout_prob dropout of base; default: 0.1; >= 0, < 1" in words


def test_read_only(load):
    config = load()
    for change in (lambda: setattr(config, "epoch_size", 1), lambda: setattr(config.Lamb, "eps", 1.0),
                   lambda: delattr(config, "epoch_size")):
        with pytest.raises(AttributeError, match="read-only"):
            change()
    config.to_dict()["Lamb"]["eps"] = 1.0
    assert config.Lamb.eps == 1e-8 and config.epoch_size == 40


def test_copies_equal_and_missing_keys_are_plain_errors(load):
    config = load()
    assert copy.deepcopy(config) == config
    assert config.get("distribute") is None and not hasattr(config, "distribute")
    with pytest.raises(UserError, match="no key 'distribute'"):
        _ = config.distribute


@pytest.mark.parametrize(("argv", "hidden_size", "batch_size"), [
    ([], 768, 256),
    (["--bert_network", "nezha"], 1024, 96),
    (["--bert_network", "nezha", "--batch_size", "8"], 1024, 8),
    (["--nezha_batch_size", "7", "--bert_network", "nezha"], 1024, 7),
])
def test_select_network(load, argv, hidden_size, batch_size):
    arguments, size = select_network(load(*argv))
    assert (arguments["hidden_size"], size) == (hidden_size, batch_size)
    assert type(arguments) is dict


def test_importing_reads_neither_files_nor_the_command_line():
    code = "import src.model_utils.config, sys; print('mindspore' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, "--unknown", "x"], cwd=REPOSITORY, capture_output=True,
                          text=True)
    assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr


# --- pretrain_config.yaml ---

DOCUMENTED_DEFAULTS = {
    "device_target": "Ascend", "distribute": False, "device_num": 1, "device_id": 0, "enable_save_ckpt": True,
    "enable_lossscale": True, "do_shuffle": True, "enable_data_sink": True, "data_sink_steps": 1,
    "accumulation_steps": 1, "allreduce_post_accumulation": True, "save_checkpoint_path": "",
    "load_checkpoint_path": "", "save_checkpoint_steps": 1000, "save_checkpoint_num": 1, "train_steps": -1,
    "data_dir": "", "dataset_format": "mindrecord", "schema_dir": "", "epoch_size": 40, "bert_network": "base",
    "optimizer": "Lamb", "loss_scale_value": 65536, "scale_factor": 2, "scale_window": 1000, "eval_samples": 300000,
    "train_with_eval": False, "base_batch_size": 256, "nezha_batch_size": 96, "large_batch_size": 24,
    "large_boost_batch_size": 24,
}


@pytest.fixture(scope="module")
def pretrain() -> Config:
    return load_config("", "pretrain_config.yaml", [])


def test_documented_defaults_of_pretraining(pretrain):
    assert {key: pretrain[key] for key in DOCUMENTED_DEFAULTS} == DOCUMENTED_DEFAULTS
    assert pretrain.Lamb.to_dict() == {
        "learning_rate": 3e-4, "end_learning_rate": 0.0, "warmup_steps": 10000, "decay_steps": 0, "power": 2.0,
        "weight_decay": 0.01, "decay_filter": ["layernorm", "bias"], "beta1": 0.99, "beta2": 0.999, "eps": 1e-8}
    adam = pretrain.AdamWeightDecay
    assert (adam.learning_rate, adam.power, adam.weight_decay, adam.eps) == (3e-5, 5.0, 1e-5, 1e-6)
    assert pretrain.Momentum.to_dict() == {"learning_rate": 2e-5, "momentum": 0.9}


@pytest.mark.parametrize(("name", "sizes", "vocab_size", "seq_length", "act", "relative"), [
    ("base", (768, 12, 12, 3072), 21128, 128, "gelu", False),
    ("nezha", (1024, 24, 16, 4096), 21128, 128, "gelu", True),
    ("large", (1024, 24, 16, 4096), 30522, 512, "gelu", False),
    ("large_boost", (1024, 24, 16, 4096), 30522, 512, "fast_gelu", False),
])
def test_documented_networks(name, sizes, vocab_size, seq_length, act, relative):
    network, _ = select_network(load_config("", "pretrain_config.yaml", ["--bert_network", name]))
    assert (network["hidden_size"], network["num_hidden_layers"], network["num_attention_heads"],
            network["intermediate_size"]) == sizes
    assert (network["vocab_size"], network["seq_length"], network["hidden_act"]) == (vocab_size, seq_length, act)
    assert network["use_relative_positions"] is relative and network["relative_position_kind"] == "learned"
    assert (network["type_vocab_size"], network["max_position_embeddings"]) == (2, 512)
    assert (network["dtype"], network["compute_type"]) == ("float32", "float16")


def test_every_network_makes_a_bert_config(pretrain):
    from src.bert_model import BertConfig
    networks = [key for key in pretrain if key.endswith("_net_cfg")]
    assert {"base_net_cfg", "nezha_net_cfg", "large_net_cfg"} <= set(networks)
    for key in networks:
        assert BertConfig(**pretrain[key].to_dict()).hidden_size == pretrain[key].hidden_size


def test_every_key_has_a_help_text():
    values, texts, _ = yaml.safe_load_all((REPOSITORY / "pretrain_config.yaml").read_text())
    groups = {key: value for key, value in values.items() if isinstance(value, dict)}
    names = (values.keys() - groups.keys()).union(*groups.values())
    assert names - texts.keys() == set()


def test_every_scalar_key_of_pretraining_is_an_option(pretrain):
    argv = []
    for key, value in pretrain.items():
        if isinstance(value, Config):
            for name, member in value.items():
                argv += [f"--{key}.{name}", str(member)]
        else:
            argv += [f"--{key}", str(value)]
    again = load_config("", "pretrain_config.yaml", argv)
    assert again == pretrain and all(again.was_given(name[2:]) for name in argv[::2])


def test_a_mistake_in_a_script_is_one_line_without_traceback():
    code = ("from src.errors import run_script; from src.model_utils.config import load_config;"
            "run_script(lambda: load_config('', 'pretrain_config.yaml'))")
    done = subprocess.run([sys.executable, "-c", code, "--bach_size", "3"], cwd=REPOSITORY, capture_output=True,
                          text=True)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == "error: the command line: unknown option --bach_size; did you mean batch_size?\n"
