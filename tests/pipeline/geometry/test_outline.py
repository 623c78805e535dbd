"""Outlines enclose exactly the pixels of the mask, and polygons drawn by pycocotools give it back."""

import warnings

import cv2
import numpy as np
import pytest
from pycocotools import mask as rle

from locloc.pipeline.geometry.outline import (
    area,
    centre_outlines,
    filled_with_border,
    joined,
    outlines,
    polygons,
    simplified,
)


def random_mask(seed):
    """Noise with pixels that touch at corners, or blobs with holes."""
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 40, 2)
    if seed % 2:
        return rng.random((height, width)) < 0.5
    noise = cv2.GaussianBlur(rng.random((height, width)), (0, 0), 2)
    return noise > np.quantile(noise, 0.6)


def even_odd(loops, shape):
    """Pixels left of which an odd number of edges lies."""
    crossings = np.zeros((shape[0], shape[1] + 1), int)
    for loop in loops:
        for (x, y), (x_next, y_next) in zip(loop, np.roll(loop, -1, axis=0), strict=True):
            assert (x == x_next) != (y == y_next)
            if x == x_next:
                crossings[min(y, y_next) : max(y, y_next), x] += 1
    return crossings.cumsum(1)[:, :-1] % 2 == 1


def drawn(parts, shape):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return rle.decode(rle.merge(rle.frPyObjects([part.ravel().tolist() for part in parts], *shape))).astype(bool)


@pytest.mark.parametrize("seed", range(40))
def test_outlines_and_polygons_are_the_mask(seed):
    mask = random_mask(seed)
    loops = outlines(mask)
    assert np.array_equal(even_odd(loops, mask.shape), mask)
    assert sum(map(area, loops)) == mask.sum()
    if mask.any():
        parts = [part.astype(float) for part in polygons(loops)]
        assert np.array_equal(drawn(parts, mask.shape), mask)
        assert sum(map(area, parts)) == mask.sum()
        if not seed % 2:
            assert np.array_equal(drawn([joined(loops).astype(float)], mask.shape), mask)


def test_a_hole_and_a_part_within_it():
    mask = np.zeros((9, 9), bool)
    mask[1:8, 1:8] = True
    mask[2:7, 2:7] = False
    mask[4, 4] = True
    loops = outlines(mask)
    assert sorted(map(area, loops)) == [-25, 1, 49]
    assert sorted(map(area, polygons(loops))) == [1, 24]
    assert outlines(np.zeros((4, 5), bool)) == [] and polygons([]) == []


def test_pixels_of_the_border():
    """As ultralytics draws: exact where there is one part, whatever its holes."""
    mask = np.zeros((20, 30), bool)
    mask[3:15, 4:25] = True
    mask[6:9, 8:12] = False
    assert np.array_equal(filled_with_border(joined(centre_outlines(mask)) + 0.5, 30, 20)[:6], mask[:6])
    mask[6:9, 8:12] = True
    assert np.array_equal(filled_with_border(joined(centre_outlines(mask)) + 0.5, 30, 20), mask)


def test_fewer_corners():
    yy, xx = np.mgrid[:200, :200]
    disc = (xx - 100) ** 2 + (yy - 100) ** 2 < 80**2
    loops = outlines(disc)
    fewer = simplified(loops, 1.0)
    assert simplified(loops, 0) is loops
    assert len(fewer[0]) < len(loops[0]) / 5
    both = drawn([fewer[0].astype(float)], disc.shape)
    assert (both & disc).sum() / (both | disc).sum() > 0.98
