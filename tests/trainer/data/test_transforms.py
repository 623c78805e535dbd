"""Seeded randomness, LFDM's mask-enhanced images, and augmentation."""

import random

import numpy as np
import pytest
import torch

from locloc.trainer.data.transforms import augment_image, augment_image_and_mask, seeded_randomness, visible_area

SIDE = 64
POLICY = "rand-m9-mstd0.5-inc1"


@pytest.fixture
def rgb() -> np.ndarray:
    """An image without black pixels."""
    return np.random.default_rng(0).integers(1, 256, (SIDE, SIDE, 3), dtype=np.uint8)


@pytest.fixture
def mask() -> np.ndarray:
    return np.random.default_rng(1).random((SIDE, SIDE)) < 0.3


def global_states() -> tuple:
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002
    return torch.get_rng_state().tolist(), random.getstate(), (kind, keys.tolist(), *rest)


def drawn() -> tuple[float, float, float, float]:
    return torch.rand(()).item(), random.random(), random.gauss(0, 1), np.random.random()  # noqa: NPY002


# --- randomness ------------------------------------------------------------------------------------------------------


def test_randomness_leaves_global_states_as_they_were():
    random.gauss(0, 1)  # keeps a second value back
    before = global_states()
    with seeded_randomness(5):
        inside = drawn()
        assert global_states() != before
    assert global_states() == before
    assert drawn() != inside


def test_randomness_leaves_global_states_as_they_were_when_something_is_raised():
    before = global_states()
    with pytest.raises(ZeroDivisionError), seeded_randomness(5):
        drawn()
        raise ZeroDivisionError
    assert global_states() == before


@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1])
def test_random_numbers_depend_on_the_seed_alone(seed):
    with seeded_randomness(seed):
        once = drawn()
    torch.rand(3), random.gauss(0, 1), np.random.random(3)  # noqa: NPY002
    with seeded_randomness(seed):
        assert drawn() == once
    with seeded_randomness(7):
        other = drawn()
    assert not set(other) & set(once)


def test_nested_randomness_continues_afterwards():
    with seeded_randomness(3):
        drawn()
        wanted = drawn()
    with seeded_randomness(3):
        drawn()
        with seeded_randomness(4):
            drawn()
        assert drawn() == wanted


# --- paired views ----------------------------------------------------------------------------------------------------


def test_paired_views_move_image_and_mask_alike(mask):
    rgb = np.repeat(mask[..., None], 3, -1).astype(np.uint8) * 255
    views = set()
    for seed in range(40):
        with seeded_randomness(seed):
            image, cut = augment_image_and_mask(rgb, mask, 40, flip=True)
        assert image.shape == (40, 40, 3) and image.dtype == np.uint8 and cut.dtype == bool
        assert np.array_equal(image == 255, np.repeat(cut[..., None], 3, -1))
        views.add(cut.tobytes())
    assert len(views) == 40


def test_half_of_the_paired_views_are_flipped(rgb, mask):
    flipped = 0
    for seed in range(400):
        with seeded_randomness(seed):
            image, _ = augment_image_and_mask(rgb, mask, SIDE, flip=True)
        flipped += np.array_equal(image, rgb[:, ::-1])
        assert np.array_equal(image, rgb) or np.array_equal(image, rgb[:, ::-1])
    assert 160 < flipped < 240


def test_paired_crops_lie_anywhere_and_evenly():
    columns = np.tile(np.arange(SIDE, dtype=np.uint8), (SIDE, 1))
    lefts, tops = [], []
    for seed in range(600):
        with seeded_randomness(seed):
            image, _ = augment_image_and_mask(np.stack([columns, columns.T, columns], -1), columns > 0, 60, flip=False)
        lefts.append(image[0, 0, 0])
        tops.append(image[0, 0, 1])
    for places in (lefts, tops):
        counts = np.bincount(places, minlength=5)
        assert len(counts) == 5 and counts.min() > 80


# --- enhanced --------------------------------------------------------------------------------------------------------


def enhanced(rgb: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return rgb * visible_area(mask, rng)[..., None]


class Centred(np.random.Generator):
    """Boxes in the middle, which are never clipped."""

    def integers(self, high, size):
        return np.full(size, high // 2)


def shown_by(rng: np.random.Generator, mask: np.ndarray) -> np.ndarray:
    return enhanced(np.full((*mask.shape, 3), 255, np.uint8), mask, rng).any(-1)


def test_outside_of_mask_and_box_is_black_and_inside_untouched(rgb, mask):
    for seed in range(200):
        seen = enhanced(rgb, mask, np.random.default_rng(seed))
        box = shown_by(np.random.default_rng(seed), np.zeros_like(mask))
        assert seen.dtype == np.uint8
        assert np.array_equal(seen, rgb * (mask | box)[..., None])
        assert np.array_equal(seen[mask], rgb[mask])


def test_the_box_is_one_rectangle_and_square_unless_cut():
    none, uncut = np.zeros((SIDE, SIDE), bool), 0
    for seed in range(300):
        y, x = np.nonzero(shown_by(np.random.default_rng(seed), none))
        if not len(y):
            continue
        height, width = np.ptp(y) + 1, np.ptp(x) + 1
        assert height * width == len(y)
        if min(y.min(), x.min()) > 0 and max(y.max(), x.max()) < SIDE - 1:
            assert height == width
            uncut += 1
    assert uncut > 30


def test_the_area_of_the_box_is_uniform():
    """1 - lambda, lambda ~ Beta(1, 1)."""
    rng, none = Centred(np.random.PCG64(0)), np.zeros((256, 256), bool)
    shares = np.sort([shown_by(rng, none).mean() for _ in range(1500)])
    uniform = (np.arange(1500) + 0.5) / 1500
    assert np.abs(shares - uniform).max() < 0.05  # Kolmogorov and Smirnov's 1 % is at 0.042, and boxes are rounded


def test_boxes_have_a_uniform_centre_and_are_cut_at_the_edges():
    """With a centre c and a side s, both shares of the square's, a side shows s - s^2 / 4 on average; s^2 is uniform:
    the mean area is the integral of (u^1/2 - u/4)^2 over u from 0 to 1, 1/2 - 1/5 + 1/48.
    """
    none, places = np.zeros((256, 256), bool), np.zeros((256, 256))
    for seed in range(1500):
        places += shown_by(np.random.default_rng(seed), none)
    often = places / 1500
    assert often.mean() == pytest.approx(1 / 2 - 1 / 5 + 1 / 48, abs=0.02)
    for turned in (often[::-1], often[:, ::-1], often.T):
        assert np.abs(often - turned).max() < 0.09
    assert often[128, 128] > often[0, 0] + 0.2


def test_a_mask_that_is_all_true_leaves_the_image(rgb):
    for seed in range(5):
        assert np.array_equal(enhanced(rgb, np.ones((SIDE, SIDE), bool), np.random.default_rng(seed)), rgb)


def test_enhancing_changes_neither_image_nor_mask(rgb, mask):
    before = rgb.copy(), mask.copy()
    one, again = (enhanced(rgb, mask, np.random.default_rng(3)) for _ in range(2))
    assert np.array_equal(rgb, before[0]) and np.array_equal(mask, before[1])
    assert np.array_equal(one, again)


# --- labelled views --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size_px", [16, SIDE, 90])
@pytest.mark.parametrize("policy", ["", POLICY])
def test_labelled_views_have_the_size_asked_for(policy, size_px, rgb):
    with seeded_randomness(2):
        view = augment_image(rgb, size_px, policy, (0.08, 1.0), flip=True)
    assert view.shape == (size_px, size_px, 3) and view.dtype == np.uint8


def test_without_policy_crop_and_flip_the_view_is_the_image(rgb):
    for seed in range(10):
        with seeded_randomness(seed):
            assert np.array_equal(augment_image(rgb, SIDE, "", (1.0, 1.0), flip=False), rgb)


def test_half_of_the_labelled_views_are_flipped(rgb):
    flipped = 0
    for seed in range(400):
        with seeded_randomness(seed):
            view = augment_image(rgb, SIDE, "", (1.0, 1.0), flip=True)
        flipped += np.array_equal(view, rgb[:, ::-1])
        assert np.array_equal(view, rgb) or np.array_equal(view, rgb[:, ::-1])
    assert 160 < flipped < 240


def test_a_crop_shows_the_share_of_the_image_that_was_asked_for():
    """Measured on an image with a brightness gradient in both directions."""
    ramp = np.tile(np.linspace(0, 255, 128).astype(np.uint8), (128, 1))
    image = np.stack([ramp, ramp.T, ramp], -1)
    for scale in ((0.25, 0.25), (0.5, 0.5)):
        shares = []
        for seed in range(30):
            with seeded_randomness(seed):
                view = augment_image(image, 64, "", scale, flip=False).astype(float)
            shares.append(np.ptp(view[..., 0]) / 255 * np.ptp(view[..., 1]) / 255)
        assert np.mean(shares) == pytest.approx(scale[0], abs=0.04)


def test_the_policy_changes_three_images_of_four(rgb):
    """Two operations, each with a chance of one half."""
    views = []
    for seed in range(200):
        with seeded_randomness(seed):
            views.append(augment_image(rgb, SIDE, POLICY, (1.0, 1.0), flip=False))
    changed = {view.tobytes() for view in views} - {rgb.tobytes()}
    assert 120 < sum(not np.array_equal(view, rgb) for view in views) < 180
    assert len(changed) > 100


@pytest.mark.parametrize("seed", range(8))
def test_every_operation_works_at_its_greatest_magnitude(seed, rgb):
    """Pillow rejects the 0 bits that timm may ask for."""
    with seeded_randomness(seed):
        view = augment_image(rgb, SIDE, "rand-m10-n15-p1-inc1", (1.0, 1.0), flip=False)
    assert view.shape == rgb.shape and not np.array_equal(view, rgb)


@pytest.mark.parametrize("seed", [0, 11])
def test_the_same_seed_is_the_same_view_whatever_was_seen_before(seed, rgb):
    with seeded_randomness(seed):
        once = augment_image(rgb, 40, POLICY, (0.08, 1.0), flip=True)
    with seeded_randomness(99):
        augment_image(rgb[::-1].copy(), 40, POLICY, (0.08, 1.0), flip=True)
    with seeded_randomness(seed):
        assert np.array_equal(augment_image(rgb, 40, POLICY, (0.08, 1.0), flip=True), once)


def test_a_rotated_or_moved_image_is_filled_with_black():
    """Other operations leave a white image in one colour."""
    white, moved = np.full((SIDE, SIDE, 3), 255, np.uint8), 0
    for seed in range(150):
        with seeded_randomness(seed):
            view = augment_image(white, SIDE, "rand-m9-n1-p1-inc1", (1.0, 1.0), flip=False)
        if np.ptp(view):
            moved += 1
            assert (view.min(), view.max()) == (0, 255)
    assert moved > 20
