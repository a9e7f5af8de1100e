import itertools

import numpy as np
import pytest

from src.records.length_grouping import GRAPH_COST, choose_lengths, fitting_length


def cost(chosen, lengths, full_length, num_batches):
    """What `choose_lengths` promises to minimise."""
    padded = np.array(chosen)[np.searchsorted(chosen, lengths)]
    return padded.mean() * num_batches + GRAPH_COST * full_length * len(chosen)


@pytest.mark.parametrize("num_batches", [1, 100, 700, 5000])
def test_choice_is_the_cheapest_of_all(num_batches):
    lengths = np.random.default_rng(0).gamma(3.0, 8.0, 400).astype(int).clip(1, 64)
    longest = -(-int(lengths.max()) // 8) * 8
    shorter = range(8, longest, 8)
    every = [[*some, longest] for count in range(len(shorter) + 1) for some in itertools.combinations(shorter, count)]
    chosen = choose_lengths(lengths, 64, num_batches)
    assert cost(chosen, lengths, 64, num_batches) == pytest.approx(
        min(cost(some, lengths, 64, num_batches) for some in every))
    assert chosen == sorted(set(chosen))


def test_a_short_run_compiles_one_graph():
    assert choose_lengths(np.arange(1, 61), 128, 10) == [64]
    assert len(choose_lengths(np.arange(1, 61), 128, 100_000)) > 3


def test_no_length_beyond_the_records_own():
    assert choose_lengths(np.array([13, 20]), 20, 1) == [20]
    assert choose_lengths(np.array([0, 0]), 20, 1) == [8]  # padding only


def test_fitting_length():
    assert [fitting_length(n, [8, 24, 64]) for n in (1, 8, 9, 24, 64)] == [8, 8, 24, 24, 64]
