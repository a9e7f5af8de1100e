"""Fixtures that several test files use."""

import os
from pathlib import Path

import pytest
from toy_pretraining import toy_batch, write_records


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The directory with real third-party data; a test that asks for it is skipped where there is none."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    directory = Path(os.environ.get("BERT_TEST_DATA", default))
    if not directory.is_dir():
        pytest.skip(f"real data absent (no directory {directory}; BERT_TEST_DATA names another)")
    return directory


@pytest.fixture(scope="session")
def toy_records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the same 100 toy records in `mindrecord/` and in `tfrecord/` (there with schema.json)."""
    root = tmp_path_factory.mktemp("records")
    for dataset_format in ("mindrecord", "tfrecord"):
        write_records(root / dataset_format, toy_batch(100), dataset_format)
    return root
