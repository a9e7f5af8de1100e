import numpy as np
import pytest

from src.records.sample_order import SampleOrder, rank_share

BUCKETS = (8, 16, 32)
# (records, rows in a step): several steps an epoch with a remainder, none, and an epoch smaller than a step
SIZES = [(100, 8), (64, 8), (97, 10), (5, 8), (3, 20)]
EPOCHS = 7


def lengths_of(num_rows):
    return np.random.default_rng(0).integers(1, 33, num_rows)


def order_of(num_rows, step_rows, bucketed, seed=3, shuffle=True):
    return SampleOrder(num_rows, step_rows, seed, shuffle, *((BUCKETS, lengths_of(num_rows)) if bucketed else ()))


def all_steps(order):
    return list(order.steps(0, order.steps_through(EPOCHS - 1)))


@pytest.mark.parametrize("bucketed", [False, True])
@pytest.mark.parametrize("num_rows, step_rows", SIZES)
def test_every_record_once_in_an_epoch(num_rows, step_rows, bucketed):
    order = order_of(num_rows, step_rows, bucketed)
    steps = all_steps(order)
    assert len(steps) == EPOCHS * num_rows // step_rows
    assert {len(step.rows) for step in steps} == {step_rows}
    for epoch in range(EPOCHS):
        taken = [step.rows for step in steps[:order.steps_through(epoch)]]
        counts = np.bincount(np.concatenate([*taken, np.empty(0, int)]), minlength=num_rows)
        carried = (epoch + 1) * num_rows % step_rows
        assert counts.max() <= epoch + 1
        assert counts.sum() == (epoch + 1) * num_rows - carried


@pytest.mark.parametrize("bucketed", [False, True])
@pytest.mark.parametrize("num_rows, step_rows", SIZES)
def test_starting_anywhere_gives_the_same_steps(num_rows, step_rows, bucketed):
    order = order_of(num_rows, step_rows, bucketed)
    steps = all_steps(order)
    for start in range(len(steps)):
        later = list(order_of(num_rows, step_rows, bucketed).steps(start, len(steps)))
        assert len(later) == len(steps) - start
        for one, other in zip(later, steps[start:], strict=True):
            assert np.array_equal(one.rows, other.rows)
            assert one.bucket == other.bucket


@pytest.mark.parametrize("num_rows, step_rows", SIZES)
def test_rows_fit_their_bucket(num_rows, step_rows):
    lengths = lengths_of(num_rows)
    for step in all_steps(order_of(num_rows, step_rows, bucketed=True)):
        assert lengths[step.rows].max() <= step.bucket


def test_only_leftovers_go_to_a_larger_bucket():
    lengths = lengths_of(100)
    order = order_of(100, 8, bucketed=True)
    first_epoch = list(order.steps(0, order.steps_through(0)))
    for smaller, bucket in ((0, 8), (8, 16), (16, 32)):
        fitting = ((lengths > smaller) & (lengths <= bucket)).sum()
        steps = sum(step.bucket == bucket for step in first_epoch)
        assert steps >= fitting // 8 - (bucket == 32)
    assert len({step.bucket for step in first_epoch[:6]}) > 1  # mixed in time, not one bucket after another


@pytest.mark.parametrize("long_rows", [1, 3, 7])
@pytest.mark.parametrize("shuffle", [True, False])
def test_a_few_long_rows_are_taken_in_every_epoch(long_rows, shuffle):
    """Fewer than a step: they wait for the next epoch at most, and a step never takes copies of one from several."""
    lengths = np.where(np.arange(96 + long_rows) < long_rows, 30, 5)
    order = SampleOrder(len(lengths), 8, 3, shuffle, BUCKETS, lengths)
    for epoch in range(20):
        taken = [step.rows for step in order.steps(0, order.steps_through(epoch))]
        counts = np.bincount(np.concatenate(taken), minlength=len(lengths))
        assert set(counts) <= {epoch, epoch + 1}
    for step in order.steps(0, order.steps_through(19)):
        assert np.unique(step.rows, return_counts=True)[1].max() <= 2  # at the border of two epochs
        assert lengths[step.rows].max() <= step.bucket


def test_epoch_of_counts_the_epoch_that_completes_a_step():
    order = SampleOrder(10, 4, seed=0)
    assert [order.epoch_of(step) for step in range(8)] == [0, 0, 1, 1, 1, 2, 2, 3]
    assert [order.steps_through(epoch) for epoch in range(4)] == [2, 5, 7, 10]


def test_seed_and_epoch_decide_the_order():
    first = np.concatenate([step.rows for step in SampleOrder(40, 8, seed=1).steps(0, 10)])
    assert sorted(first[:40]) == sorted(first[40:]) == list(range(40))
    assert not np.array_equal(first[:40], first[40:])
    assert not np.array_equal(first[:40], np.arange(40))
    other = np.concatenate([step.rows for step in SampleOrder(40, 8, seed=2).steps(0, 10)])
    assert not np.array_equal(first, other)


def test_order_is_pinned():
    """A checkpoint's position means this order: a change would make old checkpoints resume elsewhere."""
    steps = SampleOrder(10, 5, seed=7).steps(0, 4)
    assert [step.rows.tolist() for step in steps] == [
        [8, 0, 7, 1, 3], [6, 2, 4, 5, 9], [9, 0, 8, 6, 7], [1, 3, 4, 2, 5]]
    steps = SampleOrder(10, 3, seed=7, buckets=(4, 9), lengths=np.arange(10)).steps(0, 6)
    assert [(step.bucket, step.rows.tolist()) for step in steps] == [
        (4, [0, 1, 3]), (9, [8, 7, 6]), (9, [5, 9, 2]), (9, [4, 9, 8]), (4, [0, 1, 3]), (9, [6, 7, 5])]


def test_without_shuffling_the_files_order_repeats():
    rows = np.concatenate([step.rows for step in SampleOrder(10, 4, seed=1, shuffle=False).steps(0, 5)])
    assert rows.tolist() == [*range(10), *range(10)]


def test_ranks_share_each_accumulated_batch():
    rows = np.arange(24)  # 3 batches of 8
    alone = rank_share(rows, 3, 0, 1).reshape(3, 8)
    assert np.array_equal(alone, rows.reshape(3, 8))
    two = [rank_share(rows, 3, rank, 2).reshape(3, 4) for rank in range(2)]
    assert np.array_equal(np.concatenate(two, axis=1), alone)
