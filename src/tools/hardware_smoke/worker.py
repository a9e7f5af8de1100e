"""The process that computes: it runs checks and appends what came of them to a file, a line each.

A device may end a process, or leave it hanging; after an error nothing that it computes can be trusted. So checks run
in a process of their own, which another one watches (`src.tools.hardware_smoke.run`), and an exception ends it.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

if __name__ == "__main__":  # run by its path
    sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from src.errors import run_script
from src.model_utils.config import load_config
from src.model_utils.device_adapter import set_up_device
from src.tasks.registry import PRETRAINING, task_type
from src.tools.hardware_smoke.checks import CHECKS, Check
from src.tools.hardware_smoke.outcome import BASE, SMALL, Outcome, Setting, judge


def main(argv: Sequence[str] | None = None) -> None:
    """Run the checks whose numbers end the command line."""
    target, device_id, compute_type, results, *numbers = sys.argv[1:] if argv is None else argv
    checks = [CHECKS[int(number) - 1] for number in numbers]
    os.chdir(Path(results).parent)  # where MindSpore may leave files
    if not any(check.starts_ranks for check in checks):
        set_up_device(load_config("", task_type(PRETRAINING).config_file,
                                  ["--device_target", target, "--device_id", device_id]))
    with Path(results).open("a", encoding="utf-8") as file:
        file.write("\n")  # from here on it is a check that fails, not the beginning
    for check in checks:
        with tempfile.TemporaryDirectory() as directory, Path(results).open("a", encoding="utf-8") as file:
            setting = Setting(target, int(device_id), compute_type, Path(directory),
                              timed=SMALL if target == "CPU" else BASE)
            outcome, trusted = run_check(check, setting)
            file.write(json.dumps(asdict(outcome)) + "\n")
        if not trusted:
            break


def run_check(check: Check, setting: Setting) -> tuple[Outcome, bool]:
    """What came of a check, and whether the process can go on: not after an exception."""
    begin = time.monotonic()
    try:
        outcome, trusted = check.resolve()(setting), True
    except Exception as error:  # whatever a device does is a result
        message = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
        outcome, trusted = judge(False, f"{type(error).__name__}: {message}"), False
    return replace(outcome, seconds=time.monotonic() - begin), trusted


if __name__ == "__main__":
    run_script(main)
