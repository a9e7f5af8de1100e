"""Fixtures that several test files use."""

import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import mindspore as ms
import pytest
from modes import computing
from toy_pretraining import toy_batch, write_records

from benchmarks.validated_ir import ONLY_VALIDATED

# The tests are of MindSpore's own operators, also in a clone in which those of src/cpu_kernels were built; these have
# tests of their own, which say where theirs are.
os.environ["CPU_KERNELS_DIR"] = str(Path(__file__).with_name("no_cpu_kernels"))
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # which nohup, under which a suite may run, makes every child ignore
os.environ |= ONLY_VALIDATED  # before the first graph: tests that read graphs read those of this pass


@pytest.fixture(scope="module", autouse=True)
def no_search_of_what_stays() -> None:
    """MindSpore looks for garbage before it compiles a graph; modules and compiled graphs of earlier files stay."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def mode_of_module() -> Iterator[None]:
    """No file changes the mode for the next one; the entry scripts that a test calls choose graphs."""
    ms.set_seed(1)  # for what the fixtures of the file draw
    with computing(ms.get_context("mode")):
        yield


@pytest.fixture(autouse=True)
def seed() -> None:
    """What MindSpore draws by itself, such as the first weights of an LSTM, is the same in every run of a test."""
    ms.set_seed(1)


@pytest.fixture(scope="module")
def graph_mode_of_module() -> Iterator[None]:
    """For fixtures that a whole file shares."""
    with computing(ms.GRAPH_MODE):
        yield


@pytest.fixture
def graph_mode() -> Iterator[None]:
    """Networks are compiled."""
    with computing(ms.GRAPH_MODE):
        yield


@pytest.fixture
def pynative_mode() -> Iterator[None]:
    """Networks run call by call."""
    with computing(ms.PYNATIVE_MODE):
        yield


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
