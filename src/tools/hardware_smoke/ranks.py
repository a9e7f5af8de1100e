"""Two ranks, started as the scripts start them, against one process that takes the rows of both.

This module is also the program of a rank.
"""

import json
import subprocess
import sys
from pathlib import Path
from zlib import crc32

import mindspore as ms
import numpy as np

if __name__ == "__main__":  # run by its path
    sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from scripts.start_ranks import first_error
from src.errors import run_script
from src.model_utils.communication import MeanOfGradients
from src.model_utils.config import REPOSITORY, load_config
from src.model_utils.device_adapter import DeviceInfo, set_up_device
from src.tasks.registry import PRETRAINING, task_type
from src.tools.hardware_smoke.networks import (
    MOMENTUM,
    pretraining_network,
    pretraining_rows,
    run,
    step_of,
    tensors,
    tiny_config,
    weights_of,
)
from src.tools.hardware_smoke.outcome import Outcome, Setting, judge, skip

RANKS, ROWS, STEPS = 2, 4, 2
SECONDS = 100  # for the ranks to meet, compile and train
LOG = "two_ranks_log.txt"


def check_two_ranks(setting: Setting) -> Outcome:
    """Both ranks end with the same weights, which one process has that accumulates the rows of both."""
    count = ms.hal.device_count(setting.target)
    if setting.target != "CPU" and count < RANKS:
        return skip(f"{count} device, and two are needed")
    command = [sys.executable, str(REPOSITORY / "scripts" / "start_ranks.py"), "--processes", str(RANKS), "--log", LOG,
               "--", __file__, setting.target, setting.compute_type]
    try:
        done = subprocess.run(command, cwd=setting.directory, capture_output=True, text=True, timeout=SECONDS,
                              stdin=subprocess.DEVNULL, check=False)
    except subprocess.TimeoutExpired:
        return judge(False, f"the ranks were not done after {SECONDS} s; the last error of rank 0: "
                            f"{first_error(setting.directory / 'LOG0' / LOG)}")
    if done.returncode:
        return judge(False, done.stderr.strip().split("\n")[-1])
    results = [json.loads((setting.directory / f"rank{rank}.json").read_text(encoding="utf-8"))
               for rank in range(RANKS)]
    same = results[0]["weights"] == results[1]["weights"]
    error = max(result["error"] for result in results)
    return judge(same and error < setting.tolerance,
                 f"ranks {'equal' if same else 'DIFFERENT'}; the update differs from that of one process by "
                 f"{error:.1e}, allowed {setting.tolerance:.0e}")


def main(argv: list[str] | None = None) -> None:
    """Be a rank: write what came out to rank{N}.json."""
    target, compute_type = sys.argv[1:] if argv is None else argv
    config = load_config("", task_type(PRETRAINING).config_file, ["--device_target", target, "--distribute", "true"])
    device = set_up_device(config)
    setting = Setting(target, device.device_id, compute_type, Path.cwd())
    both, together = train(setting, device), train(setting, None)
    Path(f"rank{device.rank}.json").write_text(json.dumps({
        "weights": crc32(both.tobytes()),
        "error": float(np.linalg.norm(both - together) / np.linalg.norm(together))}), encoding="utf-8")


def train(setting: Setting, device: DeviceInfo | None) -> np.ndarray:
    """The update of all weights by a few steps: as a rank of several, or alone with everybody's rows."""
    config = tiny_config(setting)
    network = pretraining_network(config)
    before = weights_of(network)
    if device is None:
        step = step_of(network, "Momentum", MOMENTUM, accumulation_steps=RANKS)
    else:
        mean = MeanOfGradients(RANKS)
        step = step_of(network, "Momentum", MOMENTUM, grad_reducer=mean, loss_reducer=mean, rank=device.rank)
    for number in range(STEPS):
        rows = pretraining_rows(config, RANKS * ROWS, number)
        if device is not None:
            rows = {name: values[device.rank * ROWS:(device.rank + 1) * ROWS] for name, values in rows.items()}
        run(step, tensors(rows))
    return weights_of(network) - before


if __name__ == "__main__":
    run_script(main)
