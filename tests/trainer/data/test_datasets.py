"""Samples of images and masks: shapes, views, and that they depend on row and seed alone."""

import random

import numpy as np
import pytest
import torch

from locloc.trainer.data.batches import GuidedBatch
from locloc.trainer.data.datasets import NO_AUGMENTATION, LabelledImages, MaskPairs, resized
from locloc.trainer.recipe import ClassifierSettings, GeneratorSettings, LinearSettings

# As in conftest.py.
SIDE, CROP = 64, 48
WHITE, GREY = 255, 100
EMPTY_ROW = 10

LABELS = np.arange(100, 112)


def labelled(data, masks: bool = True, size_px: int = CROP, **changes) -> LabelledImages:
    cache = data[1] if masks else None
    return LabelledImages(data[0], LABELS, cache, ClassifierSettings(resize_px=SIDE, **changes), size_px)


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
            first, second = dataset[4, number], dataset[4, number]
            assert torch.equal(first[0], second[0]) and first[2] == second[2]
            assert torch.equal(first[1], second[1])
        assert not torch.equal(dataset[4, 5][0], dataset[4, 6][0])


def test_a_sample_does_not_depend_on_earlier_samples(data, pairs):
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


def test_training_blackens_pixels_outside_of_the_mask_and_a_box(data):
    dataset, mask = unmoved(data), data[2][7]
    plain = data[0].square(7, SIDE)
    shares = []
    for number in range(60):
        rgb = dataset[7, number][0].numpy()
        black = ~rgb.any(-1)
        assert not (black & mask).any()
        assert np.array_equal(rgb[~black], plain[~black])
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
    """Where two pixels are equally near, either."""
    mask = np.random.default_rng(0).random((64, 64)) < 0.5
    centres = (2 * np.arange(side_px) + 1) * 32 / side_px
    near = (np.ceil(centres).astype(int) - 1, np.floor(centres).astype(int))
    found = resized(mask, side_px)
    assert found.dtype == bool and found.shape == (side_px, side_px)
    assert np.any([found == mask[np.ix_(y, x)] for y in near for x in near], axis=0).all()
