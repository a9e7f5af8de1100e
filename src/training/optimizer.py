"""Optimizers of BERT training and their learning-rate schedule, as cells that apply one update per call.

Own cells, because MindSpore's `nn.Lamb` has no CPU kernel and `nn.AdamWeightDecay` is marked for removal and slow.
Every state that a resumed run needs is a Parameter: the moments, named `<state>.<weight>`, and `global_step`.
"""

import re
from collections.abc import Sequence

import mindspore as ms
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops

from src.device_forms import device_forms
from src.layers import cpu_cells, uses_cpu_kernels

NOT_DECAYED = ("layernorm", "bias")
NOT_ADAPTED = "transitions"


def is_decayed(name: str, decay_filter: Sequence[str] = NOT_DECAYED) -> bool:
    """Whether weight decay applies to the parameter called `name`: to none with a part of `decay_filter` in it."""
    return not any(part.lower() in name.lower() for part in decay_filter)


def is_adapted(name: str) -> bool:
    """Whether LAMB scales the step of the parameter called `name` by its norm: not that of a CRF's transitions.

    Their constants of -10000 for what no path does would make up all of that norm, and the rate a hundred times the
    configured one. Nor is the norm of the others a measure: they start at zero, and there LAMB would keep them.
    """
    return name.rpartition(".")[2] != NOT_ADAPTED


def layer_rates(names: list[str], layer_decay: float) -> list[float]:
    """Factors on the learning rate by depth: each layer learns `layer_decay` times as fast as the one above it.

    The pooler and the heads have 1, the last layer of the encoder `layer_decay`, the embeddings the least
    (Howard and Ruder 2018; for BERT Sun et al. 2019).
    """
    numbers = [int(found[1]) if (found := re.search(r"bert_encoder\.layers\.(\d+)\.", name)) else
               -1 if "bert_embedding" in name else None for name in names]
    top = max((number for number in numbers if number is not None), default=-1) + 1
    return [1.0 if number is None else layer_decay ** (top - number) for number in numbers]


class WarmUpPolynomialDecay(nn.Cell):
    """BERT's learning rate: it rises from 0 over the warm-up, then follows a polynomial down to the end.

    During warm-up it is learning_rate * step / warmup_steps. From then on it is
    (learning_rate - end_learning_rate) * (1 - step / decay_steps)^power + end_learning_rate, where `step` counts from
    the start of training, so that the first value after the warm-up lies below `learning_rate`; after `decay_steps` it
    stays at the end. `step` is the number of updates made before this one.
    """

    def __init__(self, learning_rate: float, end_learning_rate: float = 0.0, warmup_steps: int = 0,
                 decay_steps: int = 1, power: float = 1.0):
        super().__init__()
        self.learning_rate = learning_rate
        self.end_learning_rate = end_learning_rate
        self.warmup_steps = warmup_steps
        self.decay_steps = max(decay_steps, 1)
        self.power = power

    def construct(self, step: Tensor) -> Tensor:
        """Return the learning rate of the update after `step` others, int32 [] to float32 []."""
        step = step.astype(ms.float32)
        left = 1.0 - ops.minimum(step, float(self.decay_steps)) / self.decay_steps
        decayed = (self.learning_rate - self.end_learning_rate) * ops.pow(left, self.power) + self.end_learning_rate
        if self.warmup_steps > 0:
            return ops.select(step < self.warmup_steps, step * (self.learning_rate / self.warmup_steps), decayed)
        return decayed

    def value_at(self, step: int) -> float:
        """Return the learning rate at `step` without a graph, for log lines and tests."""
        if step < self.warmup_steps:
            return self.learning_rate * step / self.warmup_steps
        left = 1.0 - min(step, self.decay_steps) / self.decay_steps
        return (self.learning_rate - self.end_learning_rate) * left**self.power + self.end_learning_rate


class Optimizer(nn.Cell):
    """What the optimizers share: the weights, which of them decay, the schedule and the number of updates made.

    An optimizer is called with the gradients and a factor that multiplies all of them, None for 1. A second-order one
    also has `statistics`, inputs of the network without effect, and takes the gradients to these by
    `refresh(gradients)` before an update for which `is_due()`.
    """

    statistics: ParameterTuple | None = None

    def __init__(self, parameters: list[Parameter], learning_rate: WarmUpPolynomialDecay, weight_decay: float = 0.0,
                 layer_decay: float = 1.0, decay_filter: Sequence[str] = NOT_DECAYED):
        super().__init__(auto_prefix=False)
        self.parameters = ParameterTuple(parameters)
        self.learning_rate = learning_rate
        self.rates = tuple(layer_rates([parameter.name for parameter in parameters], layer_decay))
        # A `for` over the weights would nest a graph for each and pass the compiler's depth limit at 200 of them.
        self.hyper_map = ops.HyperMap()
        self.decays = tuple(weight_decay if is_decayed(parameter.name, decay_filter) else 0.0
                            for parameter in parameters)
        self.squared_norm = device_forms().squared_norm
        self.global_step = Parameter(Tensor(0, ms.int32), name="global_step", requires_grad=False)
        self.one = Tensor(1, ms.int32)

    def state(self) -> dict[str, Parameter]:
        """Return what a resumed run needs besides the weights, by name."""
        weights = {parameter.name for parameter in self.parameters}
        return {name: value for name, value in self.parameters_dict().items() if name not in weights}


class AdamOptimizer(Optimizer):
    """What Adam and LAMB share: two moments, and on CPU an operator `kernel` for all weights, if it `uses_kernel`."""

    first_moments: ParameterTuple
    second_moments: ParameterTuple

    def update_all(self, learning_rate: Tensor, factor: Tensor | None, gradients: tuple[Tensor, ...]) -> Tensor:
        """Apply one update by the operator; return the number of updates made, int32 []."""
        done = self.kernel(learning_rate, factor, self.global_step, self.parameters, self.first_moments,
                           self.second_moments, gradients)
        return ops.assign_add(self.global_step, ops.depend(self.one, done))


class AdamWeightDecay(AdamOptimizer):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019).

    As in BERT, the moments are not corrected for their start at zero unless `bias_correction` is set; with it this is
    AdamW. With w the weight, g the gradient and lr the learning rate:
    m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g^2;  w = w - lr (m / (sqrt(v) + eps) + weight_decay w).
    """

    def __init__(self, parameters: list[Parameter], learning_rate: WarmUpPolynomialDecay, weight_decay: float = 0.01,
                 beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-6, bias_correction: bool = False,
                 layer_decay: float = 1.0, decay_filter: Sequence[str] = NOT_DECAYED):
        super().__init__(parameters, learning_rate, weight_decay, layer_decay, decay_filter)
        self.beta1, self.beta2, self.eps = beta1, beta2, eps
        self.bias_correction = bias_correction
        self.first_moments = self.parameters.clone("adam_m", init="zeros")
        self.second_moments = self.parameters.clone("adam_v", init="zeros")
        # In one pass over memory w -= lr * weight_decay * w.
        self.shrink = ops.ApplyGradientDescent()
        # On CPU 0.6 ms for a million weights; the AdamWeightDecay kernel takes 4 ms and plain operators 5.5 ms.
        self.adam = ops.Adam()
        self.uses_kernel = uses_cpu_kernels()
        if self.uses_kernel:
            self.kernel = cpu_cells().UpdateAll("Adam", beta1, beta2, eps, bias_correction, self.decays, self.rates)

    def construct(self, gradients: tuple[Tensor, ...], factor: Tensor | None = None) -> Tensor:
        """Apply one update; return the number of updates made, int32 []."""
        learning_rate = self.learning_rate(self.global_step)
        if self.uses_kernel:
            return self.update_all(learning_rate, factor, gradients)
        update = self.global_step.astype(ms.float32) + 1.0
        beta1_power, beta2_power, eps = ops.zeros_like(update), ops.zeros_like(update), self.eps
        if self.bias_correction:
            beta1_power, beta2_power = ops.pow(self.beta1, update), ops.pow(self.beta2, update)
            # The kernel adds eps to sqrt(v), AdamW to the corrected sqrt(v / (1 - beta2_power)).
            eps = self.eps * ops.sqrt(1.0 - beta2_power)
        update_one = ops.partial(self.update_one, factor, learning_rate, beta1_power, beta2_power, eps)
        self.hyper_map(update_one, self.parameters, self.first_moments, self.second_moments, self.decays, self.rates,
                       gradients)
        return ops.assign_add(self.global_step, 1)

    def update_one(self, factor: Tensor | None, learning_rate: Tensor, beta1_power: Tensor, beta2_power: Tensor,
                   eps: float | Tensor, weight: Parameter, m: Parameter, v: Parameter, decay: float, rate: float,
                   gradient: Tensor) -> bool:
        """Update one weight and its moments."""
        gradient = scaled(gradient, factor)
        if rate != 1.0:
            learning_rate = learning_rate * rate
        if decay > 0.0:
            self.shrink(weight, learning_rate * decay, weight)
        self.adam(weight, m, v, beta1_power, beta2_power, learning_rate, self.beta1, self.beta2, eps, gradient)
        return True


class Lamb(AdamOptimizer):
    """LAMB: Adam whose step for each weight matrix is scaled by the norm of the matrix (You et al. 2020).

    With the bias-corrected Adam direction r and u = r + weight_decay w, w = w - lr |w| / |u| u; the ratio is 1 where
    either norm is zero, and where `is_adapted` says so.
    """

    def __init__(self, parameters: list[Parameter], learning_rate: WarmUpPolynomialDecay, weight_decay: float = 0.01,
                 beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-6, layer_decay: float = 1.0,
                 decay_filter: Sequence[str] = NOT_DECAYED):
        super().__init__(parameters, learning_rate, weight_decay, layer_decay, decay_filter)
        self.beta1, self.beta2, self.eps = beta1, beta2, eps
        self.adapted = tuple(is_adapted(parameter.name) for parameter in parameters)
        self.first_moments = self.parameters.clone("lamb_m", init="zeros")
        self.second_moments = self.parameters.clone("lamb_v", init="zeros")
        self.uses_kernel = uses_cpu_kernels() and all(self.adapted)  # which the operator takes for granted
        if self.uses_kernel:
            self.kernel = cpu_cells().UpdateAll("Lamb", beta1, beta2, eps, True, self.decays, self.rates)

    def construct(self, gradients: tuple[Tensor, ...], factor: Tensor | None = None) -> Tensor:
        """Apply one update; return the number of updates made, int32 []."""
        learning_rate = self.learning_rate(self.global_step)
        if self.uses_kernel:
            return self.update_all(learning_rate, factor, gradients)
        update = self.global_step.astype(ms.float32) + 1.0
        m_correction = 1.0 / (1.0 - ops.pow(self.beta1, update))
        v_correction = 1.0 / (1.0 - ops.pow(self.beta2, update))
        update_one = ops.partial(self.update_one, factor, learning_rate, m_correction, v_correction)
        self.hyper_map(update_one, self.parameters, self.first_moments, self.second_moments, self.decays, self.rates,
                       self.adapted, gradients)
        return ops.assign_add(self.global_step, 1)

    def update_one(self, factor: Tensor | None, learning_rate: Tensor, m_correction: Tensor, v_correction: Tensor,
                   weight: Parameter, m: Parameter, v: Parameter, decay: float, rate: float,
                   adapted: bool, gradient: Tensor) -> bool:
        """Update one weight and its moments."""
        gradient = scaled(gradient, factor)
        if rate != 1.0:
            learning_rate = learning_rate * rate
        new_m = self.beta1 * m + (1.0 - self.beta1) * gradient
        new_v = self.beta2 * v + (1.0 - self.beta2) * gradient * gradient
        direction = new_m * m_correction / (ops.sqrt(new_v * v_correction) + self.eps)
        if decay > 0.0:
            direction = direction + decay * weight
        if adapted:
            learning_rate = learning_rate * self.trust_ratio(weight, direction)
        ops.assign(m, new_m)
        ops.assign(v, new_v)
        ops.assign_sub(weight, learning_rate * direction)
        return True

    def trust_ratio(self, weight: Parameter, direction: Tensor) -> Tensor:
        """Return the norm of the weight divided by that of its direction, float32 []."""
        weight_norm, direction_norm = ops.sqrt(self.squared_norm(weight)), ops.sqrt(self.squared_norm(direction))
        both = ops.logical_and(weight_norm > 0.0, direction_norm > 0.0)
        return ops.select(both, weight_norm / direction_norm, ops.ones_like(weight_norm))


class Momentum(Optimizer):
    """Stochastic gradient descent with momentum: v = momentum v + g;  w = w - lr v."""

    def __init__(self, parameters: list[Parameter], learning_rate: WarmUpPolynomialDecay, momentum: float = 0.9,
                 layer_decay: float = 1.0):
        super().__init__(parameters, learning_rate, layer_decay=layer_decay)
        self.momentum = momentum
        self.velocities = self.parameters.clone("momentum", init="zeros")
        self.apply_momentum = ops.ApplyMomentum()

    def construct(self, gradients: tuple[Tensor, ...], factor: Tensor | None = None) -> Tensor:
        """Apply one update; return the number of updates made, int32 []."""
        learning_rate = self.learning_rate(self.global_step)
        update_one = ops.partial(self.update_one, factor, learning_rate)
        self.hyper_map(update_one, self.parameters, self.velocities, self.rates, gradients)
        return ops.assign_add(self.global_step, 1)

    def update_one(self, factor: Tensor | None, learning_rate: Tensor, weight: Parameter, velocity: Parameter,
                   rate: float, gradient: Tensor) -> bool:
        """Update one weight and its velocity."""
        if rate != 1.0:
            learning_rate = learning_rate * rate
        self.apply_momentum(weight, velocity, learning_rate, scaled(gradient, factor), self.momentum)
        return True


def scaled(gradient: Tensor, factor: Tensor | None) -> Tensor:
    """Return the gradient times `factor`, None for 1."""
    return gradient if factor is None else ops.Mul()(gradient, factor)


class SquaredNorm(nn.Cell):
    """The sum of the squares of all numbers in a tuple of tensors, if `plain` without the operators for CPUs."""

    def __init__(self, plain: bool = False):
        super().__init__()
        self.hyper_map = ops.HyperMap()
        self.squared_norm = device_forms().squared_norm
        self.uses_kernel = uses_cpu_kernels() and not plain
        if self.uses_kernel:
            self.kernel = cpu_cells().operators.squared_norm()

    def construct(self, tensors: tuple[Tensor, ...]) -> Tensor:
        """Return the sum, float32 []."""
        if self.uses_kernel:
            return ops.Reshape()(self.kernel(*tensors), ())
        return ops.addn(self.hyper_map(self.squared_norm, tensors))
