"""Outlines enclose the pixels of their mask."""

import re

import cv2
import numpy as np
import pytest

from locloc.pipeline.inspect.report.outline import outline_path


def drawn(path: str, side: int) -> np.ndarray:
    """The mask that a path encloses, by the even-odd rule, as a browser fills it; 8 times as large."""
    polygons = []
    for part in re.findall(r"M(-?\d+) (-?\d+)l([-\d ]+)z", path):
        steps = np.array(part[2].split(), int).reshape(-1, 2)
        start = np.array([[int(part[0]), int(part[1])]])
        polygons.append((8 * np.concatenate([start, start + np.cumsum(steps, 0)])).astype(np.int32))
    large = np.zeros((8 * side, 8 * side), np.uint8)
    cv2.fillPoly(large, polygons, 1)
    return large[4::8, 4::8] > 0


def test_simple_shapes():
    assert outline_path(np.zeros((8, 8), bool)) == ""
    assert outline_path(np.ones((8, 8), bool)) in ("M0 0l0 8 8 0 0 -8z", "M0 0l8 0 0 8 -8 0z")
    one = np.zeros((8, 8), bool)
    one[3, 5] = True
    assert np.array_equal(drawn(outline_path(one), 8), one)


def test_holes_are_holes():
    ring = np.zeros((32, 32), bool)
    ring[4:28, 4:28] = True
    ring[10:20, 12:22] = False
    assert np.array_equal(drawn(outline_path(ring), 32), ring)


@pytest.mark.parametrize("seed", range(4))
def test_it_differs_from_the_mask_by_less_than_a_pixel(seed):
    rng = np.random.default_rng(seed)
    blobs = cv2.GaussianBlur(rng.random((128, 128)), (0, 0), 7) > 0.5
    found = drawn(outline_path(blobs), 128)
    near = cv2.dilate(blobs.astype(np.uint8), np.ones((3, 3))) > 0
    far = cv2.erode(blobs.astype(np.uint8), np.ones((3, 3))) > 0
    assert (found <= near).all() and (far <= found).all()
    assert (found != blobs).mean() < 0.02
