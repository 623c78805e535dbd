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


@pytest.mark.parametrize("width, height", [(170, 256), (340, 512), (33, 50), (64, 64)])
def test_a_mask_of_its_image_is_placed_as_it_is(width, height):
    placement = MaskPlacement(1, "masks")
    placed = placement.place(mask(width, height), SIZE, 1, "a.png")
    assert np.array_equal(placed, mask(width, height)) and not placement.warnings()


@pytest.mark.parametrize(
    "width, height, orientation, says",
    [
        (256, 170, 6, "before its EXIF orientation turns it.*--boxes-in stored"),
        (256, 170, 0, "--boxes-in stored"),
        (256, 170, 1, "does not have the proportions"),
        (170, 170 * 3, 1, r"does not have the proportions of its image \(mask 170 x 510, image 170 x 256\)"),
    ],
)
def test_masks_that_cannot_belong_to_their_images_are_refused(width, height, orientation, says):
    placement = MaskPlacement(50, "masks")
    for name in ("a.png", "b.png"):
        assert placement.place(mask(width, height), SIZE, orientation, name) is None
    with pytest.raises(TruthError, match=f"masks: 3 true masks cannot belong.*a.png {says}"):
        placement.place(mask(width, height), SIZE, orientation, "c.png")


def test_a_few_wrong_masks_are_left_out_and_named():
    placement = MaskPlacement(50, "masks")
    for number in range(48):
        assert placement.place(mask(170, 256), SIZE, 1, f"{number}.png") is not None
    assert placement.place(mask(256, 170), SIZE, 1, "a.png") is None
    assert "1 true masks" in placement.warnings()[0] and "a.png" in placement.warnings()[0]


def test_no_mask_of_its_image_is_refused_at_the_end():
    placement = MaskPlacement(1, "masks")
    assert placement.place(mask(256, 170), SIZE, 6, "a.png") is None
    with pytest.raises(TruthError, match="--boxes-in stored"):
        placement.warnings()


def test_stored_masks_are_turned_upright():
    placement = MaskPlacement(1, "masks", "stored")
    placed = placement.place(mask(256, 170), SIZE, 6, "a.png")
    assert np.array_equal(placed, upright_pixels(mask(256, 170), 6)) and not placement.warnings()
    with pytest.raises(TruthError, match="orientation of b.png is not known"):
        placement.place(mask(256, 170), SIZE, 0, "b.png")


def test_turned_images_are_mentioned_where_proportions_do_not_tell():
    placement = MaskPlacement(2, "masks")
    assert placement.place(mask(170, 256), SIZE, 3, "a.png") is not None
    assert placement.place(mask(64, 64), SIZE, 6, "b.png") is not None
    assert "2 of the images with true masks are turned by EXIF" in placement.warnings()[0]


def test_masks_of_images_of_unknown_size_are_not_checked():
    placement = MaskPlacement(1, "masks")
    assert placement.place(mask(256, 170), np.zeros(2), 0, "a.png") is not None and not placement.warnings()
