"""What the checks ran on."""

import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

import mindspore as ms
import numpy as np

from src.model_utils.config import REPOSITORY
from src.tools.hardware_smoke.outcome import Outcome, Setting, judge

MINDSPORE, NUMPY = "2.10.", "1."  # what requirements.txt asks for
# What driver and toolkit say of themselves, where they are usually installed.
VERSION_FILES = {
    "Ascend": {
        "driver": ("/usr/local/Ascend/driver/version.info",),
        "CANN": ("{ASCEND_HOME_PATH}/compiler/version.info", "{ASCEND_TOOLKIT_HOME}/compiler/version.info",
                 "/usr/local/Ascend/ascend-toolkit/latest/compiler/version.info",
                 "/usr/local/Ascend/cann/compiler/version.info"),
    },
    "GPU": {"CUDA": ("{CUDA_HOME}/version.json", "/usr/local/cuda/version.json", "/usr/local/cuda/version.txt")},
}
_VERSION = re.compile(r"version\D{0,12}?(\d[\w.]*)", re.IGNORECASE)


def check_versions(setting: Setting) -> Outcome:
    """MindSpore and NumPy are those that this repository needs, and the device is the one that was asked for."""
    target = ms.get_context("device_target")
    good = ms.__version__.startswith(MINDSPORE) and np.__version__.startswith(NUMPY) and target == setting.target
    return judge(good, f"mindspore {ms.__version__}, numpy {np.__version__}, Python {platform.python_version()}; "
                       f"{target}: {device_name(setting)}; {setting.compute_type}",
                 f"repository {commit()}; {operating_system()}; {processor()}",
                 *tools(setting.target))


def device_name(setting: Setting) -> str:
    """What MindSpore calls the device."""
    try:
        count = ms.hal.device_count(setting.target)
        return f"{ms.hal.get_device_name(setting.device_id, setting.target)}, number {setting.device_id} of {count}"
    except (RuntimeError, ValueError):
        return "name unknown"


def commit() -> str:
    """The commit of the repository, with a plus if files were changed since."""
    found = output_of(["git", "-C", str(REPOSITORY), "rev-parse", "--short=12", "HEAD"]).strip()
    changed = output_of(["git", "-C", str(REPOSITORY), "status", "--porcelain", "--untracked-files=no"]).strip()
    return (found or "of unknown commit") + (" with changes" if changed else "")


def operating_system() -> str:
    """Its name and the kernel; `platform.platform` would not say the distribution."""
    try:
        name = platform.freedesktop_os_release().get("PRETTY_NAME", "")
    except OSError:
        name = platform.system()
    return f"{name}, {platform.system()} {platform.release()} {platform.machine()}"


def processor() -> str:
    """Its model, and how many cores this process may use."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        found = None
    return f"{found[1] if found else platform.machine()}, {len(os.sched_getaffinity(0))} cores"


def tools(target: str) -> list[str]:
    """What can be read of driver and toolkit; nothing on a CPU."""
    if target == "CPU":
        return []
    lines = [f"{name} {version_in(paths)}" for name, paths in VERSION_FILES[target].items()]
    return lines + (npu_smi() if target == "Ascend" else nvidia_smi())


def version_in(paths: tuple[str, ...]) -> str:
    """The version that the first file there is names."""
    for template in paths:
        try:
            text = Path(template.format_map(os.environ)).read_text(encoding="utf-8", errors="replace")
        except (KeyError, OSError):  # a variable is not set, or there is no such file
            continue
        found = _VERSION.search(text)
        return found[1] if found else "unknown"
    return "unknown"


def npu_smi() -> list[str]:
    """Its version, and name and health of each chip: of the table only what says nothing of other people's work."""
    text = output_of(["npu-smi", "info"])
    chips = re.findall(r"^\|\s*\d+\s+(\w{3,})\s*\|\s*(\w+)", text, re.MULTILINE)
    version = _VERSION.search(text)
    return [f"npu-smi {version[1] if version else 'unknown'}: "
            + (", ".join(f"{name} {health}" for name, health in chips) or "no chips found")]


def nvidia_smi() -> list[str]:
    """Name, driver and memory of each GPU."""
    text = output_of(["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"])
    return [f"nvidia-smi: {line.strip()}" for line in text.splitlines() if line.strip()] or ["nvidia-smi: unknown"]


def output_of(command: list[str]) -> str:
    """What a program prints; nothing if it is absent, fails or hangs."""
    if shutil.which(command[0]) is None:
        return ""
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=20,
                              stdin=subprocess.DEVNULL, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
