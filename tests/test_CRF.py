"""The masked CRF against all paths, and against the numbers of pytorch-crf in tests/fixtures/crf."""

from itertools import product

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops
from paths import FIXTURES

from src.CRF import CRF, IMPOSSIBLE

FIXTURES = sorted((FIXTURES / "crf").glob("*.npz"))


@pytest.fixture(autouse=True, scope="module")
def graph_mode():
    before = ms.get_context("mode")
    ms.set_context(mode=ms.GRAPH_MODE)
    yield
    ms.set_context(mode=before)


class Decode(nn.Cell):
    def __init__(self, crf):
        super().__init__()
        self.crf = crf

    def construct(self, emissions, mask):
        return self.crf.decode(emissions, mask)


class Gradients(nn.Cell):
    """Loss, gradient of the emissions, gradient of the transitions."""

    def __init__(self, crf):
        super().__init__()
        self.crf = crf
        self.transitions = ms.ParameterTuple([crf.transitions])
        self.gradients = ops.GradOperation(get_all=True, get_by_list=True)

    def construct(self, emissions, labels, mask):
        loss = self.crf(emissions, labels, mask)
        inputs, parameters = self.gradients(self.crf, self.transitions)(emissions, labels, mask)
        return loss, inputs[0], parameters[0]


def crf_with(transitions):
    crf = CRF(len(transitions) - 2)
    crf.transitions.set_data(Tensor(transitions))
    return crf


def made_up(num_tags, batch, length, seed=0):
    generator = np.random.default_rng(seed)
    transitions = generator.normal(size=(num_tags + 2, num_tags + 2)).astype(np.float32)
    emissions = generator.normal(size=(batch, length, num_tags + 2)).astype(np.float32)
    lengths = np.append(generator.integers(1, length + 1, batch - 1), length)
    mask = (np.arange(length) < lengths[:, None]).astype(np.int32)
    return transitions, emissions, generator.integers(0, num_tags, (batch, length)).astype(np.int32), mask


def all_paths(transitions, emissions):
    """The score of every tag sequence of one unpadded sentence, emissions [S,K+2]."""
    start = len(transitions) - 2
    scores = {}
    for tags in product(range(start), repeat=len(emissions)):
        moves = sum(transitions[to, before] for to, before in zip(tags, (start, *tags), strict=False))
        scores[tags] = float(moves + sum(row[tag] for row, tag in zip(emissions, tags, strict=True))
                             + transitions[start + 1, tags[-1]])
    return scores


def test_loss_and_best_path_equal_the_enumeration_of_all_paths():
    transitions, emissions, labels, mask = made_up(3, batch=5, length=6)
    crf = crf_with(transitions)
    losses, paths = [], np.zeros_like(labels)
    for row, length in enumerate(mask.sum(axis=1)):
        scores = all_paths(transitions, emissions[row, :length])
        losses.append(np.logaddexp.reduce(list(scores.values())) - scores[tuple(labels[row, :length])])
        paths[row, :length] = max(scores, key=scores.get)
    loss = crf(*map(Tensor, (emissions, labels, mask)))
    assert float(loss.asnumpy()) == pytest.approx(np.mean(losses), rel=1e-5)
    assert Decode(crf)(Tensor(emissions), Tensor(mask)).asnumpy().tolist() == paths.tolist()


@pytest.mark.parametrize("path", FIXTURES, ids=[path.stem for path in FIXTURES])
def test_loss_gradients_and_best_path_equal_pytorch_crf(path):
    expected = np.load(path)
    crf = crf_with(expected["transitions"])
    inputs = [Tensor(expected[name]) for name in ("emissions", "labels", "mask")]
    loss, emissions_gradient, transitions_gradient = Gradients(crf)(*inputs)
    assert float(loss.asnumpy()) == pytest.approx(float(expected["loss"]), rel=1e-5)
    np.testing.assert_allclose(emissions_gradient.asnumpy(), expected["emissions_gradient"], atol=2e-5)
    np.testing.assert_allclose(transitions_gradient.asnumpy(), expected["transitions_gradient"], atol=1e-4)
    assert Decode(crf)(inputs[0], inputs[2]).asnumpy().tolist() == expected["path"].tolist()


def test_there_are_reference_numbers():
    assert {path.stem for path in FIXTURES} == {"small", "one_token", "long", "extreme"}


def test_padding_changes_nothing():
    transitions, emissions, labels, mask = made_up(4, batch=3, length=10, seed=1)
    network, decode = Gradients(crf_with(transitions)), Decode(crf_with(transitions))
    loss, gradient, _ = network(*map(Tensor, (emissions, labels, mask)))
    longer = [np.concatenate([values, np.full_like(values[:, :7], fill)], axis=1)
              for values, fill in ((emissions, 9.0), (labels, 3), (mask, 0))]
    longer[0][:, :10][mask == 0] = -50.0
    padded_loss, padded_gradient, _ = network(*map(Tensor, longer))
    assert float(padded_loss.asnumpy()) == pytest.approx(float(loss.asnumpy()), rel=1e-6)
    np.testing.assert_allclose(padded_gradient.asnumpy()[:, :10], gradient.asnumpy(), atol=1e-6)
    assert not padded_gradient.asnumpy()[:, 10:].any()
    best = decode(Tensor(emissions), Tensor(mask)).asnumpy()
    padded_best = decode(Tensor(longer[0]), Tensor(longer[2])).asnumpy()
    assert padded_best.tolist() == np.pad(best, ((0, 0), (0, 7))).tolist()


def test_nothing_overflows_in_long_sequences_with_large_scores():
    transitions, emissions, labels, mask = made_up(5, batch=2, length=300, seed=2)
    crf = crf_with(transitions)
    shifted = float(crf(*map(Tensor, (emissions * 30 + 1000, labels, mask))).asnumpy())
    plain = float(crf(*map(Tensor, (emissions * 30, labels, mask))).asnumpy())
    assert np.isfinite(shifted)
    assert shifted == pytest.approx(plain, rel=1e-3)


def test_transitions_of_old_checkpoints_fit():
    crf = CRF(41)
    assert crf.transitions.shape == (43, 43)
    assert crf.transitions.name == "transitions"
    values = crf.transitions.asnumpy()
    assert (values[41] == IMPOSSIBLE).all()  # to <START>
    assert (values[:, 42] == IMPOSSIBLE).all()  # from <STOP>
    assert not values[:41, :42][:, :41].any()
    assert not values[42, :41].any()
