"""Every operator against float64 NumPy, forward and backward."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import ops
from toy_operators import (
    BF16,
    F32,
    assert_as_reference,
    dense,
    dropout_factors,
    gelu,
    normalize,
    random,
    softmax,
    tensor,
)

from src.cpu_kernels import cells

TYPES = pytest.mark.parametrize(("compute_type", "tolerance"), [(F32, 1e-5), (BF16, 8e-2)], ids=["float32", "bfloat16"])
DROPOUT = pytest.mark.parametrize("p", [0.0, 0.3])
KEY, OTHER_KEY = [0x12345678, -77, 99], [5, 6, -7]


def key_and_rate(key, p):
    return tensor([key], np.int32), tensor([p])


@TYPES
@pytest.mark.parametrize("sizes", [(1, 1, 1), (1, 5, 3), (7, 3, 5), (33, 17, 9)])
def test_dense(compute_type, tolerance, sizes):
    rows, inputs, outputs = sizes
    assert_as_reference(cells.DenseProduct(compute_type), dense,
          [random(rows, inputs), random(outputs, inputs), random(outputs)], tolerance=tolerance)


@TYPES
@DROPOUT
@pytest.mark.parametrize("sizes", [(1, 4, 5), (5, 6, 7), (2, 16, 33)])
def test_feed_forward(compute_type, tolerance, sizes, p):
    rows, width, inner = sizes
    factors = dropout_factors((rows, width), KEY, p)

    def reference(x, weight1, bias1, weight2, bias2, gamma, beta):
        return normalize(dense(gelu(dense(x, weight1, bias1)), weight2, bias2) * factors + x, gamma, beta)

    assert_as_reference(cells.FeedForward(compute_type), reference,
          [random(rows, width), 0.5 * random(inner, width), random(inner), 0.5 * random(width, inner), random(width),
           random(width), random(width)], key_and_rate(KEY, p), tolerance)


def assert_attention(compute_type, tolerance, sizes, p, learned=(), fixed=None):
    """Compare with the textbook's form, in which every pair of tokens has a vector of its own.

    `learned` and `fixed` are tables of relative positions, at most one of both.
    """
    batch, length, heads, head_width = sizes
    width, rows = heads * head_width, batch * length
    mask = np.zeros((batch, length))
    mask[0, 1:2] = -10000.0
    in_scores = dropout_factors((batch, heads, length, length), KEY, p)
    in_output = dropout_factors((rows, width), OTHER_KEY, p)

    def split(x):
        return x.reshape(batch, length, heads, head_width).transpose(0, 2, 1, 3)

    def reference(x, query, key, value, output, query_bias, key_bias, value_bias, output_bias, gamma, beta,
                  table=fixed):
        q, k, v = (split(dense(x, *of)) for of in ((query, query_bias), (key, key_bias), (value, value_bias)))
        r = vectors_of_pairs(table, length, head_width)
        scores = (q @ k.transpose(0, 1, 3, 2) + np.einsum("bnfd,ftd->bnft", q, r)) / np.sqrt(head_width)
        probs = softmax(scores + mask[:, None, None]) * in_scores
        context = (probs @ v + np.einsum("bnft,ftd->bnfd", probs, r)).transpose(0, 2, 1, 3).reshape(rows, width)
        return normalize(dense(context, output, output_bias) * in_output + x, gamma, beta)

    # Normalizing a few numbers that nearly cancel magnifies rounding errors without bound; x keeps them apart.
    size = 0.3 if compute_type == BF16 else 1.0
    weights = [size * random(width, width, seed=seed) for seed in range(4)]
    vectors = [random(width, seed=seed) for seed in range(10, 16)]
    constants = [tensor(mask), *key_and_rate(KEY, p), *key_and_rate(OTHER_KEY, p)]
    if not learned:
        constants.insert(0, cells.NO_TABLE if fixed is None else tensor(fixed))
    assert_as_reference(cells.Attention(heads, compute_type, bool(learned)), reference,
          [random(rows, width), *weights, *vectors, *learned], constants, tolerance)


def vectors_of_pairs(table, length, width):
    """The vectors [F,T,D] of the distances t - f, clipped to those of `table` [2K+1,D]; zeros without one."""
    if table is None:
        return np.zeros((length, length, width))
    k = len(table) // 2
    return np.array([[table[max(-k, min(k, t - f)) + k] for t in range(length)] for f in range(length)])


@TYPES
@DROPOUT
@pytest.mark.parametrize("sizes", [(1, 1, 1, 3), (2, 3, 2, 2), (1, 5, 3, 1)])
def test_attention(compute_type, tolerance, sizes, p):
    assert_attention(compute_type, tolerance, sizes, p)


@TYPES
@DROPOUT
@pytest.mark.parametrize(("sizes", "k"), [((1, 1, 1, 3), 2), ((2, 3, 2, 2), 4), ((2, 6, 1, 3), 2), ((3, 5, 3, 1), 1)])
def test_attention_with_learned_relative_positions(compute_type, tolerance, sizes, k, p):
    """One row, a table that is longer than the sequence, and shorter ones."""
    assert_attention(compute_type, tolerance, sizes, p, learned=[random(2 * k + 1, sizes[3], seed=20)])


@TYPES
@pytest.mark.parametrize("k", [1, 5])
def test_attention_with_fixed_relative_positions(compute_type, tolerance, k):
    assert_attention(compute_type, tolerance, (2, 4, 2, 3), 0.3, fixed=random(2 * k + 1, 3, seed=20))


@pytest.mark.parametrize("shape", [(1, 2), (3, 17), (20, 1)])
def test_cross_entropy(shape):
    labels = np.arange(shape[0]) % shape[1]

    def reference(scores):
        return -np.log(softmax(scores))[np.arange(len(labels)), labels]

    assert_as_reference(cells.CrossEntropy(), reference, [3 * random(*shape)], [tensor(labels, np.int32)])


def test_cross_entropy_of_extreme_scores():
    scores = tensor([[1e4, -1e4, 0.0], [-300.0, -300.0, -300.0]])
    losses = cells.CrossEntropy()(scores, tensor([1, 2], np.int32)).asnumpy()
    np.testing.assert_allclose(losses, [2e4, np.log(3)], rtol=1e-6)


def test_shared_table():
    ids = np.array([[3, 0, 3], [1, 3, 0]])

    class Both(ms.nn.Cell):
        def __init__(self):
            super().__init__()
            self.shared = cells.SharedTable()

        def construct(self, table, ids):
            rows, table = self.shared(table, ids)
            return ops.concat((rows.reshape((-1, 5)), 2.0 * table))

    assert_as_reference(Both(), lambda table: np.concatenate([table[ids].reshape(-1, 5), 2 * table]), [random(4, 5)],
          [tensor(ids, np.int32)])


def test_probability_that_an_element_is_kept():
    """Of a million elements and of their neighbours: a mask must not repeat, nor depend on the one before."""
    for p in (0.1, 0.5):
        kept, of_next_key = (dropout_factors((1000, 1000), key, p) > 0 for key in (KEY, [KEY[0] + 1, *KEY[1:]]))
        assert abs(kept.mean() - (1 - p)) < 0.002
        assert abs((kept[:, 1:] & kept[:, :-1]).mean() - (1 - p) ** 2) < 0.003
        assert abs((kept & of_next_key).mean() - (1 - p) ** 2) < 0.003
        assert abs(kept.mean(0) - (1 - p)).max() < 0.08
