"""Ground-truth masks held against their images."""

import numpy as np
import pytest

from locloc.pipeline.errors import TruthError
from locloc.pipeline.geometry.orientation import upright_pixels
from locloc.pipeline.inspect.ground_truth.placement import MaskPlacement

SIZE = np.array([170, 256])


def mask(width: int, height: int) -> np.ndarray:
    drawn = np.zeros((height, width), bool)
    drawn[1 : height // 3, 2 : width // 2] = True
    return drawn


@pytest.mark.parametrize("width, height", [(170, 256), (340, 512), (33, 50)])
def test_a_mask_of_its_image_is_placed_as_it_is(width, height):
    placement = MaskPlacement(1, "masks")
    placed = placement.place(mask(width, height), SIZE, 1, "a.png")
    assert np.array_equal(placed, mask(width, height)) and not placement.warnings()


@pytest.mark.parametrize("orientation", [0, 5, 6, 7, 8])
def test_masks_of_the_stored_pixels_are_refused(orientation):
    placement = MaskPlacement(50, "masks")
    for name in ("a.png", "b.png"):
        assert placement.place(mask(256, 170), SIZE, orientation, name) is None
    says = r"masks: 3 true masks have width and height exchanged.*a.png \(mask 256 x 170, image 170 x 256\); say so"
    with pytest.raises(TruthError, match=f"{says} with --boxes-in stored"):
        placement.place(mask(256, 170), SIZE, orientation, "c.png")


@pytest.mark.parametrize(
    "boxes_in, right, wrong", [("upright", (170, 256), (256, 170)), ("stored", (256, 170), (170, 256))]
)
def test_masks_of_both_ways_of_drawing_are_told_apart(boxes_in, right, wrong):
    placement = MaskPlacement(50, "masks", boxes_in)
    placement.place(mask(*right), SIZE, 6, "z.png")
    with pytest.raises(TruthError, match=f"others, such as z.png, are {boxes_in}: draw all") as error:
        for name in ("a.png", "b.png", "c.png"):
            placement.place(mask(*wrong), SIZE, 6, name)
    assert "--boxes-in" not in str(error.value)


def test_a_few_masks_of_the_stored_pixels_are_left_out_and_named():
    placement = MaskPlacement(50, "masks")
    for number in range(48):
        assert placement.place(mask(170, 256), SIZE, 1, f"{number}.png") is not None
    assert placement.place(mask(256, 170), SIZE, 6, "a.png") is None
    assert "1 true masks" in placement.warnings()[0] and "a.png" in placement.warnings()[0]


@pytest.mark.parametrize("width, height", [(256, 170), (170, 510), (64, 64)])
def test_stretched_masks_are_taken_and_counted(width, height):
    placement = MaskPlacement(1, "masks")
    assert placement.place(mask(width, height), SIZE, 1, "a.png") is not None
    assert "1 true masks do not have the proportions of their images (first a.png)" in placement.warnings()[0]


def test_no_mask_of_its_image_is_refused_at_the_end():
    placement = MaskPlacement(1, "masks")
    assert placement.place(mask(256, 170), SIZE, 6, "a.png") is None
    with pytest.raises(TruthError, match="--boxes-in stored"):
        placement.warnings()


def test_stored_masks_are_turned_upright():
    placement = MaskPlacement(1, "masks", "stored")
    placed = placement.place(mask(256, 170), SIZE, 6, "a.png")
    assert np.array_equal(placed, upright_pixels(mask(256, 170), 6)) and not placement.warnings()
    with pytest.raises(TruthError, match="orientation of the image of b.png is not known"):
        placement.place(mask(256, 170), SIZE, 0, "b.png")


def test_turned_images_are_mentioned_where_proportions_do_not_tell():
    placement = MaskPlacement(2, "masks")
    assert placement.place(mask(170, 256), SIZE, 3, "a.png") is not None
    assert placement.place(mask(64, 64), SIZE, 6, "b.png") is not None
    assert "2 of the images with true masks are turned by EXIF" in placement.warnings()[-1]
    placement.known_upright = True
    assert not any("EXIF" in line for line in placement.warnings())


def test_masks_of_images_of_unknown_size_are_not_checked():
    placement = MaskPlacement(1, "masks")
    assert placement.place(mask(256, 170), np.zeros(2), 0, "a.png") is not None and not placement.warnings()
