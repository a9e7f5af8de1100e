"""The pre-training network against transformers' numbers (tests/fixtures/make_model.py), its loss and its beginning."""


import mindspore as ms
import numpy as np
import pytest
from mindspore import ParameterTuple, Tensor, nn, ops
from paths import FIXTURES

from src.bert_for_pre_training import (
    BertNetworkWithLoss,
    BertPretrainEval,
    BertPretrainingLoss,
    initialize_parameters,
)
from src.bert_model import BertConfig

REFERENCES = FIXTURES / "model"
INPUTS = ("input_ids", "input_mask", "segment_ids", "next_sentence_labels", "masked_lm_positions", "masked_lm_ids",
          "masked_lm_weights")
TINY = {"seq_length": 80, "vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 64, "max_position_embeddings": 96, "type_vocab_size": 2, "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0}
KINDS = {
    "absolute": {},
    "absolute_erf": {"hidden_act": "gelu_erf"},
    "learned": {"use_relative_positions": True, "relative_position_kind": "learned"},
    "sinusoidal": {"use_relative_positions": True, "relative_position_kind": "sinusoidal"},
}
CASES = [(kind, length) for kind in KINDS for length in (16, 80) if (kind, length) != ("absolute_erf", 80)]


class Outputs(nn.Cell):
    """Hidden states, pooled output and both scores."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def construct(self, input_ids, input_mask, segment_ids, positions):
        hidden, pooled, table = self.network.bert(input_ids, segment_ids, input_mask)
        return hidden, pooled, self.network.cls1(hidden, table, positions), self.network.cls2(pooled)


class LossAndGradients(nn.Cell):
    """The loss and its gradients by `network.trainable_params()`."""

    def __init__(self, network):
        super().__init__()
        self.network = network
        self.weights = ParameterTuple(network.trainable_params())
        self.gradient = ops.GradOperation(get_by_list=True)

    def construct(self, *batch):
        return self.network(*batch), self.gradient(self.network, self.weights)(*batch)


def load_network(kind, network_class=BertNetworkWithLoss, compute_type="float32", **arguments):
    """Return the network of this kind with the fixture's weights, and the fixture."""
    arrays = np.load(REFERENCES / f"{kind}.npz")
    network = network_class(BertConfig(**TINY, **KINDS[kind], compute_type=compute_type), **arguments)
    weights = {name.removeprefix("weight/"): arrays[name] for name in arrays if name.startswith("weight/")}
    for parameter in network.get_parameters():
        name = parameter.name.removeprefix("bert.")
        if name in weights:
            parameter.set_data(Tensor(weights.pop(name)))
        else:
            assert "full_position_embedding" in name and "absolute" not in kind
    assert not weights, "weights that the network has no place for"
    return network, arrays


def batch_of(arrays, length):
    return [Tensor(arrays[f"{length}/in/{name}"]) for name in INPUTS]


@pytest.mark.parametrize(("kind", "length"), CASES)
def test_outputs_and_gradients_are_those_of_transformers(graph_mode, kind, length):
    network, arrays = load_network(kind, is_training=True)
    names = [parameter.name.removeprefix("bert.") for parameter in network.trainable_params()]
    batch = batch_of(arrays, length)
    loss, gradients = LossAndGradients(network)(*batch)
    outputs = Outputs(network.bert)(*batch[:3], batch[4])

    for name, output in zip(("hidden", "pooled", "masked_lm_scores", "next_sentence_scores", "loss"), (*outputs, loss),
                            strict=True):
        np.testing.assert_allclose(output.asnumpy(), arrays[f"{length}/out/{name}"], rtol=0, atol=1e-5, err_msg=name)

    for name, gradient in zip(names, gradients, strict=True):
        gradient = gradient.asnumpy()
        if name.endswith("key_layer.bias") or f"{length}/grad/{name}" not in arrays:
            # The same number added to all scores of a query changes nothing, so a key bias has no gradient but
            # rounding; and relative positions leave the absolute table unused.
            assert np.abs(gradient).max() < 1e-6, name
        else:
            expected = arrays[f"{length}/grad/{name}"]
            assert np.abs(gradient - expected).max() <= 1e-4 * np.abs(expected).max(), name
    assert {f"{length}/grad/{name}" for name in names} >= {key for key in arrays if key.startswith(f"{length}/grad/")}


def test_loss_weighs_positions_and_survives_a_batch_without_any(pynative_mode):
    generator = np.random.default_rng(0)
    words = generator.standard_normal((6, 60)).astype(np.float32)  # B=2, P=3
    pairs = generator.standard_normal((2, 2)).astype(np.float32)
    word_ids = np.array([[3, 59, 0], [7, 7, 0]], np.int32)
    labels = np.array([[1], [0]], np.int32)

    def expected(weights):
        def negative_log_likelihood(logits, label):
            return np.log(np.exp(logits.astype(np.float64)).sum(-1)) - logits[np.arange(len(label)), label]
        weighted = negative_log_likelihood(words, word_ids.ravel()) * weights.ravel()
        return (weighted.sum() / (weights.sum() + 1e-5)
                + negative_log_likelihood(pairs, labels.ravel()).mean())

    loss = BertPretrainingLoss()
    for weights in ([[1, 1, 0], [1, 0, 0]], [[1, 0.5, 0], [0.25, 0, 0]], [[0, 0, 0], [0, 0, 0]]):
        weights = np.array(weights, np.float32)
        found = loss(*map(Tensor, (words, pairs, word_ids, weights, labels)))
        assert found.dtype == ms.float32
        assert float(found) == pytest.approx(expected(weights), abs=1e-5)


def test_evaluation_returns_every_prediction(graph_mode):
    network, arrays = load_network("absolute", BertPretrainEval)
    batch = batch_of(arrays, 16)
    words, classes, word_losses, class_losses = (x.asnumpy() for x in network(*batch[:-1]))
    scores, pair_scores = arrays["16/out/masked_lm_scores"], arrays["16/out/next_sentence_scores"]
    assert words.dtype == classes.dtype == np.int32
    np.testing.assert_array_equal(words, scores.argmax(-1).reshape(3, 5))
    np.testing.assert_array_equal(classes, pair_scores.argmax(-1))
    weights = arrays["16/in/masked_lm_weights"]
    loss = (word_losses * weights).sum() / weights.sum() + class_losses.mean()
    assert loss == pytest.approx(arrays["16/out/loss"], abs=1e-5)


def test_float16_products_stay_near_float32_and_the_loss_is_float32(pynative_mode):
    network, arrays = load_network("sinusoidal", compute_type="float16", is_training=False)
    loss = network(*batch_of(arrays, 16))
    assert loss.dtype == ms.float32
    assert float(loss) == pytest.approx(float(arrays["16/out/loss"]), abs=2e-2)
    assert float(loss) != pytest.approx(float(arrays["16/out/loss"]), abs=1e-6), "nothing ran in float16"


def test_initial_values_follow_seed_and_name_only():
    def values(seed, **changes):
        network = BertNetworkWithLoss(BertConfig(**{**TINY, **changes}), is_training=True)
        initialize_parameters(network, 0.02, seed)
        return {parameter.name: parameter.asnumpy() for parameter in network.get_parameters()}

    first, again, deeper, other = values(5), values(5), values(5, num_hidden_layers=3), values(6)
    for name, value in first.items():
        np.testing.assert_array_equal(value, again[name])
        np.testing.assert_array_equal(value, deeper[name])
        if name.endswith("gamma"):
            assert (value == 1).all()
        elif name.endswith(("bias", "beta")):
            assert (value == 0).all()
        else:
            assert 0 < np.abs(value).max() <= 0.04
            assert not np.array_equal(value, other[name])
    weights = [value.tobytes() for name, value in first.items() if name.endswith(("weight", "table"))]
    assert len(set(weights)) == len(weights), "two parameters share their numbers"
