"""Dropout whose masks a resumed run repeats."""

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from src.device_forms import device_forms

PIECES = 1 << 16
PIECE_LENGTH = 32
LAYER_TWIST = 0x1E3779B1  # any large odd number


class Dropout(nn.Cell):
    """Zero a fraction p of the elements and scale the others by 1/(1-p) while training; nothing in evaluation.

    Training needs a `DropoutMasks` over the network, which the training step makes. Cells in layers whose graph the
    compiler shares have different masks by the number of the layer only.
    """

    def __init__(self, p: float):
        super().__init__()
        self.p = p
        self.connected = False
        self.rate = Tensor([p], ms.float32)
        self.no_rate = Tensor([0.0], ms.float32)
        self.no_key = Tensor(np.zeros((1, 3), np.int32))
        drop = device_forms().drop
        self.uses_kernel = drop is not None
        if drop is not None:
            self.drop = drop(p)
        self.slice = ops.StridedSlice()
        self.bitwise_and = ops.BitwiseAnd()
        self.gather = ops.Gather()
        self.reshape = ops.Reshape()

    def connect(self, pieces: Parameter, keys: Parameter, row: int, twist: int, walk: Tensor, limit: Tensor) -> None:
        """Take masks from `pieces`, in the order that row `row` of `keys`, raised by the even `twist`, gives.

        `walk` [1,PIECES] counts from 0, `limit` [1,PIECES] holds the largest number of a piece.
        """
        # Past Cell.__setattr__, which would list them among the network's own parameters.
        object.__setattr__(self, "pieces", pieces)
        object.__setattr__(self, "keys", keys)
        object.__setattr__(self, "walk", walk)
        object.__setattr__(self, "limit", limit)
        self.row = row
        self.twist = twist
        self.connected = True

    def construct(self, x: Tensor, number: Tensor | None = None) -> Tensor:
        """Return x with elements dropped, of the same shape; `number` is that of the layer, int32 [1,1]."""
        if not self.training or self.p == 0.0:
            return x
        self.require_masks()
        if self.uses_kernel:
            return self.drop(x, self.drawn_key(number))
        # Differentiating the choice of the mask as well would add 3 s to the 17 s that BERT-base took to compile.
        return x * ops.stop_gradient(self.mask(x.shape, x.dtype, number))

    def mask(self, shape: tuple[int, ...], dtype: ms.Type, number: Tensor | None = None) -> Tensor:
        """Return random zeros and 1/(1-p)."""
        size = 1
        for length in shape:
            size *= length
        count = -(-size // PIECE_LENGTH)
        rounds = -(-count // PIECES)
        twist = self.twist_of(number)
        start, stride, jump = self.key(0) + twist, self.key(1) + twist, self.key(2) + twist  # [1,1]
        order = start + stride * self.part(self.walk, min(count, PIECES))  # [1,count]
        if rounds > 1:  # the walk has come round: go on at another piece
            starts = self.reshape(jump * self.part(self.walk, rounds), (rounds, 1))
            order = self.part(self.reshape(starts + order, (1, -1)), count)
        # With a limit for each: broadcasting one takes 20 times as long on CPU.
        limit = self.part(self.limit, count) if rounds == 1 else ops.full_like(order, PIECES - 1)
        pieces = self.pieces.astype(dtype)  # the mask itself is several times as large
        mask = self.gather(pieces, self.bitwise_and(order, limit), 0)  # [1,count,PIECE_LENGTH]
        if size % PIECE_LENGTH:
            mask = self.part(self.reshape(mask, (1, -1)), size)
        return self.reshape(mask, shape)

    def key_and_rate(self, number: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return what an operator needs that draws a mask by itself: a key int32 [1,3], and the fraction to drop [1].

        The key is another one in each call, cell and layer; the fraction is 0 when nothing is dropped.
        """
        if not self.training or self.p == 0.0:
            return self.no_key, self.no_rate
        self.require_masks()
        return self.drawn_key(number), self.rate

    def drawn_key(self, number: Tensor | None = None) -> Tensor:
        """Return what a mask may be drawn from, int32 [1,3]: another key in each call, cell and layer."""
        return self.slice(self.keys, (self.row, 0), (self.row + 1, 3), (1, 1)) + self.twist_of(number)

    def twist_of(self, number: Tensor | None) -> int | Tensor:
        """Return what keeps the keys of ranks and layers apart, an even number."""
        return self.twist if number is None else self.twist + 2 * LAYER_TWIST * number

    def require_masks(self) -> None:
        """Raise an error unless `connect` was called."""
        if not self.connected:
            raise RuntimeError("Dropout has no masks: train through TrainStep, or make DropoutMasks(network, seed)")

    def key(self, column: int) -> Tensor:
        """Return one of this cell's keys, int32 [1,1]."""
        return self.slice(self.keys, (self.row, column), (self.row + 1, column + 1), (1, 1))

    def part(self, row: Tensor, count: int) -> Tensor:
        """Return the first `count` elements of row [1,C]."""
        return row if row.shape[1] == count else self.slice(row, (0, 0), (1, count), (1, 1))


class DropoutMasks(nn.Cell):
    """The masks of all `Dropout` cells of a network, a function of the seed, the call's number, the cell and the rank.

    So a resumed run drops what the interrupted one would have dropped; the state of MindSpore's own `ops.Dropout` is
    hidden in its kernel. A mask is put together from 65,536 pieces of 32 random numbers (`draw_pieces`), which are
    drawn once: cell and call choose a start and an odd stride, and the walk over the pieces does not repeat for two
    million elements. On CPU, forward and backward, that takes a third of the time of `ops.Dropout`. Ascend's kernels,
    which draw a mask from a given key, take the cell's start and stride for it. What is saved, `keys`, is the same for
    all ranks and devices.
    """

    def __init__(self, network: nn.Cell, seed: int, rank: int = 0):
        super().__init__(auto_prefix=False)
        cells = [cell for _, cell in network.cells_and_names() if isinstance(cell, Dropout) and cell.p > 0.0]
        pools = {p: Parameter(Tensor(draw_pieces(p)), name=f"dropout_pieces_{p}", requires_grad=False)
                 for p in sorted({cell.p for cell in cells})}
        # Start, stride and jump of each cell, in the first call and, by `construct`, in later ones.
        first = np.random.Generator(np.random.SFC64(seed)).integers(1 << 31, size=(max(len(cells), 1), 3)) | 1
        self.keys = Parameter(Tensor(first.astype(np.int32)), name="dropout_keys", requires_grad=False)
        # Any distinct numbers do: `construct` mixes them.
        salts = np.arange(self.keys.size, dtype=np.uint64) * 0x9E3779B1 + seed * 0xC2B2AE35
        self.salts = Tensor(salts.astype(np.uint32).view(np.int32))
        twist = rank * 0x632BE5AA % (1 << 31)
        walk = Parameter(Tensor(np.arange(PIECES, dtype=np.int32)[None]), name="dropout_walk", requires_grad=False)
        limit = Parameter(Tensor(np.full((1, PIECES), PIECES - 1, np.int32)), name="dropout_limit", requires_grad=False)
        for row, cell in enumerate(cells):
            cell.connect(pools[cell.p], self.keys, row, twist, walk, limit)

    def construct(self, number: Tensor) -> Tensor:
        """Choose the masks of call `number`, int32 [], counted from 1; call 0 has those of the beginning."""
        x = self.salts + number * -2048144789
        # Two rounds of a multiplicative hash: every bit of `number` and of the salt changes half of the result's bits.
        x = ops.bitwise_xor(x, ops.bitwise_right_shift(x, 16)) * 569420461
        x = ops.bitwise_xor(x, ops.bitwise_right_shift(x, 15)) * 1935289751
        x = ops.bitwise_xor(x, ops.bitwise_right_shift(x, 15)).reshape(self.keys.shape)
        return ops.assign(self.keys, ops.bitwise_or(x, 1))


def draw_pieces(p: float) -> np.ndarray:
    """Draw the pieces of masks, float32 [PIECES,PIECE_LENGTH]: zeros with probability p, and 1/(1-p).

    A feature of a layer always meets the same column, and only the even pieces or only the odd ones, as start and
    stride are odd. So each column of each half has the same number of zeros, and every feature is dropped at the rate
    p; with independent numbers it would keep a rate of its own for the whole training, 0.0965 to 0.1048 for p = 0.1.
    """
    random = np.random.Generator(np.random.SFC64(0)).random((PIECES // 2, 2, PIECE_LENGTH), np.float32)
    zeros = round(p * len(random))
    smallest_kept = np.partition(random, zeros, axis=0)[zeros]  # [2,PIECE_LENGTH]
    kept = (random >= smallest_kept).astype(np.float32)
    return (kept / np.float32(1.0 - p)).reshape(PIECES, PIECE_LENGTH)
