"""The one training step: forward, backward, accumulate, reduce, check, clip, update, in a single compiled graph."""

from dataclasses import dataclass

import mindspore as ms
from mindspore import Parameter, Tensor, nn, ops

from src.dropout import DropoutMasks
from src.errors import UserError
from src.training.optimizer import Optimizer, SquaredNorm
from src.training.overflow import OverflowCheck


@dataclass(frozen=True)
class LossScale:
    """Dynamic loss scaling (Micikevicius et al. 2018).

    The loss is multiplied by the scale before the backward pass, so that small gradients survive float16. The scale is
    divided by `factor` after a step whose gradients overflow, and multiplied by it after `window` steps without one.
    """

    initial: float = 65536.0
    factor: float = 2.0
    window: int = 1000


class TrainStep(nn.Cell):
    """One attempt at an optimizer update.

    A call takes the columns of `accumulation_steps` micro-batches stacked along the first axis and leaves nothing half
    done: the gradients of the micro-batches are averaged, `grad_reducer` (if given) averages them over the devices, and
    with them an optimizer's statistics, as `loss_reducer` does the loss; both map a tuple to one. Unless a gradient is
    not finite they are clipped to the global norm `clip_norm` and applied.

    The loss and its gradient are the mean over the micro-batches (and devices), each normalised by its own number of
    masked positions; that equals the loss of the large batch when these numbers are equal.

    `allreduce_post_accumulation` chooses between one reduction per update and one per micro-batch, which costs more
    communication and needs no less memory here; the result is the same within rounding.

    Dropout masks follow from `seed`, the number of calls made (`attempts`), the micro-batch, the layer and the `rank`
    of the device.
    """

    def __init__(self, network: nn.Cell, optimizer: Optimizer, loss_scale: LossScale | None = None,
                 accumulation_steps: int = 1, clip_norm: float | None = 1.0, grad_reducer: nn.Cell | None = None,
                 allreduce_post_accumulation: bool = True, seed: int = 0, rank: int = 0,
                 loss_reducer: nn.Cell | None = None):
        super().__init__(auto_prefix=False)
        if accumulation_steps < 1:
            raise UserError(f"accumulation_steps: found {accumulation_steps}, expected at least 1")
        self.network = network.set_train()
        self.optimizer = optimizer
        self.weights = optimizer.parameters
        self.gradient = ops.GradOperation(get_by_list=True, sens_param=True)
        self.accumulation_steps = accumulation_steps
        self.clip_norm = clip_norm
        self.reduce = grad_reducer if grad_reducer is not None else nn.Identity()
        self.reduce_loss = loss_reducer if loss_reducer is not None else nn.Identity()
        self.reduce_each = grad_reducer is not None and not allreduce_post_accumulation
        self.reduce_once = grad_reducer is not None and allreduce_post_accumulation
        self.dynamic_scale = loss_scale is not None
        self.scale_rule = loss_scale or LossScale(1.0)
        self.loss_scale = Parameter(Tensor(self.scale_rule.initial, ms.float32), name="loss_scale", requires_grad=False)
        self.good_steps = Parameter(Tensor(0, ms.int32), name="good_steps", requires_grad=False)
        self.attempts = Parameter(Tensor(0, ms.int32), name="attempts", requires_grad=False)
        self.one = Tensor(1, ms.int32)
        self.dropout_masks = DropoutMasks(network, seed, rank)
        self.statistics = optimizer.statistics
        self.hyper_map = ops.HyperMap()
        # In a graph with the loops of a second-order optimizer, MindSpore 2.10 loses the types of own operators.
        self.squared_norm = SquaredNorm(plain=optimizer.statistics is not None)
        self.overflow_check = OverflowCheck(self.reduce)
        if accumulation_steps > 1:
            self.total_loss = Parameter(Tensor(0.0, ms.float32), name="accumulated_loss", requires_grad=False)
            self.totals = self.weights.clone("accumulated", init="zeros")

    def state(self) -> dict[str, Parameter]:
        """Return what a resumed run needs besides the weights, by name."""
        own = (self.loss_scale, self.good_steps, self.attempts, self.dropout_masks.keys)
        return self.optimizer.state() | {parameter.name: parameter for parameter in own}

    def construct(self, *columns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the loss float32 [], whether gradients overflowed bool [], and the loss scale that was used."""
        scale = self.loss_scale * 1.0
        if self.statistics is not None:
            self.refresh(columns, scale)
        columns = self.overflow_check.begin(columns, scale)
        if self.accumulation_steps == 1:
            loss, gradients = self.loss_and_gradients(columns, scale)
        else:
            loss, gradients = self.accumulate(columns, scale)
        if self.reduce_once:
            gradients = self.reduce(gradients)
        overflow = self.update(gradients, scale)
        return self.reduce_loss((loss,))[0], overflow, scale

    def loss_and_gradients(self, columns: tuple[Tensor, ...], scale: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the loss of one micro-batch and its gradients times `scale`, reduced over the devices if asked for."""
        loss = self.network(*columns)
        gradients = self.gradient(self.network, self.weights)(*columns, scale.astype(loss.dtype))
        # Masks of the next call. Behind the gradients, because the graph reads a Parameter before it assigns to it.
        self.dropout_masks(ops.assign_add(self.attempts, ops.depend(self.one, gradients)))
        if self.reduce_each:
            gradients = self.reduce(gradients)
        return loss, gradients

    def accumulate(self, columns: tuple[Tensor, ...], scale: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the mean loss and gradients over the micro-batches, in a loop that the graph holds once."""
        count = self.accumulation_steps
        stacked = self.micro_batches(columns)
        ops.assign(self.total_loss, ops.zeros_like(self.total_loss))
        self.hyper_map(_reset, self.totals)
        index = ops.zeros((), ms.int32)
        while index < count:
            loss, gradients = self.loss_and_gradients(_take(stacked, index), scale / count)
            ops.assign_add(self.total_loss, loss / count)
            self.hyper_map(_add_to, self.totals, gradients)
            index = index + 1
        return self.total_loss * 1.0, self.totals

    def micro_batches(self, columns: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return the columns with the micro-batches along an axis of their own, the first."""
        stacked = ()
        for column in columns:
            stacked += (column.reshape((self.accumulation_steps, -1) + column.shape[1:]),)  # [count, B, ...]
        return stacked

    def refresh(self, columns: tuple[Tensor, ...], scale: Tensor) -> None:
        """Let the optimizer take the statistics of this batch, if it wants them before the next update.

        They are the gradients to `optimizer.statistics`, summed over the micro-batches and averaged over the devices.
        """
        if self.optimizer.is_due():
            self.hyper_map(_reset, self.statistics)
            stacked = self.micro_batches(columns)
            index = ops.zeros((), ms.int32)
            while index < self.accumulation_steps:
                micro_batch = _take(stacked, index)
                gradients = self.gradient(self.network, self.statistics)(*micro_batch, scale)
                self.hyper_map(_add_to, self.statistics, gradients)
                index = index + 1
            self.optimizer.refresh(self.reduce(self.statistics))

    def update(self, gradients: tuple[Tensor, ...], scale: Tensor) -> Tensor:
        """Unscale, clip and apply the gradients unless one is not finite; return whether one was not."""
        squares = self.squared_norm(gradients)
        overflow = self.overflow_check(squares)
        # On CPU the branch costs nothing, and it makes the runtime's workers run the graph. A graph without one is run
        # by Python's thread, which then holds a core while it waits for them: products took twice as long on two.
        if overflow:
            self.after_overflow(scale)
        else:
            self.apply(gradients, squares, scale)
        return overflow

    def apply(self, gradients: tuple[Tensor, ...], squares: Tensor, scale: Tensor) -> None:
        """Update the weights; `squares` is the squared norm of the gradients, which are multiplied by `scale`."""
        factor = None
        if self.clip_norm is not None:
            norm = ops.sqrt(squares) / scale
            factor = self.clip_norm / ops.maximum(norm, self.clip_norm) / scale
        elif self.dynamic_scale:
            factor = 1.0 / scale
        self.optimizer(gradients, factor)
        if self.dynamic_scale:
            good_steps = self.good_steps + 1
            grows = good_steps >= self.scale_rule.window
            ops.assign(self.loss_scale, ops.select(grows, scale * self.scale_rule.factor, scale))
            ops.assign(self.good_steps, ops.select(grows, ops.zeros_like(good_steps), good_steps))

    def after_overflow(self, scale: Tensor) -> None:
        """Leave the weights alone and lower the scale."""
        if self.dynamic_scale:
            ops.assign(self.loss_scale, ops.maximum(scale / self.scale_rule.factor, 1.0))
            ops.assign(self.good_steps, ops.zeros_like(self.good_steps))


def _take(stacked: tuple[Tensor, ...], index: Tensor) -> tuple[Tensor, ...]:
    micro_batch = ()
    for column in stacked:
        micro_batch += (column[index],)
    return micro_batch


def _reset(total: Parameter) -> bool:
    ops.assign(total, ops.zeros_like(total))
    return True


def _add_to(total: Parameter, gradient: Tensor) -> bool:
    ops.assign_add(total, gradient)
    return True
