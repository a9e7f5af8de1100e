"""Every command of the README runs as it is written, in the order in which it stands there."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from paths import REPOSITORY

README, README_CN = (REPOSITORY / name for name in ("README.md", "README_CN.md"))
# Tested elsewhere: what runs this very test, what test_quick_start.py runs, what would install once more.
ELSEWHERE = ("scripts/run_tests.sh", "scripts/quick_start.sh", "pip install")

COMPILER = shutil.which("cmake") and shutil.which("c++")  # the C++ program is an extra where there is none


def commands(readme: Path) -> list[str]:
    """The commands in the bash blocks of a README, continued lines joined; ```text blocks are not for this machine."""
    blocks = re.findall(r"```bash\n(.*?)```", readme.read_text(encoding="utf-8"), re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [" ".join(line.split("#")[0].split()) for line in lines if line.split("#")[0].strip()]


def test_both_languages_show_the_same_commands() -> None:
    assert commands(README) == commands(README_CN)


def test_the_two_commands_stand_on_the_first_screen() -> None:
    for readme in (README, README_CN):
        first_screen = "\n".join(readme.read_text(encoding="utf-8").splitlines()[:24])
        assert "bash scripts/quick_start.sh" in first_screen
        assert "bash scripts/run_tests.sh" in first_screen


def test_links_and_pictures_are_there() -> None:
    for readme in (README, README_CN):
        text = readme.read_text(encoding="utf-8")
        for target in re.findall(r"\]\((?!https?:|#)([^)]+)\)", text):
            assert (REPOSITORY / target).exists(), f"{readme.name}: {target}"


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project without what git ignores, so that the commands leave nothing behind here."""
    copy = tmp_path_factory.mktemp("readme") / "clone"
    tracked = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=REPOSITORY, check=True,
                             capture_output=True, text=True).stdout.split("\0")
    for name in filter(None, tracked):
        if (REPOSITORY / name).exists() and not name.startswith("tests/"):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, copy / name)
    return copy


def test_commands_run_as_written(clone: Path) -> None:
    python = Path(sys.executable).parent
    environment = os.environ | {"PATH": f"{python}{os.pathsep}{os.environ['PATH']}", "PYTHON": sys.executable}
    ran = 0
    for command in commands(README):
        if any(part in command for part in ELSEWHERE) or ("_cpp.sh" in command and not COMPILER):
            continue
        done = subprocess.run(["bash", "-c", command], cwd=clone, env=environment, capture_output=True, text=True,
                              stdin=subprocess.DEVNULL, timeout=600)
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        ran += 1
    assert ran >= 5
