"""Pre-training from the command line: every option, exact resume, divergence, and what a mistake gives."""

import json
import re
import shutil
import signal
import time
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from toy_pretraining import start_script, tiny_options, toy_batch, write_records

import run_pretrain
from src.checkpoint import find_newest, read_weights
from src.errors import UserError
from src.metrics_file import read_metrics

LOG_LINE = re.compile(
    r"epoch: (?P<epoch>\d+\.0), current epoch percent: (?P<percent>[01]\.\d{3}), step: (?P<step>\d+), outputs are "
    r"\(Tensor\(shape=\[1\], dtype=Float32, \[ (?P<loss>\d\.\d{7}e[+-]\d\d)\]\), "
    r"Tensor\(shape=\[\], dtype=Bool, (?P<overflow>True|False)\), "
    r"Tensor\(shape=\[\], dtype=Float32, (?P<scale>\d+)\)\), [\d.]+ samples/s, (\d+:\d\d:\d\d|\?) left")


def pretrain(output_dir: Path, **options: object) -> str:
    """Run the command in this process; return what it printed."""
    printed = StringIO()
    with redirect_stdout(printed):
        run_pretrain.main(tiny_options(save_checkpoint_path=output_dir, **options))
    return printed.getvalue()


def steps_of(output_dir: Path) -> list[dict]:
    """The metrics of each step, without the rate, which is never the same twice."""
    return [{key: value for key, value in line.items() if key != "samples_per_second"}
            for line in read_metrics(output_dir / "metrics.jsonl") if "loss" in line]
