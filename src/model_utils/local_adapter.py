"""What a launcher tells its processes through environment variables, on an ordinary machine."""

import os
import re

from src.errors import UserError, quoted


def get_device_id(default: int = 0) -> int:
    """Return the device that the launcher assigned to this process (DEVICE_ID), or `default`."""
    return whole_number("DEVICE_ID", default)


def get_device_num() -> int:
    """Return how many processes the launcher started (RANK_SIZE, or else DEVICE_NUM), 1 without a launcher."""
    return whole_number("RANK_SIZE", whole_number("DEVICE_NUM", 1))


def get_rank_id() -> int:
    """Return this process's number among those of the launcher (RANK_ID, of mpirun its own), 0 without a launcher."""
    return whole_number("RANK_ID", whole_number("OMPI_COMM_WORLD_RANK", 0))


def whole_number(variable: str, default: int) -> int:
    """Return the value of an environment variable, or `default` where it is not set.

    Raises:
        UserError: it is no whole number.
    """
    text = os.environ.get(variable, "")
    if text and not re.fullmatch("[0-9]{1,9}", text):
        raise UserError(f"environment variable {variable}: expected a whole number, found {quoted(text)}")
    return int(text) if text else default
