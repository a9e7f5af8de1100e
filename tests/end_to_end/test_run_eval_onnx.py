"""Exported ONNX models get the scores of the checkpoints that they were made from."""

import json
import shutil
import sys
import zlib

import numpy as np
import onnxruntime
import pytest
import toy_finetuning
import toy_ner
import toy_squad
import transformers
from toy_finetuning import CLASSES, toy_rows, write_rows

import export
import predict
import run_classifier
import run_eval_onnx
import run_ner
import run_squad
from src.bert_for_pre_training import initialize_parameters
from src.errors import UserError
from src.tasks.registry import task_type
from src.weights import save_weights

EVALUATE = {"do_train": "false", "load_pretrain_checkpoint_path": ""}


def save_random_network(path, description, options):
    """Save a network whose answers are not all alike as a checkpoint."""
    config = run_eval_onnx.load_task_config("", ["--description", description, *options])
    network = task_type(description).from_config(config).inference_network()
    initialize_parameters(network, 1.0, seed=2)
    save_weights(network, path)


@pytest.fixture(scope="session")
def classifier(tmp_path_factory):
    """(folder with an exported model, the command line without the model)."""
    folder = tmp_path_factory.mktemp("onnx_classifier")
    (folder / "labels.txt").write_text("zero\none\ntwo\n", encoding="utf-8")
    write_rows(folder / "dev.mindrecord", toy_rows(21, seed=1))
    options = toy_finetuning.tiny_options(folder, folder, label_file_path=folder / "labels.txt", eval_batch_size=8,
                                          **EVALUATE)
    save_random_network(folder / "a.ckpt", "run_classifier", options)
    options = ["--description", "run_classifier", *options]
    export.main([*options, "--export_ckpt_file", str(folder / "a.ckpt"), "--file_format", "ONNX",
                 "--export_file_name", str(folder / "new" / "bert")])
    return folder, options


def test_scores_of_the_classifier(classifier, tmp_path, capsys):
    folder, options = classifier
    paths = [tmp_path / "onnx.jsonl", tmp_path / "ckpt.jsonl"]
    # With a single dash, as in the commands of the original.
    found = run_eval_onnx.main([*options, "-export_file_name", str(folder / "new" / "bert.onnx"),
                                "--predictions_file", str(paths[0])])
    printed = capsys.readouterr().out
    wanted = run_classifier.main([*options, "--load_finetune_checkpoint_path", str(folder / "a.ckpt"),
                                  "--predictions_file", str(paths[1])])
    assert found == pytest.approx(wanted, abs=1e-6)
    assert f"total_num 21, accuracy {wanted['accuracy']:.6f}" in printed
    onnx_lines, lines = ([json.loads(line) for line in path.read_text().splitlines()] for path in paths)
    assert [line["label"] for line in onnx_lines] == [line["label"] for line in lines]
    assert len({line["label"] for line in lines}) > 1
    np.testing.assert_allclose([line["probability"] for line in onnx_lines], [line["probability"] for line in lines],
                               atol=1e-4)


def test_model_and_description_are_ordinary_files(classifier):
    folder = classifier[0] / "new"
    assert {path.name for path in folder.iterdir()} == {"bert.onnx", "bert.onnx.json", "bert.labels.txt"}
    assert {oct(path.stat().st_mode & 0o444) for path in folder.iterdir()} == {"0o444"}
    about = json.loads((folder / "bert.onnx.json").read_text(encoding="utf-8"))
    assert about.pop("crc32") == f"{zlib.crc32((folder / 'bert.onnx').read_bytes()):08x}"
    model = about.pop("model")
    assert model["network"]["vocab_size"] == 40
    assert model["options"] == {"do_lower_case": True, "num_class": 3, "assessment_method": "Accuracy"}
    assert about == {
        "task": "run_classifier", "format": "ONNX", "inputs": ["input_ids", "attention_mask", "token_type_ids"],
        "input_shape": [None, None], "input_type": "int64", "outputs": ["logits"], "num_class": CLASSES,
        "labels": ["zero", "one", "two"], "vocab_size": 40, "max_length": 32}


def test_a_tokenizer_feeds_it(classifier, tmp_path, capsys):
    """The arrays of transformers' tokenizer as they are, without a line in between."""
    folder, options = classifier
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{number}" for number in range(35))]
    (tmp_path / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    texts = ["w7 w8 w21", "w30", "w3 unheard w4 w5 w6 w33 w12 w13"]
    session = onnxruntime.InferenceSession(str(folder / "new" / "bert.onnx"), providers=["CPUExecutionProvider"])
    arrays = transformers.BertTokenizer(str(tmp_path / "vocab.txt"))(texts, padding=True, return_tensors="np")
    logits, = session.run(None, dict(arrays))
    odds = np.exp(logits - logits.max(1, keepdims=True))
    predict.main([*options, "--vocab_file_path", str(tmp_path / "vocab.txt"), "--load_finetune_checkpoint_path",
                  str(folder / "a.ckpt"), *(word for text in texts for word in ("--text", text))])
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    assert [line["label_id"] for line in found] == logits.argmax(1).tolist()
    np.testing.assert_allclose([line["probability"] for line in found], (odds / odds.sum(1, keepdims=True)).max(1),
                               atol=1e-4)


def test_the_original_names_are_there_on_demand(classifier, tmp_path, capsys):
    """As all models before had them; both kinds give the same scores."""
    folder, options = classifier
    model = tmp_path / "bert.onnx"
    export.main([*options, "--export_ckpt_file", str(folder / "a.ckpt"), "--file_format", "ONNX",
                 "--export_file_name", str(model), "--onnx_input_names", "original"])
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    assert [(value.name, value.type) for value in session.get_inputs()] == [
        (name, "tensor(int32)") for name in ("input_ids", "input_mask", "token_type_id")]
    assert json.loads((tmp_path / "bert.onnx.json").read_text())["input_type"] == "int32"
    scores = [run_eval_onnx.main([*options, "--export_file_name", str(path),
                                  "--predictions_file", str(tmp_path / f"{number}.jsonl")])
              for number, path in enumerate((model, folder / "new" / "bert.onnx"))]
    assert scores[0] == scores[1]
    assert (tmp_path / "0.jsonl").read_text() == (tmp_path / "1.jsonl").read_text()


def test_scores_of_the_answers(tmp_path, capsys):
    folder = toy_squad.write_toy(tmp_path, dev=toy_squad.toy_squad(12, longest=8))
    options = toy_squad.tiny_options(folder, folder, **EVALUATE)
    save_random_network(folder / "a.ckpt", "run_squad", options)
    options = ["--description", "run_squad", *options]
    export.main([*options, "--export_ckpt_file", str(folder / "a.ckpt"), "--file_format", "ONNX",
                 "--export_file_name", str(folder / "bert.onnx")])
    found = run_eval_onnx.main([*options, "--export_file_name", str(folder / "bert"),
                                "--predictions_file", str(folder / "onnx.json")])
    wanted = run_squad.main([*options, "--load_finetune_checkpoint_path", str(folder / "a.ckpt"),
                             "--predictions_file", str(folder / "ckpt.json")])
    assert found == pytest.approx(wanted)
    answers = json.loads((folder / "ckpt.json").read_text())
    assert json.loads((folder / "onnx.json").read_text()) == answers
    assert len(set(answers.values())) > 3


def test_scores_of_the_entities(tmp_path):
    folder = toy_ner.write_toy_data(tmp_path)
    options = toy_ner.ner_options(folder, folder, **EVALUATE)  # with CRF and LSTM
    save_random_network(folder / "a.ckpt", "run_ner", options)
    options = ["--description", "run_ner", *options]
    export.main([*options, "--export_ckpt_file", str(folder / "a.ckpt"), "--file_format", "ONNX",
                 "--export_file_name", str(folder / "bert.onnx")])
    found = run_eval_onnx.main([*options, "--export_file_name", str(folder / "bert.onnx"),
                                "--predictions_file", str(folder / "onnx.jsonl")])
    wanted = run_ner.main([*options, "--load_finetune_checkpoint_path", str(folder / "a.ckpt"),
                           "--predictions_file", str(folder / "ckpt.jsonl")])
    assert found == pytest.approx(wanted)
    entities = (folder / "ckpt.jsonl").read_text()
    assert (folder / "onnx.jsonl").read_text() == entities
    assert {"name", "address"} <= {item["type"] for line in entities.splitlines()
                                   for item in json.loads(line)["entities"]}
    about = json.loads((folder / "bert.onnx.json").read_text())
    assert (about["outputs"], about["further_outputs"]) == (["tags"], ["logits"])
    assert about["num_class"] == len(about["labels"]) == 9


# ---------------------------------------------------------------- mistakes

@pytest.mark.parametrize(("options", "message"), [
    (["--export_file_name", "absent"], "export_file_name: there is no ONNX model absent.onnx"),
    (["--eval_data_file_path", ""], "eval_data_file_path is not set"),
    (["--num_class", "2", "--label_file_path", ""], "bert.onnx has 3 classes, but the configuration has 2"),
    (["--bert_net_cfg.seq_length", "64"], "seq_length"),
    (["--bert_net_cfg.vocab_size", "50"], "vocab_size is 50, but the weights in .*bert.onnx have 40"),
])
def test_mistakes(classifier, options, message):
    folder, common = classifier
    with pytest.raises(UserError, match=message) as caught:
        run_eval_onnx.main([*common, "--export_file_name", str(folder / "new" / "bert.onnx"), *options])
    assert "\n" not in str(caught.value)


@pytest.fixture
def alone(classifier, tmp_path):
    """The model without what stands beside it."""
    return shutil.copy(classifier[0] / "new" / "bert.onnx", tmp_path / "bert.onnx")


def test_model_of_another_task(alone, tmp_path):
    folder = toy_squad.write_toy(tmp_path, dev=toy_squad.toy_squad(2))
    with pytest.raises(UserError, match="bert.onnx is of run_classifier, but the configuration is of run_squad"):
        run_eval_onnx.main(["--description", "run_squad", *toy_squad.tiny_options(folder, folder),
                            "--export_file_name", str(alone)])


def test_wrong_labels_and_damaged_models(classifier, tmp_path):
    folder, options = classifier
    model = folder / "new" / "bert.onnx"
    (tmp_path / "labels.txt").write_text("zero\ntwo\none\n", encoding="utf-8")
    with pytest.raises(UserError, match="label_file_path: its labels .* such as 'two' in place of 'one'"):
        run_eval_onnx.main([*options, "--export_file_name", str(model),
                            "--label_file_path", str(tmp_path / "labels.txt")])
    (tmp_path / "cut.onnx").write_bytes(model.read_bytes()[:5000])
    with pytest.raises(UserError, match="cannot read .*cut.onnx: damaged, cut off, or not an ONNX model"):
        run_eval_onnx.main([*options, "--export_file_name", str(tmp_path / "cut.onnx")])


def test_records_that_are_too_long(classifier, alone, tmp_path):
    rows = {name: np.tile(values, 4) if name != "label_ids" else values for name, values in toy_rows(4).items()}
    write_rows(tmp_path / "dev.mindrecord", rows)
    with pytest.raises(UserError, match="bert.onnx: cannot compute a batch .* at most 32 tokens") as caught:
        run_eval_onnx.main([*classifier[1], "--export_file_name", str(alone),
                            "--eval_data_file_path", str(tmp_path / "dev.mindrecord"),
                            "--bert_net_cfg.seq_length", "64", "--bert_net_cfg.max_position_embeddings", "64"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("package", "main"), [("onnx", export.main), ("onnxruntime", run_eval_onnx.main)])
def test_absent_packages(classifier, monkeypatch, package, main):
    folder, options = classifier
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=f"needs the package {package} .*pip install -r requirements-onnx.txt"):
        main([*options, "--export_file_name", str(folder / "new" / "bert.onnx"), "--file_format", "ONNX",
              "--export_ckpt_file", str(folder / "a.ckpt")])
