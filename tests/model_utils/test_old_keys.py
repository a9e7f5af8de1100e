"""The configuration files of the original, with all their keys and defaults, are taken as they are."""

import copy
from pathlib import Path

import pytest
import yaml
from paths import REPOSITORY

from src.errors import UserError
from src.model_utils.config import Config, load_config
from src.tasks.registry import load_task_config, task_type

COMMON = {
    "enable_modelarts": False, "data_url": "", "train_url": "", "checkpoint_url": "", "data_path": "/cache/data",
    "output_path": "/cache/train", "load_path": "/cache/checkpoint_path", "device_target": "Ascend",
    "enable_profiling": False}
FILTER = ["layernorm", "bias"]


def net(**changes: object) -> dict:
    return {"seq_length": 128, "vocab_size": 21128, "hidden_size": 768, "num_hidden_layers": 12,
            "num_attention_heads": 12, "intermediate_size": 3072, "hidden_act": "gelu", "hidden_dropout_prob": 0.1,
            "attention_probs_dropout_prob": 0.1, "max_position_embeddings": 512, "type_vocab_size": 2,
            "initializer_range": 0.02, "use_relative_positions": False, "dtype": "mstype.float32",
            "compute_type": "mstype.float16"} | changes


LARGE = {"seq_length": 512, "vocab_size": 30522, "hidden_size": 1024, "num_hidden_layers": 24,
         "num_attention_heads": 16, "intermediate_size": 4096}


def task(description: str, *, optimizer: str = "Lamb", adam: tuple = (2e-5, 1e-7, 1.0, 1e-5), **changes: object
         ) -> dict:
    rate, end, power, decay = adam
    return COMMON | {
        "description": description, "assessment_method": "Accuracy", "do_train": "false", "do_eval": "false",
        "device_id": 0, "epoch_num": 3, "train_data_shuffle": "true", "eval_data_shuffle": "false",
        "train_batch_size": 32, "eval_batch_size": 1, "save_finetune_checkpoint_path": "",
        "load_pretrain_checkpoint_path": "", "load_finetune_checkpoint_path": "", "train_data_file_path": "",
        "eval_data_file_path": "", "dataset_format": "mindrecord", "schema_file_path": "", "vocab_file_path": "",
        "export_batch_size": 1, "export_ckpt_file": "", "export_file_name": "bert", "file_format": "MINDIR",
        "optimizer_cfg": {
            "optimizer": optimizer,
            "AdamWeightDecay": {"learning_rate": rate, "end_learning_rate": end, "power": power,
                                "weight_decay": decay, "decay_filter": FILTER, "eps": 1e-6},
            "Lamb": {"learning_rate": 2e-5, "end_learning_rate": 1e-10, "power": 1.0, "weight_decay": 0.01,
                     "decay_filter": FILTER},
            "Momentum": {"learning_rate": 2e-5, "momentum": 0.9}},
        "bert_net_cfg": net()} | changes


THOR = {"lr_max": 0.006464, "lr_min": 1e-6, "lr_power": 2.0, "lr_total_steps": 30000, "damping_max": 0.007035,
        "damping_min": 1e-6, "damping_power": 4.0, "damping_total_steps": 30000, "momentum": 0.9,
        "weight_decay": 1e-5, "loss_scale": 1024.0, "frequency": 100}
PRETRAIN = COMMON | {
    "description": "run_pretrain", "distribute": "false", "epoch_size": 40, "device_id": 0, "device_num": 1,
    "enable_save_ckpt": "true", "enable_lossscale": "true", "do_shuffle": "true", "enable_data_sink": "true",
    "data_sink_steps": 1, "accumulation_steps": 1, "allreduce_post_accumulation": "true",
    "save_checkpoint_path": "", "load_checkpoint_path": "", "save_checkpoint_steps": 1000, "train_steps": -1,
    "save_checkpoint_num": 1, "data_dir": "", "dataset_format": "mindrecord", "schema_dir": "",
    "train_with_eval": "false", "eval_data_dir": "", "eval_ckpt": "", "eval_samples": 300000, "batch_size": 32,
    "bert_network": "base", "loss_scale_value": 65536, "scale_factor": 2, "scale_window": 1000, "optimizer": "Lamb",
    "enable_global_norm": "false", "bucket_list": [],
    "AdamWeightDecay": {"learning_rate": 3e-5, "end_learning_rate": 0.0, "power": 5.0, "weight_decay": 1e-5,
                        "decay_filter": FILTER, "eps": 1e-6, "warmup_steps": 10000},
    "Lamb": {"learning_rate": 3e-4, "end_learning_rate": 0.0, "power": 2.0, "warmup_steps": 10000,
             "weight_decay": 0.01, "decay_filter": FILTER, "eps": 1e-8, "beta1": 0.99, "beta2": 0.999},
    "Momentum": {"learning_rate": 2e-5, "momentum": 0.9}, "Thor": THOR,
    "base_batch_size": 256, "base_net_cfg": net(),
    "nezha_batch_size": 96, "nezha_net_cfg": net(**LARGE | {"seq_length": 128, "vocab_size": 21128},
                                                 use_relative_positions=True),
    "large_batch_size": 24, "large_net_cfg": net(**LARGE),
    "large_boost_batch_size": 24, "large_boost_net_cfg": net(
        **LARGE, hidden_act="fast_gelu", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)}
FILES = {
    "pretrain_config.yaml": PRETRAIN,
    "pretrain_config_boost.yaml": PRETRAIN | {
        "num_samples": "None", "bert_network": "large_boost", "enable_global_norm": False, "schema_file": "",
        "train_steps": 17000, "bucket_list": [128, 256, 384, 512],
        "Lamb": {"learning_rate": 3.5e-4, "end_learning_rate": 1e-9, "power": 1.2, "warmup_steps": 0,
                 "weight_decay": 0.0166629, "decay_filter": FILTER, "eps": 1e-6, "beta1": 0.86, "beta2": 0.98}},
    "pretrain_config_thor.yaml": PRETRAIN | {"optimizer": "Thor", "Thor": THOR | {"weight_decay": 0.0}},
    "task_classifier_config.yaml": task("run_classifier", num_class=15),
    "task_ner_config.yaml": task("run_ner", assessment_method="BF1", use_crf="false", with_lstm="false",
                                 epoch_num=5, label_file_path=""),
    "task_squad_config.yaml": task("run_squad", use_pynative_mode=False, num_class=2, eval_json_path="",
                                   assessment_method="SQuAD", optimizer="AdamWeightDecay",
                                   adam=(1e-4, 1e-11, 5.0, 1e-3), bert_net_cfg=net(seq_length=384, vocab_size=30522)),
}


def load(folder: Path, name: str, *options: str, **changes: object) -> Config:
    """The configuration of a file of the original, with the two documents of help and choices that it has."""
    values = copy.deepcopy(FILES[name]) | changes
    path = folder / name
    path.write_text("\n---\n".join([yaml.safe_dump(values, sort_keys=False), "device_target: \"the device\"\n",
                                    "device_target: ['Ascend', 'GPU']\n"]), encoding="utf-8")
    return load_task_config("", ["--config_path", str(path), *options])


@pytest.mark.parametrize("name", FILES)
def test_every_value_of_an_old_file_arrives(tmp_path, name):
    config = load(tmp_path, name)
    for key, value in FILES[name].items():
        if key in ("Thor", "num_samples", "schema_file") or (key == "loss_scale_value" and "thor" in name):
            continue
        found = config[key].to_dict() if isinstance(value, dict) else config[key]
        if isinstance(value, dict):
            flat = {k: v for k, v in value.items() if not isinstance(v, dict)}
            assert {k: found[k] for k in flat} == flat, key
        else:
            assert found == {"true": True, "false": False}.get(str(value), value), key
    network = task_type(config.description).encoder_config(config, "CPU")
    assert str(network.compute_type) == "Float32"


def test_thor_of_an_old_file(tmp_path, capsys):
    config = load(tmp_path, "pretrain_config_thor.yaml")
    ours = config.Thor.to_dict()
    assert {key: ours[key] for key in ("learning_rate", "end_learning_rate", "power", "decay_steps", "damping",
                                       "end_damping", "damping_power", "damping_decay_steps", "momentum",
                                       "weight_decay", "frequency")} == {
        "learning_rate": 0.006464, "end_learning_rate": 1e-6, "power": 2.0, "decay_steps": 30000, "damping": 0.007035,
        "end_damping": 1e-6, "damping_power": 4.0, "damping_decay_steps": 30000, "momentum": 0.9, "weight_decay": 0.0,
        "frequency": 100}
    assert config.loss_scale_value == 1024
    said = capsys.readouterr().err
    assert "Thor.lr_max is taken for Thor.learning_rate: steps of THOR are as long as Adam's here" in said
    assert "Thor.loss_scale is taken for loss_scale_value" in said


def test_words_that_mean_nothing_or_something_else(tmp_path):
    boost = load(tmp_path, "pretrain_config_boost.yaml")
    assert (boost.num_samples, boost.schema_dir, boost.enable_global_norm) == (-1, "", False)
    for spelling in ("AdamWeightDecayDynamicLR", "AdamWerigtDecayDynamicLR", "AdamWeigtDecayDynamicLR"):
        assert load_config("", "pretrain_config.yaml", ["--optimizer", spelling]).optimizer == "AdamWeightDecay"


def test_a_key_of_nobody_is_still_an_error(tmp_path):
    with pytest.raises(UserError, match="unknown key 'nonsense'"):
        load(tmp_path, "pretrain_config.yaml", nonsense=1)
    with pytest.raises(UserError, match="unknown key 'Thor.lr_maximum'"):
        load(tmp_path, "pretrain_config.yaml", Thor={"lr_maximum": 1})


@pytest.mark.parametrize("description", ["run_classifier", "run_ner", "run_squad"])
def test_batch_size_in_a_task_is_train_batch_size(description):
    with pytest.raises(UserError, match=r"unknown option --batch_size; did you mean train_batch_size\?"):
        load_task_config("", ["--description", description, "--batch_size", "8"])


def test_the_files_here_still_load():
    there = [name for name in FILES if (REPOSITORY / name).exists()]
    assert "pretrain_config.yaml" in there
    for name in there:
        assert load_config("", name, []).to_dict()
