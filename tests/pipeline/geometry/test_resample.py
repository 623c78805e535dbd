"""Torch's resampling: Pillow's filter, the same bytes on every processor, and no window that lies beside the pixels."""

import os
import subprocess
import sys
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from locloc.pipeline.geometry.resample import PILLOW, by_torch
from locloc.pipeline.geometry.resize_crop import ResizeCrop

unhurried = settings(deadline=None, max_examples=60)  # shared machines stall
sides = st.integers(1, 500)
parts = st.integers(0, 7).map(lambda eighths: eighths / 8)

GOLDEN = 819942575
SIZES = ((375, 500), (500, 375), (37, 1000), (100, 120), (8, 8), (1, 1), (256, 256))


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)


def smooth(height: int, width: int) -> np.ndarray:
    return cv2.resize(noise(5, 4), (width, height), interpolation=cv2.INTER_CUBIC)


def checksum() -> int:
    crc = 0
    for height, width in SIZES:
        for side in (224, 256):
            crc = zlib.crc32(ResizeCrop.stretch((width, height), side).image(noise(height, width)).tobytes(), crc)
    return crc


def test_golden():
    """Masks depend on these bytes: other ones need a revision of `geometry`."""
    assert checksum() == GOLDEN


@pytest.mark.slow
@pytest.mark.parametrize("capability", ["default", "avx2"])
def test_the_same_bytes_whatever_the_processor_can(capability):
    """`default` is the code of processors without AVX2."""
    again = f"import sys; sys.path.insert(0, {os.path.dirname(__file__)!r})\n"
    again += f"from {os.path.basename(__file__)[:-3]} import checksum; print(checksum())"
    environment = os.environ | {"ATEN_CPU_CAPABILITY": capability}
    found = subprocess.run([sys.executable, "-c", again], env=environment, capture_output=True, text=True, check=True)
    assert int(found.stdout) == GOLDEN


@pytest.mark.parametrize("bottom", [8.875, 8.5])
def test_a_part_that_becomes_as_large_as_the_image_is_left_to_pillow(bottom):
    """torch gives the image back, whatever the scale."""
    image, shown = smooth(9, 9), (0, 0, 9, bottom)
    geometry = ResizeCrop.stretch((72, round(8 * bottom)), 9)
    assert by_torch(image, shown, 9) is None
    ours, pillow_s = geometry.image(image, shown=shown), geometry.image(image, shown=shown, revision=PILLOW)
    np.testing.assert_array_equal(ours, pillow_s)


@unhurried
@given(width=sides, height=sides, target_px=st.integers(8, 300), data=st.data())
def test_pillow_s_pixels(width, height, target_px, data):
    """Of whole images, of central squares, and of reduced copies whose last pixels are image in part only."""
    crop, flip_x, flip_y = (data.draw(st.booleans()) for _ in range(3))
    spare = data.draw(st.none() | st.tuples(parts, parts))
    shown = None
    if spare is not None and min(width, height) > 8:
        left, top = spare[0] * flip_x, spare[1] * flip_y
        shown = (left, top, width - spare[0] + left, height - spare[1] + top)
    size = (width, height) if shown is None else (round(8 * (width - spare[0])), round(8 * (height - spare[1])))
    resize_px = target_px + data.draw(st.integers(0, 40))
    geometry = ResizeCrop.centre_crop(size, target_px, resize_px) if crop else ResizeCrop.stretch(size, target_px)
    image = smooth(height, width)
    ours, pillow_s = geometry.image(image, shown=shown), geometry.image(image, shown=shown, revision=PILLOW)
    assert ours.shape == (target_px, target_px, 3) and ours.flags.c_contiguous
    apart = np.abs(ours.astype(int) - pillow_s)
    assert apart.max() <= 6 and apart.mean() < 0.5
    flat = np.full_like(image, 201)
    np.testing.assert_array_equal(geometry.image(flat, shown=shown), 201)


@pytest.mark.parametrize("size", [(500, 375), (375, 500), (3500, 260), (256, 256)])
def test_crops_of_images_are_torch_s(size):
    """... unless the image is very long: torch would make all of it to keep a square."""
    geometry = ResizeCrop.centre_crop(size, 224, 256)
    assert by_torch(smooth(size[1], size[0]), geometry.window, 224) is not None


@pytest.mark.parametrize(
    ("size", "box", "why"),
    [
        ((20_000, 10), ResizeCrop.centre_crop((20_000, 10), 64).window, "very long"),
        ((100, 100), (10.3, 0.0, 60.3, 50.0), "starts inside a resampled pixel"),
    ],
)
def test_windows_that_are_left_to_pillow(size, box, why):
    image = smooth(size[1], size[0])
    assert by_torch(image, box, 64) is None, why
    square = ResizeCrop(size, box, 64).image(image)
    np.testing.assert_array_equal(
        square, np.array(Image.fromarray(image).resize((64, 64), Image.Resampling.BICUBIC, box=box))
    )


def test_arrays_of_any_kind():
    """Read-only, mirrored, or every second column of another: torch itself refuses or warns of these."""
    image = noise(60, 80)
    geometry = ResizeCrop.stretch((80, 60), 32)
    expected = geometry.image(image)
    read_only = image.copy()
    read_only.setflags(write=False)
    for array in (read_only, np.ascontiguousarray(image[::-1])[::-1], np.repeat(image, 2, axis=1)[:, ::2]):
        np.testing.assert_array_equal(geometry.image(array), expected)
    np.testing.assert_array_equal(image, noise(60, 80))
