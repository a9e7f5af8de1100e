"""ONNX models give what the networks give, for any batch size, length and padding."""

import numpy as np
import onnx
import onnxruntime
import pytest
from mindspore import Tensor

from src.bert_for_finetune import BertNERTagger
from src.bert_for_pre_training import BertPreTraining, truncated_normal
from src.bert_model import BertConfig
from src.finetune_eval_model import BertCLSModel, BertSquadModel
from src.inference.onnx_export import write_onnx
from src.tasks.classifier.onnx_head import classifier_head
from src.tasks.ner.onnx_head import ner_head
from src.tasks.pretraining.onnx_head import pretraining_head
from src.tasks.squad.onnx_head import squad_head

SIZES = {"vocab_size": 30, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
         "intermediate_size": 32, "max_position_embeddings": 40, "type_vocab_size": 2}
SHAPES = ((1, 1), (3, 5), (2, 40))  # batch, length


def randomize(network):
    """Give every parameter, biases and scales too, a value that shows when it is mistaken for another."""
    for number, parameter in enumerate(network.get_parameters()):
        values = truncated_normal(parameter.shape, 0.5, (1, number))
        parameter.set_data(Tensor(values + 1 if parameter.name.endswith("gamma") else values))
    return network.set_train(False)


def batch(shape, seed=0):
    generator = np.random.default_rng(seed)
    lengths = generator.integers(1, shape[1] + 1, (shape[0], 1))
    mask = (np.arange(shape[1]) < lengths).astype(np.int32)
    ids = generator.integers(1, SIZES["vocab_size"], shape).astype(np.int32)
    return ids * mask, mask, generator.integers(0, 2, shape).astype(np.int32)


def export(path, network, config, head):
    """Write the model; return a function from input columns to outputs."""
    prefix = "bert." if isinstance(network, BertNERTagger) else ""
    weights = {parameter.name.removeprefix(prefix): parameter.asnumpy() for parameter in network.get_parameters()}
    write_onnx(path, config, weights, head, {"task": "test"})
    onnx.checker.check_model(str(path), full_check=True)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    return lambda columns: session.run(None, dict(zip(names, (column.astype(np.int64) for column in columns),
                                                      strict=True)))


def outputs_of(network, columns):
    outputs = network(*map(Tensor, columns))
    return [value.asnumpy() for value in (outputs if isinstance(outputs, tuple) else (outputs,))]


def assert_same(network, model, columns):
    for wanted, found in zip(outputs_of(network, columns), model(columns), strict=True):
        assert found.dtype == wanted.dtype
        assert found.shape == wanted.shape
        assert np.abs(wanted).max() > 0.01
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4)


# Each kind of positions once, each activation once in this file; K = 3 clips within the tested lengths.
KINDS = {
    "absolute, gelu": {"hidden_act": "gelu"},
    "learned, fast_gelu": {"use_relative_positions": True, "max_relative_position": 3, "hidden_act": "fast_gelu"},
    "sinusoidal, gelu_erf": {"use_relative_positions": True, "max_relative_position": 3, "hidden_act": "gelu_erf",
                             "relative_position_kind": "sinusoidal"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_encoders_and_classes(kind, tmp_path):
    config = BertConfig(seq_length=40, **SIZES, **KINDS[kind])
    network = randomize(BertCLSModel(config, False, 3))
    model = export(tmp_path / "bert.onnx", network, config, classifier_head(3))
    for shape in SHAPES:
        assert_same(network, model, batch(shape))


def test_answers(tmp_path):
    config = BertConfig(seq_length=40, hidden_act="relu", **SIZES)
    network = randomize(BertSquadModel(config, False))
    model = export(tmp_path / "bert.onnx", network, config, squad_head())
    for shape in SHAPES:
        assert_same(network, model, batch(shape))


def test_pretraining(tmp_path):
    config = BertConfig(seq_length=40, hidden_act="tanh", **SIZES)
    network = randomize(BertPreTraining(config, False))
    model = export(tmp_path / "bert.onnx", network, config, pretraining_head(config))
    for shape, count in zip(SHAPES, (1, 3, 7), strict=True):
        positions = np.random.default_rng(1).integers(0, shape[1], (shape[0], count)).astype(np.int32)
        assert_same(network, model, (*batch(shape), positions))


# Together they are slow, and no different.
@pytest.mark.parametrize(("use_crf", "with_lstm"), [(True, False), (False, True)])
def test_tags(use_crf, with_lstm, tmp_path):
    config = BertConfig(seq_length=40, **SIZES)
    network = randomize(BertNERTagger(config, 5, use_crf, with_lstm))
    classes = network.bert.dense_1.weight
    classes.set_data(classes * 4)  # so that the tags are not all alike
    if use_crf:
        transitions = network.loss.transitions.asnumpy() * 6
        np.fill_diagonal(transitions, -9)  # tags change
        transitions[6, :5] = -30, 0, -30, 0, -30  # the last is 1 or 3
        transitions[5, :] = transitions[:, 6] = 50  # would be the best moves, which no path takes
        network.loss.transitions.set_data(Tensor(transitions))
    model = export(tmp_path / "bert.onnx", network, config, ner_head(5, use_crf, with_lstm))
    seen = set()
    for shape in ((1, 1), (4, 9)):
        columns = batch(shape)
        mask = columns[1].astype(bool)
        tags, scores = model(columns)
        (wanted_scores,) = outputs_of(network.bert, columns)
        np.testing.assert_allclose(scores[mask], wanted_scores[mask], rtol=0, atol=1e-4)
        (wanted,) = outputs_of(network, columns)
        np.testing.assert_array_equal(tags, wanted)
        assert tags.dtype == np.int32
        seen |= set(tags[mask].tolist())
    assert len(seen) >= 3
