"""How ranks of one host divide its cores; tests/training/test_distributed.py does so with two real ranks."""

import os

import pytest

from src.model_utils.core_share import core_share, share_of

EIGHT = list(range(8))


@pytest.mark.parametrize(("cores", "others", "share"), [
    (EIGHT, [], 8),
    (EIGHT, [EIGHT], 4),
    (EIGHT, [EIGHT, EIGHT], 2),  # of 8/3 cores
    (list(range(6)), [list(range(6))] * 2, 2),  # 6 times a third, which is a little less than 2 in floating point
    ([0, 1, 2, 3], [[4, 5, 6, 7]], 4),  # bound to cores of their own
    ([0, 1, 2, 3], [[2, 3, 4, 5]], 3),
    ([0, 1], [[0, 1]] * 7, 1),  # more ranks than cores
])
def test_a_core_is_divided_among_those_who_may_use_it(cores, others, share):
    assert share_of(cores, [cores, *others]) == share


def test_one_process_has_all_its_cores():
    assert core_share(1) == len(os.sched_getaffinity(0))
