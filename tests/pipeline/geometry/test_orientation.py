"""EXIF orientation of boxes and masks, against what Pillow does with pixels."""

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from locloc.pipeline.geometry.boxes import largest_box
from locloc.pipeline.geometry.orientation import SWAPPED, stored_size, upright_boxes, upright_pixels


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """What a viewer shows of a file that holds `pixels` and this EXIF orientation."""
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(file, "PNG", exif=exif)
    return np.array(ImageOps.exif_transpose(Image.open(file)))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pixels_and_boxes_turn_as_in_a_viewer(orientation):
    stored = np.zeros((20, 30), np.uint8)
    stored[2:9, 5:11] = 255
    upright = turned(stored, orientation)
    assert np.array_equal(upright_pixels(stored, orientation), upright)
    size = np.array([upright.shape[::-1]])
    box = upright_boxes(np.array([[5, 2, 11, 9]], np.float32), size, np.array([orientation]))
    assert box.dtype == np.float32
    assert np.array_equal(box[0], largest_box(upright > 0))
    assert stored_size(size, np.array([orientation])).tolist() == [[30, 20]]


def test_each_box_turns_by_its_own_orientation():
    orientations, sizes = np.arange(1, 9), np.array([[30, 20], [20, 30]])[np.isin(np.arange(1, 9), SWAPPED).astype(int)]
    together = upright_boxes(np.tile([5.0, 2, 11, 9], (8, 1)), sizes, orientations)
    for n in range(8):
        one = upright_boxes(np.array([[5.0, 2, 11, 9]]), sizes[n : n + 1], orientations[n : n + 1])
        assert np.array_equal(together[n], one[0])
