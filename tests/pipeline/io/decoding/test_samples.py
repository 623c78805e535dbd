"""What is white, and what becomes of alpha."""

import numpy as np
import pytest

from locloc.pipeline.errors import ImageError
from locloc.pipeline.io.decoding.samples import over_black, to_8_bits, white_of


def levels(values, dtype, bits=None):
    values = np.array(values, dtype)
    return to_8_bits(values, white_of(values, bits or values.dtype.itemsize * 8)).tolist()


@pytest.mark.parametrize(
    ("values", "dtype", "bits", "expected"),
    [
        ([0, 255, 256, 65535], np.uint16, 16, [0, 0, 1, 255]),
        ([0, 15, 16, 4095], np.uint16, 12, [0, 0, 1, 255]),
        ([0, 100, 255], np.uint16, 16, [0, 100, 255]),  # they would all be black
        ([200, 200, 200], np.uint16, 16, [0, 0, 0]),  # constant, as in the file
        ([0, 2048, 4000], np.uint16, 16, [0, 128, 250]),  # 12 bits of a camera in 16
        ([0, 512, 1000], np.int16, 16, [0, 128, 250]),
        ([0, 4096], np.uint16, 16, [0, 16]),
        ([0, 2048, 4000], np.int32, 32, [0, 128, 250]),
        ([-5, 0, 128, 32767], np.int16, 16, [0, 0, 1, 255]),
        ([0, 200, 255], np.int32, 32, [0, 200, 255]),
        ([0, 256, 65535], np.int32, 32, [0, 1, 255]),
        ([0, 2**31, 2**32 - 1], np.uint32, 32, [0, 128, 255]),
        ([0, 65536, 131071], np.uint32, 32, [0, 128, 255]),  # 17 bits
        ([0, 1, 2, 3], np.uint8, 2, [0, 85, 170, 255]),
    ],
)
def test_integers(values, dtype, bits, expected):
    assert levels(values, dtype, bits) == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 0.5, 1], [0, 128, 255]),
        ([0, 0.5, 1.0001], [0, 128, 255]),
        ([0, 0.5, 1.5], [0, 128, 255]),
        ([0] + [0.5] * 30 + [500.0], [0] + [128] * 30 + [255]),  # one highlight
        ([0, 100, 260], [0, 100, 255]),
        ([0, 257] + [65535] * 20, [0, 1] + [255] * 20),
        ([0, 1024] + [4000] * 20, [0, 64] + [249] * 20),  # 12 bits
        ([-1, -0.5, 0, 0.5, 1], [0, 64, 128, 191, 255]),  # as networks take images
        ([-0.04, -0.03, 0.5, 1], [0, 0, 128, 255]),  # overshoot
        ([-9999] * 20 + [0.5, 1], [0] * 20 + [128, 255]),  # no data
        ([-1, np.nan, np.inf, 0.5, 1], [0, 0, 0, 128, 255]),
        ([0, 0, 0], [0, 0, 0]),
        ([-1, -1], [0, 0]),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_floats(values, expected, dtype):
    assert levels(values, dtype) == expected


@pytest.mark.parametrize("values", [[-2, -1], [np.nan, -1], [0, 1e6, 2e6]])
def test_floats_without_a_white(values):
    with pytest.raises(ImageError, match="^cannot be decoded: floats"):
        levels(values, np.float32)


@pytest.mark.parametrize(
    ("values", "dtype"),
    [([-1000, -500, 40, 3000], np.int16), ([-128, -64, 127], np.int8), ([-2.5, -1, 0, 1, 2], np.float32)],
)
def test_nothing_says_what_is_black(values, dtype):
    """Hounsfield units, bytes with a sign and standard scores: clipped at 0 they would show half of the image black."""
    with pytest.raises(ImageError, match="nothing says which is black; rescale them so that black is 0"):
        levels(values, dtype)


def test_alpha_counts_unless_it_hides_everything():
    colour = np.array([[[200, 100, 0], [10, 20, 30]]], np.uint8)
    assert over_black(colour, np.array([[255, 0]])).tolist() == [[[200, 100, 0], [0, 0, 0]]]
    assert over_black(colour, np.array([[0, 0]])).tolist() == colour.tolist()
    same = np.full((1, 2, 3), 9, np.uint8)
    assert not over_black(same, np.array([[0, 0]])).any()
