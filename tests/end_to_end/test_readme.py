"""Every command of the README runs as it is written, a case for each section."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from paths import REPOSITORY

README, README_CN = (REPOSITORY / name for name in ("README.md", "README_CN.md"))
# Tested elsewhere: what runs this very test, what test_quick_start.py runs, what would install once more.
ELSEWHERE = ("bash scripts/run_tests.sh", "bash scripts/quick_start.sh", "pip install -r requirements.txt")

COMPILER = shutil.which("cmake") and shutil.which("c++")  # the C++ program is an extra where there is none


class Section(NamedTuple):
    """A heading, and the commands between it and the next one."""

    heading: str
    commands: tuple[str, ...]

    @property
    def paths(self) -> set[str]:
        """The files and directories below output/ that its commands name."""
        return set(re.findall(r"output/[^\s,\"]+", " ".join(self.commands)))


def commands_of(block: str) -> list[str]:
    """The commands of a bash block, continued lines joined, without comments."""
    lines = block.replace("\\\n", " ").splitlines()
    return [" ".join(line.split("#")[0].split()) for line in lines if line.split("#")[0].strip()]


def sections(readme: Path) -> list[Section]:
    """The sections with bash blocks; ```text blocks are not for this machine."""
    found: dict[str, list[str]] = {}
    heading = ""
    pattern = r"^#{1,3} (?P<heading>[^\n]*)|^```bash\n(?P<bash>.*?)^```|^```.*?^```"
    for match in re.finditer(pattern, readme.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        if match["bash"] is not None:
            found.setdefault(heading, []).extend(commands_of(match["bash"]))
        elif match["heading"] is not None:
            heading = match["heading"]
    return [Section(heading, tuple(commands)) for heading, commands in found.items()]


def is_tested_elsewhere(command: str) -> bool:
    return any(part in command for part in ELSEWHERE)


SECTIONS = [section for section in sections(README) if not all(map(is_tested_elsewhere, section.commands))]


def test_every_command_is_run_here_or_elsewhere() -> None:
    """Counted without the parts above: the lines of bash blocks that are no comments and continue no line."""
    text = README.read_text(encoding="utf-8")
    lines = [line for block in text.split("```bash\n")[1:] for line in block.split("```")[0].splitlines()]
    count = sum(not before.endswith("\\") and not line.startswith("#") and line.strip() != ""
                for before, line in zip(["", *lines], lines, strict=False))
    here = [command for section in SECTIONS for command in section.commands]
    assert not any(map(is_tested_elsewhere, here)), "a section is run as a whole or not at all"
    assert len(here) + len(ELSEWHERE) == count
    assert len({section.heading for section in SECTIONS}) == len(SECTIONS) >= 13


def test_both_languages_show_the_same_commands() -> None:
    assert [section.commands for section in sections(README)] == [section.commands for section in sections(README_CN)]


def test_the_two_commands_stand_on_the_first_screen() -> None:
    for readme in (README, README_CN):
        first_screen = "\n".join(readme.read_text(encoding="utf-8").splitlines()[:24])
        assert "bash scripts/quick_start.sh" in first_screen
        assert "bash scripts/run_tests.sh" in first_screen


def test_links_and_pictures_are_there() -> None:
    for readme in (README, README_CN):
        text = readme.read_text(encoding="utf-8")
        for target in re.findall(r"\]\((?!https?:|#)([^)]+)\)", text):
            assert (REPOSITORY / target.partition("#")[0]).exists(), f"{readme.name}: {target}"


class Clone:
    """A copy of the project without what git ignores, so that the commands leave nothing behind here."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.failures: dict[str, str] = {}  # of the sections that were run, by heading: what went wrong, or nothing
        tracked = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=REPOSITORY, check=True,
                                 capture_output=True, text=True).stdout.split("\0")
        for name in filter(None, tracked):
            if (REPOSITORY / name).exists() and not name.startswith("tests/"):
                (directory / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(REPOSITORY / name, directory / name)

    def run(self, section: Section) -> str:
        """Run the commands of a section, unless that is done; return what went wrong."""
        if section.heading not in self.failures:
            failures = (self._failure(command) for command in section.commands)
            self.failures[section.heading] = next(filter(None, failures), "")
        return self.failures[section.heading]

    def _failure(self, command: str) -> str:
        python = Path(sys.executable).parent
        environment = os.environ | {"PATH": f"{python}{os.pathsep}{os.environ['PATH']}", "PYTHON": sys.executable,
                                    "CMAKE_BUILD_TYPE": "Debug"}  # takes half the time to build
        try:
            done = subprocess.run(["bash", "-c", command], cwd=self.directory, env=environment, capture_output=True,
                                  text=True, stdin=subprocess.DEVNULL, timeout=600)
        except subprocess.TimeoutExpired:
            return f"{command}\nhas not ended after ten minutes"
        if done.returncode:
            return f"{command}\nexit status {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        return ""


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    return Clone(tmp_path_factory.mktemp("readme") / "clone")


def needed_by(section: Section) -> list[Section]:
    """The earlier sections that it needs, in order: those that were the first to name a path that it uses, or a path
    that begins so, and what these need."""
    named: set[str] = set()
    needed: set[Section] = set()
    for earlier in SECTIONS[:SECTIONS.index(section)]:
        made = earlier.paths - named
        named |= made
        if any(path.startswith(beginning) for path in section.paths for beginning in made):
            needed |= {earlier, *needed_by(earlier)}
    return [earlier for earlier in SECTIONS if earlier in needed]


# Half a minute each, and tests/scripts and tests/inference run the same launchers and the same program.
SLOW = {"Distributed training", "C++", "Your own data"}


@pytest.mark.parametrize("section", [
    pytest.param(section, id=re.sub(r"[^\w+]+", "_", section.heading),
                 marks=[pytest.mark.slow] if section.heading in SLOW else []) for section in SECTIONS])
def test_commands_of_a_section_run_as_written(clone: Clone, section: Section) -> None:
    """The sections that it needs have run before; when it is chosen alone, they run now."""
    if not COMPILER and any("_cpp.sh" in command for command in section.commands):
        pytest.skip("cmake or a C++ compiler absent")
    for needed in needed_by(section):
        if failure := clone.run(needed):
            pytest.skip(f'it needs the section "{needed.heading}", which failed: {failure.splitlines()[0]}')
    failure = clone.run(section)
    assert not failure, f'README.md, section "{section.heading}": {failure}'
