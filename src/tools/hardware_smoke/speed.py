"""How long a pre-training step and each operation take, by plain operators and products, and by the device's kernels.

The choice between the two, `src.device_forms`, was made on a CPU and by reading; here is what it should be.
"""

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, fields

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from src.bert_model import BertConfig
from src.cpu_kernels.library import plain_operators
from src.device_forms import CPU, GPU, DeviceForms, Operation, built_for, device_forms
from src.layers import tensor_type
from src.tools.hardware_smoke.networks import (
    compute,
    pretraining_network,
    pretraining_rows,
    run,
    step_of,
    tensors,
)
from src.tools.hardware_smoke.outcome import Outcome, Setting, TimedSize, judge
from src.training.train_step import LossScale

FORMS = {"plain": CPU, "fused": GPU}
STEPS = {"plain": "CPU", "fused": "Ascend", "fused, dropout of pieces": "GPU"}  # the devices that they are built for
WARM_UP, TIMED = 2, 5
PATIENCE = 45  # seconds after which the step is not measured in the other form as well
# The CPU's own kernels of some operations are off by 1e-4; see `src.cpu_forms`.
DIFFERENCES = {"float32": 1e-3, "float16": 2e-2, "bfloat16": 1e-1}


@dataclass(frozen=True)
class Timed:
    """An operation: how it is made, its inputs, and whether these are of the compute type."""

    make: Callable[[DeviceForms], Operation]
    shapes: tuple[tuple[int, ...], ...]
    in_compute_type: bool = False


def operations(size: TimedSize) -> dict[str, Timed]:
    """Those of `DeviceForms`, at the sizes that a network has."""
    rows, width = size.rows * size.length, size.hidden
    return {
        "bias_add": Timed(lambda forms: forms.bias_add(), ((rows, 4 * width), (4 * width,)), True),
        "normalize": Timed(lambda forms: forms.normalize(1e-12), ((rows, width), (width,), (width,))),
        "softmax": Timed(lambda forms: forms.softmax(), ((size.rows, size.heads, size.length, size.length),)),
        "gelu": Timed(lambda forms: forms.gelu(), ((rows, 4 * width),), True),
        "tanh": Timed(lambda forms: forms.tanh, ((size.rows, width),)),
        "squared_norm": Timed(lambda forms: forms.squared_norm, ((size.vocabulary, width),)),
    }


class ForwardAndBackward(nn.Cell):
    """An operation and its gradients."""

    def __init__(self, operation: Operation) -> None:
        super().__init__()
        self.operation = Forward(operation)
        self.gradient = ops.GradOperation(get_all=True, sens_param=True)

    def construct(self, slope: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the gradients of the inputs, and the output."""
        return self.gradient(self.operation)(*inputs, slope) + (self.operation(*inputs),)


class Forward(nn.Cell):
    """An operation, whatever it is, as a cell."""

    def __init__(self, operation: Operation) -> None:
        super().__init__()
        self.operation = operation

    def construct(self, *inputs: Tensor) -> Tensor:
        """Return its output."""
        return self.operation(*inputs)


def check_speed(setting: Setting) -> Outcome:
    """The step learns, and both forms of every operation agree; the times are for people to read."""
    begin = time.monotonic()
    own = next(form for form, target in STEPS.items() if target == setting.target)
    milliseconds, losses = time_step(setting, own)
    lines, good = time_operations(setting, "plain" if device_forms() is CPU else "fused")
    steps = {own: f"{milliseconds:.1f}"}
    for other in STEPS:
        # Only an Ascend has a kernel that draws masks from keys.
        if other != own and (other != "fused" or setting.target == "Ascend") and time.monotonic() - begin < PATIENCE:
            steps[other] = step_or_error(setting, other)
    size = setting.timed
    learns = bool(np.isfinite(losses).all()) and losses[-1] < losses[0]
    return judge(learns and good,
                 f"step of {size.layers} x {size.hidden}, {size.rows} x {size.length}, {setting.compute_type}: "
                 + ", ".join(f"{form} {text} ms" for form, text in steps.items())
                 + f"; this device uses {own}; loss {losses[0]:.4f} to {losses[-1]:.4f}", *lines)


def step_or_error(setting: Setting, form: str) -> str:
    """The time of a step in a form that this device does not use, and may not be able to compute."""
    try:
        return f"{time_step(setting, form)[0]:.1f}"
    except (RuntimeError, TypeError, ValueError):
        return "fails, -"


def time_step(setting: Setting, form: str) -> tuple[float, list[float]]:
    """Milliseconds of a pre-training step, and its losses."""
    size = setting.timed
    config = BertConfig(seq_length=size.length, vocab_size=size.vocabulary, hidden_size=size.hidden,
                        num_hidden_layers=size.layers, num_attention_heads=size.heads,
                        intermediate_size=4 * size.hidden, type_vocab_size=2, compute_type=setting.compute_type)
    with ExitStack() as stack:
        if STEPS[form] != setting.target:
            stack.enter_context(built_for(STEPS[form]))
            stack.enter_context(plain_operators())
        step = step_of(pretraining_network(config), group={"learning_rate": 1e-3}, loss_scale=LossScale(1024.0))
    columns = tensors(pretraining_rows(config, size.rows))
    losses = []
    milliseconds = time_calls(lambda: losses.append(run(step, columns)[0]))
    return milliseconds, losses


def time_operations(setting: Setting, own: str) -> tuple[list[str], bool]:
    """A line for each operation, and whether the forms agree and this device's own can be computed."""
    lines, good = [], True
    known = operations(setting.timed)
    for name, timed in known.items():
        results, texts = {}, []
        for form, forms in FORMS.items():
            try:
                milliseconds, results[form] = time_operation(setting, timed, forms)
                texts.append(f"{form} {milliseconds:.2f} ms")
            except (RuntimeError, TypeError, ValueError) as error:
                texts.append(f"{form} fails ({type(error).__name__})")
        if len(results) == len(FORMS):
            difference = largest_difference(*results.values())
            good &= difference <= DIFFERENCES[setting.compute_type]
            texts.append(f"which differ by {difference:.0e}")
        good &= own in results
        lines.append(f"{name} {' and '.join('x'.join(map(str, shape)) for shape in timed.shapes)}: {', '.join(texts)}")
    others = [field.name for field in fields(DeviceForms) if field.name not in (*known, "drop", "tiles_mask")]
    return lines + ([f"not timed: {', '.join(others)}"] if others else []), good


def time_operation(setting: Setting, timed: Timed, forms: DeviceForms) -> tuple[float, list[np.ndarray]]:
    """Milliseconds forward and backward, and the gradients and the output."""
    dtype = tensor_type(setting.compute_type) if timed.in_compute_type else ms.float32
    random = np.random.default_rng(0)
    inputs = [Tensor(random.standard_normal(shape, np.float32)).astype(dtype) for shape in timed.shapes]
    operation = timed.make(forms)
    output = compute(Forward(operation), *inputs)
    slope = Tensor(random.standard_normal(output.shape, np.float32)).astype(output.dtype)
    both = ForwardAndBackward(operation)
    results: list[Tensor] = []

    def call() -> None:
        results[:] = compute(both, slope, *inputs)
        wait(setting.target, results)

    milliseconds = time_calls(call)
    return milliseconds, [result.astype(ms.float32).asnumpy() for result in results]


def wait(target: str, results: list[Tensor]) -> None:
    """Wait until a device is done; a CPU, which cannot be asked, until its results are there."""
    if target == "CPU":
        for result in results:
            result.asnumpy()
    else:
        ms.runtime.synchronize()


def time_calls(call: Callable[[], object]) -> float:
    """Milliseconds of the fastest call after the first ones, which compile."""
    seconds = []
    for _ in range(WARM_UP + TIMED):
        begin = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - begin)
    return 1000 * min(seconds[WARM_UP:])


def largest_difference(one: list[np.ndarray], other: list[np.ndarray]) -> float:
    """Between two lists of arrays, each relative to the largest of its numbers."""
    return max(float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-30)) for a, b in zip(one, other, strict=True))
