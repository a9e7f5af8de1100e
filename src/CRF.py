"""Linear-chain conditional random field (Lafferty et al. 2001) over the tokens of a sequence.

The score of a tag sequence is the sum of the emissions of its tags and of the transitions between them, from <START>
and to <STOP>. Padding is outside the sequence: it enters neither the partition function nor the best path.

The partition function is a product of one matrix a step. Products of blocks of steps and then of pairs of blocks need
few and large operations, and no loop whose compilation or run time would grow with every step.

Shapes at line ends: B batch, S sequence, K tags without <START> and <STOP>, P blocks of L steps.
"""

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

IMPOSSIBLE = -10000.0  # score of transitions to <START> and from <STOP>, which no path takes
BLOCK = 8  # L: seven eighths of the work are then products with the one transition matrix


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

    def construct(self, emissions: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
        """Mean over the batch of the negative log likelihood of the labels.

        Args:
            emissions: float32 [B,S,K+2].
            labels: int32 [B,S], from 0 to K-1.
            mask: int32 [B,S], 1 for the tokens of a sequence, of which there is at least one, then 0.
        """
        mask = mask.astype(ms.float32)
        return (self.log_partition(emissions, mask) - self.path_score(emissions, labels, mask)).mean()

    def path_score(self, emissions: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
        """Scores [B] of the labels; mask is float32."""
        emitted = ops.gather_elements(emissions, 2, labels.expand_dims(2)).squeeze(2)  # [B,S]
        before = ops.concat((ops.full_like(labels[:, :1], self.start), labels[:, :-1]), 1)  # [B,S]
        moved = ops.gather(self.transitions.reshape((-1,)), labels * (self.num_tags + 2) + before, 0)  # [B,S]
        last = (mask.sum(1, keepdims=True) - 1).astype(ms.int32)  # [B,1]
        ended = ops.gather(self.transitions[self.stop], ops.gather_elements(labels, 1, last), 0)  # [B,1]
        return ((emitted + moved) * mask).sum(1) + ended.squeeze(1)

    def log_partition(self, emissions: Tensor, mask: Tensor) -> Tensor:
        """Logarithm [B] of the sum of exp(score) over all tag sequences; mask is float32.

        After its last token a sequence moves to a state of its own, "ended", and stays there: so every step of every
        sequence is a product with the same matrix. All numbers are probabilities times a factor whose logarithm is kept
        aside, so that nothing overflows.
        """
        K = self.num_tags
        moves, log_move = self._exp(self.transitions[:K, :K].T, (0, 1))  # [K,K] from, to
        first, log_first = self._exp(self.transitions[:K, self.start], (0,))  # [K]
        last, log_last = self._exp(self.transitions[self.stop, :K], (0,))  # [K]
        factors, log_factors = self._exp(emissions[:, :, :K], (2,))  # [B,S,K], [B,S,1]

        vector = ops.concat((first * factors[:, 0], ops.zeros_like(mask[:, :1])), 1).expand_dims(1)  # [B,1,K+1]
        moves = ops.concat((ops.concat((moves, last.expand_dims(1)), 1), self.ended), 0)  # [K+1,K+1]
        is_token = mask[:, 1:].expand_dims(2)  # [B,S-1,1]
        factors = ops.concat((factors[:, 1:] * is_token, 1.0 - is_token), 2)  # [B,S-1,K+1]
        logs = (log_factors.squeeze(2) * mask).sum(1) + log_move * (mask.sum(1) - 1) + log_first + log_last  # [B]
        matrices, block_logs = self._blocks(moves, factors)  # [B,P,K+1,K+1]
        vector, tree_logs = self._chain(vector, matrices)
        return logs + block_logs + tree_logs + ops.log(vector[:, 0, K])

    def _exp(self, scores: Tensor, axes: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """exp(scores - m) and m, the largest score along the axes.

        Their product does not depend on m, which is why no gradient has to pass through it.
        """
        largest = ops.stop_gradient(scores.max(axes, keepdims=len(axes) == 1 and scores.ndim > 1))
        return ops.exp(scores - largest), largest

    def _blocks(self, moves: Tensor, factors: Tensor) -> tuple[Tensor, Tensor]:
        """Product of the steps of each block, [B,P,K+1,K+1], times exp of the logarithms [B].

        Args:
            moves: [K+1,K+1], from state to state.
            factors: [B,steps,K+1] of the state that a step leads to; steps in which all end are added.
        """
        batch, steps, states = factors.shape
        added = BLOCK - steps % BLOCK  # at least one
        ends = ops.tile(self.ended.reshape((1, 1, states)), (batch, added, 1))
        factors = ops.concat((factors, ends), 1).reshape((batch, -1, BLOCK, 1, states))
        # One unstack has one gradient, where slices would have one of full size each.
        factors = ops.unstack(factors, 2)  # L times [B,P,1,K+1]
        product = moves * factors[0]  # [B,P,K+1,K+1]
        logs = ops.zeros((batch,), ms.float32)
        for step in range(1, BLOCK):
            scale = self._largest(product)  # [B,P,1,1]
            logs = logs + ops.log(scale).sum((1, 2, 3))
            longer = ops.matmul(product.reshape((-1, states)), moves).reshape(product.shape)
            product = longer * (factors[step] / scale)
        return product, logs

    def _chain(self, vector: Tensor, matrices: Tensor) -> tuple[Tensor, Tensor]:
        """vector [B,1,K+1] times all matrices [B,P,K+1,K+1], divided by exp of the logarithms [B]."""
        logs = ops.zeros((vector.shape[0],), ms.float32)
        count = matrices.shape[1]
        while count > 0:
            scale = self._largest(matrices)  # [B,P,1,1]
            logs = logs + ops.log(scale).sum((1, 2, 3))
            matrices = matrices / scale
            if count % 2:
                vector = ops.bmm(vector, matrices[:, 0])
                scale = self._largest(vector)  # [B,1,1]
                logs = logs + ops.log(scale).sum((1, 2))
                vector = vector / scale
                matrices = matrices[:, 1:]
            count = count // 2
            if count:
                pairs = matrices.reshape((-1, count, 2, *matrices.shape[2:]))
                left, right = ops.unstack(pairs, 2)
                matrices = ops.bmm(left, right)
        return vector, logs

    def _largest(self, x: Tensor) -> Tensor:
        """Largest number of each matrix [...,1,1]; a scale, which no gradient has to pass through."""
        return ops.stop_gradient(x.max((-2, -1), keepdims=True))

    def decode(self, emissions: Tensor, mask: Tensor) -> Tensor:
        """The best tag sequences (Viterbi 1967), int32 [B,S], 0 at padding.

        Args:
            emissions: float32 [B,S,K+2].
            mask: int32 [B,S] as in `construct`.
        """
        K = self.num_tags
        length = emissions.shape[1]
        steps = emissions[:, :, :K].transpose(1, 0, 2)  # [S,B,K]
        is_token = mask.transpose(1, 0).expand_dims(2) > 0  # [S,B,1]
        moves = self.transitions[:K, :K]  # [K,K] to, from
        scores = steps[0] + self.transitions[:K, self.start]  # [B,K]
        stay = ops.zeros_like(scores).astype(ms.int32) + ops.arange(K).astype(ms.int32)  # [B,K]
        pointers = ops.zeros_like(steps).astype(ms.int32)  # [S,B,K]: the best tag before
        step = ops.zeros((), ms.int32) + 1
        while step < length:
            candidates = scores.expand_dims(1) + moves  # [B,K,K]
            best, before = ops.max(candidates, axis=2)
            scores = ops.where(is_token[step], best + steps[step], scores)
            pointers = self._put(pointers, step, ops.where(is_token[step], before.astype(ms.int32), stay))
            step = step + 1
        tags = (scores + self.transitions[self.stop, :K]).argmax(1).astype(ms.int32)  # [B]
        path = ops.zeros_like(mask).transpose(1, 0)  # [S,B]
        while step > 0:
            step = step - 1
            path = self._put(path, step, tags)
            tags = ops.gather_elements(pointers[step], 1, tags.expand_dims(1)).squeeze(1)
        return path.transpose(1, 0) * mask

    def _put(self, rows: Tensor, number: Tensor, row: Tensor) -> Tensor:
        """The rows with one of them replaced."""
        return ops.tensor_scatter_update(rows, number.reshape((1, 1)), row.expand_dims(0))
