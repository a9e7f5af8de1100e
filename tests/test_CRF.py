"""The masked CRF against all paths, and against the numbers of pytorch-crf in tests/fixtures/crf."""

from itertools import product

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn
from paths import FIXTURES

from src.CRF import CRF, IMPOSSIBLE

pytestmark = pytest.mark.usefixtures("graph_mode")

FIXTURES = sorted((FIXTURES / "crf").glob("*.npz"))


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
        self.loss_and_gradients = ms.value_and_grad(crf, 0, ms.ParameterTuple([crf.transitions]))

    def construct(self, emissions, labels, mask):
        loss, (of_emissions, (of_transitions,)) = self.loss_and_gradients(emissions, labels, mask)
        return loss, of_emissions, of_transitions


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


def in_float64(transitions, emissions, labels, mask):
    """Loss and gradients from the sums up to and from each token (Rabiner 1989), in logarithms."""
    transitions, emissions = transitions.astype(np.float64), emissions.astype(np.float64)
    start = len(transitions) - 2
    moves, batch = transitions[:start, :start], len(emissions)
    loss, d_emissions, d_transitions = 0.0, np.zeros_like(emissions), np.zeros_like(transitions)
    for row, length in enumerate(mask.sum(1)):
        e, tags = emissions[row, :length, :start], labels[row, :length]
        forward, after = [transitions[:start, start] + e[0]], [transitions[start + 1, :start]]
        for step in range(1, length):
            forward.append(np.logaddexp.reduce(forward[-1] + moves, axis=1) + e[step])
            after.insert(0, np.logaddexp.reduce((after[0] + e[-step])[:, None] + moves, axis=0))
        total = np.logaddexp.reduce(forward[-1] + after[-1])
        before = [start, *tags[:-1]]
        loss += total - e[range(length), tags].sum() - transitions[tags, before].sum()
        loss -= transitions[start + 1, tags[-1]]
        states = np.exp(np.array(forward) + after - total)
        states[range(length), tags] -= 1
        d_emissions[row, :length, :start] = states
        d_transitions[:start, start] += states[0]
        d_transitions[start + 1, :start] += states[-1]
        for step in range(1, length):
            pairs = forward[step - 1] + moves + (e[step] + after[step])[:, None]
            d_transitions[:start, :start] += np.exp(pairs - total)
            d_transitions[tags[step], tags[step - 1]] -= 1
    return loss / batch, d_emissions / batch, d_transitions / batch


@pytest.fixture(scope="module")
def compiled():
    """Compiled gradients by the shape of their inputs."""
    cells = {}

    def gradients(transitions, *inputs):
        shape = len(transitions), *inputs[1].shape
        if shape not in cells:
            cells[shape] = Gradients(CRF(len(transitions) - 2))
        cells[shape].crf.transitions.set_data(Tensor(transitions))
        return [value.asnumpy() for value in cells[shape](*map(Tensor, inputs))]

    return gradients


def check_against_float64(found, problem, largest):
    """To the digits that float32 leaves of the largest scores."""
    tolerance = 1e-5 + 1e-6 * largest
    loss, emissions_gradient, transitions_gradient = in_float64(*problem)
    assert float(found[0]) == pytest.approx(loss, rel=1e-5, abs=tolerance)
    np.testing.assert_allclose(found[1], emissions_gradient, atol=tolerance)
    np.testing.assert_allclose(found[2], transitions_gradient, atol=tolerance * problem[3].sum())


@pytest.mark.parametrize("gap", [5, 50, 90, 1e4, 1e6])
def test_forbidden_transitions_and_confident_emissions(compiled, gap):
    """Two tags that only a transition of -100 joins, and emissions that want both by turns."""
    transitions = np.array([[0, -100, 0, 0], [-100, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]], np.float32)
    emissions = np.zeros((2, 12, 4), np.float32)
    emissions[:, ::2, 0] = emissions[:, 1::2, 1] = gap
    labels = np.zeros((2, 12), np.int32)
    labels[0, 1::2] = 1
    problem = transitions, emissions, labels, np.ones_like(labels)
    check_against_float64(compiled(*problem), problem, largest=0.0)  # all scores are whole numbers


@pytest.mark.parametrize("deviation", [0.1, 3, 10, 30, 100, 1e4])
@pytest.mark.parametrize("length", [1, 2, 19])
def test_any_finite_scores(compiled, deviation, length):
    transitions, emissions, labels, mask = made_up(6, batch=4, length=length, seed=length)
    for of_transitions, of_emissions in ((deviation, deviation), (1, deviation), (deviation, 1)):
        problem = transitions * of_transitions, emissions * of_emissions, labels, mask
        check_against_float64(compiled(*problem), problem, deviation)


@pytest.mark.parametrize("deviation", [1, 100])
def test_without_a_graph(pynative_mode, deviation):
    transitions, emissions, labels, mask = made_up(4, batch=2, length=3)
    problem = transitions, emissions * deviation, labels, mask
    found = Gradients(crf_with(transitions))(*map(Tensor, problem[1:]))
    check_against_float64([value.asnumpy() for value in found], problem, deviation)


def test_the_best_path_of_one_token():
    transitions, emissions, _, mask = made_up(4, batch=5, length=1)
    best = Decode(crf_with(transitions))(Tensor(emissions), Tensor(mask)).asnumpy()
    scores = emissions[:, 0, :4] + transitions[:4, 4] + transitions[5, :4]
    assert best[:, 0].tolist() == scores.argmax(1).tolist()


@pytest.mark.parametrize("wrong", [np.inf, np.nan])
def test_scores_that_are_not_finite_are_not_hidden(compiled, wrong):
    transitions, emissions, labels, mask = made_up(4, batch=3, length=6)
    emissions[1, 0, 2] = wrong
    loss, gradient, _ = compiled(transitions, emissions, labels, mask)
    assert not np.isfinite(loss)
    assert not np.isfinite(gradient).all()


def test_transitions_of_old_checkpoints_fit():
    crf = CRF(41)
    assert crf.transitions.shape == (43, 43)
    assert crf.transitions.name == "transitions"
    values = crf.transitions.asnumpy()
    assert (values[41] == IMPOSSIBLE).all()  # to <START>
    assert (values[:, 42] == IMPOSSIBLE).all()  # from <STOP>
    assert not values[:41, :42][:, :41].any()
    assert not values[42, :41].any()
