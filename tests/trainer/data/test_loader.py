"""Every row is drawn once an epoch, on any number of ranks; loading gives the same batches with and without workers."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from locloc.pipeline.errors import TrainError
from locloc.trainer.data.datasets import NO_AUGMENTATION, LabelledImages
from locloc.trainer.data.loader import EpochLoader, EpochSampler, derive_seed
from locloc.trainer.recipe import ClassifierSettings

unhurried = settings(deadline=None)  # shared machines stall
CROP = 48  # as in conftest.py
EMPTY_ROW, BROKEN_ROW = 10, 11


@st.composite
def epochs(draw):
    """(rows, batch size, world size, seed): row numbers with gaps, in any order."""
    rows = draw(st.lists(st.integers(0, 2000), min_size=1, max_size=120, unique=True))
    seed = draw(st.none() | st.integers(0, 2**40))
    return np.array(rows), draw(st.integers(1, 140)), draw(st.integers(1, 5)), seed


def rows_of(batches: EpochSampler) -> list[list[int]]:
    return [[row for row, _ in share] for share in batches.shares()]


def drawn(batches: EpochSampler) -> dict[int, int]:
    return {row: number for share in batches for row, number in share}


@unhurried
@given(epochs())
def test_an_epoch_is_every_row_exactly_once(case):
    rows, batch_size, world, seed = case
    steps = EpochSampler(rows, batch_size, seed, 0, world).steps(3)
    assert sorted(np.concatenate(steps).tolist()) == sorted(rows.tolist())


@unhurried
@given(epochs())
def test_ranks_share_every_step_evenly_and_without_overlap(case):
    rows, batch_size, world, seed = case
    ranks = [EpochSampler(rows, batch_size, seed, rank, world) for rank in range(world)]
    whole = ranks[0].steps(0)
    shares = [rows_of(batches) for batches in ranks]
    assert {len(share) for share in shares} == {len(batches) for batches in ranks} == {len(whole)}
    for step, wanted in enumerate(whole):
        parts = [share[step] for share in shares]
        assert sorted(row for part in parts for row in part) == sorted(wanted.tolist())
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


@unhurried
@given(epochs())
def test_only_the_last_step_has_another_size(case):
    rows, batch_size, world, seed = case
    *full, last = map(len, EpochSampler(rows, batch_size, seed, 0, world).steps(0))
    assert full == [batch_size] * len(full)
    if full:
        assert min(2 * world, batch_size + 1) <= last < batch_size + 2 * world
    else:
        assert last == len(rows)


@pytest.mark.parametrize(
    ("count", "batch_size", "world", "sizes"),
    [
        (24, 8, 1, [8, 8, 8]),
        (25, 8, 1, [8, 8, 9]),
        (26, 8, 1, [8, 8, 8, 2]),
        (27, 8, 2, [8, 8, 11]),
        (28, 8, 2, [8, 8, 8, 4]),
        (5, 8, 1, [5]),
        (1, 8, 4, [1]),
        (9, 8, 4, [9]),
    ],
)
def test_a_remainder_of_fewer_than_two_a_rank_joins_the_step_before(count, batch_size, world, sizes):
    assert [len(step) for step in EpochSampler(np.arange(count), batch_size, 0, 0, world).steps(0)] == sizes


def test_order_follows_from_seed_and_epoch():
    rows = np.arange(5, 105)
    orders = {
        (seed, epoch): np.concatenate(EpochSampler(rows, 7, seed).steps(epoch)) for seed in (0, 1) for epoch in (0, 1)
    }
    assert len({order.tobytes() for order in orders.values()}) == 4
    for (seed, epoch), order in orders.items():
        assert np.array_equal(np.concatenate(EpochSampler(rows, 16, seed).steps(epoch)), order)
        assert not np.array_equal(order, rows)


def test_without_a_seed_rows_are_plain_and_in_their_order():
    batches = EpochSampler(np.array([9, 4, 7, 1, 0]), 3, None)
    batches.epoch = 5
    assert list(batches) == [
        [(9, NO_AUGMENTATION), (4, NO_AUGMENTATION), (7, NO_AUGMENTATION)],
        [(1, NO_AUGMENTATION), (0, NO_AUGMENTATION)],
    ]


def test_skipped_steps_are_those_at_the_beginning():
    whole, skipping = (EpochSampler(np.arange(50), 6, 3, 1, 2) for _ in range(2))
    whole.epoch = skipping.epoch = 2
    skipping.skip = 5
    assert list(skipping) == list(whole)[5:]
    skipping.skip = len(whole)
    assert list(skipping) == []


def test_the_seed_of_a_sample_depends_on_seed_epoch_and_row_alone():
    rows = np.arange(40)

    def draws(seed: int, epoch: int, batch_size: int, world: int) -> dict[int, int]:
        found = {}
        for rank in range(world):
            batches = EpochSampler(rows[::-1] if world > 1 else rows, batch_size, seed, rank, world)
            batches.epoch = epoch
            found |= drawn(batches)
        return found

    numbers = draws(0, 0, 8, 1)
    assert draws(0, 0, 8, 3) == draws(0, 0, 20, 4) == numbers
    assert all(0 <= number < 2**32 for number in numbers.values())
    others = [numbers, draws(0, 1, 8, 1), draws(1, 0, 8, 1), draws(1, 1, 8, 1)]
    assert len({number for drawing in others for number in drawing.values()}) == 160


@pytest.mark.parametrize("numbers", [(0, 0, 0), (1, 2, 3), (2**40, 7, 1_281_166)])
def test_seeds_are_32_bits_and_reproducible(numbers):
    assert derive_seed(*numbers) == derive_seed(*numbers) != derive_seed(*numbers[::-1], 1)
    assert 0 <= derive_seed(*numbers) < 2**32


def test_seeds_look_random():
    bits = np.array([derive_seed(0, 0, row) for row in range(2000)])[:, None] >> np.arange(32) & 1
    assert np.abs(bits.mean(0) - 0.5).max() < 0.06


def test_a_worker_gives_the_same_batches_and_errors_as_values(data, pairs):
    rows = np.array([0, 3, 5, 6, 8, 9, EMPTY_ROW, BROKEN_ROW, 1])
    loaders = [EpochLoader(pairs, EpochSampler(rows, 3, 0), workers) for workers in (0, 1)]
    for epoch in (0, 1):
        found = [list(loader.epoch(epoch)) for loader in loaders]
        errors = 0
        for in_process, from_worker in zip(*found, strict=True):
            if isinstance(in_process, TrainError):
                errors += 1
                assert type(from_worker) is TrainError and str(from_worker) == str(in_process)
                assert str(in_process).startswith("11: not an image of a known format") and "\n" not in str(in_process)
            else:
                assert all(torch.equal(*parts) for parts in zip(in_process, from_worker, strict=True))
        assert errors == 1 and len(found[0]) == 3


def test_batches_are_stacked_in_their_order(data):
    images, masks, _ = data
    labelled = LabelledImages(images, np.arange(100, 112), masks, ClassifierSettings(resize_px=64), CROP)
    batches = EpochSampler(np.array([4, 0, 9, 2, 7]), 3, None)
    (rgb, labels, rows), (rest, _, _) = EpochLoader(labelled, batches, 0).epoch()
    assert (rgb.shape, rgb.dtype, rest.shape[0]) == ((3, CROP, CROP, 3), torch.uint8, 2)
    assert labels.tolist() == [104, 100, 109] and labels.dtype == torch.int64
    assert rows.tolist() == [4, 0, 9]
    assert torch.equal(rgb[2], labelled[9, NO_AUGMENTATION][0])


def test_a_loader_follows_epoch_and_skip(data, pairs):
    loader = EpochLoader(pairs, EpochSampler(np.arange(10), 4, 0), 0)
    assert len(loader) == 3 and loader.rows.tolist() == list(range(10))
    first, again = list(loader.epoch(0)), list(loader.epoch(0))
    assert all(torch.equal(a.rgb, b.rgb) for a, b in zip(first, again, strict=True))
    assert [batch.row.tolist() for batch in loader.epoch(0, skip=1)] == [batch.row.tolist() for batch in first[1:]]
    assert [batch.row.tolist() for batch in loader.epoch(1)] != [batch.row.tolist() for batch in first]


def test_ranks_without_a_share_of_a_step_skip_it(pairs):
    sizes = [
        [len(batch[2]) for batch in EpochLoader(pairs, EpochSampler(np.arange(2), 8, None, rank, 3), 0).epoch()]
        for rank in range(3)
    ]
    assert sizes == [[1], [1], []]


def test_a_bug_in_a_dataset_is_raised():
    class Broken(torch.utils.data.Dataset):
        def __getitem__(self, sample):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(EpochLoader(Broken(), EpochSampler(np.arange(4), 2, None), 0).epoch())
