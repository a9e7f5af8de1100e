"""What a check is told, and what it says."""

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

# How far results may be from those in exact arithmetic, relative to them: float16 has 3 digits, bfloat16 2.
TOLERANCES = {"float32": 1e-4, "float16": 1e-2, "bfloat16": 5e-2}


class Verdict(str, Enum):
    """How a check ended."""

    PASS = "PASS"
    FAIL = "FAIL"
    SKIP = "SKIP"


@dataclass(frozen=True)
class Outcome:
    """The verdict of a check.

    Attributes:
        verdict: of the check.
        numbers: what it was reached by, in a line.
        further: more lines, for the end of the report.
        seconds: that the check took.
    """

    verdict: Verdict
    numbers: str
    further: tuple[str, ...] = ()
    seconds: float = 0.0


def judge(good: bool, numbers: str, *further: str) -> Outcome:
    """PASS if `good`, otherwise FAIL."""
    return Outcome(Verdict.PASS if good else Verdict.FAIL, numbers, further)


def skip(why: str) -> Outcome:
    """SKIP, which is neither good nor bad."""
    return Outcome(Verdict.SKIP, why)


@dataclass(frozen=True)
class TimedSize:
    """The network of which a training step is timed."""

    layers: int
    hidden: int
    heads: int
    vocabulary: int
    length: int
    rows: int


BASE = TimedSize(layers=12, hidden=768, heads=12, vocabulary=21128, length=128, rows=32)
SMALL = TimedSize(layers=2, hidden=128, heads=2, vocabulary=1000, length=64, rows=16)


@dataclass(frozen=True)
class Setting:
    """Where and how large the checks are.

    Attributes:
        target: Ascend, GPU or CPU.
        device_id: number of the device.
        compute_type: of the matrix products.
        directory: for files; removed afterwards.
        values: whose norm is taken.
        timed: the network of which a training step is timed.
    """

    target: str
    device_id: int
    compute_type: str
    directory: Path
    values: int = 1 << 24
    timed: TimedSize = BASE

    @property
    def tolerance(self) -> float:
        """See `TOLERANCES`."""
        return TOLERANCES[self.compute_type]
