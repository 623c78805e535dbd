"""Small holes and specks of a mask, by shares of its area."""

import numpy as np
import pytest

from locloc.pipeline.geometry.clean import clean_mask


def square() -> np.ndarray:
    """400 px with a hole of 16 and one of 100, a speck of 9 that touches at a corner, a bay, and an edge."""
    mask = np.zeros((40, 40), bool)
    mask[0:24, 4:26] = True
    mask[2:6, 6:10] = False
    mask[8:18, 8:18] = False
    mask[24:27, 26:29] = True
    mask[0:3, 20:22] = False
    return mask


def test_what_is_smaller_than_the_share_goes_and_the_rest_stays():
    mask, area = square(), np.count_nonzero(square())
    cleaned = clean_mask(mask, 17 / area)
    assert cleaned[2:6, 6:10].all() and not cleaned[24:27, 26:29].any()
    assert not cleaned[8:18, 8:18].any() and not cleaned[0:3, 20:22].any()
    changed = cleaned ^ mask
    assert np.count_nonzero(changed) == 16 + 9
    assert not clean_mask(mask, 10 / area)[3, 7]
    assert clean_mask(mask, 1.0)[:24, 6:20].all()


@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_empty_full_and_tiny_masks_stay(share):
    for mask in (np.zeros((5, 7), bool), np.ones((5, 7), bool), np.ones((1, 1), bool)):
        assert np.array_equal(clean_mask(mask, share), mask)


def test_the_largest_part_always_stays():
    mask = np.zeros((9, 9), bool)
    mask[0:3, 0:3] = mask[5:9, 5:9] = True
    assert np.array_equal(np.argwhere(clean_mask(mask, 1.0))[[0, -1]], [[5, 5], [8, 8]])
    assert np.array_equal(clean_mask(mask, 0.0), mask)
