"""All thresholds at once give what OpenCV gives for each."""

import cv2
import numpy as np
import pytest

from locloc.pipeline.geometry.boxes import largest_box
from locloc.trainer.evaluation.contours import contour_ious, largest_boxes

TRUTHS = np.array([[5.0, 6.0, 20.0, 22.0], [1.0, 1.0, 4.0, 4.5]])


def random_maps(count: int, side: int) -> list[np.ndarray]:
    """Noise, blobs, slopes, plateaus and steps, `(side, side) uint8`; some of many levels and some of few."""
    rng = np.random.default_rng(side)
    maps = []
    for number in range(count):
        one = rng.random((side, side)).astype(np.float32)
        kind = number % 6
        if kind in (1, 2):
            one = cv2.GaussianBlur(one, (0, 0), 1.2 if kind == 1 else side / 8)
        elif kind == 3:
            one = (one > rng.random()).astype(np.float32)
        elif kind == 4:
            one = cv2.resize(rng.random((5, 5)).astype(np.float32), (side, side)) + 0.05 * one
        elif kind == 5:
            one = np.zeros_like(one) + rng.random()
        low, high = one.min(), one.max()
        one = (one - low) / (high - low) if high > low else one
        maps.append((one * (255, 12)[number // 6 % 2]).astype(np.uint8))
    return maps


def slow_ious(mask: np.ndarray, truths: np.ndarray) -> float:
    """The best of all contours of OpenCV's, those of holes among them, with +1 and cut at the last pixel."""
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
    best = 0.0
    for contour in contours:
        x, y, w, h = cv2.boundingRect(contour)
        a = (x, y, min(x + w, mask.shape[1] - 1), min(y + h, mask.shape[0] - 1))
        for b in truths:
            wide, high = min(a[2], b[2]) - max(a[0], b[0]) + 1, min(a[3], b[3]) - max(a[1], b[1]) + 1
            both = max(0, wide) * max(0, high)
            areas = (a[2] - a[0] + 1) * (a[3] - a[1] + 1) + (b[2] - b[0] + 1) * (b[3] - b[1] + 1)
            best = max(best, both / (areas - both))
    return best


@pytest.mark.parametrize("number", range(48))
def test_each_threshold_has_opencv_s_largest_contour_and_best_iou(number):
    one = random_maps(48, 27)[number]
    boxes, best = contour_ious(one, 256, TRUTHS, 1.0, True)
    assert np.array_equal(boxes, largest_boxes(one, 256))
    for t in np.unique(np.concatenate([np.unique(one), [0, 255]])).tolist():
        assert boxes[t].tolist() == largest_box(one > t).tolist(), t
        if (one > t).any():
            assert best[t] == pytest.approx(slow_ious(one > t, TRUTHS), abs=1e-12)
        else:
            assert np.isnan(best[t])


def test_holes_are_part_of_an_outer_contour():
    """A ring of 12 x 12 is larger than a filled square of 9 x 9, though it has fewer pixels."""
    one = np.zeros((30, 30), np.uint8)
    one[2:14, 2:14] = 1
    one[3:13, 3:13] = 0
    one[18:27, 18:27] = 1
    assert largest_boxes(one, 1).tolist() == [[2, 2, 14, 14]]


def test_of_equal_contours_the_larger_box_then_the_upper_then_the_left_one():
    one = np.zeros((20, 20), np.uint8)
    one[15, 2:12] = 1  # lines have no area
    one[3, 4] = one[8, 8] = 1
    assert largest_boxes(one, 1).tolist() == [[2, 15, 12, 16]]
    one[15] = 0
    assert largest_boxes(one, 1).tolist() == [[4, 3, 5, 4]]
    one[3, 1] = 1
    assert largest_boxes(one, 1).tolist() == [[1, 3, 2, 4]]


def test_edges_of_the_map_and_of_the_thresholds():
    assert largest_boxes(np.full((4, 5), 3, np.uint8), 4).tolist() == [[0, 0, 5, 4]] * 3 + [[0, 0, 0, 0]]
    assert largest_boxes(np.zeros((4, 5), np.uint8), 2).tolist() == [[0, 0, 0, 0]] * 2
    assert largest_boxes(np.ones((1, 1), np.uint8), 1).tolist() == [[0, 0, 1, 1]]
