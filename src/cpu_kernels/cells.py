"""Parts of networks that are made of the library's operators, each with its own gradient.

They hold no weights: these belong to the cells of `src` whose names the checkpoints have, and are passed in. A call in
`bprop` that repeats one of `construct` costs nothing: the compiler takes the result from the forward pass.

Shapes at line ends: R rows, that is B batch times S sequence, H hidden, D width of a head, I inner width, V vocabulary,
C classes, K the distance at which relative positions are clipped.
"""

from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from src.cpu_kernels import operators

NO_TABLE = Tensor(np.zeros((1, 1), np.float32))  # of relative positions


class Product(nn.Cell):
    """What the cells share that multiply by weights: whether these are rounded first, once for forward and backward.

    Each cell does that itself: a method that may return its argument unchanged has been seen to return another one's.
    """

    def __init__(self, compute_type: Any):
        super().__init__()
        self.rounds = compute_type == ms.bfloat16
        self.round = operators.to_bfloat16()


class DenseProduct(Product):
    """x W^T + b from and to float32, multiplied in another type."""

    def __init__(self, compute_type: Any):
        super().__init__(compute_type)
        self.forward = operators.dense_forward()
        self.backward = operators.dense_backward()

    def construct(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Map x [R,I], weight [O,I] and bias [O] to [R,O]."""
        if self.rounds:
            weight = self.round(weight)
        return self.forward(x, weight, bias)

    def bprop(self, x: Tensor, weight: Tensor, bias: Tensor, out: Tensor, dout: Tensor) -> tuple[Tensor, ...]:
        """Return the gradients of x, weight and bias."""
        if self.rounds:
            weight = self.round(weight)
        return self.backward(x, weight, dout)


class FeedForward(Product):
    """The second half of a block: normalize(dropout(gelu(x W1^T + b1) W2^T + b2) + x)."""

    def __init__(self, compute_type: Any):
        super().__init__(compute_type)
        self.operators = operators.FeedForwardOperators(compute_type)
        self.forward = self.operators.forward
        self.backward = self.operators.backward

    def construct(self, x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor, gamma: Tensor,
                  beta: Tensor, key: Tensor, p: Tensor) -> Tensor:
        """Map x [R,H], weight1 [I,H] and weight2 [H,I] to [R,H]; key int32 [1,3] and p [1] are those of dropout."""
        if self.rounds:
            weight1, weight2 = self.round(weight1), self.round(weight2)
        out, _, _, _ = self.forward(x, weight1, bias1, weight2, bias2, gamma, beta, key, p)
        return out

    def bprop(self, x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor, gamma: Tensor,
              beta: Tensor, key: Tensor, p: Tensor, out: Tensor, dout: Tensor) -> tuple[Tensor, ...]:
        """Return the gradients of x and the weights."""
        if self.rounds:
            weight1, weight2 = self.round(weight1), self.round(weight2)
        _, before, normal, inverse = self.forward(x, weight1, bias1, weight2, bias2, gamma, beta, key, p)
        gradients = self.backward(dout, x, weight1, weight2, gamma, key, p, before, normal, inverse)
        return (*gradients, ops.zeros_like(key), ops.zeros_like(p))


class Attention(Product):
    """The first half of a block: normalize(dropout(attention(x) Wo^T + bo) + x).

    A table of relative positions that is not learned has no gradient.
    """

    def __init__(self, num_heads: int, compute_type: Any, learns_table: bool = False):
        super().__init__(compute_type)
        self.learns_table = learns_table
        self.operators = operators.AttentionOperators(num_heads, compute_type, learns_table)
        self.forward = self.operators.forward
        self.backward = self.operators.backward

    def construct(self, x: Tensor, query: Tensor, key: Tensor, value: Tensor, output: Tensor, query_bias: Tensor,
                  key_bias: Tensor, value_bias: Tensor, output_bias: Tensor, gamma: Tensor, beta: Tensor, table: Tensor,
                  mask: Tensor, probs_key: Tensor, probs_p: Tensor, output_key: Tensor, output_p: Tensor) -> Tensor:
        """Map x [R,H] to [R,H].

        query, key, value and output are weights [H,H]; table [2K+1,D] holds the vectors of relative positions,
        `NO_TABLE` stands for none; mask [B,S] is added to the scores; the last four are the keys int32 [1,3] and
        probabilities [1] of dropout on the probabilities and on the output.
        """
        if self.rounds:
            query, key, value, output = self.round(query), self.round(key), self.round(value), self.round(output)
        out, _, _, _, _, _, _, _ = self.forward(
            x, query, key, value, output, query_bias, key_bias, value_bias, output_bias, gamma, beta, table,
            mask, probs_key, probs_p, output_key, output_p)
        return out

    def bprop(self, x: Tensor, query: Tensor, key: Tensor, value: Tensor, output: Tensor, query_bias: Tensor,
              key_bias: Tensor, value_bias: Tensor, output_bias: Tensor, gamma: Tensor, beta: Tensor, table: Tensor,
              mask: Tensor, probs_key: Tensor, probs_p: Tensor, output_key: Tensor, output_p: Tensor, out: Tensor,
              dout: Tensor) -> tuple[Tensor, ...]:
        """Return the gradients of x and the weights."""
        if self.rounds:
            query, key, value, output = self.round(query), self.round(key), self.round(value), self.round(output)
        _, probs, queries, keys, values, context, normal, inverse = self.forward(
            x, query, key, value, output, query_bias, key_bias, value_bias, output_bias, gamma, beta, table,
            mask, probs_key, probs_p, output_key, output_p)
        gradients = self.backward(
            dout, x, query, key, value, output, gamma, table, mask, probs_key, probs_p, output_key, output_p, probs,
            queries, keys, values, context, normal, inverse)
        dtable = gradients[11] if self.learns_table else ops.zeros_like(table)
        return (*gradients[:11], dtable, ops.zeros_like(mask), ops.zeros_like(probs_key), ops.zeros_like(probs_p),
                ops.zeros_like(output_key), ops.zeros_like(output_p))


class CrossEntropy(nn.Cell):
    """Negative log likelihood of each row's label."""

    def __init__(self):
        super().__init__()
        self.forward = operators.cross_entropy()
        self.backward = operators.cross_entropy_gradient()

    def construct(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Map scores [R,C] and labels int32 [R] to losses [R]."""
        losses, _ = self.forward(scores, labels)
        return losses

    def bprop(self, scores: Tensor, labels: Tensor, out: Tensor, dout: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradient of the scores, and zeros."""
        _, sums = self.forward(scores, labels)
        return self.backward(scores, labels, sums, dout), ops.zeros_like(labels)


class SharedTable(nn.Cell):
    """Look rows of a table up, and pass the table on to where it is used as well.

    So both gradients meet here, and that of the rows is added to the other one in place: only these rows are touched.
    There must be another one: where the table is not used as well, the compiler would put a constant in its place.
    """

    def __init__(self):
        super().__init__()
        self.gather = ops.Gather()
        self.add_rows = operators.add_rows()

    def construct(self, table: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Map a table [V,H] and ids [...] to vectors [...,H] and the table."""
        return self.gather(table, ids, 0), table

    def bprop(self, table: Tensor, ids: Tensor, out: tuple, dout: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Return the gradient of the table, and zeros."""
        drows, dtable = dout
        return ops.depend(dtable, self.add_rows(ids, drows, dtable)), ops.zeros_like(ids)


class UpdateAll(nn.Cell):
    """One update of all weights: Adam or LAMB, see `src.optimizer`."""

    def __init__(self, name: str, beta1: float, beta2: float, eps: float, bias_correction: bool,
                 decays: tuple[float, ...], rates: tuple[float, ...]):
        super().__init__(auto_prefix=False)
        self.update = operators.optimizer(name)
        self.constants = Tensor([beta1, beta2, eps, float(bias_correction)], ms.float32)
        self.one = Tensor(1.0, ms.float32)
        self.of_weights = Tensor(np.stack([decays, rates], axis=1).astype(np.float32))  # [n,2]

    def construct(self, learning_rate: Tensor, factor: Tensor | None, updates: Tensor, weights: tuple[Parameter, ...],
                  first_moments: tuple[Parameter, ...], second_moments: tuple[Parameter, ...],
                  gradients: tuple[Tensor, ...]) -> Tensor:
        """Apply an update after `updates` others, with the gradients times `factor`, None for 1."""
        factor = self.one if factor is None else factor
        return self.update(learning_rate, factor, self.constants, updates, self.of_weights, *weights, *first_moments,
                           *second_moments, *gradients)
