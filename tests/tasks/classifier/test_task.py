"""The classifier and its scores against PyTorch, scikit-learn and scipy (committed numbers)."""

import json

import numpy as np
import pytest
from command_line import command_line
from mindspore import Tensor
from paths import FIXTURES
from toy_finetuning import TINY, toy_rows, write_rows

from src.assessment_method import classification_scores, regression_scores
from src.bert_for_finetune import BertCLS
from src.bert_model import BertConfig
from src.errors import UserError
from src.finetune_eval_model import BertCLSModel, WithPrefix
from src.records.sentences import Place, writing_sentences
from src.tasks.classifier.predictor import describe
from src.tasks.classifier.task import ClassifierTask
from src.tasks.labelled_text import read_labels
from src.tasks.registry import load_task_config
from src.training.optimizer import AdamWeightDecay, WarmUpPolynomialDecay
from src.training.train_step import TrainStep

REFERENCES = FIXTURES / "classifier"
STEPS, BATCH = 50, 4
CONFIG = BertConfig(seq_length=12, vocab_size=60, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
                    intermediate_size=64, max_position_embeddings=96, type_vocab_size=2, hidden_dropout_prob=0.0,
                    attention_probs_dropout_prob=0.0)
COLUMNS = ("input_ids", "input_mask", "segment_ids", "label_ids")


def load(name):
    with np.load(REFERENCES / f"{name}.npz", allow_pickle=False) as arrays:
        return dict(arrays)


def put(network, arrays):
    """Load the weights; every one has its place and every place its weight."""
    names = {parameter.name for parameter in network.get_parameters()}
    assert names == {name.removeprefix("weight/") for name in arrays if name.startswith("weight/")}
    for parameter in network.get_parameters():
        parameter.set_data(Tensor(arrays[f"weight/{parameter.name}"]))


@pytest.mark.parametrize(("name", "class_weights"), [("classes", None), ("weighted", [0.5, 1.0, 4.0]), ("value", None)])
def test_fifty_adamw_steps_equal_pytorch(graph_mode, name, class_weights):
    arrays = load(name)
    num_labels = arrays["logits"].shape[1]
    network = BertCLS(CONFIG, True, num_labels, class_weights=class_weights)
    put(network, arrays)
    schedule = WarmUpPolynomialDecay(2e-3, 0.0, warmup_steps=5, decay_steps=STEPS, power=1.0)
    optimizer = AdamWeightDecay(network.trainable_params(), schedule, weight_decay=0.01, eps=1e-6, bias_correction=True)
    step = TrainStep(network, optimizer)
    losses = []
    for number in range(STEPS):
        rows = slice(number * BATCH, (number + 1) * BATCH)
        losses.append(float(step(*(Tensor(arrays[f"data/{column}"][rows]) for column in COLUMNS))[0].asnumpy()))
    np.testing.assert_allclose(losses, arrays["losses"], atol=1e-4)

    trained = WithPrefix(BertCLSModel(CONFIG, False, num_labels)).set_train(False)
    for parameter, source in zip(trained.get_parameters(), network.get_parameters(), strict=True):
        assert parameter.name == source.name
        parameter.set_data(Tensor(source.asnumpy()))
    inputs = [Tensor(arrays[f"data/{column}"]) for column in COLUMNS[:3]]
    np.testing.assert_allclose(trained(*inputs).asnumpy(), arrays["logits"], atol=1e-3)


@pytest.mark.parametrize("num_labels", [2, 7])
def test_classification_scores_equal_scikit_learn(num_labels):
    arrays = load(f"scores_{num_labels}")
    found = classification_scores(arrays["logits"], arrays["labels"])
    assert found == pytest.approx({name: float(arrays[name]) for name in found}, abs=1e-6)


def test_regression_scores_equal_scipy():
    arrays = load("scores_1")
    found = regression_scores(arrays["logits"][:, 0], arrays["labels"])
    assert found["spearman"] == pytest.approx(float(arrays["spearman"]), abs=1e-9)
    assert found["pearson"] == pytest.approx(float(arrays["pearson"]), abs=1e-6)


def test_scores_where_they_are_not_defined():
    same = np.array([[1.0, 0.0]] * 3, np.float32)
    found = classification_scores(same, np.array([0, 0, 1]))  # class 1 is never predicted
    assert (found["mcc"], found["precision"], found["recall"], found["f1"]) == (0.0, 0.0, 0.0, 0.0)
    assert regression_scores(np.ones(3, np.float32), np.arange(3))["spearman"] == 0.0


def test_predictions_are_described():
    logits = np.array([[0.0, 2.0], [1.0, 1.0 - 1e-6]])
    assert describe(logits, ["bad", "good"]) == [{"label": "good", "label_id": 1, "probability": 0.880797},
                                                 {"label": "bad", "label_id": 0, "probability": 0.5}]
    assert describe(logits, None)[0]["label"] == 1
    assert describe(np.array([[0.25]]), None) == [{"value": 0.25}]


def test_predictions_name_the_texts_beside_the_records(tmp_path):
    path = write_rows(tmp_path / "dev.mindrecord", rows := toy_rows(3))
    with writing_sentences(path) as add:
        add(Place("dev.csv", 2), "甲", 1, text_pair="乙")
        add(Place("dev.csv", 5), "丙", 1, text_pair=None)
        add("", "丁", 1)
    task = ClassifierTask.from_config(load_task_config("", ["--description", "run_classifier", *command_line(
        TINY, {"eval_data_file_path": path})]))

    def network(ids, mask, segments):
        return Tensor(np.tile(np.float32([0, 2, 1]), (ids.shape[0], 1)))

    evaluation = task.evaluate(network, task.evaluation_batches())
    evaluation.write(tmp_path / "found.jsonl", evaluation.items())
    items = [json.loads(line) for line in (tmp_path / "found.jsonl").read_text(encoding="utf-8").splitlines()]
    described = {"label": 1, "label_id": 1, "probability": 0.665241}
    golds = [{"gold": int(label)} for label in rows["label_ids"][:, 0]]
    assert items == [
        {"index": 0, "file": "dev.csv", "line": 2, "text": "甲", "text_pair": "乙", **described, **golds[0]},
        {"index": 1, "file": "dev.csv", "line": 5, "text": "丙", **described, **golds[1]},
        {"index": 2, "text": "丁", **described, **golds[2]}]


def test_labels_file(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_text("\ufeffa b\r\n100\r\nc\r\n", encoding="utf-8")
    assert read_labels(path, 3) == ["a b", "100", "c"]
    with pytest.raises(UserError, match=r"names 3 classes, but num_class is 2; set num_class to 3"):
        read_labels(path, 2)
    with pytest.raises(UserError, match=r"label file: cannot read .*absent"):
        read_labels(tmp_path / "absent", 2)


def test_padding_does_not_change_the_logits():
    arrays = load("classes")
    network = WithPrefix(BertCLSModel(CONFIG, False, 3)).set_train(False)
    put(network, arrays)
    short = arrays["data/input_mask"].sum(axis=1) <= 8
    inputs = [arrays[f"data/{column}"][short] for column in COLUMNS[:3]]
    whole, cut = (network(*(Tensor(np.ascontiguousarray(values[:, :length])) for values in inputs)).asnumpy()
                  for length in (12, 8))
    np.testing.assert_allclose(whole, cut, atol=1e-5)
