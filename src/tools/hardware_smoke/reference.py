"""One step of each optimizer, of the CRF, the LSTM and NEZHA against numbers that a CPU computed in float32.

    python src/tools/hardware_smoke/reference.py --write    compute reference.json anew, on a CPU
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn

if __name__ == "__main__":  # run by its path
    sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from src.cpu_kernels.library import plain_operators
from src.CRF import CRF
from src.device_forms import Operation
from src.errors import first_line, run_script
from src.files import atomic_write
from src.json_files import read_json_object
from src.layers import Dense, tensor_type
from src.lstm import BidirectionalLSTM
from src.model_utils.config import load_config
from src.tasks.registry import PRETRAINING, task_type
from src.tools.hardware_smoke.networks import (
    ADAM,
    MOMENTUM,
    compute,
    draw_weights,
    pretraining_network,
    pretraining_rows,
    run,
    step_of,
    tensors,
    tiny_config,
    use_graphs,
    weights_of,
)
from src.tools.hardware_smoke.outcome import Outcome, Setting, judge
from src.training.create_optimizer import OPTIMIZERS, THOR

STORED = Path(__file__).with_name("reference.json")
BATCH, LENGTH, TAGS, WIDTH = 4, 20, 5, 16


class Classifier(nn.Cell):
    """The loss is the squared error of two dense layers."""

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        self.type = tensor_type(setting.compute_type)
        self.first: Operation = Dense(WIDTH, 2 * WIDTH, "gelu", compute_type=setting.compute_type)
        self.second: Operation = Dense(2 * WIDTH, TAGS, compute_type=setting.compute_type)

    def construct(self, x: Tensor, y: Tensor) -> Tensor:
        """Map x [B,WIDTH] and y [B,TAGS] to a float32 scalar."""
        error = self.second(self.first(x.astype(self.type))).astype(ms.float32) - y
        return (error * error).mean()


class TagLoss(nn.Cell):
    """The loss of a CRF over emissions that are weights."""

    def __init__(self) -> None:
        super().__init__()
        self.emissions = Parameter(Tensor(np.zeros((BATCH, LENGTH, TAGS + 2), np.float32)), name="emissions")
        self.crf = CRF(TAGS)

    def construct(self, labels: Tensor, mask: Tensor) -> Tensor:
        """Map labels and mask [B,S] to a float32 scalar."""
        return self.crf(self.emissions, labels, mask)


class BestPath(nn.Cell):
    """The best tags of a CRF."""

    def __init__(self, crf: CRF) -> None:
        super().__init__()
        self.crf = crf

    def construct(self, emissions: Tensor, mask: Tensor) -> Tensor:
        """Map emissions [B,S,TAGS+2] and mask [B,S] to tags [B,S]."""
        return self.crf.decode(emissions, mask)


class StatesLoss(nn.Cell):
    """The mean square of an LSTM's states, without those of the padding."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = BidirectionalLSTM(WIDTH, WIDTH // 2)

    def construct(self, x: Tensor, mask: Tensor) -> Tensor:
        """Map x [B,S,WIDTH] and mask [B,S] to a float32 scalar."""
        states = self.lstm(x, mask) * mask.astype(ms.float32).expand_dims(2)
        return (states * states).mean()


def padded_mask() -> Tensor:
    """Sequences of 20, 17, 14 and 11 tokens, int32 [B,S]."""
    lengths = LENGTH - 3 * np.arange(BATCH)
    return Tensor((np.arange(LENGTH) < lengths[:, None]).astype(np.int32))


def one_step(network: nn.Cell, columns: list[Tensor], optimizer: str, group: dict) -> dict[str, float]:
    """Loss and length of the update of the first step."""
    before = weights_of(network)
    loss, _, _ = run(step_of(network, optimizer, group, clip_norm=None), columns)
    return {"loss": loss, "update": float(np.linalg.norm(weights_of(network) - before))}


def optimizer_step(setting: Setting, name: str) -> dict[str, float]:
    """With the defaults of pre-training."""
    network = Classifier(setting)
    draw_weights(network)
    group = load_config("", task_type(PRETRAINING).config_file, [])[name].to_dict() | {"learning_rate": 0.01}
    random = np.random.default_rng(0)
    columns = [Tensor(random.standard_normal((2 * BATCH, width), np.float32)) for width in (WIDTH, TAGS)]
    return one_step(network, columns, name, group | ({"warmup_steps": 0} if "warmup_steps" in group else {}))


def crf_step(_: Setting) -> dict[str, float]:
    """And how the best path begins and ends."""
    network = TagLoss()
    random = np.random.default_rng(0)
    emissions = random.standard_normal(network.emissions.shape, np.float32)
    network.emissions.set_data(Tensor(emissions))
    labels = Tensor(random.integers(TAGS, size=(BATCH, LENGTH)).astype(np.int32))
    found = one_step(network, [labels, padded_mask()], "Momentum", MOMENTUM)
    path = compute(BestPath(CRF(TAGS)), Tensor(emissions), padded_mask()).asnumpy()
    return found | {"best path": float((path * np.arange(1, path.size + 1).reshape(path.shape)).sum())}


def lstm_step(_: Setting) -> dict[str, float]:
    """A layer in both directions."""
    network = StatesLoss()
    draw_weights(network)
    x = np.random.default_rng(0).standard_normal((BATCH, LENGTH, WIDTH), np.float32)
    return one_step(network, [Tensor(x), padded_mask()], "Momentum", MOMENTUM)


def nezha_step(setting: Setting) -> dict[str, float]:
    """Pre-training with relative positions."""
    config = tiny_config(setting, relative=True)
    return one_step(pretraining_network(config), tensors(pretraining_rows(config, 2 * BATCH)), "AdamWeightDecay", ADAM)


def optimizer_case(name: str) -> Callable[[Setting], dict[str, float]]:
    """The case of one optimizer."""
    return lambda setting: optimizer_step(setting, name)


CASES: dict[str, Callable[[Setting], dict[str, float]]] = {
    **{name: optimizer_case(name) for name in (*OPTIMIZERS, THOR)},
    "CRF": crf_step, "LSTM": lstm_step, "NEZHA": nezha_step}


def check_reference(setting: Setting) -> Outcome:
    """Every number is the stored one within the tolerance of the compute type."""
    stored = read_json_object(STORED, "what this program wrote with --write")
    errors, further = {}, []
    for name, case in CASES.items():
        found = case(setting)
        errors[name] = max(relative_error(found[key], value) for key, value in stored[name].items())
        further.append(f"{name}: " + ", ".join(f"{key} {value:.7g} (stored {stored[name][key]:.7g})"
                                               for key, value in found.items()))
    return judge(all(error <= setting.tolerance for error in errors.values()),
                 "relative error: " + ", ".join(f"{name} {error:.0e}" for name, error in errors.items())
                 + f"; allowed {setting.tolerance:.0e}", *further)


def relative_error(found: float, stored: float) -> float:
    """Of a number; infinite if it is none."""
    return abs(found / stored - 1) if np.isfinite(found) else float("inf")


def main(argv: list[str] | None = None) -> None:
    """Compute the numbers on this CPU; print or write them."""
    parser = argparse.ArgumentParser(description=first_line(__doc__))
    parser.add_argument("--write", action="store_true", help=f"into {STORED.name}")
    write = parser.parse_args(argv).write
    use_graphs()
    setting = Setting("CPU", 0, "float32", STORED.parent)
    with plain_operators():
        found = {name: case(setting) for name, case in CASES.items()}
    text = json.dumps(found, indent=1) + "\n"
    if not write:
        print(text, end="")
        return
    with atomic_write(STORED) as temporary:
        temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    run_script(main)
