"""Ground-truth boxes held against their images: what is left out, refused, turned upright, and said."""

import numpy as np
import pytest

from locloc.pipeline.errors import TruthError
from locloc.pipeline.geometry.orientation import stored_size, upright_boxes
from locloc.pipeline.inspect.ground_truth.boxes import check_boxes

UPRIGHT = [20.0, 130, 100, 240]
"""Fits an image of 170 x 256, and not one of 256 x 170."""


def check(boxes, sizes, orientation=1, boxes_in="upright", annotated=None):
    """One box an image; a size or an orientation stands for all."""
    boxes = np.array(boxes, np.float32)
    n = len(boxes)
    sizes = np.broadcast_to(np.array(sizes, np.int32), (n, 2))
    orientation = np.broadcast_to(np.array(orientation, np.uint8), n)
    if annotated is not None:
        annotated = np.broadcast_to(np.array(annotated, np.int32), (n, 2))
    return check_boxes(boxes, np.arange(n), sizes, orientation, lambda row: f"{row}.jpg", "a@v1", boxes_in, annotated)


def test_boxes_that_fit_are_kept_as_they_are():
    checked = check([UPRIGHT] * 3, (170, 256))
    assert sorted(checked.boxes) == [0, 1, 2] and not checked.left_out and not checked.warnings
    assert checked.boxes[1].tolist() == [UPRIGHT]


@pytest.mark.parametrize(
    "box, orientation, says",
    [
        ([0.1, 0.2, 0.6, 0.9], 1, "3 are shares of width and height from 0 to 1"),
        ([5000, 5000, 6000, 6000], 1, "3 lie outside the image"),
        ([20, 130, 100, 300], 1, "3 reach beyond the image"),
        ([130, 20, 240, 100], 6, "3 fit the image only with width and height exchanged.*--boxes-in stored"),
        ([130, 20, 240, 100], 0, "3 fit the image only with width and height exchanged.*--boxes-in stored"),
    ],
)
def test_boxes_that_cannot_belong_to_their_images_are_refused(box, orientation, says):
    with pytest.raises(TruthError, match=rf"a@v1: true boxes of 3 of 3 .*{says}") as error:
        check([box] * 3, (170, 256), orientation)
    assert "as 0.jpg: box" in str(error.value) and "image 170 x 256" in str(error.value)


def test_a_box_that_reaches_a_little_beyond_is_kept():
    assert list(check([[-1, 0, 171.5, 257]], (170, 256)).boxes) == [0]


def test_a_few_wrong_images_are_left_out_and_named():
    checked = check([UPRIGHT] * 97 + [[5000, 5000, 6000, 6000]] * 3, (170, 256))
    assert len(checked.boxes) == 97 and checked.left_out == {"outside": [97, 98, 99]}
    assert "3 of 100 images" in checked.warnings[0] and "97.jpg" in checked.warnings[0]
    assert "left out" in checked.warnings[0]
    with pytest.raises(TruthError, match="6 of 100"):
        check([UPRIGHT] * 94 + [[5000, 5000, 6000, 6000]] * 6, (170, 256))


def test_one_turned_image_tells_about_all_that_exif_turns():
    """The second box fits the image both ways; it is in stored pixels as the first is."""
    boxes = [[130, 20, 240, 100], [20, 20, 100, 100]] + [UPRIGHT] * 98
    checked = check(boxes, (170, 256), [6, 6] + [1] * 98)
    assert checked.left_out == {"turned": [0, 1]}


def test_stored_boxes_are_turned_upright():
    size, stored = np.array([[170, 256]]), np.array([[130, 20, 240, 100]], np.float32)
    checked = check(stored, size, 6, "stored")
    assert np.array_equal(checked.boxes[0], upright_boxes(stored, size, np.array([6])))
    assert not checked.warnings
    with pytest.raises(TruthError, match="leave --boxes-in stored out"):
        check([UPRIGHT], size, 6, "stored")
    with pytest.raises(TruthError, match="orientation of 0.jpg is not known"):
        check([UPRIGHT], size, 0, "stored")


def test_turned_images_are_mentioned_where_nothing_tells_how_boxes_were_drawn():
    assert "turned by EXIF" in check([[20, 20, 100, 100]], (170, 256), 6).warnings[0]
    assert "turned by EXIF" in check([[20, 20, 100, 100]], (170, 256), 3).warnings[0]
    assert not check([[20, 20, 100, 100], UPRIGHT], (170, 256), 6).warnings  # the second fits upright alone
    assert not check([[20, 20, 100, 100]], (170, 256), 6, "stored").warnings


@pytest.mark.parametrize(
    "annotated, orientation, says",
    [((256, 170), 6, "--boxes-in stored"), ((340, 512), 1, "3 were drawn on an image of another size")],
)
def test_the_size_that_an_annotation_names(annotated, orientation, says):
    box = [20, 20, 100, 100]
    with pytest.raises(TruthError, match=says):
        check([box] * 3, (170, 256), orientation, annotated=annotated)
    assert len(check([box] * 3, (170, 256), orientation, annotated=(170, 257)).boxes) == 3
    if orientation == 6:
        assert len(check([box] * 3, (170, 256), 6, "stored", annotated).boxes) == 3
        assert stored_size(np.array([[170, 256]]), np.array([6])).tolist() == [list(annotated)]


def test_boxes_of_smaller_copies_are_suspected():
    assert "upper left" in check([[5, 5, 90, 140]] * 12, (170, 256)).warnings[0]
    assert not check([[5, 5, 90, 140]] * 11 + [UPRIGHT], (170, 256)).warnings


@pytest.mark.parametrize("share", [0.5, 0.25])
def test_boxes_that_end_at_the_border_of_smaller_copies_are_told_with_their_factor(share):
    width, height = 170 * share, 256 * share
    boxes = [[5, 5, width, 0.8 * height]] * 4 + [[9, 9, 0.7 * width, height]] * 4 + [[1, 1, 9, 9]] * 4
    found = check(boxes, (170, 256))
    assert len(found.boxes) == 12  # right where an image lies in the upper left of a larger canvas: not refused
    (line,) = found.warnings
    assert f"end at {share:.2f} of" in line and line.endswith(f"if they were, multiply them by {1 / share:g}")
    assert "upper left" in check([[5, 5, width, 9]] * 12, (170, 256)).warnings[0]  # in one direction alone
    assert not check([*boxes, UPRIGHT], (170, 256)).warnings
    assert not check(boxes[:8], (170, 256)).warnings  # too few images


@pytest.mark.parametrize("side, unit", [(100, "percent"), (1000, "thousandths")])
def test_boxes_in_shares_of_another_whole_are_suspected(side, unit):
    boxes = np.array([[0.1, 0.2, 0.98, 0.95]] * 12) * side
    assert f"within {side} x {side}" in (warning := check(boxes, (1700, 2560)).warnings[0]) and unit in warning
    assert not check(boxes, (side, side)).warnings


def test_shares_with_rounding_beyond_0_and_1_are_shares():
    with pytest.raises(TruthError, match="3 are shares"):
        check([[-0.001, 0.2, 1.002, 0.9]] * 3, (170, 256))


@pytest.mark.parametrize("boxes_in", ["upright", "stored"])
def test_a_list_of_both_ways_of_drawing_is_told_apart(boxes_in):
    """Neither value of --boxes-in fits all of them, so neither is advised."""
    with pytest.raises(TruthError, match="draw all on the upright images") as error:
        check([UPRIGHT] * 4 + [[130, 20, 240, 100]] * 4, (170, 256), 6, boxes_in)
    assert "--boxes-in" not in str(error.value)


def test_images_of_unknown_size_are_not_checked():
    assert list(check([[5000, 5000, 6000, 6000]], (0, 0)).boxes) == [0]


def test_an_unknown_way_of_drawing_is_refused():
    with pytest.raises(TruthError, match="did you mean 'stored'"):
        check([UPRIGHT], (170, 256), boxes_in="stord")
