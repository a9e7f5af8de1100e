"""The checks, in the order of the report."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass

from src.tools.hardware_smoke.outcome import Outcome, Setting


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        title: what it is about.
        function: `module:name`; imported when it runs, so that the process which only watches needs no MindSpore.
        starts_ranks: whether it starts processes of its own, so that its own process must leave the devices alone.
    """

    title: str
    function: str
    starts_ranks: bool = False

    def resolve(self) -> Callable[[Setting], Outcome]:
        """The function."""
        module, _, name = self.function.partition(":")
        return getattr(importlib.import_module(f"{__package__}.{module}"), name)


# Numbered from 1.
CHECKS = (
    Check("versions and device", "versions:check_versions"),
    Check("int32 wraps around", "arithmetic:check_wrap_around"),
    Check("norm of many values", "arithmetic:check_norms"),
    Check("overflow is seen", "overflow:check_overflow_is_seen"),
    Check("dropout masks", "dropout:check_dropout"),
    Check("one step as stored", "reference:check_reference"),
    Check("overflow skips a step", "overflow:check_overflow_skips"),
    Check("accumulation", "training:check_accumulation"),
    Check("data sink", "training:check_data_sink"),
    Check("resume", "training:check_resume"),
    Check("two ranks", "ranks:check_two_ranks", starts_ranks=True),
    Check("speed by form", "speed:check_speed"),
    Check("export and reload", "model_file:check_model_file"),
)
