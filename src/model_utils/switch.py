"""Switches of commands that read their options with argparse: the words true and false, as in the YAML files."""

import argparse


def parse_bool(text: str) -> bool:
    """`true` or `false` in any case."""
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text.lower() == "true"


SWITCH = {"type": parse_bool, "nargs": "?", "const": True, "metavar": "true|false"}  # for `add_argument`
