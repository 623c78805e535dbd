"""JPEGs decoded at a fraction of their size: never too small, the same geometry, and nearly the same pixels."""

import io
import struct

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from locloc.pipeline.errors import ImageError
from locloc.pipeline.geometry.resize_crop import ResizeCrop
from locloc.pipeline.io.images import decode_image, decode_reduced

unhurried = settings(deadline=None, max_examples=60)  # shared machines stall


def smooth(width, height, seed=0):
    """Large blobs, so that a box filter and a scaled transform agree, `(height, width, 3) uint8`."""
    patches = np.random.default_rng(seed).integers(0, 256, (4, 5, 3)).astype(np.float32)
    return cv2.resize(patches, (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)


def encoded(rgb, orientation=1, mode="RGB", **options):
    image = Image.fromarray(rgb).convert(mode)
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    image.save(file, options.pop("kind", "JPEG"), quality=95, exif=exif.tobytes(), **options)
    return file.getvalue()


@unhurried
@given(
    width=st.integers(16, 700),
    height=st.integers(16, 700),
    covers_px=st.integers(16, 300),
    orientation=st.integers(1, 8),
    crop=st.booleans(),
)
def test_the_same_geometry_and_nearly_the_same_pixels(width, height, covers_px, orientation, crop):
    data = encoded(smooth(width, height), orientation)
    whole, reduced = decode_image(data), decode_reduced(data, covers_px)
    assert reduced.size_px == (whole.shape[1], whole.shape[0])
    left, top, right, bottom = reduced.window
    rows, columns = reduced.rgb.shape[:2]
    factor = whole.shape[1] / (right - left)
    assert factor in (1, 2, 4, 8) and whole.shape[0] / (bottom - top) == factor
    assert 0 <= left <= right <= columns < right - left + 1 and 0 <= top <= bottom <= rows < bottom - top + 1
    if factor == 1:
        np.testing.assert_array_equal(reduced.rgb, whole)
    else:
        assert min(reduced.rgb.shape[:2]) >= covers_px, "nothing is ever enlarged that was reduced"
    if factor < 8:
        assert min(whole.shape[:2]) // covers_px < 2 * factor, "the largest factor that covers"
    geometry = (ResizeCrop.centre_crop if crop else ResizeCrop.stretch)(reduced.size_px, min(covers_px, 64))
    squares = geometry.image(whole), geometry.image(reduced.rgb, shown=reduced.window)
    apart = np.abs(squares[0].astype(int) - squares[1])
    assert apart.mean() < 2 and np.quantile(apart, 0.99) < 12


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_part_of_a_pixel_is_left_where_the_image_ends(orientation):
    """1601 x 1203 at 1/4 is 400.25 x 300.75: the rest of the last pixels is no image, wherever they come to lie."""
    ramp = np.linspace(0, 255, 1601)[None].repeat(1203, 0)[..., None].repeat(3, 2).astype(np.uint8)
    data = encoded(ramp, orientation)
    found = decode_reduced(data, 300)
    turned = orientation >= 5
    assert found.rgb.shape[:2] == ((401, 301) if turned else (301, 401))
    width, height = (300.75, 400.25) if turned else (400.25, 300.75)
    assert found.size_px == ((1203, 1601) if turned else (1601, 1203))
    flip_x, flip_y = orientation in (2, 3, 6, 7), orientation in (3, 4, 7, 8)
    left, top = flip_x * (found.rgb.shape[1] - width), flip_y * (found.rgb.shape[0] - height)
    assert found.window == (left, top, left + width, top + height)
    geometry = ResizeCrop.stretch(found.size_px, 256)
    apart = geometry.image(decode_image(data)).astype(int) - geometry.image(found.rgb, shown=found.window)
    assert np.abs(apart).max() <= 2, "a shift by a part of a pixel would show on a ramp's every column"


@pytest.mark.parametrize(
    "options",
    [{"mode": "L"}, {"mode": "CMYK"}, {"progressive": True}, {"subsampling": 0}, {"kind": "MPO"}],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_every_kind_of_jpeg(options):
    data = encoded(smooth(640, 480), 6, **options)
    whole, found = decode_image(data), decode_reduced(data, 100)
    assert found.rgb.shape == (160, 120, 3) and found.size_px == (480, 640)
    geometry = ResizeCrop.stretch(found.size_px, 64)
    apart = geometry.image(whole).astype(int) - geometry.image(found.rgb, shown=found.window)
    assert np.abs(apart).mean() < 2


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_other_formats_are_decoded_whole(kind):
    file = io.BytesIO()
    Image.fromarray(smooth(640, 480)).save(file, kind)
    found = decode_reduced(file.getvalue(), 20)
    assert found.window == (0, 0, 640, 480) and found.size_px == (640, 480)
    np.testing.assert_array_equal(found.rgb, decode_image(file.getvalue()))


def test_without_a_size_to_cover_nothing_is_reduced():
    data = encoded(smooth(640, 480))
    np.testing.assert_array_equal(decode_reduced(data, None).rgb, decode_image(data))


def test_what_is_broken_is_broken_at_any_size():
    data = encoded(smooth(640, 480))
    for broken in (data[: len(data) // 2], data[:300], b"", b"\xff\xd8\xff" + struct.pack(">I", 7)):
        reasons = []
        for covers_px in (None, 50):
            with pytest.raises(ImageError) as caught:
                decode_reduced(broken, covers_px)
            reasons.append(str(caught.value))
        assert reasons[0].split(":")[0] == reasons[1].split(":")[0]
    with pytest.raises(ImageError, match="640 x 480 is more than 1,000 pixels"):
        decode_reduced(data, 50, max_pixels=1000)
