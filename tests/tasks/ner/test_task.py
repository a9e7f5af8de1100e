"""The networks of named-entity recognition, and the task's evaluation and messages."""

import json

import numpy as np
import pytest
from mindspore import Tensor
from toy_finetuning import toy_rows, write_rows
from toy_ner import SEQ_LENGTH, VOCAB, ner_options, write_toy_data

import run_ner
from src.bert_for_finetune import BertNER, BertNERTagger
from src.bert_for_pre_training import initialize_parameters
from src.bert_model import BertConfig
from src.errors import UserError
from src.model_utils.config import load_config
from src.records.reader import open_records
from src.weights import save_weights

pytestmark = pytest.mark.usefixtures("graph_mode")

COLUMNS = dict.fromkeys(("input_ids", "input_mask", "segment_ids", "label_ids"), "int32")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_toy_data(tmp_path_factory.mktemp("toy_ner"))


def config(**sizes):
    return BertConfig(**{"seq_length": SEQ_LENGTH, "vocab_size": len(VOCAB), "hidden_size": 16, "num_hidden_layers": 1,
                         "num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 32,
                         "type_vocab_size": 2, "initializer_range": 0.5} | sizes)


def test_parameters_have_the_published_names_and_shapes():
    network = BertNER(config(), True, 41, use_crf=True, with_lstm=True)
    heads = {p.name: p.shape for p in network.get_parameters() if not p.name.startswith("bert.bert.")}
    assert heads == {
        "bert.lstm.weight_ih_l0": (32, 16), "bert.lstm.weight_hh_l0": (32, 8), "bert.lstm.bias_ih_l0": (32,),
        "bert.lstm.bias_hh_l0": (32,), "bert.lstm.weight_ih_l0_reverse": (32, 16),
        "bert.lstm.weight_hh_l0_reverse": (32, 8), "bert.lstm.bias_ih_l0_reverse": (32,),
        "bert.lstm.bias_hh_l0_reverse": (32,), "bert.dense_1.weight": (43, 16), "bert.dense_1.bias": (43,),
        "loss.transitions": (43, 43)}
    tagger = BertNERTagger(config(), 41, use_crf=True, with_lstm=True)
    assert {p.name: p.shape for p in tagger.get_parameters()} == {p.name: p.shape for p in network.get_parameters()}
    plain = [p.name for p in BertNER(config(), True, 41).get_parameters() if not p.name.startswith("bert.bert.")]
    assert plain == ["bert.dense_1.weight", "bert.dense_1.bias"]


@pytest.mark.parametrize("use_crf, with_lstm", [(False, False), (True, True)])
def test_padding_changes_neither_loss_nor_tags(data, use_crf, with_lstm):
    rows = open_records(data / "dev.mindrecord", "mindrecord", COLUMNS).read(np.arange(6))
    longest = int(rows["input_mask"].sum(axis=1).max())
    assert longest < SEQ_LENGTH
    network = BertNER(config(), False, 9, use_crf, with_lstm)
    initialize_parameters(network, 0.5, seed=1)
    tagger = BertNERTagger(config(), 9, use_crf, with_lstm)
    trained = {parameter.name: parameter for parameter in network.get_parameters()}
    for parameter in tagger.get_parameters():
        parameter.set_data(trained[parameter.name])
    losses, tags = [], []
    for length in (SEQ_LENGTH, longest):
        columns = [Tensor(np.ascontiguousarray(values[:, :length])) for values in rows.values()]
        losses.append(float(network(*columns).asnumpy()))
        tags.append(tagger(*columns[:3]).asnumpy())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert tags[0].dtype == np.int32
    assert tags[0][:, :longest].tolist() == tags[1].tolist()
    assert not tags[0][rows["input_mask"] == 0].any()
    assert tags[0].max() > 0


def test_token_loss_is_the_mean_over_all_tokens(data):
    rows = open_records(data / "dev.mindrecord", "mindrecord", COLUMNS).read(np.arange(3))
    network = BertNER(config(), False, 9)
    initialize_parameters(network, 0.5, seed=2)
    columns = [Tensor(values) for values in rows.values()]
    scores = network.bert(*columns[:3]).asnumpy().astype(np.float64)
    log_likelihood = scores - np.logaddexp.reduce(scores, axis=2, keepdims=True)
    of_labels = np.take_along_axis(log_likelihood, rows["label_ids"][:, :, None], axis=2)[:, :, 0]
    expected = -of_labels[rows["input_mask"] == 1].mean()
    assert float(network(*columns).asnumpy()) == pytest.approx(expected, rel=1e-5)


# ---------------------------------------------------------------- mistakes

def told(data, tmp_path, **options):
    """The message of a run that cannot begin."""
    with pytest.raises(UserError) as caught:
        run_ner.main(ner_options(data, tmp_path / "out", **options))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A network for two types, with CRF and LSTM, as trained."""
    path = tmp_path_factory.mktemp("checkpoint") / "ner_best.ckpt"
    save_weights(BertNER(config(), False, 9, use_crf=True, with_lstm=True), path)
    return path


def test_a_label_file_that_does_not_fit_the_records_is_named(data, tmp_path):
    other = tmp_path / "labels"
    other.write_text("address\nname\nscene\n")
    message = told(data, tmp_path, label_file_path=other)
    assert f"was made with the types of {data / 'label_file'}, which are not those of label file {other}" in message


def test_tags_outside_the_label_file_are_named(data, tmp_path):
    alone = tmp_path / "records"  # without a label file beside them
    alone.mkdir()
    for file in data.glob("dev.mindrecord*"):
        (alone / file.name).write_bytes(file.read_bytes())
    (tmp_path / "labels").write_text("name\n")
    message = told(data, tmp_path, label_file_path=tmp_path / "labels", train_data_file_path=alone / "dev.mindrecord",
                   do_eval="false")
    assert "label_ids holds" in message
    assert f"expected 0 to 4 (label file {tmp_path / 'labels'} has 1 types)" in message


def test_records_of_another_task_are_named(data, tmp_path):
    path = write_rows(tmp_path / "other.mindrecord", toy_rows(5))
    message = told(data, tmp_path, train_data_file_path=path, bert_net_cfg__seq_length=16, do_eval="false")
    assert "has 1 labels for 16 tokens" in message


@pytest.mark.parametrize("options, expected", [
    ({"label_file_path": "three", "eval_data_file_path": "dev.json", "assessment_method": "clue_benchmark"},
     "bert.dense_1.weight ([11, 16] there, [15, 16] here)"),
    ({"use_crf": "false", "with_lstm": "true"}, "bert.dense_1.weight ([11, 16] there, [9, 16] here)"),
    ({"with_lstm": "false"}, "was trained with bert.lstm.weight_ih_l0, which this network does not have; set use_crf "
                             "and with_lstm as in its training"),
])
def test_a_checkpoint_of_other_labels_or_another_network_is_named(data, tmp_path, checkpoint, options, expected):
    (data / "three").write_text("address\nname\nscene\n")
    paths = {name: data / value if name.endswith("path") else value for name, value in options.items()}
    message = told(data, tmp_path, do_train="false", load_finetune_checkpoint_path=checkpoint, **paths)
    assert expected in message
    assert str(checkpoint) in message


def test_the_configuration_for_cpu_is_the_documented_one():
    loaded = load_config("", "task_ner_config.yaml", ["--config_path", "../../task_ner_cpu_config.yaml"])
    assert (loaded.device_target, loaded.assessment_method, loaded.epoch_num) == ("auto", "Accuracy", 5)
    optimizer = loaded.optimizer_cfg
    assert (optimizer.optimizer, optimizer.Lamb.learning_rate, loaded.train_batch_size) == ("Lamb", 2e-5, 32)


def test_other_mistakes_are_named(data, tmp_path, checkpoint):
    evaluation = {"do_train": "false", "load_finetune_checkpoint_path": checkpoint}
    assert "clue_benchmark evaluates the sentences of a CLUENER file such as dev.json" in told(
        data, tmp_path, assessment_method="clue_benchmark", **evaluation)
    assert "label_file_path is not set" in told(data, tmp_path, label_file_path="", **evaluation)
    assert "are both set and differ" in told(data, tmp_path, label2id_file_path=data / "types.txt", **evaluation)
    unknown = tmp_path / "dev.json"
    unknown.write_text('{"text": "东", "label": {"scene": {"东": [[0, 0]]}}}')
    assert "line 1: the entity '东' is of type scene, which is not in" in told(
        data, tmp_path, assessment_method="clue_benchmark", eval_data_file_path=unknown, **evaluation)
    assert "vocab_file_path is not set" in told(data, tmp_path, assessment_method="clue_benchmark", vocab_file_path="",
                                                eval_data_file_path=unknown, **evaluation)


def test_the_other_name_of_the_label_file(data, tmp_path, checkpoint, capsys):
    scores = run_ner.main(ner_options(data, tmp_path / "out", do_train="false", label_file_path="",
                                      label2id_file_path=data / "label_file", assessment_method="MF1",
                                      load_finetune_checkpoint_path=checkpoint))
    assert f"F1 {scores['mf1']:.6f}\nentities: precision" in capsys.readouterr().out


def test_sentences_without_labels_are_predicted_only(data, tmp_path, checkpoint, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "test.json").write_text('{"id": 0, "text": "是甲在东"}\n{"id": 1, "text": ""}\n', encoding="utf-8")
    run_ner.main(ner_options(data, tmp_path / "out", do_train="false", load_finetune_checkpoint_path=checkpoint,
                             assessment_method="clue_benchmark", eval_data_file_path=tmp_path / "test.json"))
    assert "marks no entity: nothing to score, only to predict" in capsys.readouterr().out
    lines = [json.loads(line) for line in (tmp_path / "ner_predict.json").read_text(encoding="utf-8").splitlines()]
    assert [line["id"] for line in lines] == [0, 1]
