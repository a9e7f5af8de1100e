"""Fixtures that several test files use."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The directory with real third-party data; a test that asks for it is skipped where there is none."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    directory = Path(os.environ.get("BERT_TEST_DATA", default))
    if not directory.is_dir():
        pytest.skip(f"real data absent (no directory {directory}; BERT_TEST_DATA names another)")
    return directory
