"""Exchange of checkpoints: outputs against transformers (tests/fixtures/make_exchange.py), round trips, mistakes."""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from mindspore import Tensor, nn
from paths import FIXTURES, REPOSITORY
from safetensors.numpy import load_file, save_file

from src.bert_for_pre_training import BertPreTraining
from src.bert_model import BertConfig, BertModel
from src.errors import UserError
from src.exchange.activations import activation_for, activation_from
from src.exchange.huggingface import read_safetensors
from src.finetune_eval_model import BertCLSModel, BertNERModel, BertSquadModel
from src.layers import get_activation
from src.model_utils.config import load_config
from src.tasks.registry import load_task_config
from src.tools.convert_checkpoint import main
from src.weights import load_weights, read_weights

pytestmark = pytest.mark.usefixtures("pynative_mode")

REFERENCES = FIXTURES / "exchange"
MODELS = ("pretrain", "encoder", "classifier", "ner", "squad", "nezha")
STEMS = {"pretrain": "checkpoint_bert", "encoder": "checkpoint_bert", "nezha": "checkpoint_bert"}
POOLER = {"bert.bert.dense.weight", "bert.bert.dense.bias"}

needs_tensorflow = pytest.mark.skipif(importlib.util.find_spec("tensorflow") is None, reason="tensorflow absent")


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    """Every model converted to this repository's files."""
    root = tmp_path_factory.mktemp("ours")
    for model in MODELS:
        convert(REFERENCES / model, root / model)
    return root


def convert(source, target, *options):
    main(["--input_path", str(source), "--output_dir", str(target), *map(str, options)])
    return target


def checkpoint(directory, model):
    return directory / f"{STEMS.get(model, model)}.ckpt"


def yaml_options(directory, model):
    return ("--config_path", directory / ("pretrain.yaml" if model in STEMS else f"{model}.yaml"))


def bert_config(directory, model):
    """The sizes, read as the scripts do."""
    if model in STEMS:
        config = load_config("", "pretrain_config.yaml", ["--config_path", str(directory / "pretrain.yaml")])
        group = config.base_net_cfg.to_dict()
    else:
        group = yaml.safe_load((directory / f"{model}.yaml").read_text())["bert_net_cfg"]
    return BertConfig(**group | {"compute_type": "float32"})


def copy_of(model, tmp_path, **config_changes):
    """A model of transformers that a test may spoil."""
    directory = tmp_path / f"{model}_copy"
    shutil.copytree(REFERENCES / model, directory)
    if config_changes:
        config = json.loads((directory / "config.json").read_text()) | config_changes
        (directory / "config.json").write_text(json.dumps(config))
    return directory


def change_tensors(directory, change):
    """Rewrite the weights as `change` returns them."""
    path = directory / "model.safetensors"
    save_file(change(load_file(path)), path, metadata={"format": "pt"})


def alone(weights, tmp_path):
    """A copy of weights without the folder that describes them."""
    return shutil.copy(weights, tmp_path / weights.name)


def refusal(*arguments):
    with pytest.raises(UserError) as caught:
        convert(*arguments)
    message = str(caught.value)
    assert "\n" not in message
    return message


# ---------------------------------------------------------------- from transformers: the same outputs

class WithPrefix(nn.Cell):
    """A network one level down, where its loss has it."""

    def __init__(self, network):
        super().__init__()
        self.bert = network

    def construct(self, *inputs):
        return self.bert(*inputs)


def outputs(model, config, path, inputs):
    """What our network makes of the inputs, by the names of transformers."""
    network, names = {
        "encoder": lambda: (BertModel(config, False), ("last_hidden_state", "pooler_output")),
        "classifier": lambda: (BertCLSModel(config, False, 3), ("logits",)),
        "ner": lambda: (BertNERModel(config, False, 5), ("logits",)),
        "squad": lambda: (BertSquadModel(config, False), ("start_logits", "end_logits")),
    }.get(model, lambda: (BertPreTraining(config, False), ("prediction_logits", "seq_relationship_logits")))()
    network = WithPrefix(network)
    report = load_weights(network, path)
    assert not (report.missing or report.wrong_shape or report.unexpected), str(report)
    columns = [Tensor(inputs[name]) for name in ("input_ids", "input_mask", "segment_ids")]
    if model == "encoder":
        columns = [columns[0], columns[2], columns[1]]
    if names[0] == "prediction_logits":
        columns.append(Tensor(np.tile(np.arange(72, dtype=np.int32), (2, 1))))
    found = network(*columns)
    return dict(zip(names, found if isinstance(found, tuple) else (found,), strict=False))


@pytest.mark.parametrize("model", MODELS)
def test_outputs_are_those_of_transformers(ours, model):
    reference = np.load(REFERENCES / model / "outputs.npz")
    found = outputs(model, bert_config(ours / model, model), checkpoint(ours / model, model), reference)
    assert found
    rows = reference["input_mask"].astype(bool)
    for name, value in found.items():
        expected = reference[name]
        value = value.asnumpy().reshape(expected.shape)
        if expected.ndim > 1 and expected.shape[:2] == rows.shape:  # what stands at padding means nothing
            value, expected = value[rows], expected[rows]
        assert np.abs(expected).max() > 0.3
        np.testing.assert_allclose(value, expected, rtol=0, atol=1e-5)


def test_what_is_written_beside_the_weights(ours):
    classifier = load_task_config("", ["--config_path", str(ours / "classifier/classifier.yaml")])
    assert classifier.device_target == "auto"  # the next command runs on what this machine has
    assert classifier.num_class == 3
    assert Path(classifier.load_finetune_checkpoint_path) == ours / "classifier/classifier.ckpt"
    assert Path(classifier.label_file_path).read_text(encoding="utf-8") == "sport\n文化\nother news\n"
    assert Path(classifier.vocab_file_path).read_bytes() == (REFERENCES / "classifier/vocab.txt").read_bytes()
    assert (ours / "ner/labels.txt").read_text() == "PER\n"
    for name in ("ner", "squad"):
        load_task_config("", ["--config_path", str(ours / name / f"{name}.yaml")])
    pretrain = load_task_config("", ["--config_path", str(ours / "pretrain/finetune.yaml"), "--description",
                                     "run_classifier"])
    sizes = pretrain.bert_net_cfg
    assert (sizes.hidden_act, sizes.type_vocab_size, sizes.hidden_dropout_prob, sizes.attention_probs_dropout_prob,
            sizes.seq_length) == ("gelu_erf", 3, 0.05, 0.15, 80)
    assert bert_config(ours / "nezha", "nezha").relative_position_kind == "sinusoidal"


def test_zeros_stand_for_what_is_not_used(ours, tmp_path, capsys):
    convert(REFERENCES / "squad", tmp_path / "squad")
    assert "filled with zeros: this network does not use them (2): bert.bert.dense.bias" in capsys.readouterr().out
    weights = read_weights(ours / "squad/squad.ckpt")
    assert not any(weights[name].any() for name in POOLER)


# ---------------------------------------------------------------- round trips

@pytest.mark.parametrize("model", MODELS)
def test_to_transformers_and_back_changes_no_bit(ours, tmp_path, model):
    source = REFERENCES / model
    back = convert(checkpoint(ours / model, model), tmp_path / "back", "--output_format", "huggingface",
                   *yaml_options(ours / model, model))
    original, found = load_file(source / "model.safetensors"), load_file(back / "model.safetensors")
    assert {name: value.tobytes() for name, value in found.items()} == \
        {name: value.tobytes() for name, value in original.items()}
    config, expected = (json.loads((path / "config.json").read_text()) for path in (back, source))
    same = set(config) & set(expected) - {"classifier_dropout"}
    if model == "ner":  # as pipelines know them, and as we do
        same -= {"id2label", "label2id"}
        assert config["id2label"] == {"0": "O", "1": "B-PER", "2": "B-PER", "3": "I-PER", "4": "I-PER"}
        assert config["class_names"] == ["O", "S_PER", "B_PER", "M_PER", "E_PER"]
    assert len(same) > 12
    assert {key: config[key] for key in same} == {key: expected[key] for key in same}
    assert (back / "vocab.txt").read_bytes() == (source / "vocab.txt").read_bytes()
    again = convert(back, tmp_path / "again")
    first, second = (read_weights(checkpoint(directory, model)) for directory in (ours / model, again))
    assert {name: value.tobytes() for name, value in first.items()} == \
        {name: value.tobytes() for name, value in second.items()}


def test_safetensors_of_ours_and_a_bare_encoder(ours, tmp_path):
    """Another file format, and the names of a `BertModel` by itself."""
    directory = convert(REFERENCES / "encoder", tmp_path / "st", "--file_format", "safetensors")
    weights = read_weights(directory / "checkpoint_bert.safetensors")
    assert weights.keys() == read_weights(checkpoint(ours / "encoder", "encoder")).keys()
    bare = tmp_path / "bare.safetensors"
    save_file({name.removeprefix("bert.bert."): value for name, value in weights.items()}, bare)
    back = convert(bare, tmp_path / "hf", "--output_format", "huggingface", *yaml_options(directory, "encoder"))
    original, found = (load_file(path / "model.safetensors") for path in (REFERENCES / "encoder", back))
    assert {name: value.tobytes() for name, value in found.items()} == \
        {name: value.tobytes() for name, value in original.items()}


def test_a_directory_of_a_training_stands_for_its_best_weights(ours, tmp_path):
    training = tmp_path / "training"
    training.mkdir()
    shutil.copy(ours / "classifier/classifier.ckpt", training / "classifier_best.ckpt")
    shutil.copy(ours / "classifier/vocab.txt", training)
    config = load_task_config("", ["--config_path", str(ours / "classifier/classifier.yaml"), "--vocab_file_path", ""])
    (training / "classifier_config.yaml").write_text(yaml.safe_dump(config.to_dict()))
    back = convert(training, tmp_path / "hf", "--output_format", "huggingface", "--config_path",
                   training / "classifier_config.yaml")
    original, found = (load_file(path / "model.safetensors") for path in (REFERENCES / "classifier", back))
    assert {name: value.tobytes() for name, value in found.items()} == \
        {name: value.tobytes() for name, value in original.items()}
    assert list(json.loads((back / "config.json").read_text())["label2id"]) == ["sport", "文化", "other news"]
    assert (back / "vocab.txt").read_bytes() == (REFERENCES / "classifier/vocab.txt").read_bytes()


# ---------------------------------------------------------------- what files of transformers may hold besides

def test_old_names_copies_and_buffers(ours, tmp_path, capsys):
    def change(tensors):
        old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
        renamed = {re.sub(r"LayerNorm\.\w+", lambda found: old[found[0]], name): tensors[name] for name in tensors}
        renamed["cls.predictions.decoder.weight"] = tensors["bert.embeddings.word_embeddings.weight"].copy()
        renamed["cls.predictions.decoder.bias"] = renamed.pop("cls.predictions.bias")
        renamed["bert.embeddings.position_ids"] = np.arange(80)[None]
        renamed["projection.weight"] = np.ones((2, 2), np.float32)
        return renamed

    source = copy_of("pretrain", tmp_path)
    change_tensors(source, change)
    found = read_weights(checkpoint(convert(source, tmp_path / "out"), "pretrain"))
    expected = read_weights(checkpoint(ours / "pretrain", "pretrain"))
    assert {name: value.tobytes() for name, value in found.items()} == \
        {name: value.tobytes() for name, value in expected.items()}
    printed = capsys.readouterr().out
    assert "a copy of a shared parameter (2): cls.predictions.decoder.bias, cls.predictions.decoder.weight" in printed
    assert "computed, not learnt (1): bert.embeddings.position_ids" in printed
    assert "no counterpart in the network for pretrain (1): projection.weight" in printed
    assert "keys of config.json without a counterpart (2): pad_token_id, use_cache" in printed


def test_an_untied_output_layer_is_refused(tmp_path):
    source = copy_of("pretrain", tmp_path, tie_word_embeddings=False)
    change_tensors(source, lambda tensors: tensors | {
        "cls.predictions.decoder.weight": tensors["bert.embeddings.word_embeddings.weight"] + 1})
    found = refusal(source, tmp_path / "out")
    assert "tie_word_embeddings is false and cls.predictions.decoder.weight differs" in found
    assert not (tmp_path / "out").exists()
    encoder = read_weights(checkpoint(convert(source, tmp_path / "out", "--task", "encoder"), "encoder"))
    assert not any(name.startswith("bert.cls") for name in encoder)


def test_a_model_without_pooler_and_next_sentence_head(tmp_path, capsys):
    source = copy_of("pretrain", tmp_path, architectures=["BertForMaskedLM"])
    change_tensors(source, lambda tensors: {name: value for name, value in tensors.items()
                                            if "pooler" not in name and "seq_relationship" not in name})
    found = read_weights(checkpoint(convert(source, tmp_path / "out"), "pretrain"))
    absent = {*POOLER, "bert.cls2.dense.weight", "bert.cls2.dense.bias"}
    assert absent.isdisjoint(found)
    assert "bert.cls1.output_bias" in found
    assert f"starts from its initial value when loaded (4): {', '.join(sorted(absent))}" in capsys.readouterr().out


def test_half_precision_and_several_files(tmp_path, capsys):
    source = copy_of("pretrain", tmp_path)
    exact = load_file(source / "model.safetensors")
    name = "bert.embeddings.word_embeddings.weight"
    half = {key: value.astype(np.float16) for key, value in exact.items()}
    save_file({name: half.pop(name)}, source / "model-1.safetensors")
    save_file(half, source / "model-2.safetensors")
    (source / "model.safetensors").unlink()
    index = {"weight_map": dict.fromkeys(half, "model-2.safetensors") | {name: "model-1.safetensors"}}
    (source / "model.safetensors.index.json").write_text(json.dumps(index))
    found = read_weights(checkpoint(convert(source, tmp_path / "out"), "pretrain"))
    table = found["bert.bert.bert_embedding_lookup.embedding_table"]
    assert table.dtype == np.float32
    assert "46 parameters in float16 became float32" in capsys.readouterr().out
    np.testing.assert_array_equal(table, exact[name].astype(np.float16).astype(np.float32))


def test_bfloat16_is_widened_exactly(tmp_path):
    header = json.dumps({"x": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}).encode()
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes.fromhex("803f49c0"))
    np.testing.assert_array_equal(read_safetensors(path)["x"], np.array([1.0, -3.140625], np.float32))


def test_files_of_pytorch_need_its_safe_loader(ours, tmp_path, monkeypatch):
    source = copy_of("encoder", tmp_path)
    tensors = load_file(source / "model.safetensors")
    (source / "model.safetensors").unlink()
    (source / "pytorch_model.bin").write_bytes(b"a pickle")
    monkeypatch.setitem(sys.modules, "torch", None)
    assert "has only pytorch_model.bin, which needs PyTorch's safe loader; pip install torch, or save the model as " \
           "model.safetensors with save_pretrained" in refusal(source, tmp_path / "out")

    def load(path, map_location, weights_only):
        assert path == source / "pytorch_model.bin" and weights_only is True
        return {name: SimpleNamespace(is_floating_point=lambda: True, float=lambda value=value: SimpleNamespace(
            numpy=lambda: value)) for name, value in tensors.items()}

    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(load=load))
    found = read_weights(checkpoint(convert(source, tmp_path / "out"), "encoder"))
    expected = read_weights(checkpoint(ours / "encoder", "encoder"))
    assert {name: value.tobytes() for name, value in found.items()} == \
        {name: value.tobytes() for name, value in expected.items()}


def test_tags_of_another_scheme_keep_their_order(tmp_path, capsys):
    tags = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
    source = copy_of("ner", tmp_path, id2label=dict(enumerate(tags)))
    target = convert(source, tmp_path / "out")
    assert "the tags O, B-PER, I-PER, B-LOC, I-LOC are not O followed by S, B, M and E" in capsys.readouterr().out
    assert not (target / "labels.txt").exists()
    expected = load_file(REFERENCES / "ner/model.safetensors")["classifier.weight"]
    np.testing.assert_array_equal(read_weights(target / "ner.ckpt")["bert.dense_1.weight"], expected)


# ---------------------------------------------------------------- activations

def test_gelu_means_different_functions():
    x = np.linspace(-4, 4, 9, dtype=np.float32)
    from math import erf, pi, sqrt, tanh
    exact = [v / 2 * (1 + erf(v / sqrt(2))) for v in x]
    by_tanh = [v / 2 * (1 + tanh(sqrt(2 / pi) * (v + 0.044715 * v ** 3))) for v in x]
    for framework, name, expected in (("huggingface", "gelu", exact), ("huggingface", "gelu_new", by_tanh),
                                      ("huggingface", "gelu_pytorch_tanh", by_tanh), ("tensorflow", "gelu", by_tanh)):
        function = get_activation(activation_from(framework, name, Path("config.json")))
        np.testing.assert_allclose(function(Tensor(x)).asnumpy(), expected, atol=2e-6)


@pytest.mark.parametrize(("framework", "names"), [("huggingface", ["gelu", "gelu_erf", "fast_gelu", "relu", "tanh"]),
                                                  ("tensorflow", ["gelu", "relu", "tanh"])])
def test_activations_come_back(framework, names):
    assert [activation_from(framework, activation_for(framework, name), Path("x")) for name in names] == names


# ---------------------------------------------------------------- Google's checkpoints

def google_variables(tensors):
    """The variables of Google's BERT for the tensors of transformers, by the rules of its scopes."""
    variables = {}
    for name, value in tensors.items():
        scope, _, leaf = name.replace(".layer.", ".layer_").replace(".", "/").rpartition("/")
        if "embeddings/" in scope + "/" and scope.endswith("_embeddings"):
            variables[scope] = value
        elif scope in ("cls/seq_relationship", "classifier", "qa_outputs"):
            place = {"classifier": "", "qa_outputs": "cls/squad/"}.get(scope, scope + "/")
            variables[place + {"weight": "output_weights", "bias": "output_bias"}[leaf]] = value
        elif scope == "cls/predictions":
            variables["cls/predictions/output_bias"] = value
        elif scope.endswith("LayerNorm"):
            variables[f"{scope}/{'gamma' if leaf == 'weight' else 'beta'}"] = value
        else:
            variables[f"{scope}/{'kernel' if leaf == 'weight' else 'bias'}"] = value.T if leaf == "weight" else value
    return variables


def write_google(directory, variables, config):
    import tensorflow as tf
    directory.mkdir()
    names = sorted(variables)
    tf.raw_ops.SaveV2(prefix=str(directory / "bert_model.ckpt"), tensor_names=names, shape_and_slices=[""] * len(names),
                      tensors=[tf.constant(variables[name]) for name in names])
    (directory / "bert_config.json").write_text(json.dumps(config))
    return directory


@needs_tensorflow
@pytest.mark.parametrize("model", ["pretrain", "classifier", "squad", "nezha"])
def test_google_checkpoints_there_and_back(ours, tmp_path, capsys, model):
    import tensorflow as tf
    tensors = load_file(REFERENCES / model / "model.safetensors")
    base = {name.replace("nezha.", "bert."): value for name, value in tensors.items()}
    variables = google_variables(base)
    moments = {f"{name}/adam_m": np.zeros_like(value) for name, value in variables.items()}
    config = json.loads((REFERENCES / model / "config.json").read_text()) | {"hidden_act": "gelu"}
    config = {key: value for key, value in config.items() if "max_rel" not in key}
    source = write_google(tmp_path / "google", variables | moments | {"global_step": np.int64(3)}, config)

    converted = convert(source, tmp_path / "ours", "--vocab_file_path", REFERENCES / model / "vocab.txt")
    assert f"optimizer state is left out: {len(moments) + 1} entries" in capsys.readouterr().out
    found, expected = (read_weights(checkpoint(directory, model)) for directory in (converted, ours / model))
    missing = POOLER if model == "squad" else set()
    assert {name: value.tobytes() for name, value in found.items()} == \
        {name: value.tobytes() for name, value in expected.items()}
    assert bert_config(converted, model).hidden_act == "gelu"

    back = convert(checkpoint(converted, model), tmp_path / "back", "--output_format", "tensorflow",
                   *yaml_options(converted, model))
    reader = tf.train.load_checkpoint(str(back / "bert_model.ckpt"))
    written = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
    assert {name: value.tobytes() for name, value in written.items() if "pooler" not in name or not missing} == \
        {name: np.ascontiguousarray(value).tobytes() for name, value in variables.items()}
    assert json.loads((back / "bert_config.json").read_text())["hidden_act"] == "gelu"
    assert (back / "vocab.txt").read_bytes() == (REFERENCES / model / "vocab.txt").read_bytes()


@needs_tensorflow
def test_a_real_google_checkpoint(shared_data, tmp_path):
    import tensorflow as tf
    source = shared_data / "weights" / "keras-bert-test_checkpoint"
    if not source.is_dir():
        pytest.skip(f"real data absent (no directory {source})")
    converted = convert(source, tmp_path / "ours")
    network = WithPrefix(BertPreTraining(bert_config(converted, "pretrain"), False))
    assert not load_weights(network, checkpoint(converted, "pretrain")).missing
    ids = Tensor(np.array([[2, 5, 6, 4, 3]], np.int32))
    scores, pair = network(ids, ids * 0 + 1, ids * 0, Tensor(np.array([[3]], np.int32)))
    assert scores.shape == (1, 15) and np.isfinite(scores.asnumpy()).all() and np.isfinite(pair.asnumpy()).all()
    back = convert(checkpoint(converted, "pretrain"), tmp_path / "back", "--output_format", "tensorflow",
                   *yaml_options(converted, "pretrain"))
    first, second = (tf.train.load_checkpoint(str(path / "bert_model.ckpt")) for path in (source, back))
    names = {name for name in first.get_variable_to_shape_map() if "adam" not in name} - {"global_step"}
    assert set(second.get_variable_to_shape_map()) == names
    assert all(first.get_tensor(name).tobytes() == second.get_tensor(name).tobytes() for name in names)


@needs_tensorflow
def test_mistakes_with_google_checkpoints(tmp_path):
    variables = google_variables(load_file(REFERENCES / "pretrain/model.safetensors"))
    config = json.loads((REFERENCES / "pretrain/config.json").read_text())
    source = write_google(tmp_path / "google", variables, config)
    (source / "bert_config.json").unlink()
    assert "bert_config.json: No such file" in refusal(source, tmp_path / "out")
    (source / "bert_config.json").write_text(json.dumps(config | {"use_relative_position": True}))
    found = refusal(source, tmp_path / "out")
    assert "use_relative_position is true, but the checkpoint has position_embeddings" in found
    (source / "bert_config.json").write_text(json.dumps(config))
    data = next(source.glob("*.data-*"))
    data.write_bytes(data.read_bytes()[:100])
    assert "missing, damaged or cut off" in refusal(source / "bert_model.ckpt", tmp_path / "out")
    other = write_google(tmp_path / "other", {"dense/kernel": np.ones(2, np.float32)}, config)
    assert "no bert/embeddings/word_embeddings among its variables (dense/kernel" in refusal(other, tmp_path / "out")


def test_without_tensorflow(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    (tmp_path / "bert_model.ckpt.index").write_bytes(b"")
    assert "pip install -r requirements-tensorflow.txt" in refusal(tmp_path, tmp_path / "out")


# ---------------------------------------------------------------- mistakes

@pytest.mark.parametrize(("changes", "message"), [
    ({"model_type": "roberta"}, 'model_type "roberta", expected one of bert, nezha'),
    ({"position_embedding_type": "relative_key"}, 'position_embedding_type "relative_key" has no counterpart'),
    ({"hidden_act": "silu"}, "hidden_act 'silu' has no counterpart here; gelu, "),
    ({"hidden_size": 32}, "is [24, 16], but the sizes of its configuration make it [24, 32]"),
    ({"hidden_size": None}, "hidden_size is null, expected a whole number; expected the configuration of a BERT"),
    ({"num_hidden_layers": 1}, "has bert.encoder.layer.1.attention.output.LayerNorm.bias, but its configuration says"),
    ({"num_hidden_layers": 3}, "has no bert.bert.bert_encoder.layers.2.attention.attention.query_layer.weight"),
    ({"num_attention_heads": 3}, "hidden_size: 16 cannot be divided among num_attention_heads 3"),
])
def test_a_configuration_that_does_not_fit(tmp_path, changes, message):
    source = copy_of("pretrain", tmp_path, **changes)
    found = refusal(source, tmp_path / "out")
    assert message in found
    assert str(source) in found
    assert not (tmp_path / "out").exists()


def test_damaged_and_missing_files(tmp_path):
    assert "--input_path: there is no" in refusal(tmp_path / "nothing", tmp_path / "out")
    assert "no checkpoint in this directory" in refusal(tmp_path, tmp_path / "out", "--output_format", "huggingface")
    source = copy_of("pretrain", tmp_path)
    weights = source / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-7])
    assert "model.safetensors: damaged, cut off, or no safetensors file" in refusal(source, tmp_path / "out")
    weights.unlink()
    assert "no model.safetensors; expected a directory that save_pretrained" in refusal(source, tmp_path / "out")
    (source / "config.json").write_text("{")
    assert "config.json, column 2: no JSON" in refusal(source, tmp_path / "out")


def test_the_command_ends_with_one_line(tmp_path):
    copy_of("encoder", tmp_path)
    (tmp_path / "encoder_copy/config.json").unlink()
    command = [sys.executable, "src/tools/convert_checkpoint.py", "--input_path",
               tmp_path / "encoder_copy/model.safetensors", "--output_dir", tmp_path / "out", "--output_format",
               "tensorflow"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == (f"error: {tmp_path}/encoder_copy/model.safetensors is a file of transformers; give the "
                           f"directory that holds it and its config.json\n")
    assert not (tmp_path / "out").exists()


def test_a_write_that_fails_leaves_nothing(ours, tmp_path, monkeypatch):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("src.exchange.huggingface.save_file", full)
    found = refusal(checkpoint(ours / "encoder", "encoder"), tmp_path / "out", "--output_format", "huggingface",
                    *yaml_options(ours / "encoder", "encoder"))
    assert "out: No space left on device" in found
    assert not list((tmp_path / "out").iterdir())


def test_a_classifier_that_does_not_say_what_for(tmp_path):
    source = copy_of("classifier", tmp_path, architectures=["BertForMultipleChoice"])
    assert "give --task classifier or --task ner" in refusal(source, tmp_path / "out")
    assert (convert(source, tmp_path / "out", "--task", "ner") / "ner.ckpt").is_file()


def test_options_and_places_that_do_not_fit(ours, tmp_path):
    source = copy_of("encoder", tmp_path)
    assert "--config_pat: no such option for this input" in refusal(source, tmp_path / "out", "--config_pat", "x")
    assert f"--output_dir: {source} holds the input" in refusal(source, source)
    found = refusal(source, tmp_path / "out", "--vocab_file_path", tmp_path / "no")
    assert "vocab_file_path: there is no file" in found
    weights = alone(checkpoint(ours / "encoder", "encoder"), tmp_path)
    found = refusal(weights, tmp_path / "out")
    assert "to convert a checkpoint of this repository, give --output_format huggingface or tensorflow" in found
    found = refusal(weights, tmp_path / "out", "--output_format", "huggingface")
    assert "is [24, 16], but the sizes of its configuration make it [21128, 768]" in found
    classifier = alone(ours / "classifier/classifier.ckpt", tmp_path)
    assert "--config_path is not set" in refusal(classifier, tmp_path / "out", "--output_format", "huggingface")


def test_networks_that_only_this_repository_has(ours, tmp_path, capsys):
    options = ("--output_format", "huggingface", *yaml_options(ours / "encoder", "encoder"))
    weights = alone(checkpoint(ours / "encoder", "encoder"), tmp_path)
    learned = ("--base_net_cfg.use_relative_positions", "true")
    assert "learned relative positions, for which transformers has no counterpart" in \
        refusal(weights, tmp_path / "out", *options, *learned)
    values = read_weights(ours / "ner/ner.ckpt")
    save_file(values | {"bert.lstm.weight_ih_l0": np.ones((2, 2), np.float32)}, tmp_path / "lstm.safetensors")
    save_file(values | {"loss.transitions": np.ones((2, 2), np.float32)}, tmp_path / "crf.safetensors")
    options = ("--output_format", "huggingface", *yaml_options(ours / "ner", "ner"))
    found = refusal(tmp_path / "lstm.safetensors", tmp_path / "out", *options)
    assert "has an LSTM between encoder and classifier" in found
    convert(tmp_path / "crf.safetensors", tmp_path / "crf", *options)
    assert (tmp_path / "crf/model.safetensors").is_file()
    assert "no counterpart in the network for ner (1): " in capsys.readouterr().out
