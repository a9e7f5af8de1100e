"""Filling in [MASK]: which words are ranked, for which positions, from which probabilities."""

from pathlib import Path

import numpy as np
import pytest
from mindspore import Tensor

from src.bert_for_pre_training import BertPreTraining, initialize_parameters
from src.bert_model import BertConfig
from src.errors import UserError
from src.tasks.pretraining.fill_mask import MaskFiller
from src.tokenization import MASK, FullTokenizer

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "sat", "on", "mat", "."]
VOCAB_SIZE = 16  # rounded up: the last ids are no words


@pytest.fixture(scope="module")
def network(graph_mode_of_module: None) -> BertPreTraining:
    network = BertPreTraining(BertConfig(seq_length=12, vocab_size=VOCAB_SIZE, hidden_size=16, num_hidden_layers=1,
                                         num_attention_heads=2, intermediate_size=32, max_position_embeddings=12,
                                         compute_type="float32"), is_training=False)
    initialize_parameters(network, 0.5, seed=3)
    return network


@pytest.fixture(scope="module")
def filler(network: BertPreTraining, tmp_path_factory: pytest.TempPathFactory) -> MaskFiller:
    vocab_file = Path(tmp_path_factory.mktemp("vocab"), "vocab.txt")
    vocab_file.write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    return MaskFiller(network, FullTokenizer(vocab_file, never_split=[MASK]), seq_length=12)


def test_guesses_are_the_likeliest_words_at_each_mask(filler: MaskFiller, network: BertPreTraining) -> None:
    guesses = filler.fill("The [MASK] sat on the [MASK] .", top_k=3)
    ids = np.array([[2, 5, 4, 7, 8, 5, 4, 10, 3, 0, 0, 0]], np.int32)
    positions = np.array([[2, 6]], np.int32)
    scores, _ = network(Tensor(ids), Tensor((ids > 0).astype(np.int32)), Tensor(np.zeros_like(ids)), Tensor(positions))
    scores = scores.asnumpy().astype(np.float64)
    probabilities = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    for found, expected in zip(guesses, probabilities, strict=True):
        order = np.argsort(-expected[:len(WORDS)])[:3]
        assert [guess.token for guess in found] == [WORDS[token] for token in order]
        assert [guess.probability for guess in found] == pytest.approx(expected[order], rel=1e-4)


def test_ids_behind_the_vocabulary_are_never_guessed(filler: MaskFiller, network: BertPreTraining) -> None:
    bias = network.cls1.output_bias
    before = bias.asnumpy().copy()
    bias.set_data(Tensor(np.where(np.arange(VOCAB_SIZE) >= len(WORDS), 100, 0).astype(np.float32)))
    tokens = [guess.token for guess in filler.fill("[MASK]", top_k=VOCAB_SIZE)[0]]
    bias.set_data(Tensor(before))
    assert sorted(tokens) == sorted(WORDS)


def test_text_without_a_mask(filler: MaskFiller) -> None:
    with pytest.raises(UserError, match=r"no \[MASK\] in the text; put \[MASK\] in place .*: the cat sat"):
        filler.fill("the cat sat")


def test_longest_text_fits_and_a_longer_one_is_refused(filler: MaskFiller) -> None:
    assert len(filler.fill("[MASK] " + "cat " * 9)) == 1
    with pytest.raises(UserError, match="the text has 13 tokens, at most 12 fit"):
        filler.fill("[MASK] " + "cat " * 10)
