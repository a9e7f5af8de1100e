"""The statistics of dropout masks, and that they follow from seed, call, cell and rank alone."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, lazy_inline, nn, ops

from src import device_forms
from src.device_forms import built_for
from src.dropout import PIECE_LENGTH, PIECES, Dropout, DropoutMasks, draw_pieces

pytestmark = pytest.mark.usefixtures("graph_mode")


class TwoDropouts(nn.Cell):
    """Two masks of the same shape."""

    def __init__(self, p=0.1):
        super().__init__()
        self.first = Dropout(p)
        self.second = Dropout(p)

    def construct(self, x):
        return self.first(x), self.second(x)


class DrawBits(nn.Cell):
    """In place of Ascend's kernel, which a CPU lacks: numbers 1 and 0 from seed and offset alone."""

    def construct(self, shape, p, seed, offset, dtype):
        size = 1
        for length in shape:
            size *= length
        x = ops.arange(size).astype(ms.int32) * -2048144789 + seed.astype(ms.int32)
        x = ops.bitwise_xor(x, ops.bitwise_right_shift(x, 16)) * 569420461 + offset.astype(ms.int32)
        x = ops.bitwise_xor(x, ops.bitwise_right_shift(x, 15)) * 1935289751
        x = ops.bitwise_and(ops.bitwise_xor(x, ops.bitwise_right_shift(x, 15)), 0xFFFF)
        return (x.astype(ms.float32) >= p * 65536).astype(ms.uint8)


class DropByBits(nn.Cell):
    """In place of Ascend's other kernel."""

    def construct(self, x, bits, p):
        return x * bits.reshape(x.shape).astype(x.dtype) / (1.0 - p)


@pytest.fixture
def forms(request, monkeypatch):
    """The masks of a device, and the type that its networks compute in."""
    target, dtype = request.param
    if target == "Ascend":
        monkeypatch.setattr(device_forms, "DropoutGenMaskExt", DrawBits)
        monkeypatch.setattr(device_forms, "DropoutDoMaskExt", DropByBits)
    with built_for(target):
        yield dtype


all_forms = pytest.mark.parametrize(
    "forms", [("CPU", np.float32), ("GPU", np.float16), ("Ascend", np.float32)], indirect=True, ids=str)


def masks_of_calls(calls, seed=0, rank=0, shape=(64, 1024), p=0.1, dtype=np.float32):
    network = TwoDropouts(p).set_train()
    masks = DropoutMasks(network, seed, rank)
    ones = Tensor(np.ones(shape, dtype))
    found = []
    for call in calls:
        if call:
            masks(Tensor(call, ms.int32))
        found.extend(mask.asnumpy() for mask in network(ones))
    return np.stack(found)


@all_forms
def test_dropout_scales_what_it_keeps(forms):
    masks = masks_of_calls([0, 1, 2], p=0.25, dtype=forms)
    assert masks.dtype == forms
    np.testing.assert_allclose(np.unique(masks), [0, 1 / 0.75], rtol=np.finfo(forms).eps)
    # Two million numbers: one standard deviation is 0.0007.
    assert (masks == 0).mean() == pytest.approx(0.25, abs=0.003)


@pytest.mark.parametrize("p", [0.1, 0.3])
def test_features_are_dropped_at_rates_as_of_independent_draws(p):
    """A feature keeps its column of the pieces through all calls: there its rate must be p, but for chance."""
    masks = masks_of_calls(range(20), shape=(8192, 64), p=p) == 0  # 40 masks
    rates = masks.mean((0, 1))  # [64]
    deviation = (p * (1 - p) / (40 * 8192)) ** 0.5  # of independent draws, 0.0005 for p = 0.1
    assert rates.mean() == pytest.approx(p, abs=deviation)
    assert 0.6 * deviation < rates.std() < 1.3 * deviation
    rates = masks.mean(1)  # [40,64], of a feature in one mask
    assert rates.std(axis=0).mean() == pytest.approx((p * (1 - p) / 8192) ** 0.5, rel=0.25)


@pytest.mark.parametrize("p", [0.0001, 0.1, 0.5, 0.9])
def test_the_columns_of_odd_and_of_even_pieces_have_the_rate(p):
    zeros = (draw_pieces(p).reshape(-1, 2, PIECE_LENGTH) == 0).mean(0)
    assert np.abs(zeros - p).max() <= 2 / PIECES + 1e-9


@all_forms
def test_masks_are_uncorrelated(forms):
    masks = masks_of_calls(range(6), dtype=forms) == 0  # [12,64,1024]
    # Between cells and calls, between rows of a mask, between columns of a mask. Of independent masks a correlation
    # has standard deviation 1 / sqrt(numbers).
    for samples, deviation in (
        (masks.reshape(12, -1), 65536**-0.5),
        (masks[0], 1024**-0.5),
        (np.concatenate(masks)[:, :64].T, 768**-0.5),
    ):
        correlations = np.corrcoef(samples)[np.triu_indices(len(samples), 1)]
        assert np.abs(correlations).max() < 5.5 * deviation
        assert correlations.std() == pytest.approx(deviation, rel=0.2)


@all_forms
def test_masks_follow_from_seed_call_and_rank(forms):
    once = masks_of_calls([0, 1, 7])
    np.testing.assert_array_equal(masks_of_calls([7]), once[-2:])
    for other in (masks_of_calls([7], seed=1), masks_of_calls([7], rank=1)):
        assert np.abs(np.corrcoef(np.concatenate([once[-2:], other]).reshape(4, -1) == 0) - np.eye(4)).max() < 0.02


class Layer(nn.Cell):
    """A layer whose graph the compiler shares with its like."""

    @lazy_inline(policy="front")
    def __init__(self, p):
        super().__init__()
        self.dropout = Dropout(p)

    def construct(self, x, number):
        return self.dropout(x, number)


class TwoLayers(nn.Cell):
    def __init__(self, p):
        super().__init__()
        self.first = Layer(p)
        self.second = Layer(p)

    def construct(self, x, number):
        return self.first(x, number), self.second(x, number + 1)


@all_forms
def test_layers_with_a_shared_graph_have_their_own_masks(forms):
    network = TwoLayers(0.1).set_train()
    masks = DropoutMasks(network, seed=0)
    ones = Tensor(np.ones((64, 1024), np.float32))
    number = Tensor([[0]], ms.int32)
    found = [mask.asnumpy() for mask in network(ones, number)]
    masks(Tensor(1, ms.int32))
    found += [mask.asnumpy() for mask in network(ones, number)]
    assert np.abs(np.corrcoef(np.reshape(found, (4, -1)) == 0) - np.eye(4)).max() < 0.02


class Loss(nn.Cell):
    def __init__(self):
        super().__init__()
        self.dropout = Dropout(0.3)

    def construct(self, x):
        return (self.dropout(x) * x).sum()


@all_forms
def test_gradients_are_dropped_where_the_values_are(forms):
    network = Loss().set_train()
    DropoutMasks(network, seed=2)
    x = np.random.default_rng(1).normal(size=(8, 16)).astype(forms)
    gradient = ms.grad(network)(Tensor(x)).asnumpy()  # of sum(m x x), 2 m x
    mask = gradient / (2 * x)
    kept = mask > 0.5
    assert 0 < kept.sum() < kept.size
    np.testing.assert_allclose(mask, kept / 0.7, rtol=2e-3)


def test_masks_of_any_size():
    shape = (PIECES * PIECE_LENGTH + 3 * PIECE_LENGTH + 5,)  # longer than one walk over all pieces, and odd
    mask = masks_of_calls([1], shape=shape)[0]
    assert (mask == 0).mean() == pytest.approx(0.1, abs=0.001)
    assert (mask[:3 * PIECE_LENGTH] != mask[PIECES * PIECE_LENGTH:][:3 * PIECE_LENGTH]).any()


def test_dropout_is_off_in_evaluation():
    x = Tensor(np.ones((4, 4), np.float32))
    np.testing.assert_array_equal(TwoDropouts().set_train(False)(x)[0].asnumpy(), x.asnumpy())


def test_training_without_masks_is_an_error(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a failed compilation leaves files
    with pytest.raises(RuntimeError, match="Dropout has no masks"):
        TwoDropouts().set_train()(Tensor(np.ones((4, 4), np.float32)))
