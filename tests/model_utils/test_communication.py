"""Communication in a run of one process, and what cannot be sent; real ranks talk in test_distributed.py."""

import numpy as np
import pytest

from src.model_utils import communication
from src.model_utils.communication import any_rank, copy_from_first_rank, from_first_rank, gather


@pytest.fixture(autouse=True)
def no_collectives(monkeypatch):
    for name in ("AllGather", "Broadcast"):
        monkeypatch.setattr(communication.ops, name, lambda *_: pytest.fail("one process has nobody to talk to"))


def test_one_process_knows_everything_already():
    arrays = [np.arange(6).reshape(2, 3), np.array([0.5, -0.5])]  # of any type, as nothing is sent
    (gathered,) = gather(arrays, 1)
    assert all(found is given for found, given in zip(gathered, arrays, strict=True))
    assert any_rank(True, 1) and not any_rank(False, 1)
    value = {"step": 3}
    assert from_first_rank(value, 0, 1) is value
    copy_from_first_rank([], 0, 1)


@pytest.mark.parametrize("dtype", [np.float64, np.int64, np.uint8])
def test_only_types_of_four_bytes_are_sent(dtype):
    with pytest.raises(TypeError, match=f"found {np.dtype(dtype)}"):
        gather([np.zeros(3, dtype)], 2)
