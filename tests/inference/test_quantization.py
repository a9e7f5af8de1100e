"""Models in int8 answer nearly as those in float32 do."""

import json
import re
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import toy_finetuning
import toy_ner
from toy_finetuning import toy_rows, write_rows

import export
import predict
import run_eval_onnx
from src.bert_for_pre_training import initialize_parameters
from src.errors import UserError
from src.tasks.registry import load_task_config, task_type
from src.weights import save_weights

ONNX = ["--file_format", "ONNX"]
INT8 = [*ONNX, "--quantization", "int8"]


def save_random_network(path, options):
    """A checkpoint of a network whose answers are not all alike."""
    config = load_task_config("", options)
    network = task_type(config.description).from_config(config).inference_network()
    initialize_parameters(network, 0.3, seed=2)
    save_weights(network, path)


def export_as(folder, name, options):
    export.main([*options, "--export_ckpt_file", str(folder / "a.ckpt"), "--export_file_name", str(folder / name)])
    return folder / name


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """(folder with the float32 and the int8 model of one network, the command line without data, the data)."""
    folder = tmp_path_factory.mktemp("int8")
    data = write_rows(folder / "dev.mindrecord", toy_rows(21, seed=1))
    options = ["--description", "run_classifier", *toy_finetuning.tiny_options(
        folder, folder, do_train="false", load_pretrain_checkpoint_path="", eval_data_file_path="", eval_batch_size=8)]
    save_random_network(folder / "a.ckpt", options)
    export_as(folder, "float32.onnx", [*options, *ONNX])
    export_as(folder, "int8.onnx", [*options, *INT8])
    return folder, options, data


def logits_of(path, rows):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    columns = (rows[name].astype(np.int64) for name in ("input_ids", "input_mask", "segment_ids"))
    inputs = (value.name for value in session.get_inputs())
    return session.run(["logits"], dict(zip(inputs, columns, strict=True)))[0]


def test_logits_are_close_to_those_of_float32(classifier):
    rows = toy_rows(32, seed=3)
    wanted, found = (logits_of(classifier[0] / name, rows) for name in ("float32.onnx", "int8.onnx"))
    difference = np.abs(found - wanted).max()
    assert 0 < difference < 0.05 * np.ptp(wanted)


def test_products_of_the_encoder_and_words_have_8_bits(classifier):
    """And the operators are of ONNX alone."""
    model = onnx.load(str(classifier[0] / "int8.onnx"))
    onnx.checker.check_model(model, full_check=True)
    operators = [node.op_type for node in model.graph.node]
    assert operators.count("MatMulInteger") == 6  # of the one block
    assert operators.count("MatMul") == 4  # attention twice, pooler, classes
    types = {weight.name: weight.data_type for weight in model.graph.initializer if weight.name.endswith("_quantized")}
    assert types.pop("bert.bert_embedding_lookup.embedding_table_quantized") == onnx.TensorProto.UINT8
    assert list(types.values()) == [onnx.TensorProto.INT8] * 6
    assert "bert.bert_embedding_lookup.embedding_table" not in {weight.name for weight in model.graph.initializer}
    scales = {weight.name: list(weight.dims) for weight in model.graph.initializer if weight.name.endswith("_scale")}
    layer = "bert.bert_encoder.layers.0.intermediate.weight.T"
    assert scales[f"{layer}_scale"] == [32]  # for each output
    assert {node.domain for node in model.graph.node} == {""}
    assert {opset.domain for opset in model.opset_import} == {""}


def test_additions_are_not_joined_with_normalisation(classifier, tmp_path):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    for name, joined in (("float32.onnx", 2), ("int8.onnx", 0)):
        options.optimized_model_filepath = str(tmp_path / name)
        onnxruntime.InferenceSession(str(classifier[0] / name), options, providers=["CPUExecutionProvider"])
        operators = [node.op_type for node in onnx.load(str(tmp_path / name)).graph.node]
        assert operators.count("SkipLayerNormalization") == joined


def test_description(classifier):
    float32, int8 = (json.loads((classifier[0] / f"{name}.onnx.json").read_text()) for name in ("float32", "int8"))
    assert int8.pop("quantization") == "int8"
    assert {key: value for key, value in int8.items() if key != "crc32"} == {
        key: value for key, value in float32.items() if key != "crc32"}
    session = onnxruntime.InferenceSession(str(classifier[0] / "int8.onnx"), providers=["CPUExecutionProvider"])
    assert json.loads(session.get_modelmeta().custom_metadata_map["about"])["quantization"] == "int8"


def test_scores_before_and_after(classifier, capsys):
    """Printed where the command line gives data; they are those of the evaluation of each model."""
    folder, options, data = classifier
    data = ["--eval_data_file_path", str(data)]
    lines = []
    for name in ("float32", "int8"):
        run_eval_onnx.main([*options, *data, "--export_file_name", str(folder / f"{name}.onnx")])
        lines += [f"{name}: {line}" for line in capsys.readouterr().out.splitlines() if "accuracy" in line]
    export_as(folder, "scored.onnx", [*options, *INT8, *data])
    printed = capsys.readouterr()
    assert [line for line in printed.out.splitlines() if "accuracy" in line] == lines
    assert len(lines) == 2
    assert "pre-processing" not in printed.err
    assert (folder / "scored.onnx").read_bytes() == (folder / "int8.onnx").read_bytes()


def test_data_of_the_training_are_not_needed(classifier, tmp_path, capsys):
    folder, options, _ = classifier
    (tmp_path / "training.yaml").write_text("description: run_classifier\neval_data_file_path: gone.mindrecord\n")
    place = options.index("--eval_data_file_path")
    options = ["--config_path", str(tmp_path / "training.yaml"), *options[:place], *options[place + 2:]]
    export_as(folder, "unscored.onnx", [*options, *INT8])
    assert "accuracy" not in capsys.readouterr().out


def test_predictions(classifier, tmp_path, capsys):
    folder, options, _ = classifier
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]",
                                                   *(f"w{number}" for number in range(35))]) + "\n")
    texts = [word for text in ("w7 w8 w21", "w30") for word in ("--text", text)]
    found = []
    for name in ("float32.onnx", "int8.onnx"):
        predict.main([*options, "--vocab_file_path", str(tmp_path / "vocab.txt"), "--model", str(folder / name),
                      *texts])
        found.append([json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")])
    assert [line["label"] for line in found[0]] == [line["label"] for line in found[1]]
    assert found[0] != found[1]


def test_entities_with_crf_and_lstm(tmp_path, capsys):
    folder = toy_ner.write_toy_data(tmp_path)
    options = ["--description", "run_ner", *toy_ner.ner_options(folder, folder, do_train="false",
                                                                 load_pretrain_checkpoint_path="")]
    save_random_network(folder / "a.ckpt", options)
    data = options[(place := options.index("--eval_data_file_path")):place + 2]
    export_as(folder, "int8.onnx", [*options, *INT8, *data])
    printed = capsys.readouterr().out
    float32, int8 = (re.search(rf"^{state}: entities: .*gold (\d+)", printed, re.M) for state in ("float32", "int8"))
    assert float32[1] == int8[1] != "0"
    assert {node.domain for node in onnx.load(str(folder / "int8.onnx")).graph.node} == {""}


# ---------------------------------------------------------------- mistakes

@pytest.mark.parametrize(("options", "message"), [
    (["--quantization", "int8"], "quantization: found int8, but file_format is MINDIR, and only ONNX models can be"),
    ([*ONNX, "--quantization", "int4"], "--quantization: expected one of none, int8; found"),
    ([*INT8, "--eval_data_file_path", "absent.mindrecord"], "absent.mindrecord"),
])
def test_mistakes(classifier, options, message):
    with pytest.raises(UserError, match=message) as caught:
        export_as(classifier[0], "new", [*classifier[1], *options])
    assert "\n" not in str(caught.value)
    assert not list(classifier[0].glob("new*"))


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_absent_packages(classifier, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=f"needs the package {package} .*pip install -r requirements-onnx") as caught:
        export_as(classifier[0], "new.onnx", [*classifier[1], *INT8])
    assert "\n" not in str(caught.value)
