"""What `benchmarks/fuzz_readers.py` found once: each file is still read, or refused by one line."""

from pathlib import Path

import pytest
from toy_inputs import write_inputs

from benchmarks.fuzz_readers import READERS, fuzz, more_inputs, outcome

FINDINGS = sorted((Path(__file__).parent / "findings").iterdir())
NEEDS_TENSORFLOW = {"tf_config", "tf_index"}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = write_inputs(tmp_path_factory.mktemp("inputs"))
    more_inputs(folder, with_tensorflow=False)
    return folder


@pytest.mark.parametrize("finding", FINDINGS, ids=lambda path: path.name)
def test_a_finding_stays_mended(inputs, finding):
    reader = READERS[finding.name.rpartition("-")[0]]
    sound = (inputs / reader.file).read_bytes()
    try:
        assert outcome(reader, inputs / reader.file, finding.read_bytes()) is None
    finally:
        (inputs / reader.file).write_bytes(sound)


@pytest.mark.parametrize("name", sorted(READERS.keys() - NEEDS_TENSORFLOW))
def test_a_few_damaged_files(inputs, name):
    tried, found = fuzz(name, inputs, seconds=0.1, seed=0, findings=None)
    assert tried > 0 and not found
