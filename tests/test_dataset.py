import subprocess
import sys

import numpy as np
import pytest
from paths import REPOSITORY

from src import dataset as data
from src.errors import UserError
from src.records.columns import Limit, pretrain_columns, pretrain_limits
from src.records.sample_order import SampleOrder
from src.records.writer import RecordWriter

S, P, V = 32, 4, 90
COLUMNS = pretrain_columns(S, P)
FORMATS = ("mindrecord", "tfrecord")
SIZES = (20, 33)  # records of the two files
N = sum(SIZES)
BUCKETS = [8, 16, 32]
TRIM, GROUP = (data.Bucketing(length_grouping=name) for name in ("trim", "group"))
LIMITS = pretrain_limits(V, 2, S)


def make_rows(first, count):
    """Plausible records of 4 to 32 tokens; their first weight is their number."""
    numbers = np.random.default_rng(first)
    lengths = numbers.integers(P, S + 1, count)
    mask = np.arange(S) < lengths[:, None]
    weights = np.zeros((count, P), np.float32)
    weights[:, 0] = np.arange(first, first + count)
    return {"input_ids": numbers.integers(1, V, (count, S)) * mask,
            "input_mask": mask.astype(np.int32),
            "segment_ids": ((np.arange(S) > lengths[:, None] // 2) * mask).astype(np.int32),
            "next_sentence_labels": numbers.integers(0, 2, (count, 1)),
            "masked_lm_positions": np.tile(np.arange(P), (count, 1)),
            "masked_lm_ids": numbers.integers(0, V, (count, P)),
            "masked_lm_weights": weights}


EVERYTHING = {name: np.concatenate([make_rows(0, SIZES[0])[name], make_rows(SIZES[0], SIZES[1])[name]])
              for name in COLUMNS}


def write(directory, dataset_format, parts):
    directory.mkdir()
    for number, batch in enumerate(parts):
        with RecordWriter(directory / f"part{number}.{dataset_format}", COLUMNS, dataset_format) as writer:
            writer.write(batch)
    return directory


@pytest.fixture(scope="session")
def directories(tmp_path_factory):
    root = tmp_path_factory.mktemp("dataset")
    return {name: write(root / name, name, [make_rows(0, SIZES[0]), make_rows(*SIZES)]) for name in FORMATS}


def open_format(directories, dataset_format):
    return data.open_records(directories[dataset_format], dataset_format, data.PRETRAIN_TYPES, seq_length=S)


@pytest.fixture(params=FORMATS)
def records(request, directories):
    return open_format(directories, request.param)


@pytest.fixture
def mindrecords(directories):
    return open_format(directories, "mindrecord")


def numbers_of(batch):
    """The numbers of the records in a batch."""
    return batch[list(COLUMNS).index("masked_lm_weights")][:, 0].astype(int)


def same(left, right):
    return len(left) == len(right) and all(np.array_equal(one, other) for one, other in zip(left, right, strict=True))


def told(call, *args, **kwargs):
    with pytest.raises(UserError) as caught:
        call(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---------------------------------------------------------------- training

def test_steps_hold_the_rows_of_the_order(records):
    stream = data.BatchStream(records, 4, 30, seed=5, accumulation_steps=2, limits=LIMITS)
    assert len(stream) == 30
    steps = list(stream)
    assert len(steps) == 30
    for batch, step in zip(steps, SampleOrder(N, 8, 5).steps(0, 30), strict=True):
        for (name, (dtype, length)), values in zip(COLUMNS.items(), batch, strict=True):
            assert values.dtype == dtype
            assert values.shape == (8, length)
            assert np.array_equal(values, EVERYTHING[name][step.rows])


def test_both_formats_give_the_same_batches(directories):
    for buckets in ([], BUCKETS):
        one, other = (list(data.BatchStream(open_format(directories, name), 6, 20, seed=1,
                                            bucketing=data.Bucketing(buckets))) for name in FORMATS)
        assert all(same(*pair) for pair in zip(one, other, strict=True))


@pytest.mark.parametrize("buckets", [[], BUCKETS])
def test_starting_later_gives_the_same_steps(mindrecords, buckets, monkeypatch):
    monkeypatch.setattr(data, "_ROWS_READ_AT_ONCE", 10)
    steps = list(data.BatchStream(mindrecords, 5, 40, seed=2, bucketing=data.Bucketing(buckets)))
    for start in (1, 9, 10, 11, 25, 39):
        stream = data.BatchStream(mindrecords, 5, 40, seed=2, start_step=start, bucketing=data.Bucketing(buckets))
        assert len(stream) == 40 - start
        assert all(same(*pair) for pair in zip(stream, steps[start:], strict=True))
        assert len(list(stream)) == 40 - start  # it can be iterated again
    assert list(data.BatchStream(mindrecords, 5, 40, seed=2, start_step=40)) == []


@pytest.mark.parametrize("buckets", [[], BUCKETS])
@pytest.mark.parametrize("accumulation_steps", [1, 3])
def test_two_ranks_see_what_one_sees(mindrecords, accumulation_steps, buckets):
    common = {"total_steps": 25, "seed": 4, "accumulation_steps": accumulation_steps,
              "bucketing": data.Bucketing(buckets)}
    alone = data.BatchStream(mindrecords, 4, **common)
    first, second = (data.BatchStream(mindrecords, 2, **common, rank=rank, rank_size=2) for rank in range(2))
    for whole, *halves in zip(alone, first, second, strict=True):
        for column, *parts in zip(whole, *halves, strict=True):
            length = column.shape[1]
            batches = [part.reshape(accumulation_steps, 2, length) for part in parts]  # [A, B / 2, length]
            assert np.array_equal(np.concatenate(batches, axis=1).reshape(-1, length), column)


@pytest.mark.parametrize("rank_size", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("accumulation_steps", [1, 2])
def test_any_number_of_ranks_takes_every_record_once_an_epoch(mindrecords, rank_size, accumulation_steps):
    """No step divides the 53 records: after as many epochs as a step has rows, each was taken that often."""
    rows = 2 * accumulation_steps * rank_size
    ranks = [data.BatchStream(mindrecords, 2, N, seed=1, accumulation_steps=accumulation_steps, rank=rank,
                              rank_size=rank_size) for rank in range(rank_size)]
    steps = [np.concatenate([numbers_of(batch) for batch in of_ranks]) for of_ranks in zip(*ranks, strict=True)]
    assert np.bincount(np.concatenate(steps), minlength=N).tolist() == [rows] * N
    first_epoch = np.concatenate(steps[:N // rows])
    assert len(set(first_epoch.tolist())) == len(first_epoch)


def test_file_order_without_shuffling_and_first_rows_only(directories):
    records = data.open_records(directories["tfrecord"], "tfrecord", data.PRETRAIN_TYPES, num_samples=21)
    steps = data.BatchStream(records, 6, 7, seed=0, shuffle=False)
    assert np.concatenate([numbers_of(batch) for batch in steps]).tolist() == [*range(21), *range(21)]


def test_buckets_cut_padding_only(records):
    stream = data.BatchStream(records, 3, 2 * N // 3, seed=3, bucketing=data.Bucketing(BUCKETS), limits=LIMITS)
    widths, seen = [], []
    for batch in stream:
        ids, mask, segments, *rest = batch
        rows = numbers_of(batch)
        width = ids.shape[1]
        for name, values in (("input_ids", ids), ("input_mask", mask), ("segment_ids", segments)):
            assert values.flags.c_contiguous
            assert np.array_equal(values, EVERYTHING[name][rows][:, :width])
            assert not EVERYTHING[name][rows][:, width:].any()
        for name, values in zip(list(COLUMNS)[3:], rest, strict=True):
            assert np.array_equal(values, EVERYTHING[name][rows])
        widths.append(width)
        seen.append(rows)
    assert set(widths) == set(BUCKETS)
    counts = np.bincount(np.concatenate(seen), minlength=N)
    assert counts.sum() == 2 * N // 3 * 3
    assert set(counts) <= {1, 2}


def test_used_lengths(records):
    assert np.array_equal(data.used_lengths(records), EVERYTHING["input_mask"].sum(axis=1))


@pytest.mark.parametrize("buckets, words", [
    ([8, 16], f"the largest bucket is 16, but the records of {{}} have {S} tokens; end bucket_list with {S}"),
    ([8, 64], "the largest bucket is 64, but"),
    ([16, 8, 32], "[16, 8, 32] is not a list of ascending lengths"),
    ([8, 8, 32], "is not a list of ascending lengths"),
    ([0, 32], "is not a list of ascending lengths"),
])
def test_bucket_list_that_does_not_fit(mindrecords, buckets, words):
    message = told(data.BatchStream, mindrecords, 4, 10, seed=0, bucketing=data.Bucketing(buckets))
    assert message.startswith("bucket_list: ")
    assert words.format(mindrecords.files[0]) in message


@pytest.mark.parametrize("column, place, value, words", [
    ("input_ids", 3, V, f"input_ids holds {V}, expected 0 to {V - 1} (vocab_size is {V})"),
    ("input_ids", 3, -1, "input_ids holds -1"),
    ("input_mask", 0, 2, "input_mask holds 2, expected 0 to 1"),
    ("segment_ids", 5, 2, "segment_ids holds 2, expected 0 to 1 (type_vocab_size is 2)"),
    ("next_sentence_labels", 0, 5, "next_sentence_labels holds 5"),
    ("masked_lm_positions", 2, S, f"masked_lm_positions holds {S}, expected 0 to {S - 1} (seq_length is {S})"),
    ("masked_lm_weights", 3, np.nan, "masked_lm_weights holds nan, expected a finite number"),
    ("masked_lm_ids", 1, 12345, f"masked_lm_ids holds 12345, expected 0 to {V - 1} (vocab_size is {V})"),
])
def test_values_out_of_range_are_named(tmp_path, column, place, value, words):
    bad = make_rows(*SIZES)
    bad[column][7, place] = value
    for name in FORMATS:
        directory = write(tmp_path / name, name, [make_rows(0, SIZES[0]), bad])
        records = data.open_records(directory, name, data.PRETRAIN_TYPES)
        stream = data.BatchStream(records, 4, N, seed=0, limits=LIMITS)
        for batches in (stream, data.EvaluationBatches(records, 4, limits=LIMITS)):
            message = told(list, batches)
            assert message.startswith(f"{directory / f'part1.{name}'}: record 7: {words}")
        assert str(stream.error).startswith(f"{directory}")


def test_position_beyond_the_mask_is_named_with_buckets(tmp_path):
    rows = make_rows(0, 20)
    for name in ("input_ids", "input_mask", "segment_ids"):
        rows[name][:, 8:] = 0
    rows["masked_lm_positions"][3, 1] = 8
    records = data.open_records(write(tmp_path / "x", "mindrecord", [rows]), "mindrecord", data.PRETRAIN_TYPES)
    message = told(list, data.BatchStream(records, 4, 5, seed=0, bucketing=data.Bucketing(BUCKETS), limits=LIMITS))
    assert "record 3: masked_lm_positions holds 8, expected 0 to 7 (input_mask ends before it)" in message


# ---------------------------------------------------------------- through MindSpore's pipeline

def test_dataset_yields_the_stream(mindrecords):
    stream = data.BatchStream(mindrecords, 4, 30, seed=5, start_step=3, bucketing=data.Bucketing(BUCKETS))
    dataset = data.create_dataset(stream)
    assert dataset.get_dataset_size() == 27
    assert dataset.get_col_names() == list(COLUMNS)
    batches = list(dataset.create_tuple_iterator(num_epochs=1, output_numpy=True))
    assert all(same(*pair) for pair in zip(batches, stream, strict=True))


def test_dataset_gives_the_user_error_back(mindrecords):
    stream = data.BatchStream(mindrecords, 4, 30, seed=5, limits=pretrain_limits(10, 2, S))

    def consume():
        with data.user_errors_of(stream):
            for _ in data.create_dataset(stream, to_device_queue=True).create_tuple_iterator(num_epochs=1):
                pass

    assert "(vocab_size is 10)" in told(consume)
    with pytest.raises(RuntimeError, match="something else"), \
            data.user_errors_of(data.BatchStream(mindrecords, 4, 30, seed=5)):
        raise RuntimeError("something else")


def test_a_bad_batch_is_an_error_when_its_step_begins(mindrecords):
    """The pipeline reads ahead of the training: the steps before are run, and the error is the user's alone."""
    good = list(data.BatchStream(mindrecords, 4, 30, seed=5))
    bound = max(int(batch[0].max()) for batch in good[:3]) + 1
    number = next(n for n, batch in enumerate(good, 1) if batch[0].max() >= bound)
    stream = data.BatchStream(mindrecords, 4, 30, seed=5, limits={"input_ids": Limit(bound, "as in the first")})
    batches = list(data.create_dataset(stream).create_tuple_iterator(num_epochs=1, output_numpy=True))
    assert len(batches) == 30
    assert all(same(*pair) for pair in zip(batches[:number - 1], good, strict=False))
    for step in range(1, number):
        stream.check(step)
    assert "as in the first" in told(stream.check, number)
    assert "as in the first" in told(stream.check, 30)


LEAVE_EARLY = """
import sys
from src import dataset as data
records = data.open_records(sys.argv[1], "mindrecord", data.PRETRAIN_TYPES)
iterator = data.create_dataset(data.BatchStream(records, 4, 100_000, seed=0)).create_tuple_iterator(num_epochs=1)
next(iterator)
print("left")
"""


def test_leaving_early_neither_hangs_nor_complains(directories):
    result = subprocess.run([sys.executable, "-c", LEAVE_EARLY, directories["mindrecord"]], cwd=REPOSITORY, timeout=120,
                            capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (0, "left\n", "")


# ---------------------------------------------------------------- length grouping

SEQUENCES = ("input_ids", "input_mask", "segment_ids")


def test_trimming_changes_nothing_but_the_padding(mindrecords, monkeypatch):
    monkeypatch.setattr("src.records.length_grouping.GRAPH_COST", 0)
    whole = data.BatchStream(mindrecords, 3, 60, seed=2)
    trimmed = data.BatchStream(mindrecords, 3, 60, seed=2, bucketing=TRIM, limits=LIMITS)
    widths = set()
    for full, cut in zip(whole, trimmed, strict=True):
        width = cut[0].shape[1]
        widths.add(width)
        for name, before, after in zip(COLUMNS, full, cut, strict=True):
            assert np.array_equal(before[:, :width] if name in SEQUENCES else before, after)
        assert not full[1][:, width:].any()  # no token was cut off
        assert full[1][:, width - 8:].any()  # and no eight columns of padding are left
    assert len(widths) > 1


def test_ranks_trim_to_the_same_length(mindrecords, monkeypatch):
    monkeypatch.setattr("src.records.length_grouping.GRAPH_COST", 0)
    steps = [list(data.BatchStream(mindrecords, 2, 20, seed=2, bucketing=TRIM, rank=rank, rank_size=2))
             for rank in range(2)]
    assert all(one[0].shape == other[0].shape for one, other in zip(*steps, strict=True))


def test_grouping_by_itself_takes_every_record_once_an_epoch(mindrecords, monkeypatch):
    monkeypatch.setattr("src.records.length_grouping.GRAPH_COST", 0)
    steps = list(data.BatchStream(mindrecords, 1, N, seed=2, bucketing=GROUP, limits=LIMITS))
    assert sorted(int(numbers_of(batch)[0]) for batch in steps) == list(range(N))
    assert len({batch[0].shape for batch in steps}) > 1


@pytest.mark.parametrize("rank_size", [1, 2])
def test_grouped_evaluation_takes_every_record_once(mindrecords, monkeypatch, rank_size):
    monkeypatch.setattr("src.records.length_grouping.GRAPH_COST", 0)
    seen, shapes = [], []
    for rank in range(rank_size):
        batches = data.EvaluationBatches(mindrecords, 4, group_by_length=True, rank=rank, rank_size=rank_size)
        shapes.append([batch[0].shape for batch, _ in batches])
        for batch, rows in batches:
            assert numbers_of(batch)[:len(rows)].tolist() == rows.tolist()
            assert batch[1].sum(axis=1)[:len(rows)].tolist() == EVERYTHING["input_mask"][rows].sum(axis=1).tolist()
            seen += rows.tolist()
    assert sorted(seen) == list(range(N))
    assert all(one == shapes[0] for one in shapes)
    assert {shape[0] for shape in shapes[0]} == {4}
    assert len(set(shapes[0])) > 1


# ---------------------------------------------------------------- evaluation

@pytest.mark.parametrize("batch_size", [1, 10, 53, 100])
@pytest.mark.parametrize("rank_size", [1, 2, 3])
def test_evaluation_takes_every_record_once(records, batch_size, rank_size):
    seen = []
    lengths = set()
    for rank in range(rank_size):
        batches = data.EvaluationBatches(records, batch_size, rank=rank, rank_size=rank_size, limits=LIMITS)
        lengths.add(len(batches))
        count = 0
        for batch, valid_rows in batches:
            assert [values.shape for values in batch] == [(batch_size, length) for _, length in COLUMNS.values()]
            rows = numbers_of(batch)
            assert np.array_equal(batch[0], EVERYTHING["input_ids"][rows])
            assert rows[:len(valid_rows)].tolist() == valid_rows.tolist()
            seen += valid_rows.tolist()
            count += 1
        assert count == len(batches)
    assert sorted(seen) == list(range(N))
    assert len(lengths) == 1  # the same for all ranks


def test_evaluation_keeps_file_order(mindrecords):
    seen = [numbers_of(batch)[:len(rows)] for batch, rows in data.EvaluationBatches(mindrecords, 7)]
    assert np.concatenate(seen).tolist() == list(range(N))
