"""Networks are born with BERT's random weights, unless someone else gives them theirs."""

from functools import partial

import mindspore as ms
import numpy as np
import pytest

from mindspore_hub_conf import create_network
from src.bert_for_finetune import BertCLS, BertNER, BertNERTagger, BertSquad
from src.bert_for_pre_training import BertNetworkWithLoss, BertPretrainEval, BertPreTraining, initialize_parameters
from src.bert_model import BertConfig, BertModel
from src.initialization import random_weight, truncated_normal, undrawn_weights

SIZES = {"seq_length": 12, "vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
         "intermediate_size": 24, "max_position_embeddings": 16, "initializer_range": 0.03}
CONFIG = BertConfig(**SIZES, use_relative_positions=True)
NETWORKS = {
    "encoder": partial(BertModel, CONFIG, False),
    "pre-training": partial(BertNetworkWithLoss, CONFIG, True),
    "both heads": partial(BertPreTraining, CONFIG, False),
    "evaluation": partial(BertPretrainEval, CONFIG),
    "classifier": partial(BertCLS, CONFIG, True, 5),
    "squad": partial(BertSquad, CONFIG, True),
    "ner": partial(BertNER, CONFIG, True, 7, use_crf=True, with_lstm=True),
    "tagger": partial(BertNERTagger, CONFIG, 7, use_crf=True),
    "hub": partial(create_network, "bert_nezha", **SIZES),
}
DRAWN = ("weight", "embedding_table", "embeddings_table")


def weights_of(network):
    return {parameter.name: parameter.asnumpy().copy() for parameter in network.get_parameters()}


def drawn(weights):
    return {name: value for name, value in weights.items() if name.rpartition(".")[2] in DRAWN}


@pytest.mark.parametrize("construct", NETWORKS.values(), ids=NETWORKS)
def test_a_network_is_born_with_random_weights(construct):
    weights = weights_of(construct())
    random = drawn(weights)
    for name, value in random.items():
        assert 0 < np.abs(value).max() <= np.float32(0.06), name  # cut at two standard deviations
        assert np.unique(value).size > 0.9 * value.size
    assert len({value.tobytes() for value in random.values()}) == len(random)
    together = np.concatenate([value.ravel() for value in random.values()])
    assert together.std() == pytest.approx(0.03 * 0.8796, rel=0.05)  # of a normal distribution that is cut like this
    assert together.mean() == pytest.approx(0.0, abs=0.001)
    for name, value in weights.items():
        if name.endswith(("bias", "beta")):
            assert not value.any(), name
        if name.endswith("gamma"):
            assert (value == 1).all(), name


@pytest.mark.parametrize("seed", [ms.set_seed, np.random.seed])
def test_the_seed_decides(seed):
    found = []
    for number in (3, 3, 4):
        seed(number)
        found.append(drawn(weights_of(NETWORKS["classifier"]())))
    same = [np.array_equal(found[0][name], found[1][name]) for name in found[0]]
    other = [np.array_equal(found[0][name], found[2][name]) for name in found[0]]
    assert all(same)
    assert not any(other)
    second = drawn(weights_of(NETWORKS["classifier"]()))  # without seeding again
    assert not any(np.array_equal(value, second[name]) for name, value in found[2].items())


def test_what_is_loaded_or_drawn_next_need_not_be_drawn():
    np.random.seed(5)
    with undrawn_weights():
        network = NETWORKS["pre-training"]()
    assert not any(value.any() for value in drawn(weights_of(network)).values())
    untouched = np.random.random()
    np.random.seed(5)
    assert np.random.random() == untouched
    assert random_weight((3,), 0.1).asnumpy().any()  # afterwards all is as before

    initialize_parameters(network, 0.03, seed=1)
    other = NETWORKS["pre-training"]()  # which is drawn, and then drawn again
    initialize_parameters(other, 0.03, seed=1)
    for name, value in weights_of(network).items():
        np.testing.assert_array_equal(value, weights_of(other)[name])


def test_an_error_inside_does_not_leave_later_networks_undrawn():
    with pytest.raises(RuntimeError), undrawn_weights():
        raise RuntimeError
    assert random_weight((3,), 0.1).asnumpy().any()


def test_truncated_normal():
    values = truncated_normal((500, 600), 0.02, (1, 2))
    assert values.dtype == np.float32
    assert np.abs(values).max() <= 0.04
    assert values.mean() == pytest.approx(0, abs=2e-4)
    assert values.std() == pytest.approx(0.02 * 0.8796, rel=1e-2)  # of a normal distribution cut at two deviations
    np.testing.assert_array_equal(values, truncated_normal((500, 600), 0.02, (1, 2)))
    assert not np.array_equal(values, truncated_normal((500, 600), 0.02, (1, 3)))
