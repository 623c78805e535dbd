"""Pixels and boxes move by one rule, there and back."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torchvision import tv_tensors
from torchvision.transforms import v2

from locloc.pipeline.geometry.boxes import largest_box
from locloc.pipeline.geometry.resize_crop import RESAMPLE, ResizeCrop

FITS = {"stretch": ResizeCrop.stretch, "centre_crop": ResizeCrop.centre_crop}

unhurried = settings(deadline=None)  # shared machines stall
fits = st.sampled_from(sorted(FITS))
sides = st.integers(1, 300)
targets = st.integers(1, 300)
# Widths and heights of real images, and what lies at the edges of rounding.
SIZES = [(500, 375), (375, 500), (333, 500), (224, 224), (256, 256), (1, 1), (1, 400), (400, 1), (225, 224), (227, 301)]
SIZES += [(int(w), int(h)) for w, h in np.random.default_rng(0).integers(1, 700, (30, 2))]


@st.composite
def geometries(draw):
    size, target_px = (draw(sides), draw(sides)), draw(targets)
    if draw(st.booleans()):
        return ResizeCrop.stretch(size, target_px)
    return ResizeCrop.centre_crop(size, target_px, target_px + draw(st.integers(0, 40)))


@st.composite
def boxes_in(draw, left, top, right, bottom):
    xs = sorted(draw(st.lists(st.floats(left, right), min_size=2, max_size=2)))
    ys = sorted(draw(st.lists(st.floats(top, bottom), min_size=2, max_size=2)))
    return np.array([xs[0], ys[0], xs[1], ys[1]])


# --- boxes -----------------------------------------------------------------------------------------------------------


@unhurried
@given(geometry=geometries(), data=st.data())
def test_boxes_come_back_inside_the_window(geometry, data):
    box = data.draw(boxes_in(*geometry.window))
    moved = geometry.boxes(box)
    assert (moved >= 0).all() and (moved <= geometry.target_px).all()
    np.testing.assert_allclose(geometry.boxes_back(moved), box, atol=1e-9 * max(geometry.source_px))


@unhurried
@given(geometry=geometries(), data=st.data())
def test_boxes_of_the_square_come_back(geometry, data):
    box = data.draw(boxes_in(0, 0, geometry.target_px, geometry.target_px))
    np.testing.assert_allclose(geometry.boxes(geometry.boxes_back(box)), box, atol=1e-9 * max(geometry.source_px))


@unhurried
@given(geometry=geometries())
def test_the_window_is_the_square(geometry):
    """... and lies inside the image, up to the rounding of floats."""
    s = geometry.target_px
    np.testing.assert_allclose(geometry.boxes(np.array(geometry.window)), [0, 0, s, s], atol=1e-9 * s)
    width, height = geometry.source_px
    assert np.float32(geometry.window[0]) >= 0 and np.float32(geometry.window[2]) <= width
    assert np.float32(geometry.window[1]) >= 0 and np.float32(geometry.window[3]) <= height


@unhurried
@given(geometry=geometries())
def test_boxes_outside_are_clipped(geometry):
    width, height = geometry.source_px
    s = geometry.target_px
    np.testing.assert_array_equal(
        geometry.boxes(np.array([-9 * width, -9 * height, 9 * width, 9 * height])), [0, 0, s, s]
    )


def test_boxes_of_any_leading_shape():
    geometry = ResizeCrop.stretch((100, 50), 200)
    boxes = np.arange(24).reshape(2, 3, 4)
    np.testing.assert_array_equal(geometry.boxes(boxes), (boxes * [2, 4, 2, 4]).clip(0, 200))
    np.testing.assert_array_equal(geometry.boxes_back(boxes), boxes / [2, 4, 2, 4])
    assert geometry.boxes(np.zeros((0, 4))).shape == (0, 4)


# --- pixels and boxes ------------------------------------------------------------------------------------------------


@unhurried
@given(geometry=geometries(), data=st.data())
def test_pixels_and_boxes_move_alike(geometry, data):
    """A rectangle drawn into the image is found in the square where its box moves to, within a pixel."""
    width, height = geometry.source_px
    x0, y0 = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    x1, y1 = data.draw(st.integers(x0 + 1, width)), data.draw(st.integers(y0 + 1, height))
    expected = geometry.boxes(np.array([x0, y0, x1, y1]))
    assume((expected[2:] - expected[:2] >= 2).all())  # a thinner one may lie between the pixels
    image = np.zeros((height, width, 3), np.uint8)
    image[y0:y1, x0:x1] = 255
    found = largest_box(geometry.image(image, "nearest")[..., 0] > 0)
    np.testing.assert_allclose(found, expected, atol=1)


@unhurried
@given(geometry=geometries(), data=st.data())
def test_pixels_and_boxes_come_back_alike(geometry, data):
    s = geometry.target_px
    x0, y0 = data.draw(st.integers(0, s - 1)), data.draw(st.integers(0, s - 1))
    x1, y1 = data.draw(st.integers(x0 + 1, s)), data.draw(st.integers(y0 + 1, s))
    expected = geometry.boxes_back(np.array([x0, y0, x1, y1]))
    assume((expected[2:] - expected[:2] >= 2).all())
    square = np.zeros((s, s), bool)
    square[y0:y1, x0:x1] = True
    np.testing.assert_allclose(largest_box(geometry.image_back(square)), expected, atol=1)


@pytest.mark.parametrize("resample", RESAMPLE)
@pytest.mark.parametrize("fit", FITS)
def test_filters_do_not_shift(fit, resample):
    """The centre of mass of a blob moves by the rule, whatever the filter."""
    y, x = np.mgrid[:301, :407]
    centre = np.array([220.5, 140.5])
    blob = np.exp(-((x + 0.5 - centre[0]) ** 2 + (y + 0.5 - centre[1]) ** 2) / 800)
    geometry = FITS[fit]((407, 301), 224)
    seen = geometry.image(np.round(blob * 255).astype(np.uint8), resample).astype(float)
    y, x = np.mgrid[:224, :224] + 0.5
    found = [(seen * x).sum() / seen.sum(), (seen * y).sum() / seen.sum()]
    np.testing.assert_allclose(found, geometry.boxes(np.tile(centre, 2))[:2], atol=0.25)


# --- there and back --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.float32])
@pytest.mark.parametrize("channels", [(), (1,), (3,), (5,)])
@pytest.mark.parametrize("fit", FITS)
def test_equal_size_is_the_identity(fit, channels, dtype):
    noise = np.random.default_rng(0).integers(0, 256, (37, 37, *channels)).astype(np.uint8)
    square = noise > 127 if dtype is bool else noise.astype(dtype)
    geometry = FITS[fit]((37, 37), 37)
    back = geometry.image_back(square)
    assert back.dtype == dtype
    np.testing.assert_array_equal(back, square)
    if dtype is np.uint8 and channels in ((), (3,)):
        for resample in RESAMPLE:
            np.testing.assert_array_equal(geometry.image(square, resample), square)


@unhurried
@given(fit=fits, width=st.integers(20, 200), height=st.integers(20, 200), target_px=st.integers(100, 256))
def test_a_mask_comes_back(fit, width, height, target_px):
    """A disc through the square and back: what lies in the window agrees but for its rim."""
    y, x = np.mgrid[:height, :width]
    mask = ((x + 0.5) / width - 0.5) ** 2 + ((y + 0.5) / height - 0.45) ** 2 < 0.09
    geometry = FITS[fit]((width, height), target_px)
    square = geometry.image(mask.astype(np.uint8), "nearest").astype(bool)
    back = geometry.image_back(square)
    assert back.shape == mask.shape and back.dtype == bool
    left, top, right, bottom = geometry.window
    inside = (x >= left + 1) & (x <= right - 2) & (y >= top + 1) & (y <= bottom - 2)
    rim = np.count_nonzero(mask ^ np.roll(mask, 1, 0)) + np.count_nonzero(mask ^ np.roll(mask, 1, 1))
    assert np.count_nonzero((back != mask) & inside) <= rim


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.float32])
@pytest.mark.parametrize("channels", [(), (1,), (3,)])
@pytest.mark.parametrize("size", [(500, 375), (375, 500), (101, 47), (300, 2), (1, 1)])
def test_zero_outside_the_window(size, channels, dtype):
    geometry = ResizeCrop.centre_crop(size, 64, 70)
    back = geometry.image_back(np.ones((64, 64, *channels), dtype))
    width, height = size
    assert back.shape == (height, width, *channels) and back.dtype == dtype
    left, top, right, bottom = (round(edge) for edge in geometry.window)
    inside = np.zeros((height, width), bool)
    inside[top:bottom, left:right] = True
    assert (back[inside] == 1).all() and (back[~inside] == 0).all()


@unhurried
@given(size=st.tuples(sides, sides), target_px=targets)
def test_nothing_is_outside_a_stretched_window(size, target_px):
    assert ResizeCrop.stretch(size, target_px).image_back(np.ones((target_px, target_px), bool)).all()


@pytest.mark.parametrize("size", [(1, 40_000), (40_000, 1), (70_000, 2)])
def test_sides_beyond_16_bits(size):
    geometry = ResizeCrop.stretch(size, 8)
    image = np.zeros(size[::-1], np.uint8)
    image[: (size[1] + 1) // 2, : (size[0] + 1) // 2] = 200
    square = geometry.image(image, "nearest")
    assert square.shape == (8, 8) and square[0, 0] == 200
    back = geometry.image_back(square > 0)
    assert np.count_nonzero(back != (image > 0)) <= max(size) // 8


def test_float_maps_come_back_bilinearly():
    """A ramp over the square is a ramp over the image, and flat from the outer pixels' centres outwards."""
    ramp = np.tile(np.arange(64, dtype=np.float32), (64, 1))
    back = ResizeCrop.stretch((500, 375), 64).image_back(ramp)
    np.testing.assert_allclose(back[0], ((np.arange(500) + 0.5) * 64 / 500 - 0.5).clip(0, 63), atol=0.05)
    np.testing.assert_array_equal(back, np.broadcast_to(back[0], back.shape))


# --- torchvision -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("resize_px", "target_px"), [(256, 224), (224, 224), (235, 224), (14, 7)])
def test_centre_crop_moves_boxes_as_torchvision_does(size, resize_px, target_px):
    width, height = size
    geometry = ResizeCrop.centre_crop(size, target_px, resize_px)
    left, top, right, bottom = geometry.window
    box = np.array([left + (right - left) * 0.2, top, right, bottom - (bottom - top) * 0.3])
    theirs = v2.Compose([v2.Resize(resize_px), v2.CenterCrop(target_px)])(
        tv_tensors.BoundingBoxes(torch.from_numpy(box)[None], format="XYXY", canvas_size=(height, width))
    )
    assert theirs.canvas_size == (target_px, target_px)
    np.testing.assert_allclose(geometry.boxes(box), theirs[0].numpy(), atol=1e-3)


@pytest.mark.parametrize("size", [(500, 375), (375, 500), (333, 500), (301, 299), (640, 97)])
@pytest.mark.parametrize(("resize_px", "target_px"), [(256, 224), (224, 224)])
def test_centre_crop_shows_what_torchvision_shows(size, resize_px, target_px):
    y, x = np.mgrid[: size[1], : size[0]]
    image = np.stack([x * 255 // size[0], y * 255 // size[1], (x + y) % 64], -1).astype(np.uint8)
    theirs = v2.Compose([v2.Resize(resize_px, antialias=True), v2.CenterCrop(target_px)])(
        tv_tensors.Image(torch.from_numpy(image).permute(2, 0, 1))
    )
    ours = ResizeCrop.centre_crop(size, target_px, resize_px).image(image, "bilinear")
    np.testing.assert_allclose(ours.astype(int), theirs.permute(1, 2, 0).numpy().astype(int), atol=1)
