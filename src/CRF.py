"""Linear-chain conditional random field (Lafferty et al. 2001) over the tokens of a sequence.

The score of a tag sequence is the sum of the emissions of its tags and of the transitions between them, from <START>
and to <STOP>. Padding is outside the sequence: it enters neither the partition function nor the best path.

The partition function is a product of one matrix a step. `LogOfPathSum` computes it in few and large operations, whose
compilation does not grow with the sequence, from probabilities in float32. Where scores differ by so much that these
could become zero, `LogOfPathSumInSteps` takes its place, a step after another in logarithms.

Shapes at line ends: B batch, S sequence, K tags without <START> and <STOP>, T states, P blocks of L steps.
"""

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

IMPOSSIBLE = -10000.0  # score of transitions to <START> and from <STOP>, which no path takes
SHORTEST_BLOCK = 8  # steps L: most of the work is then products with the one transition matrix
ORDINARY_RANGE = 64.0  # of scores, whose probabilities `LogOfPathSum` takes: float32 ends at exp(-87)


class LogOfPathSum(nn.Cell):
    """Logarithm of the sum over all paths that end in the last state, of the product of what they meet.

    Blocks of steps are multiplied side by side, each to one matrix, and these in pairs. The gradient is made of the
    sums up to and from each step (Rabiner 1989), which need vectors only, again in all blocks side by side.

    Args:
        states: number of states T.
    """

    def __init__(self, states: int):
        super().__init__()
        self.last_state = Tensor(np.eye(states, dtype=np.float32)[states - 1:])  # [1,T]
        self.transposed_product = ops.MatMul(transpose_a=True)
        self.zeros_like = ops.ZerosLike()

    def construct(self, vector: Tensor, moves: Tensor, factors: Tensor, matrices: Tensor) -> Tensor:
        """Return the logarithms [B], less those of `multiply_blocks`.

        Args:
            vector: [B,T] of the states of the first token.
            moves: [T,T], from state to state.
            factors: [P,L,B,T] of the state that a step leads to.
            matrices: [P,B,T,T] that `multiply_blocks` makes of moves and factors; given, so that the gradient has them
                too, and no gradient passes through them.
        """
        logs = self.zeros_like(vector[:, 0])
        while matrices.shape[0] > 1:
            left, right = self.pairs(matrices)
            matrices, log = self.normalise(ops.bmm(left, right), (2, 3))
            logs = logs + log.sum((0, 2, 3))
        total = ops.bmm(vector.expand_dims(1), matrices[0])  # [B,1,T]
        return logs + ops.log(total[:, 0, -1])

    def multiply_blocks(self, moves: Tensor, factors: Tensor) -> tuple[Tensor, Tensor]:
        """Product of the steps of each block, [P,B,T,T], times exp of the logarithms [B]."""
        first, *others = ops.unstack(factors.expand_dims(3), 1)  # [P,B,1,T]
        product = moves * first  # [P,B,T,T]
        logs = self.zeros_like(factors[0, 0, :, 0])  # [B]
        for factor in others:
            scale = product.max((2, 3), keepdims=True)  # [P,B,1,1]
            logs = logs + ops.log(scale).sum((0, 2, 3))
            longer = ops.matmul(product.reshape((-1, product.shape[3])), moves).reshape(product.shape)
            product = longer * (factor / scale)
        return product, logs

    def pairs(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The even and the odd rows."""
        left, right = ops.unstack(rows.reshape((-1, 2, *rows.shape[1:])), 1)
        return left, right

    def alternate(self, even: Tensor, odd: Tensor) -> Tensor:
        """The rows of both by turns."""
        return ops.stack((even, odd), 1).reshape((-1, *even.shape[1:]))

    def normalise(self, x: Tensor, axes: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """x divided by its sum over the axes, and the logarithm of that."""
        total = x.sum(axes, keepdims=True)
        return x / total, ops.log(total)

    def bprop(self, vector: Tensor, moves: Tensor, factors: Tensor, matrices: Tensor, out: Tensor,
              dout: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the gradients of the arguments."""
        forward, after, from_first = self.around_blocks(vector, matrices)  # [P,B,T], [P,B,T], [B,T]
        vector_gradient = dout.expand_dims(1) * from_first / (vector * from_first).sum(1, keepdims=True)

        parts = ops.unstack(factors, 1)
        arrived, reached = (), ()  # sums up to the states before a step, and after it without its factor, [P,B,T]
        for part in parts:
            arrived += (forward,)
            moved = ops.matmul(forward, moves)
            reached += (moved,)
            forward, _ = self.normalise(moved * part, (2,))
        weight = dout.reshape((1, -1, 1))  # [1,B,1]
        gradients, leaving = (), ()
        for step in range(len(parts) - 1, -1, -1):
            both = parts[step] * after
            share = weight / (reached[step] * both).sum(2, keepdims=True)
            gradients = (reached[step] * after * share,) + gradients
            leaving = (both * share,) + leaving
            after, _ = self.normalise(ops.matmul(both, moves.T), (2,))
        states = moves.shape[0]
        moves_gradient = self.transposed_product(ops.stack(arrived).reshape((-1, states)),
                                                 ops.stack(leaving).reshape((-1, states)))
        return vector_gradient, moves_gradient, ops.stack(gradients, 1), self.zeros_like(matrices)

    def around_blocks(self, vector: Tensor, matrices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Sums up to a factor: to the beginning of each block and from its end [P,B,T], and from the first token [B,T].

        The products of pairs, pairs of pairs, … are gone through from the longest to the shortest: what comes before a
        pair comes before its first half, and with that half before the second.
        """
        levels = ()
        while matrices.shape[0] > 1:
            left, right = self.pairs(matrices)
            levels = ((left, right),) + levels
            matrices, _ = self.normalise(ops.bmm(left, right), (2, 3))
        before = vector.expand_dims(0)  # [1,B,T]
        after = self.zeros_like(before) + self.last_state
        from_first = ops.bmm(matrices, after.expand_dims(3)).squeeze(3)[0]
        for left, right in levels:
            longer, _ = self.normalise(ops.bmm(before.expand_dims(2), left).squeeze(2), (2,))
            before = self.alternate(before, longer)
            longer, _ = self.normalise(ops.bmm(right, after.expand_dims(3)).squeeze(3), (2,))
            after = self.alternate(longer, after)
        return before, after, from_first


class LogOfPathSumInSteps(nn.Cell):
    """Logarithm of the sum of exp(score) over all paths, a step after another, for any finite scores.

    That takes several times as long as `LogOfPathSum`. The gradient of a score is the probability of what it belongs
    to, likewise from logarithms.
    """

    def __init__(self):
        super().__init__()
        self.softmax = ops.Softmax(axis=-1)
        self.zeros_like = ops.ZerosLike()

    def construct(self, steps: Tensor, moves: Tensor, ends: Tensor, is_token: Tensor,
                  begin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the logarithms [B], and those of the sums up to the last tags [B,K] and up to every tag [S,B,K].

        The sums have the largest of their step taken out, as nothing else keeps their digits.

        Args:
            steps: scores [S,B,K] of the tag of each token.
            moves: scores [K,K] from tag to tag.
            ends: scores [B,K] of ending in a tag.
            is_token: 1 for a token, 0 for padding, [S,B,1]; no bool, whose rows Ascend and GPU need not gather.
            begin: the first step to take, int32 []: 1, or S for none where the result is not needed.
        """
        forward, sums, logs = steps[0], steps, self.zeros_like(steps[0, :, :1])
        step = begin
        while step < steps.shape[0]:
            _, _, reached = self.exp_and_log_of_sum(forward.expand_dims(2) + moves, 1)
            forward = ops.where(is_token[step] > 0, reached.squeeze(1) + steps[step], forward)
            largest = forward.max((1,), keepdims=True)
            forward, logs = forward - largest, logs + largest
            sums = put_row(sums, step, forward)
            step = step + 1
        _, _, total = self.exp_and_log_of_sum(forward + ends, 1)
        return (logs + total).squeeze(1), forward, sums

    def exp_and_log_of_sum(self, x: Tensor, axis: int) -> tuple[Tensor, Tensor, Tensor]:
        """exp(x) over its largest number along the axis; the sums of these; the logarithms of the sums of exp(x)."""
        largest = x.max((axis,), keepdims=True)
        parts = ops.exp(x - largest)
        total = parts.sum(axis, keepdims=True)
        return parts, total, largest + ops.log(total)

    def bprop(self, steps: Tensor, moves: Tensor, ends: Tensor, is_token: Tensor, begin: Tensor,
              out: tuple[Tensor, ...], dout: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return the gradients of the arguments."""
        _, forward, sums = out
        weight = dout[0].expand_dims(1)  # [B,1]
        ends_gradient = self.softmax(forward + ends) * weight
        after, gradients, moves_gradient = ends, self.zeros_like(steps), self.zeros_like(moves)
        step = steps.shape[0] - 1 + self.zeros_like(begin)
        while step >= begin:
            onward = (steps[step] + after).expand_dims(1) + moves  # [B,K,K]
            parts, part_sums, before = self.exp_and_log_of_sum(onward, 2)
            before = before.squeeze(2)
            share = self.softmax(sums[step - 1] + before) * weight * is_token[step]  # [B,K]
            pairs = parts * (share.expand_dims(2) / part_sums)  # [B,K,K]
            moves_gradient = moves_gradient + pairs.sum(0)
            gradients = put_row(gradients, step, pairs.sum(1))
            after = ops.where(is_token[step] > 0, before - before.max((1,), keepdims=True), after)
            step = step - 1
        gradients = put_row(gradients, self.zeros_like(begin), self.softmax(steps[0] + after) * weight)
        return gradients, moves_gradient, ends_gradient, self.zeros_like(is_token), self.zeros_like(begin)


def put_row(rows: Tensor, number: Tensor, row: Tensor) -> Tensor:
    """Replace rows[number]."""
    return ops.tensor_scatter_update(rows, number.reshape((1, 1)), row.expand_dims(0))


class CRF(nn.Cell):
    """The loss of tag sequences, and the best sequence.

    `transitions[to, from]` [K+2,K+2] is the layout of the published checkpoints; the last two states are <START> and
    <STOP>. Emissions have K+2 columns too, of which the last two are not used.

    Args:
        num_tags: K.
    """

    def __init__(self, num_tags: int):
        super().__init__()
        self.num_tags = num_tags
        self.start, self.stop = num_tags, num_tags + 1
        transitions = np.zeros((num_tags + 2, num_tags + 2), np.float32)
        transitions[self.start, :] = IMPOSSIBLE
        transitions[:, self.stop] = IMPOSSIBLE
        self.transitions = Parameter(Tensor(transitions), name="transitions")
        self.ended = Tensor(np.eye(num_tags + 1, dtype=np.float32)[num_tags:])  # [1,K+1]
        self.log_of_sum = LogOfPathSum(num_tags + 1)
        self.log_of_sum_in_steps = LogOfPathSumInSteps()

    def construct(self, emissions: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
        """Mean over the batch of the negative log likelihood of the labels.

        Args:
            emissions: float32 [B,S,K+2].
            labels: int32 [B,S], from 0 to K-1.
            mask: int32 [B,S], 1 for the tokens of a sequence, of which there is at least one, then 0.
        """
        mask = mask.astype(ms.float32)
        emissions = emissions[:, :, :self.num_tags]  # [B,S,K]
        path = self.path_scores(emissions, labels, mask)
        ordinary = ops.stop_gradient(self.are_ordinary(emissions, mask))
        # With zeros in the place of other scores, so that the gradient has no infinity to multiply by zero.
        kept = ordinary.astype(ms.float32)
        emitted, moved, ended = path
        losses = self.log_partition(emissions * kept, self.transitions * kept, mask) - (
            ((emitted + moved) * mask).sum(1) + ended)
        return ops.where(ordinary, losses, self.losses_in_steps(emissions, path, mask, ordinary)).mean()

    def path_scores(self, emissions: Tensor, labels: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scores of the labels: their emissions [B,S], the transitions to them [B,S] and to the end [B]."""
        emitted = ops.gather_elements(emissions, 2, labels.expand_dims(2)).squeeze(2)  # [B,S]
        before = ops.concat((ops.full_like(labels[:, :1], self.start), labels[:, :-1]), 1)  # [B,S]
        moved = ops.gather(self.transitions.reshape((-1,)), labels * (self.num_tags + 2) + before, 0)  # [B,S]
        last = (mask.sum(1, keepdims=True) - 1).astype(ms.int32)  # [B,1]
        ended = ops.gather(self.transitions[self.stop], ops.gather_elements(labels, 1, last), 0)  # [B,1]
        return emitted, moved, ended.squeeze(1)

    def are_ordinary(self, emissions: Tensor, mask: Tensor) -> Tensor:
        """Whether no probability that `log_partition` meets can become zero, bool []; mask is float32.

        In a block they are relative to the likeliest tags of its first and its last step: they differ by two
        transitions and one emission.
        """
        K = self.num_tags
        T = self.transitions
        moved, first, last = T[:K, :K], T[:K, self.start], T[self.stop, :K]
        widest = ops.stack((moved.max() - moved.min(), first.max() - first.min(), last.max() - last.min()))
        emitted = ((emissions.max((2,)) - emissions.min((2,))) * mask).max()
        return 2.0 * widest.max() + emitted <= ORDINARY_RANGE

    def losses_in_steps(self, emissions: Tensor, path: tuple[Tensor, Tensor, Tensor], mask: Tensor,
                        ordinary: Tensor) -> Tensor:
        """Negative log likelihoods [B] of any finite scores; nothing of use if they are ordinary.

        All scores are relative to that of the labels in the same step, so that a sum over many large scores does not
        hide small differences.
        """
        K = self.num_tags
        emitted, moved, ended = path
        steps = (emissions - emitted.expand_dims(2) - moved.expand_dims(2)).transpose(1, 0, 2)  # [S,B,K]
        entries = (self.transitions[:K, self.start] + ops.zeros_like(steps[0])).expand_dims(0)  # [1,B,K]
        steps = ops.concat((steps[:1] + entries, steps[1:]), 0) if steps.shape[0] > 1 else steps + entries
        ends = self.transitions[self.stop, :K] - ended.expand_dims(1)  # [B,K]
        begin = ops.where(ordinary, emissions.shape[1], 1).astype(ms.int32)
        is_token = mask.transpose(1, 0).expand_dims(2)  # [S,B,1]
        losses, _, _ = self.log_of_sum_in_steps(steps, self.transitions[:K, :K].T, ends, is_token, begin)
        return losses

    def log_partition(self, emissions: Tensor, transitions: Tensor, mask: Tensor) -> Tensor:
        """Logarithm [B] of the sum of exp(score) over all tag sequences.

        After its last token a sequence moves to a state of its own, "ended", and stays there: so every step of every
        sequence is a product with the same matrix. All numbers are probabilities times a factor whose logarithm is kept
        aside, so that nothing overflows.

        Args:
            emissions: [B,S,K].
            transitions: as those of the cell.
            mask: float32 [B,S].
        """
        K = self.num_tags
        moves, log_move = self._exp(transitions[:K, :K].T, (0, 1))  # [K,K] from, to
        first, log_first = self._exp(transitions[:K, self.start], (0,))  # [K]
        last, log_last = self._exp(transitions[self.stop, :K], (0,))  # [K]
        factors, log_factors = self._exp(emissions, (2,))  # [B,S,K], [B,S,1]

        vector = ops.concat((first * factors[:, 0], ops.zeros_like(mask[:, :1])), 1)  # [B,K+1]
        moves = ops.concat((ops.concat((moves, last.expand_dims(1)), 1), self.ended), 0)  # [K+1,K+1]
        logs = (log_factors.squeeze(2) * mask).sum(1) + log_move * (mask.sum(1) - 1) + log_first + log_last  # [B]
        blocks = self._in_blocks(factors, mask)
        matrices, block_logs = self.log_of_sum.multiply_blocks(ops.stop_gradient(moves), ops.stop_gradient(blocks))
        return logs + block_logs + self.log_of_sum(vector, moves, blocks, matrices)

    def _in_blocks(self, factors: Tensor, mask: Tensor) -> Tensor:
        """Factors [P,L,B,K+1] of all states in the steps after the first token, from those of the tags [B,S,K].

        At padding, and in at least one step that is added, all sequences end. P is a power of two; mask is float32.
        """
        batch, steps = factors.shape[0], factors.shape[1] - 1
        count = 1
        while 2 * count * SHORTEST_BLOCK <= steps + 1:
            count = 2 * count
        length = steps // count + 1
        blocks = ops.zeros((batch, count * length - steps, self.num_tags + 1), ms.float32) + self.ended  # added steps
        if steps > 0:  # the Slice kernel may refuse an empty slice
            is_token = mask[:, 1:].expand_dims(2)  # [B,S-1,1]
            factors = ops.concat((factors[:, 1:] * is_token, 1.0 - is_token), 2)  # [B,S-1,K+1]
            blocks = ops.concat((factors, blocks), 1)
        return blocks.transpose(1, 0, 2).reshape((count, length, batch, self.num_tags + 1))

    def _exp(self, scores: Tensor, axes: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """exp(scores - m) and m, the largest score along the axes.

        Their product does not depend on m, which is why no gradient has to pass through it.
        """
        largest = ops.stop_gradient(scores.max(axes, keepdims=len(axes) == 1 and scores.ndim > 1))
        return ops.exp(scores - largest), largest

    def decode(self, emissions: Tensor, mask: Tensor) -> Tensor:
        """The best tag sequences (Viterbi 1967), int32 [B,S], 0 at padding.

        Args:
            emissions: float32 [B,S,K+2].
            mask: int32 [B,S] as in `construct`.
        """
        K = self.num_tags
        length = emissions.shape[1]
        steps = emissions[:, :, :K].transpose(1, 0, 2)  # [S,B,K]
        is_token = mask.transpose(1, 0).expand_dims(2)  # [S,B,1]
        moves = self.transitions[:K, :K]  # [K,K] to, from
        scores = steps[0] + self.transitions[:K, self.start]  # [B,K]
        stay = ops.zeros_like(scores).astype(ms.int32) + ops.arange(K).astype(ms.int32)  # [B,K]
        pointers = ops.zeros_like(steps).astype(ms.int32)  # [S,B,K]: the best tag before
        step = ops.zeros((), ms.int32) + 1
        while step < length:
            candidates = scores.expand_dims(1) + moves  # [B,K,K]
            best, before = ops.max(candidates, axis=2)
            goes_on = is_token[step] > 0  # [B,1]
            scores = ops.where(goes_on, best + steps[step], scores)
            pointers = put_row(pointers, step, ops.where(goes_on, before.astype(ms.int32), stay))
            step = step + 1
        tags = (scores + self.transitions[self.stop, :K]).argmax(1).astype(ms.int32)  # [B]
        path = ops.zeros_like(mask).transpose(1, 0)  # [S,B]
        while step > 0:
            step = step - 1
            path = put_row(path, step, tags)
            tags = ops.gather_elements(pointers[step], 1, tags.expand_dims(1)).squeeze(1)
        return path.transpose(1, 0) * mask
