"""BertConfig's checks, the published parameter names, and properties of the encoder that need no reference."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn
from modes import computing

from src.bert_for_pre_training import BertNetworkWithLoss, initialize_parameters
from src.bert_model import BertConfig, BertModel, sinusoidal_table
from src.dropout import DropoutMasks
from src.errors import UserError

pytestmark = pytest.mark.usefixtures("pynative_mode")

TINY = {"seq_length": 16, "vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 32, "max_position_embeddings": 40, "type_vocab_size": 2}
KINDS = {
    "absolute": {},
    "learned": {"use_relative_positions": True},
    "sinusoidal": {"use_relative_positions": True, "relative_position_kind": "sinusoidal"},
}


def make_model(kind, is_training=False, **changes):
    network = BertModel(BertConfig(**{**TINY, **KINDS[kind], **changes}), is_training)
    initialize_parameters(network, 0.5, seed=1)
    return network


def make_batch(lengths, padded, seed=0):
    """Return input_ids, token_type_ids, input_mask of rows with these many tokens, padded with random ids."""
    generator = np.random.default_rng(seed)
    mask = (np.arange(padded) < np.array(lengths)[:, None]).astype(np.int32)
    ids = generator.integers(0, 60, mask.shape).astype(np.int32)
    segments = generator.integers(0, 2, mask.shape).astype(np.int32)
    return [ids, segments, mask]


def published_parameters(layers, heads_width, hidden, intermediate, vocabulary, relative_table):
    """List the names and shapes of the published checkpoints."""
    vector, square = (hidden,), (hidden, hidden)
    embeddings = "bert.bert.bert_embedding_postprocessor"
    expected = {
        "bert.bert.bert_embedding_lookup.embedding_table": (vocabulary, hidden),
        f"{embeddings}.token_type_embedding.embedding_table": (2, hidden),
        f"{embeddings}.full_position_embedding.embedding_table": (512, hidden),
        f"{embeddings}.layernorm.gamma": vector,
        f"{embeddings}.layernorm.beta": vector,
        "bert.bert.dense.weight": square,
        "bert.bert.dense.bias": vector,
        "bert.cls1.output_bias": (vocabulary,),
        "bert.cls1.dense.weight": square,
        "bert.cls1.dense.bias": vector,
        "bert.cls1.layernorm.gamma": vector,
        "bert.cls1.layernorm.beta": vector,
        "bert.cls2.dense.weight": (2, hidden),
        "bert.cls2.dense.bias": (2,),
    }
    for i in range(layers):
        layer = f"bert.bert.bert_encoder.layers.{i}"
        attention = f"{layer}.attention.attention"
        for projection in ("query_layer", "key_layer", "value_layer"):
            expected[f"{attention}.{projection}.weight"] = square
            expected[f"{attention}.{projection}.bias"] = vector
        if relative_table:
            expected[f"{attention}._generate_relative_positions_embeddings.embeddings_table"] = (33, heads_width)
        expected[f"{layer}.attention.output.dense.weight"] = square
        expected[f"{layer}.attention.output.dense.bias"] = vector
        expected[f"{layer}.attention.output.layernorm.gamma"] = vector
        expected[f"{layer}.attention.output.layernorm.beta"] = vector
        expected[f"{layer}.intermediate.weight"] = (intermediate, hidden)
        expected[f"{layer}.intermediate.bias"] = (intermediate,)
        expected[f"{layer}.output.dense.weight"] = (hidden, intermediate)
        expected[f"{layer}.output.dense.bias"] = vector
        expected[f"{layer}.output.layernorm.gamma"] = vector
        expected[f"{layer}.output.layernorm.beta"] = vector
    return expected


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_of_the_base_networks_are_the_published_ones(kind):
    config = BertConfig(vocab_size=21128, type_vocab_size=2, **KINDS[kind])
    network = BertNetworkWithLoss(config, is_training=True)
    found = {parameter.name: parameter.shape for parameter in network.get_parameters()}
    assert found == published_parameters(12, 64, 768, 3072, 21128, relative_table=kind == "learned")
    assert len(network.trainable_params()) == len(found)


def test_bare_model_has_the_same_names_without_prefix():
    bare = [parameter.name for parameter in make_model("learned").get_parameters()]
    whole = [parameter.name for parameter in BertNetworkWithLoss(BertConfig(**TINY, **KINDS["learned"]), True)
             .get_parameters() if parameter.name.startswith("bert.bert.")]
    assert ["bert.bert." + name for name in bare] == whole


@pytest.mark.parametrize("kind", KINDS)
def test_padding_contributes_nothing(kind):
    network = make_model(kind)
    lengths = [16, 9, 1]
    reference = make_batch(lengths, 16)
    hidden, pooled, _ = (x.asnumpy() for x in network(*map(Tensor, reference)))
    tokens = reference[2].astype(bool)

    other = make_batch(lengths, 16, seed=1)
    for column, changed in zip(reference[:2], other[:2], strict=True):
        changed[tokens] = column[tokens]
    assert (other[0] != reference[0]).any()
    hidden_other, pooled_other, _ = (x.asnumpy() for x in network(*map(Tensor, other)))
    np.testing.assert_array_equal(hidden_other[tokens], hidden[tokens])  # not one bit
    np.testing.assert_array_equal(pooled_other, pooled)

    longer = [np.pad(column, ((0, 0), (0, 21))) for column in reference]
    hidden_longer, pooled_longer, _ = (x.asnumpy() for x in network(*map(Tensor, longer)))
    np.testing.assert_allclose(hidden_longer[:, :16][tokens], hidden[tokens], rtol=0, atol=1e-6)
    np.testing.assert_allclose(pooled_longer, pooled, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_positions_matter(kind):
    """Reversing the tokens must not merely reverse the hidden states."""
    network = make_model(kind)
    batch = make_batch([16], 16)
    hidden = network(*map(Tensor, batch))[0].asnumpy()
    reversed_hidden = network(*(Tensor(column[:, ::-1].copy()) for column in batch))[0].asnumpy()[:, ::-1]
    assert np.abs(hidden - reversed_hidden).max() > 1e-2


def test_relative_positions_do_not_see_absolute_ones():
    """Behind a masked prefix, NEZHA's tokens keep their hidden states: only distances count."""
    network = make_model("sinusoidal")
    batch = make_batch([16], 16)
    hidden = network(*map(Tensor, batch))[0].asnumpy()
    shifted = network(*(Tensor(np.pad(column, ((0, 0), (5, 0)))) for column in batch))[0].asnumpy()[:, 5:]
    np.testing.assert_allclose(shifted, hidden, rtol=0, atol=1e-6)


def test_sinusoidal_table_is_that_of_the_paper():
    table = sinusoidal_table(64, 8)
    assert table.shape == (129, 8)
    for distance, column in [(0, 0), (0, 1), (1, 0), (70, 5), (128, 6), (128, 7)]:
        angle = distance / 10000 ** ((column - column % 2) / 8)
        assert table[distance, column] == pytest.approx(np.cos(angle) if column % 2 else np.sin(angle), abs=1e-7)


def test_graph_mode_one_hot_lookup_gives_the_same():
    batch = list(map(Tensor, make_batch([16, 9], 16)))
    network = make_model("absolute")
    expected = network(*batch)
    one_hot = BertModel(BertConfig(**TINY), is_training=False, use_one_hot_embeddings=True)
    ms.load_param_into_net(one_hot, network.parameters_dict())
    with computing(ms.GRAPH_MODE):
        outputs = one_hot(*batch)
    for found, wanted in zip(outputs, expected, strict=True):
        np.testing.assert_allclose(found.asnumpy(), wanted.asnumpy(), rtol=0, atol=1e-5)


def test_dropout_acts_in_training_only():
    batch = list(map(Tensor, make_batch([16], 16)))
    network = make_model("absolute", is_training=True).set_train()
    masks = DropoutMasks(network, seed=0)
    first = network(*batch)[0].asnumpy()
    masks(Tensor(1, ms.int32))
    assert np.abs(network(*batch)[0].asnumpy() - first).max() > 1e-2
    network = make_model("absolute", is_training=False).set_train()
    np.testing.assert_array_equal(network(*batch)[0].asnumpy(), network(*batch)[0].asnumpy())


@pytest.mark.parametrize("kind", ["absolute", "learned"])
def test_exported_graph_takes_any_batch(graph_mode, kind, tmp_path):
    network = make_model(kind)
    file = tmp_path / "bert.mindir"
    ms.export(network, *[Tensor(shape=[None, 16], dtype=ms.int32)] * 3, file_name=str(file), file_format="MINDIR")
    exported = nn.GraphCell(ms.load(str(file)))
    with computing(ms.PYNATIVE_MODE):
        expected_by_lengths = {lengths: network(*map(Tensor, make_batch(lengths, 16)))
                               for lengths in [(16,), (16, 9, 3)]}
    for lengths, expected in expected_by_lengths.items():
        for found, wanted in zip(exported(*map(Tensor, make_batch(lengths, 16))), expected, strict=True):
            np.testing.assert_allclose(found.asnumpy(), wanted.asnumpy(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("value", ["float16", "mstype.float16", "ms.float16", "Float16", ms.float16])
def test_types_are_accepted_as_names_and_objects(value):
    config = BertConfig(dtype=value, compute_type=value)
    assert config.dtype == ms.float16
    assert config.compute_type == ms.float16


def test_float16_outputs_have_the_type_asked_for():
    batch = list(map(Tensor, make_batch([16, 9], 16)))
    expected = make_model("learned")(*batch)
    for dtype in (ms.float32, ms.float16):
        hidden, pooled, _ = make_model("learned", compute_type="float16", dtype=dtype)(*batch)
        assert hidden.dtype == pooled.dtype == dtype
        np.testing.assert_allclose(hidden.asnumpy(), expected[0].asnumpy(), rtol=0, atol=5e-2)


def test_clip_defaults_to_that_of_the_kind():
    assert BertConfig(relative_position_kind="learned").max_relative_position == 16
    assert BertConfig(relative_position_kind="sinusoidal").max_relative_position == 64
    assert BertConfig(relative_position_kind="learned", max_relative_position=8).max_relative_position == 8


@pytest.mark.parametrize(("changes", "words"), [
    ({"hidden_size": 30, "num_attention_heads": 4}, ["hidden_size", "30", "num_attention_heads", "4"]),
    ({"seq_length": 513}, ["seq_length", "513", "max_position_embeddings", "512"]),
    ({"hidden_act": "gleu"}, ["hidden_act", "gleu"]),
    ({"compute_type": "float8"}, ["compute_type", "float8", "float16"]),
    ({"dtype": None}, ["dtype", "None"]),
    ({"relative_position_kind": "learnt"}, ["relative_position_kind", "learnt", "learned", "sinusoidal"]),
    ({"vocab_size": 0}, ["vocab_size", "0"]),
    ({"num_hidden_layers": 2.5}, ["num_hidden_layers", "2.5"]),
    ({"hidden_dropout_prob": 1.0}, ["hidden_dropout_prob", "1.0"]),
    ({"attention_probs_dropout_prob": "0.1"}, ["attention_probs_dropout_prob", "0.1"]),
    ({"initializer_range": -1}, ["initializer_range", "-1"]),
    ({"use_relative_positions": "yes"}, ["use_relative_positions", "yes"]),
    ({"hidden_size": 9, "num_attention_heads": 3, "use_relative_positions": True,
      "relative_position_kind": "sinusoidal"}, ["hidden_size", "9", "even"]),
])
def test_mistakes_are_named(changes, words):
    with pytest.raises(UserError) as error:
        BertConfig(**changes)
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


def test_relative_positions_have_no_longest_sequence():
    assert BertConfig(seq_length=600, use_relative_positions=True).seq_length == 600
