"""Export of a pre-trained network with both of its heads."""

import json
from itertools import chain

import mindspore as ms
import numpy as np
import onnxruntime
import pytest
import toy_ner
from mindspore import Tensor, nn
from mindspore.train.mind_ir_pb2 import ModelProto
from toy_pretraining import PREDICTIONS, SEQ_LENGTH, VOCAB_SIZE, tiny_options, toy_batch

import export
from src.bert_for_pre_training import BertNetworkWithLoss, initialize_parameters
from src.errors import UserError
from src.inference.export import export_model, model_path
from src.inference.exported import MindirNetwork
from src.inference.lite_config import BATCH_SIZES, fitting_batch_size
from src.inference.onnx_inference import verify_model
from src.model_utils.config import load_config
from src.tasks.ner.task import NerTask
from src.tasks.pretraining.task import PretrainTask
from src.weights import save_weights

COLUMNS = ("input_ids", "input_mask", "segment_ids", "masked_lm_positions")


@pytest.fixture(scope="session")
def pretrained(tmp_path_factory):
    """(checkpoint, the command line to export it, the network with its heads)."""
    path = tmp_path_factory.mktemp("pretrained") / "a.ckpt"
    options = tiny_options()
    config = load_config("", "pretrain_config.yaml", options)
    network = BertNetworkWithLoss(PretrainTask.encoder_config(config, "CPU"), False)
    initialize_parameters(network, 0.5, seed=0)
    save_weights(network, path)
    command = ["--description", "run_pretrain", *options, "--max_predictions_per_seq", str(PREDICTIONS),
               "--export_ckpt_file", str(path)]
    return path, command, network.bert.set_train(False)


@pytest.fixture(scope="session")
def wanted(pretrained):
    columns = columns_of(4)
    return [value.asnumpy() for value in pretrained[2](*map(Tensor, columns))]


def columns_of(count):
    rows = toy_batch(4)
    return [rows[name][:count].astype(np.int32) for name in COLUMNS]


@pytest.mark.parametrize("file_format", ["MINDIR", "ONNX"])
def test_pretraining_heads(file_format, pretrained, wanted, tmp_path):
    export.main([*pretrained[1], "--file_format", file_format, "--export_file_name", str(tmp_path / "bert"),
                 "--export_batch_size", "0"])
    if file_format == "MINDIR":
        graph = nn.GraphCell(ms.load(str(tmp_path / "bert.mindir")))

        def model(columns):
            return [value.asnumpy() for value in graph(*map(Tensor, columns))]
    else:
        session = onnxruntime.InferenceSession(str(tmp_path / "bert.onnx"))
        names = [value.name for value in session.get_inputs()]

        def model(columns):
            return session.run(None, dict(zip(names, (column.astype(np.int64) for column in columns), strict=True)))
    for count in (1, 4):
        words, pairs = model(columns_of(count))
        np.testing.assert_allclose(words, wanted[0][:count * PREDICTIONS], rtol=0, atol=1e-4)
        np.testing.assert_allclose(pairs, wanted[1][:count], rtol=0, atol=1e-4)
    about = json.loads((tmp_path / ("bert.json" if file_format == "MINDIR" else "bert.onnx.json")).read_text())
    names = ["attention_mask", "token_type_ids"] if file_format == "ONNX" else ["input_mask", "token_type_id"]
    assert about["inputs"] == ["input_ids", *names, "masked_lm_positions"]
    assert about["outputs"] == ["prediction_scores", "seq_relationship_score"]
    free = file_format == "ONNX"
    assert about["input_shape"] == [None, None if free else SEQ_LENGTH]
    assert about["masked_lm_positions_shape"] == [None, None if free else PREDICTIONS]
    assert (about["task"], about["vocab_size"]) == ("run_pretrain", VOCAB_SIZE)


def test_large_models_are_split(pretrained, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("mindspore.train.serialization.TOTAL_SAVE", 0)  # instead of 1 GB
    command = [*pretrained[1], "--export_file_name", str(tmp_path / "bert")]
    for _ in range(2):  # the second takes the place of the first
        export.main(command)
        assert f"as {tmp_path / 'bert_graph.mindir'}" in capsys.readouterr().out
    names = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")}
    assert names == {"bert_graph.mindir", "bert_graph.json", "bert_variables", "bert_variables/data_0"}
    assert (tmp_path / "bert_variables").stat().st_mode & 0o555 == 0o555
    assert (tmp_path / "bert_variables" / "data_0").stat().st_mode & 0o444 == 0o444
    graph = nn.GraphCell(ms.load(str(tmp_path / "bert_graph.mindir")))
    assert graph(*map(Tensor, columns_of(1)))[1].shape == (1, 2)

    about = json.loads((tmp_path / "bert_graph.json").read_text())
    verify_model(tmp_path / "bert_graph.mindir", about, "--model")
    weights = tmp_path / "bert_variables" / "data_0"
    weights.write_bytes(weights.read_bytes()[:-1] + bytes([weights.read_bytes()[-1] ^ 1]))
    with pytest.raises(UserError, match="bert_graph.mindir is damaged: data_0 does not match its checksum"):
        verify_model(tmp_path / "bert_graph.mindir", about, "--model")


def test_checkpoint_of_other_sizes(pretrained, tmp_path):
    with pytest.raises(UserError, match="a.ckpt has no fitting weights for .* such as .*layers.1"):
        export.main([*pretrained[1], "--base_net_cfg.num_hidden_layers", "2", "--export_file_name",
                     str(tmp_path / "bert")])
    assert not list(tmp_path.iterdir())


def test_names_of_models(tmp_path):
    assert model_path("a/bert", "ONNX").as_posix() == "a/bert.onnx"
    assert model_path("bert.onnx", "ONNX").as_posix() == "bert.onnx"
    assert model_path("bert.v1", "MINDIR").as_posix() == "bert.v1.mindir"


def test_model_cannot_be_written(pretrained, tmp_path):
    (tmp_path / "bert.mindir").mkdir()
    with pytest.raises(UserError, match="export_file_name: .*bert.mindir is a directory"):
        export.main([*pretrained[1], "--export_file_name", str(tmp_path / "bert")])
    assert [path.name for path in tmp_path.iterdir()] == ["bert.mindir"]
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="export_file_name: cannot write to the directory"):
        export.main([*pretrained[1], "--export_file_name", str(tmp_path / "file" / "bert"), "--file_format", "ONNX"])


# ---------------------------------------------------------------- for another device

FUSED = {"LayerNorm", "GeLU"}
LITE_CONFIG = """\
[ascend_context]
precision_mode=preferred_fp32

[acl_option_cfg_param]
input_shape=input_ids:-1,16;input_mask:-1,16;token_type_id:-1,16;masked_lm_positions:-1,3
dynamic_batch_size=1,4,16,32
"""


def read_mindir(path):
    """(names of the inputs without those of scopes, the operators)."""
    model = ModelProto()
    model.ParseFromString(path.read_bytes())
    nodes = chain(model.graph.node, *(function.node for function in model.functions))
    return ([value.name.rpartition(":")[2] for value in model.graph.input],
            {node.op_type.removeprefix("REF::").partition(":")[0] for node in nodes})


@pytest.mark.parametrize("target", ["Ascend", pytest.param("gpu", marks=pytest.mark.slow)])
def test_graph_of_a_target(target, pretrained, wanted, tmp_path):
    export.main([*pretrained[1], "--export_file_name", str(tmp_path / "bert"), "--export_batch_size", "0",
                 "--export_target", target])
    inputs, operators = read_mindir(tmp_path / "bert.mindir")
    assert inputs == ["input_ids", "input_mask", "token_type_id", "masked_lm_positions"]  # those of LITE_CONFIG
    assert operators & {*FUSED, "ReduceMean"} == FUSED
    about = json.loads((tmp_path / "bert.json").read_text())
    assert about["target"].lower() == target.lower()
    words, pairs = nn.GraphCell(ms.load(str(tmp_path / "bert.mindir")))(*map(Tensor, columns_of(4)))  # on the CPU
    np.testing.assert_allclose(words.asnumpy(), wanted[0], rtol=0, atol=1e-4)
    np.testing.assert_allclose(pairs.asnumpy(), wanted[1], rtol=0, atol=1e-4)
    lite_config = tmp_path / "bert.lite.ini"
    assert lite_config.is_file() == (target == "Ascend") == ("batch_sizes" in about)
    if target == "Ascend":
        assert lite_config.read_text().partition("\n")[2] == LITE_CONFIG
        assert about["batch_sizes"] == [1, 4, 16, 32]


@pytest.mark.slow
def test_fixed_batch_for_ascend(pretrained, wanted, tmp_path, capsys):
    """The type of the products is the configured one, though this machine computes in float32; a second export for the
    CPU takes away what was for the Ascend alone."""
    command = [*pretrained[1], "--export_file_name", str(tmp_path / "bert"), "--export_batch_size", "4"]
    assert command[(option := command.index("--base_net_cfg.compute_type")) + 1] == "float32"
    del command[option:option + 2]
    export.main([*command, "--export_target", "ascend"])
    assert "compute_type" not in capsys.readouterr().err
    assert (tmp_path / "bert.lite.ini").read_text().splitlines()[1:] == LITE_CONFIG.splitlines()[:2]
    assert "batch_sizes" not in json.loads((tmp_path / "bert.json").read_text())
    _, pairs = nn.GraphCell(ms.load(str(tmp_path / "bert.mindir")))(*map(Tensor, columns_of(4)))
    assert 1e-5 < np.abs(pairs.asnumpy() - wanted[1]).max() < 2e-2
    export.main(command)
    assert {path.name for path in tmp_path.iterdir()} == {"bert.mindir", "bert.json"}
    assert read_mindir(tmp_path / "bert.mindir")[1] & {*FUSED, "ReduceMean"} == {"ReduceMean"}


def test_lstm_and_crf_for_ascend(tmp_path, capsys):
    toy_ner.write_toy_data(tmp_path)
    options = ["--description", "run_ner", *toy_ner.ner_options(tmp_path, tmp_path, use_crf="true", with_lstm="true")]
    config = load_config("", NerTask.config_file, options)
    network = NerTask.from_config(config).inference_network()
    initialize_parameters(network, 0.5, seed=0)
    save_weights(network, tmp_path / "a.ckpt")
    export.main([*options, "--export_ckpt_file", str(tmp_path / "a.ckpt"), "--export_file_name",
                 str(tmp_path / "bert"), "--export_target", "ascend"])
    assert "export_target: the LSTM, whose kernel is float16 (with_lstm) and the search" in capsys.readouterr().err
    _, operators = read_mindir(tmp_path / "bert.mindir")
    assert operators & {"LSTM", "DynamicRNN"} == {"DynamicRNN"}
    with pytest.raises(UserError, match="bert.mindir has a kernel for Ascend only, and this is a CPU; export"):
        MindirNetwork(tmp_path / "bert.mindir", "run_ner")
    assert NerTask.from_config(config.replaced({"use_crf": False, "with_lstm": False})).untried_on_ascend == ""


def test_target_of_other_formats(pretrained, tmp_path, capsys):
    command = [*pretrained[1], "--export_file_name", str(tmp_path / "bert"), "--export_target", "ascend"]
    export.main([*command, "--file_format", "ONNX"])
    assert "export_target: Ascend is not used, since an ONNX model is the same for" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"bert.onnx", "bert.onnx.json"}
    config = load_config("", "pretrain_config.yaml", [*command, "--file_format", "AIR"])
    with pytest.raises(UserError, match="export_target: found CPU, but file_format AIR is for Ascend only"):
        export_model(config.replaced({"export_target": "CPU"}), "Ascend")
    with pytest.raises(UserError, match="--export_target: expected one of auto, Ascend, GPU, CPU; found"):
        export.main([*command, "--export_target", "npu"])


def test_batch_sizes_that_hold_as_many_rows():
    assert [fitting_batch_size(rows, BATCH_SIZES) for rows in (1, 2, 4, 5, 21, 32, 33)] == [1, 4, 4, 16, 32, 32, 32]
