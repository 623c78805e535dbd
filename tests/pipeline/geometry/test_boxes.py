"""Masks to boxes and overlaps, against values worked out by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from locloc.pipeline.geometry.boxes import box_iou, largest_box, mask_boxes, mask_iou

unhurried = settings(deadline=None)  # shared machines stall
masks = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=24))
box_lists = hnp.arrays(np.float64, st.tuples(st.integers(0, 6), st.just(4)), elements=st.integers(-20, 20))
proper_boxes = box_lists.map(lambda boxes: np.sort(boxes.reshape(-1, 2, 2), axis=1).reshape(-1, 4))


def drawn(*rows):
    return np.array([[cell == "#" for cell in row] for row in rows])


# Drawing > boxes, largest contour first.
CASES = {
    "empty": (drawn("....", "...."), []),
    "one pixel": (drawn("....", "..#.", "...."), [[2, 1, 3, 2]]),
    "one pixel image": (drawn("#"), [[0, 0, 1, 1]]),
    "whole": (drawn("###", "###"), [[0, 0, 3, 2]]),
    "a line": (drawn(".....", ".###."), [[1, 1, 4, 2]]),
    "two blobs, larger first": (drawn("##....", "##.###", "...###", "...###"), [[3, 1, 6, 4], [0, 0, 2, 2]]),
    "two lines, longer first": (drawn("##.###"), [[3, 0, 6, 1], [0, 0, 2, 1]]),
    "equal blobs from the top left": (drawn(".#.#", "....", "#..."), [[1, 0, 2, 1], [3, 0, 4, 1], [0, 2, 1, 3]]),
    "ring": (drawn("#####", "#...#", "#...#", "#####"), [[0, 0, 5, 4]]),
    "blob in a ring is inside the outer contour": (drawn("#####", "#...#", "#.#.#", "#...#", "#####"), [[0, 0, 5, 5]]),
    "touching every border": (drawn("..#..", "#####", "..#.."), [[0, 0, 5, 3]]),
    "opposite corners": (drawn("#...", "....", "...#"), [[0, 0, 1, 1], [3, 2, 4, 3]]),
    "diagonal neighbours are one": (drawn("#...", ".#..", "..#.", "...#"), [[0, 0, 4, 4]]),
    "more pixels lose against a larger contour": (  # 16 pixels whose contour spans 16, against 20 that span 12
        drawn("#####.#####", "#...#.#####", "#...#.#####", "#...#.#####", "#####......"),
        [[0, 0, 5, 5], [6, 0, 11, 4]],
    ),
}


@pytest.mark.parametrize(("mask", "expected"), CASES.values(), ids=CASES)
def test_boxes_of_contours(mask, expected):
    boxes = mask_boxes(mask)
    assert boxes.dtype == np.float32 and boxes.shape == (len(expected), 4)
    assert boxes.tolist() == expected
    largest = largest_box(mask)
    assert largest.dtype == np.float32
    assert largest.tolist() == (expected[0] if expected else [0, 0, 0, 0])


def test_the_empty_box_is_the_caller_s_own():
    largest_box(np.zeros((3, 3), bool))[:] = 7
    assert largest_box(np.zeros((3, 3), bool)).tolist() == [0, 0, 0, 0]


@unhurried
@given(mask=masks)
def test_boxes_enclose_the_mask_tightly(mask):
    before = mask.copy()
    boxes = mask_boxes(mask)
    covered = np.zeros_like(mask)
    for x0, y0, x1, y1 in boxes.astype(int):
        assert mask[y0, x0:x1].any() and mask[y1 - 1, x0:x1].any()
        assert mask[y0:y1, x0].any() and mask[y0:y1, x1 - 1].any()
        covered[y0:y1, x0:x1] = True
    assert not (mask & ~covered).any()
    np.testing.assert_array_equal(mask, before)
    if mask.any():
        ys, xs = np.nonzero(mask)
        hull = [*boxes[:, :2].min(0), *boxes[:, 2:].max(0)]
        assert hull == [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]


@unhurried
@given(mask=masks)
def test_turning_the_mask_turns_its_boxes(mask):
    turned = mask_boxes(mask.T)[:, [1, 0, 3, 2]]
    assert sorted(turned.tolist()) == sorted(mask_boxes(mask).tolist())


def test_masks_need_not_be_contiguous():
    mask = np.zeros((8, 10), bool)
    mask[2:6, 3:9] = True
    assert largest_box(mask[::2, ::3]).tolist() == [1, 1, 3, 3]
    mask.flags.writeable = False
    assert largest_box(mask[::-1]).tolist() == [3, 2, 9, 6]


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([0, 0, 4, 4], [0, 0, 4, 4], 1),
        ([0, 0, 4, 4], [2, 0, 6, 4], 1 / 3),
        ([0, 0, 4, 4], [2, 2, 6, 6], 4 / 28),
        ([0, 0, 4, 4], [1, 1, 3, 3], 4 / 16),
        ([0, 0, 4, 4], [4, 0, 8, 4], 0),  # edges meet: no +1 of older protocols
        ([0, 0, 4, 4], [9, 9, 10, 10], 0),
        ([0, 0, 4, 4], [2, 2, 2, 2], 0),  # a point
        ([0, 0, 4, 4], [1, 1, 3, 1], 0),  # a line
        ([2, 2, 2, 2], [2, 2, 2, 2], 0),  # nothing and nothing
        ([0, 0, 0, 0], [0, 0, 4, 4], 0),  # the box of an empty mask
        ([3, 3, 1, 1], [0, 0, 4, 4], 0),  # inside out
        ([3, 0, 1, 4], [0, 0, 4, 4], 0),
        ([0.5, 0, 1.5, 1], [0, 0, 1, 1], 1 / 3),
    ],
)
def test_box_iou_by_hand(a, b, expected):
    assert box_iou([a], [b])[0, 0] == pytest.approx(expected)
    assert box_iou([b], [a])[0, 0] == pytest.approx(expected)


def test_box_iou_of_every_pair():
    a, b = np.array([[0, 0, 2, 2], [0, 0, 4, 4]], np.float32), np.array([[0, 0, 2, 4], [9, 9, 10, 10], [0, 0, 2, 2]])
    np.testing.assert_allclose(box_iou(a, b), [[0.5, 0, 1], [0.5, 0, 0.25]])
    assert box_iou(a, b).dtype == np.float64
    assert box_iou(np.zeros((0, 4)), b).shape == (0, 3)
    assert box_iou(a, np.zeros((0, 4))).shape == (2, 0)


@unhurried
@given(a=box_lists, b=box_lists)
def test_box_iou_is_symmetric_and_a_share(a, b):
    """Of inside-out boxes too."""
    iou = box_iou(a, b)
    np.testing.assert_array_equal(iou, box_iou(b, a).T)
    assert ((iou >= 0) & (iou <= 1)).all()


@unhurried
@given(a=proper_boxes, b=proper_boxes)
def test_box_iou_is_the_mask_iou_of_whole_boxes(a, b):
    def painted(box):
        mask = np.zeros((40, 40), bool)
        x0, y0, x1, y1 = (box + 20).astype(int)
        mask[y0:y1, x0:x1] = True
        return mask

    for i, j in np.ndindex(len(a), len(b)):
        mask_a, mask_b = painted(a[i]), painted(b[j])
        expected = mask_iou(mask_a, mask_b) if (mask_a | mask_b).any() else 0
        assert box_iou(a, b)[i, j] == pytest.approx(expected)


def test_mask_iou_by_hand():
    a, b = drawn("##..", "##.."), drawn(".##.", ".##.")
    assert mask_iou(a, b) == mask_iou(b, a) == pytest.approx(2 / 6)
    assert mask_iou(a, a) == 1
    assert mask_iou(a, ~a) == 0
    assert mask_iou(a, np.zeros_like(a)) == 0
    assert mask_iou(np.zeros_like(a), np.zeros_like(a)) == 1
