"""Samplers give every row once an epoch, on any number of ranks; samples depend on row and seed alone."""

import random

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from locloc.pipeline.errors import TrainError
from locloc.pipeline.recipe import Recipe
from locloc.pipeline.store.schema import pack_masks
from locloc.trainer.data.batches import GuidedBatch
from locloc.trainer.data.datasets import NO_AUGMENTATION, LabelledImages, MaskPairs, resized
from locloc.trainer.data.loader import EpochLoader, EpochSampler, derive_seed
from locloc.trainer.data.mask_cache import MaskCache
from locloc.trainer.data.version_images import VersionImages
from locloc.trainer.recipe import ClassifierSettings, GeneratorSettings, LinearSettings

unhurried = settings(deadline=None)  # shared machines stall
SIDE, CROP, COUNT = 64, 48, 12
WHITE, GREY = 255, 100
EMPTY_ROW, BROKEN_ROW = 10, 11
LABELS = np.arange(100, 100 + COUNT)


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


# --- batches ---------------------------------------------------------------------------------------------------------


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
    assert {len(own) for own in shares} == {len(batches) for batches in ranks} == {len(whole)}
    for step, wanted in enumerate(whole):
        parts = [own[step] for own in shares]
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

    one = draws(0, 0, 8, 1)
    assert draws(0, 0, 8, 3) == draws(0, 0, 20, 4) == one
    assert all(0 <= number < 2**32 for number in one.values())
    others = [one, draws(0, 1, 8, 1), draws(1, 0, 8, 1), draws(1, 1, 8, 1)]
    assert len({number for numbers in others for number in numbers.values()}) == 160


@pytest.mark.parametrize("numbers", [(0, 0, 0), (1, 2, 3), (2**40, 7, 1_281_166)])
def test_seeds_are_32_bits_and_reproducible(numbers):
    assert derive_seed(*numbers) == derive_seed(*numbers) != derive_seed(*numbers[::-1], 1)
    assert 0 <= derive_seed(*numbers) < 2**32


def test_seeds_look_random():
    bits = np.array([derive_seed(0, 0, row) for row in range(2000)])[:, None] >> np.arange(32) & 1
    assert np.abs(bits.mean(0) - 0.5).max() < 0.06


# --- images ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> tuple[VersionImages, MaskCache, np.ndarray]:
    """12 images of 96 x 64: masks of their central square of 64 are white, what is outside of a mask grey.

    The mask of row 10 is empty, the file of row 11 is no image.
    """
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(1)
    masks = np.kron(rng.random((COUNT, 8, 8)) < 0.4, np.ones((8, 8), bool))
    masks[EMPTY_ROW] = False
    ids = [f"{n:02}" for n in range(COUNT)]
    for image_id, mask in zip(ids, masks, strict=True):
        image = np.full((SIDE, 96, 3), GREY, np.uint8)
        image[:, 16:80][mask] = WHITE
        Image.fromarray(image).save(folder / f"{image_id}.png")
    (folder / f"{BROKEN_ROW}.png").write_bytes(b"no image")
    np.save(folder / "masks.npy", pack_masks(masks))
    recipe = Recipe.model_validate({"images": {"fit": "centre_crop"}, "mask_px": SIDE})
    images = VersionImages(folder, pa.array(ids), pa.array([f"{image_id}.png" for image_id in ids]), None, recipe)
    return images, MaskCache(folder / "masks.npy"), masks


@pytest.fixture
def pairs(data) -> MaskPairs:
    return MaskPairs(*data[:2], GeneratorSettings(resize_px=SIDE), CROP)


def labelled(data, masks: bool = True, size_px: int = CROP, **changes) -> LabelledImages:
    kept = data[1] if masks else None
    return LabelledImages(data[0], LABELS, kept, ClassifierSettings(resize_px=SIDE, **changes), size_px)


def unmoved(data, **more) -> LabelledImages:
    """Without crop, flip and colour changes, so that only the enhancement is left."""
    return labelled(data, size_px=SIDE, randaugment="", crop_scale=(1.0, 1.0), flip=False, **more)


def crops_of(mask: np.ndarray) -> set[bytes]:
    places = range(SIDE - CROP + 1)
    return {mask[y : y + CROP, x : x + CROP].tobytes() for y in places for x in places}


@pytest.mark.parametrize("number", [NO_AUGMENTATION, 0, 2**32 - 1])
def test_shapes_and_types(number, data, pairs):
    rgb, mask, row = pairs[3, number]
    assert (rgb.shape, rgb.dtype, mask.shape, mask.dtype) == ((CROP, CROP, 3), torch.uint8, (CROP, CROP), torch.bool)
    assert row == 3
    rgb, label, row = labelled(data)[3, number]
    assert (rgb.shape, rgb.dtype, label.item(), row.item()) == ((CROP, CROP, 3), torch.uint8, 103, 3)
    assert (label.dtype, row.dtype) == (torch.int64, torch.int64)


def test_an_image_and_its_mask_are_cropped_and_flipped_together(data, pairs):
    views = set()
    for number in range(40):
        rgb, mask, _ = pairs[2, number]
        assert torch.equal(rgb[..., 0] == WHITE, mask)
        views.add(mask.numpy().tobytes())
    assert len(views) > 30
    crops, flips = crops_of(data[2][2]), crops_of(data[2][2][:, ::-1])
    assert views <= crops | flips and views & crops and views & flips


def test_without_flip_views_are_crops_alone(data):
    pairs = MaskPairs(*data[:2], GeneratorSettings(resize_px=SIDE, flip=False), CROP)
    assert {pairs[2, number][1].numpy().tobytes() for number in range(30)} <= crops_of(data[2][2])


def test_a_plain_pair_is_the_whole_square_at_the_backbone_s_size(data):
    images, masks, wanted = data
    rgb, mask, _ = MaskPairs(images, masks, GeneratorSettings(resize_px=100), SIDE)[5, NO_AUGMENTATION]
    assert np.array_equal(mask.numpy(), wanted[5])
    assert np.array_equal(rgb.numpy() == WHITE, np.repeat(wanted[5][..., None], 3, -1))
    rgb, mask, _ = MaskPairs(images, masks, GeneratorSettings(resize_px=100), 32)[5, NO_AUGMENTATION]
    assert np.array_equal(mask.numpy(), wanted[5][::2, ::2])
    inside = rgb.numpy()[..., 0] > (WHITE + GREY) / 2
    assert (inside == mask.numpy()).mean() > 0.98


def test_the_same_sample_is_the_same_bytes_and_another_seed_is_not(data, pairs):
    for dataset in (pairs, labelled(data), labelled(data, masks=False)):
        for number in (NO_AUGMENTATION, 5):
            one, other = dataset[4, number], dataset[4, number]
            assert torch.equal(one[0], other[0]) and one[2] == other[2]
            assert torch.equal(one[1], other[1])
        assert not torch.equal(dataset[4, 5][0], dataset[4, 6][0])


def test_what_was_drawn_before_does_not_matter(data, pairs):
    for dataset in (pairs, labelled(data)):
        wanted = dataset[4, 5][0]
        torch.manual_seed(3), random.seed(3)
        dataset[1, 2]
        assert torch.equal(dataset[4, 5][0], wanted)


def test_samples_leave_global_randomness_alone(data, pairs):
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1]  # noqa: NPY002
    for dataset in (pairs, labelled(data)):
        dataset[4, 5]
    assert torch.equal(torch.get_rng_state(), before[0]) and random.getstate() == before[1]
    assert np.array_equal(np.random.get_state()[1], before[2])  # noqa: NPY002


@pytest.mark.parametrize("section", [ClassifierSettings, LinearSettings])
def test_a_plain_labelled_image_is_the_central_square_of_the_resized_image(section, data):
    dataset = LabelledImages(data[0], LABELS, data[1], section(resize_px=SIDE), CROP)
    image = data[0].read(6)
    assert np.array_equal(dataset[6, NO_AUGMENTATION][0].numpy(), image[8:56, 24:72])


def test_training_blackens_what_is_outside_of_the_mask_and_a_box(data):
    dataset, mask = unmoved(data), data[2][7]
    plain = data[0].square(7, SIDE)
    shares = []
    for number in range(60):
        seen = dataset[7, number][0].numpy()
        black = ~seen.any(-1)
        assert not (black & mask).any()
        assert np.array_equal(seen[~black], plain[~black])
        shares.append(black.mean())
    assert min(shares) < 0.2
    assert max(shares) == pytest.approx(1 - mask.mean(), abs=0.02) and len(set(shares)) > 20


@pytest.mark.parametrize(("row", "masks"), [(EMPTY_ROW, True), (7, False)], ids=["empty mask", "no masks"])
def test_without_a_mask_an_image_stays_whole(row, masks, data):
    dataset, plain = unmoved(data, masks=masks), data[0].square(row, SIDE)
    assert all(np.array_equal(dataset[row, number][0].numpy(), plain) for number in range(5))


def test_guided_tokens_come_with_the_places_of_their_object(data):
    dataset = unmoved(data, keep_tokens=0.5)
    assert not isinstance(dataset[7, NO_AUGMENTATION], GuidedBatch)
    sample = dataset[7, 3]
    assert isinstance(sample, GuidedBatch)
    assert (sample.places.shape, sample.places.dtype) == ((SIDE, SIDE, 2), torch.uint8)
    assert np.array_equal(sample.places[..., 0].numpy() > 127, data[2][7])
    assert torch.equal(sample.places[..., 1] > 127, sample.rgb.any(-1))


def test_linear_settings_have_no_policy_and_are_random_crops(data):
    dataset = LabelledImages(data[0], LABELS, None, LinearSettings(resize_px=SIDE), CROP)
    views = [dataset[2, number][0].numpy() for number in range(10)]
    assert len({view.tobytes() for view in views}) > 8
    for view in views:
        assert view.shape == (CROP, CROP, 3) and (view == view[..., :1]).all()


@pytest.mark.parametrize("side_px", [8, 40, 64, 128, 224])
def test_masks_are_resized_by_the_nearest_pixel(side_px):
    """Or either of two that are equally near."""
    mask = np.random.default_rng(0).random((64, 64)) < 0.5
    centres = (2 * np.arange(side_px) + 1) * 32 / side_px
    near = (np.ceil(centres).astype(int) - 1, np.floor(centres).astype(int))
    found = resized(mask, side_px)
    assert found.dtype == bool and found.shape == (side_px, side_px)
    assert np.any([found == mask[np.ix_(y, x)] for y in near for x in near], axis=0).all()


# --- loading ---------------------------------------------------------------------------------------------------------


def test_one_worker_gives_what_none_does_and_an_error_is_a_value(data, pairs):
    rows = np.array([0, 3, 5, 6, 8, 9, EMPTY_ROW, BROKEN_ROW, 1])
    loaders = [EpochLoader(pairs, EpochSampler(rows, 3, 0), workers) for workers in (0, 1)]
    for epoch in (0, 1):
        found = [list(loader.epoch(epoch)) for loader in loaders]
        errors = 0
        for own, other in zip(*found, strict=True):
            if isinstance(own, TrainError):
                errors += 1
                assert type(other) is TrainError and str(other) == str(own)
                assert str(own).startswith("11: not an image of a known format") and "\n" not in str(own)
            else:
                assert all(torch.equal(*parts) for parts in zip(own, other, strict=True))
        assert errors == 1 and len(found[0]) == 3


def test_batches_are_stacked_in_their_order(data):
    batches = EpochSampler(np.array([4, 0, 9, 2, 7]), 3, None)
    (rgb, labels, rows), (rest, _, _) = EpochLoader(labelled(data), batches, 0).epoch()
    assert (rgb.shape, rgb.dtype, rest.shape[0]) == ((3, CROP, CROP, 3), torch.uint8, 2)
    assert labels.tolist() == [104, 100, 109] and labels.dtype == torch.int64
    assert rows.tolist() == [4, 0, 9]
    assert torch.equal(rgb[2], labelled(data)[9, NO_AUGMENTATION][0])


def test_a_loader_follows_epoch_and_skip(data, pairs):
    loader = EpochLoader(pairs, EpochSampler(np.arange(10), 4, 0), 0)
    assert len(loader) == 3 and loader.rows.tolist() == list(range(10))
    first, again = list(loader.epoch(0)), list(loader.epoch(0))
    assert all(torch.equal(one.rgb, other.rgb) for one, other in zip(first, again, strict=True))
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
