"""The block that is pasted into an issue."""

import getpass
import re
import socket
from collections.abc import Mapping
from pathlib import Path

from src.model_utils.config import REPOSITORY
from src.tools.hardware_smoke.checks import CHECKS
from src.tools.hardware_smoke.outcome import Outcome, Verdict

LONGEST_TEXT = 400
_DIRECTORIES = re.compile(r"(?<![\w.…])~?(?:/[\w.@+~-]+)+/(?=[\w.@+~-])")


def block(title: str, outcomes: Mapping[int, Outcome]) -> str:
    """All outcomes by the numbers of their checks, as fenced Markdown: a line each, behind them what else was seen."""
    width = max(len(check.title) for check in CHECKS)
    counts = ", ".join(f"{sum(outcome.verdict is verdict for outcome in outcomes.values())} {verdict.value}"
                       for verdict in Verdict)
    lines = [f"{number:2} {outcome.verdict.value} {CHECKS[number - 1].title:{width}}  {anonymous(outcome.numbers)} "
             f"({outcome.seconds:.1f} s)" for number, outcome in outcomes.items()]
    further = [f"{number:2}: {anonymous(line)}" for number, outcome in outcomes.items() for line in outcome.further]
    return "\n".join(["```text", f"{title}: {counts}", *lines, *further, "```"])


def anonymous(text: str) -> str:
    """A text as one line without directories and the names of user and host, which an issue need not show."""
    text = " ".join(text.split()).replace("```", "'''")  # a fence inside would end the block
    for directory in (REPOSITORY, Path.cwd(), Path.home()):  # which may have spaces in their names
        if directory != Path(directory.anchor):
            text = text.replace(str(directory), "…")
    text = _DIRECTORIES.sub("…/", text)
    for name in {socket.gethostname(), _user_name(), Path.home().name} - {"", "root", "localhost"}:
        text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "…", text)
    return text if len(text) <= LONGEST_TEXT else text[:LONGEST_TEXT - 1] + "…"


def _user_name() -> str:
    """Empty where the system has none for the user's number, as in some containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""
