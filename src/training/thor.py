"""THOR: a second-order optimizer for BERT, of plain operators, so that it runs on every back end.

The natural gradient of a dense layer y = W x + b is approximated by Kronecker factors (K-FAC, Martens and Grosse
2015): with A = E[x x^T] over the layer's inputs and G = E[dy dy^T] over the gradients to its outputs, the step for W
is G^-1 dW A^-1. THOR (Chen et al. 2021) makes that payable: A and G are refreshed every `frequency` steps only, and cut
into blocks along their diagonals before they are inverted.
"""

from collections.abc import Sequence
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops

from src.errors import UserError
from src.layers import Dense
from src.training.optimizer import NOT_DECAYED, Optimizer, WarmUpPolynomialDecay, scaled

SMALLEST = 1e-30  # keeps a quotient defined where a layer is still


def block_width(width: int, limit: int) -> int:
    """Return the largest divisor of `width` that is not above `limit`."""
    return max(size for size in range(1, min(width, limit) + 1) if width % size == 0)


class ColumnProducts(nn.Cell):
    """Inner products of the columns of rows [R,C] within blocks of b neighbouring columns: [C/b,b,b], float32."""

    def __init__(self, block: int):
        super().__init__()
        self.block = block
        self.product = ops.BatchMatMul(transpose_a=True)

    def construct(self, rows: Tensor) -> Tensor:
        """Return the diagonal blocks of rows^T rows."""
        blocks = rows.astype(ms.float32).reshape((rows.shape[0], -1, self.block)).transpose(1, 0, 2)  # [C/b,R,b]
        return self.product(blocks, blocks)


class ObservedProduct(nn.Cell):
    """x W^T with two further inputs that have no effect; as the gradients to these it returns the factors A and G.

    So statistics are had by differentiating with respect to those inputs, on any back end and without side effects.
    Where only the gradient to the weights is asked for, the compiler drops them.
    """

    def __init__(self, in_block: int, out_block: int):
        super().__init__()
        self.product = ops.MatMul(transpose_b=True)
        self.to_rows = ops.MatMul()
        self.to_weight = ops.MatMul(transpose_a=True)
        self.of_inputs = ColumnProducts(in_block)
        self.of_gradients = ColumnProducts(out_block)

    def construct(self, rows: Tensor, weight: Tensor, a: Tensor, g: Tensor) -> Tensor:
        """Map rows [R,I] and weight [O,I] to [R,O]."""
        return self.product(rows, weight)

    def bprop(self, rows: Tensor, weight: Tensor, a: Tensor, g: Tensor, out: Tensor,
              dout: Tensor) -> tuple[Tensor, ...]:
        """Return the gradients of rows and weight, and in place of those of a and g the statistics.

        The loss is a mean over rows, so a row's own gradient is R times its row of dout.
        """
        count = rows.shape[0]
        return (self.to_rows(dout, weight), self.to_weight(dout, rows), self.of_inputs(rows) / count,
                self.of_gradients(dout) * count)


class ObservedMatMul(nn.Cell):
    """The product of one dense layer, with the two parameters whose gradients are its statistics.

    These stay zero but while statistics are being summed, and are neither listed among the network's parameters nor
    saved.
    """

    def __init__(self, dense: Dense, block_size: int):
        super().__init__()
        in_block, out_block = block_width(dense.in_channels, block_size), block_width(dense.out_channels, block_size)
        self.product = ObservedProduct(in_block, out_block)
        a = np.zeros((dense.in_channels // in_block, in_block, in_block), np.float32)
        g = np.zeros((dense.out_channels // out_block, out_block, out_block), np.float32)
        # Past Cell.__setattr__, which would list them.
        object.__setattr__(self, "a", Parameter(Tensor(a), name=f"thor_a.{dense.weight.name}", requires_grad=False))
        object.__setattr__(self, "g", Parameter(Tensor(g), name=f"thor_g.{dense.weight.name}", requires_grad=False))

    def construct(self, rows: Tensor, weight: Tensor) -> Tensor:
        """Map rows [R,I] and weight [O,I] to [R,O]."""
        return self.product(rows, weight, self.a, self.g)


def observe(network: nn.Cell, block_size: int) -> list[Dense]:
    """Let every dense layer of `network` give its statistics; return these layers."""
    cells = list(network.cells_and_names())
    for name, cell in cells:
        # lazy_inline compiles cells with equal cell_init_args once, and exchanges only listed parameters. Each layer
        # has statistics of its own, so its name makes it differ.
        if hasattr(cell, "cell_init_args"):
            cell.cell_init_args = f"{cell.cell_init_args} {name}"
        if hasattr(cell, "uses_kernel"):  # a fused operator would pass by the dense layers in it
            cell.uses_kernel = False
    layers = [cell for _, cell in cells if isinstance(cell, Dense)]
    for layer in layers:
        layer.matmul = ObservedMatMul(layer, block_size)
    return layers


class InverseOfBlocks(nn.Cell):
    """Inverses of symmetric positive matrices by Newton's iteration, which needs products only.

    Z becomes Z (3 I - Z Y) / 2 and Y likewise, from Z = I and Y = M: they tend to M^-1/2 and M^1/2 (Higham 2008,
    section 6.3), and Z Z^T is the inverse. So it is symmetric and has no negative eigenvalue; and the roots have the
    root of the condition number only, where float32 ends at 10^6: what the iteration for M^-1 itself (Schulz 1933)
    returned was not positive from 10^5 on.

    The singular values of Z Y^T double or more per iteration until they are near 1, then their error squares. Y and Z
    are scaled so that the smallest and the largest come out equal, which makes it fewer. 12 iterations are enough for
    condition numbers up to 10^6. What is far above is brought down by adding to the diagonal.
    """

    ITERATIONS = 12
    LEAST = 1e-7  # eigenvalue, as a part of the bound of the largest, which is up to ten times too high

    def __init__(self):
        super().__init__()
        self.product = ops.BatchMatMul()
        self.transposed_product = ops.BatchMatMul(transpose_b=True)

    def construct(self, matrices: Tensor, least: Tensor) -> Tensor:
        """Return the inverses of matrices [K,b,b] whose eigenvalues are at least `least`, a positive number."""
        width = matrices.shape[-1]
        eye = ops.eye(width, width, ms.float32)
        bound = ops.abs(matrices).sum(axis=-1).max(axis=-1).reshape((-1, 1, 1))  # of the eigenvalues, [K,1,1]
        lift = ops.relu(self.LEAST - least / bound)
        y = matrices / bound + lift * eye
        z = ops.zeros_like(matrices) + eye
        smallest = ops.sqrt(least / bound + lift)  # singular value, the largest being 1
        count = ops.zeros((), ms.int32)
        while count < self.ITERATIONS:
            # x (3 - x^2) / 2 is the same for both. At most 2.94: 3 would turn the largest to zero, more to below it.
            square = ops.minimum(3.0 / (1.0 + smallest + smallest * smallest), 2.94)
            root = ops.sqrt(square)
            step = 0.5 * root * (3.0 * eye - square * self.product(z, y))
            y, z = self.product(y, step), self.product(step, z)
            smallest = 0.5 * root * smallest * (3.0 - square * smallest * smallest)
            count = count + 1
        return self.transposed_product(z, z) / bound


class Thor(Optimizer):
    """Natural gradient by Kronecker factors for the weights of dense layers, Adam for all other weights.

    With the schedule's learning rate lr and damping d, for the weight W of a dense layer and its gradient g:

        every `frequency` updates, of the batch at hand:  A = A / mean eigenvalue of A;  G likewise
                                                          P = (A + sqrt(d) I)^-1;  Q = (G + sqrt(d) I)^-1
        at every update:  m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g^2
                          r = m^ / (sqrt(v^) + eps), Adam's direction with the usual corrections m^, v^
                          u = Q m P;  W = W - lr (|r| / |u| u + weight_decay W)

    `momentum` is beta1. Biases, layer norms and embeddings take the direction r; so does the word table, one of whose
    factors would be as wide as the vocabulary, although it is also the decoder of the masked-LM head.

    Where this is not the original and why:
    - The length of a layer's step is Adam's (grafting, Agarwal et al. 2020). The natural gradient's own length depends
      on the damping, on how far the factors have aged and on the batch, and differs by orders of magnitude between the
      layers of one network; no learning rate would suit all of them and the other weights too. So the learning rate is
      one for Adam, and the original's 6.464e-3 has no meaning here.
    - As only the direction counts, the factors are scaled to a mean eigenvalue of 1. `damping` is thus relative to the
      curvature of each layer, and split between A and G as by Martens and Grosse, with their pi from the traces. The
      loss scale, the batch size and the number of masked positions have no influence. The original's damping,
      7.035e-3 to 1e-6, is added to A and to G as they are.
    - Momentum is taken of the gradient, before the factors, so that it does not mix old factors with new ones.

    Raises:
        UserError: `frequency` or `block_size` is below 1, or the damping is not positive.
    """

    def __init__(self, network: nn.Cell, learning_rate: WarmUpPolynomialDecay, damping: WarmUpPolynomialDecay,
                 weight_decay: float = 0.0, momentum: float = 0.9, beta2: float = 0.999, eps: float = 1e-6,
                 frequency: int = 100, block_size: int = 128, decay_filter: Sequence[str] = NOT_DECAYED):
        _check(frequency, block_size, damping)
        weights = network.trainable_params()
        layers = observe(network, block_size)
        dense = {layer.weight.name: layer for layer in layers}
        # Dense weights first: parts of a tuple cost no operators.
        weights.sort(key=lambda weight: weight.name not in dense)
        super().__init__(weights, learning_rate, weight_decay, decay_filter=decay_filter)
        self.num_dense = sum(weight.name in dense for weight in weights)
        self.damping = damping
        self.beta1, self.beta2, self.eps = momentum, beta2, eps
        self.frequency = frequency
        self.first_moments = self.parameters.clone("thor_m", init="zeros")
        self.second_moments = self.parameters.clone("thor_v", init="zeros")
        self.shrink = ops.ApplyGradientDescent()
        self.adam = ops.Adam()
        self.product = ops.BatchMatMul()

        statistics = [statistic for layer in layers for statistic in (layer.matmul.a, layer.matmul.g)]
        statistics.sort(key=lambda statistic: statistic.shape[-1])  # those of one width are inverted together
        self.statistics = ParameterTuple(statistics)
        self.inverses = ParameterTuple([_identity(statistic) for statistic in statistics])
        of_name = {inverse.name: inverse for inverse in self.inverses}
        names = [weight.name for weight in self.parameters[:self.num_dense]]
        self.in_inverses = ParameterTuple([of_name[f"thor_inverse_a.{name}"] for name in names])
        self.out_inverses = ParameterTuple([of_name[f"thor_inverse_g.{name}"] for name in names])
        self.groups = _groups_of_width([statistic.shape for statistic in statistics])
        self.concat = ops.Concat(0)
        self.invert = InverseOfBlocks()

    def state(self) -> dict[str, Parameter]:
        """Return what a resumed run needs besides the weights, by name."""
        passing = {statistic.name for statistic in self.statistics}
        return {name: value for name, value in super().state().items() if name not in passing}

    def is_due(self) -> Tensor:
        """Return whether the next update wants `refresh` before it, bool []."""
        return self.global_step % self.frequency == 0

    def refresh(self, statistics: tuple[Tensor, ...]) -> Tensor:
        """Invert the factors of a batch, any multiples of them, unless one is not finite; return whether it was done.

        Without a value, MindSpore 2.10 would run Python for the None of either branch, in the midst of the graph.
        """
        means = self.hyper_map(_mean_eigenvalue, statistics)
        is_finite = ops.isfinite(ops.addn(means))
        if is_finite:
            root = ops.sqrt(self.damping(self.global_step))
            damped = self.hyper_map(ops.partial(_damp, root), statistics, means)
            for start, stop, firsts, counts in self.groups:
                inverses = self.invert(self.concat(damped[start:stop]), root)
                self.hyper_map(ops.partial(_store, inverses), self.inverses[start:stop], firsts, counts)
        return is_finite

    def construct(self, gradients: tuple[Tensor, ...], factor: Tensor | None = None) -> Tensor:
        """Apply one update; return the number of updates made, int32 []."""
        learning_rate = self.learning_rate(self.global_step)
        update = self.global_step.astype(ms.float32) + 1.0
        powers = ops.pow(self.beta1, update), ops.pow(self.beta2, update)
        of_all = (self.parameters, self.first_moments, self.second_moments, self.decays, gradients)
        dense, others = (), ()
        for values in of_all:
            dense += (values[:self.num_dense],)
            others += (values[self.num_dense:],)
        self.hyper_map(ops.partial(self.update_dense, factor, learning_rate, powers), *dense, self.in_inverses,
                       self.out_inverses)
        self.hyper_map(ops.partial(self.update_other, factor, learning_rate, powers), *others)
        return ops.assign_add(self.global_step, 1)

    def update_dense(self, factor: Tensor | None, learning_rate: Tensor, powers: tuple[Tensor, Tensor],
                     weight: Parameter, m: Parameter, v: Parameter, decay: float, gradient: Tensor, p: Parameter,
                     q: Parameter) -> bool:
        """Update the weight of a dense layer, its moments given its inverted factors."""
        gradient = scaled(gradient, factor)
        new_m = self.beta1 * m + (1.0 - self.beta1) * gradient
        new_v = self.beta2 * v + (1.0 - self.beta2) * gradient * gradient
        adam = new_m / (1.0 - powers[0]) / (ops.sqrt(new_v / (1.0 - powers[1])) + self.eps)
        natural = self.precondition(new_m, p, q)
        length = ops.sqrt(self.squared_norm(adam)) / ops.maximum(ops.sqrt(self.squared_norm(natural)), SMALLEST)
        ops.assign(m, new_m)
        ops.assign(v, new_v)
        if decay > 0.0:
            self.shrink(weight, learning_rate * decay, weight)
        ops.assign_sub(weight, learning_rate * length * natural)
        return True

    def precondition(self, gradient: Tensor, p: Tensor, q: Tensor) -> Tensor:
        """Return q gradient p for a gradient [O,I] and block-diagonal p [I/b,b,b] and q [O/c,c,c]."""
        shape = gradient.shape
        rows = self.product(q, gradient.reshape((q.shape[0], q.shape[1], -1)))  # [O/c,c,I]
        columns = rows.reshape((shape[0], p.shape[0], -1)).transpose(1, 0, 2)  # [I/b,O,b]
        return self.product(columns, p).transpose(1, 0, 2).reshape(shape)

    def update_other(self, factor: Tensor | None, learning_rate: Tensor, powers: tuple[Tensor, Tensor],
                     weight: Parameter, m: Parameter, v: Parameter, decay: float, gradient: Tensor) -> bool:
        """Update any other weight and its moments."""
        if decay > 0.0:
            self.shrink(weight, learning_rate * decay, weight)
        # The kernel adds eps to sqrt(v), Adam to the corrected sqrt(v^).
        eps = self.eps * ops.sqrt(1.0 - powers[1])
        self.adam(weight, m, v, powers[0], powers[1], learning_rate, self.beta1, self.beta2, eps,
                  scaled(gradient, factor))
        return True


def _check(frequency: int, block_size: int, damping: WarmUpPolynomialDecay) -> None:
    for option, value in (("frequency", frequency), ("block_size", block_size)):
        if value < 1:
            raise UserError(f"Thor.{option}: found {value}, expected at least 1")
    for option, value in (("damping", damping.learning_rate), ("end_damping", damping.end_learning_rate)):
        if value <= 0.0:
            raise UserError(f"Thor.{option}: found {value:g}, expected more than 0; damping keeps factors invertible")


def _identity(statistic: Parameter) -> Parameter:
    """The inverse factor before the first refresh: no preconditioning."""
    count, width, _ = statistic.shape
    value = np.broadcast_to(np.eye(width, dtype=np.float32), (count, width, width)).copy()
    return Parameter(Tensor(value), name=statistic.name.replace("thor_", "thor_inverse_", 1), requires_grad=False)


def _groups_of_width(shapes: list[tuple[int, ...]]) -> tuple[tuple[Any, ...], ...]:
    """For each width in the ascending `shapes` [n,b,b]: start and stop there, and the first block and count of each."""
    groups = []
    for width in sorted({shape[-1] for shape in shapes}):
        members = [number for number, shape in enumerate(shapes) if shape[-1] == width]
        counts = [shapes[number][0] for number in members]
        firsts = np.cumsum([0, *counts[:-1]]).tolist()
        groups.append((members[0], members[-1] + 1, tuple(firsts), tuple(counts)))
    return tuple(groups)


def _mean_eigenvalue(statistic: Tensor) -> Tensor:
    count, width, _ = statistic.shape
    return (statistic * ops.eye(width, width, ms.float32)).sum() / (count * width)


def _damp(root: Tensor, statistic: Tensor, mean: Tensor) -> Tensor:
    width = statistic.shape[-1]
    return statistic / ops.maximum(mean, SMALLEST) + root * ops.eye(width, width, ms.float32)


def _store(inverses: Tensor, inverse: Parameter, first: int, count: int) -> bool:
    ops.assign(inverse, inverses[first:first + count])
    return True
