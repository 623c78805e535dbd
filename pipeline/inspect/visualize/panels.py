"""The panels of one image: pixels, boxes and outlines, in pixels of the upright image."""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from ...geometry.normalize import min_max_or_zeros
from ...geometry.resize_crop import ResizeCrop
from ...masks.saliency import PROBABLE_BACKGROUND, PROBABLE_FOREGROUND, SURE_BACKGROUND, SURE_FOREGROUND
from .rows import ViewedImage

MASK, BOX, TRUTH = (255, 96, 32), (40, 220, 90), (86, 180, 233)
"""Colours of lines."""

TRIMAP = {
    SURE_BACKGROUND: ("sure background", (24, 24, 32)),
    PROBABLE_BACKGROUND: ("probable background", (84, 92, 128)),
    PROBABLE_FOREGROUND: ("probable object", (244, 180, 100)),
    SURE_FOREGROUND: ("sure object", (255, 255, 240)),
}
"""Names and colours of a trimap's codes."""

TITLES = ("image", "saliency", "trimap", "mask, box of its largest object", "ground truth")

_GREY, _OBJECT = 90, 225  # of panels whose image cannot be read


@dataclass(frozen=True)
class Layer:
    """Pixels that fill a part of the image."""

    pixels: np.ndarray  # (h, w, 3) uint8
    extent: tuple[float, float, float, float]  # left, top, right, bottom
    smooth: bool  # interpolated, or in visible pixels


@dataclass(frozen=True)
class Panel:
    """One panel; `note` stands in place of what is missing."""

    layers: tuple[Layer, ...] = ()
    outlines: tuple[np.ndarray, ...] = ()  # (n, 2) float64 each
    outline_colour: tuple[int, int, int] = MASK
    boxes: tuple[np.ndarray, ...] = ()  # (4,) each
    box_colour: tuple[int, int, int] = BOX
    note: str | None = None


def panels_of(image: ViewedImage) -> Iterator[Panel]:
    """In the order of TITLES; the last one only where ground truth was asked for."""
    whole = _whole(image)
    yield Panel(note="cannot be read") if image.rgb is None else Panel((Layer(image.rgb, whole, True),))
    window = image.geometry.window
    if image.saliency is None:
        yield Panel(note="flat attention" if image.mask is not None else "none")
    else:
        heat = cv2.applyColorMap((min_max_or_zeros(image.saliency) * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[
            ..., ::-1
        ]
        yield Panel((Layer(heat, window, True),))
    if image.trimap is None:
        yield Panel(note="none")
    else:
        yield Panel((Layer(_PALETTE[image.trimap], window, False),))
    if image.mask is None:
        yield Panel(note="no mask")
    else:
        boxes = () if image.box is None else (image.box,)
        yield Panel((_cut_out(image, image.mask, image.geometry),), _outlines(image.mask, image.geometry), MASK, boxes)
    if image.truth is not None:
        yield _truth_panel(image)


def _truth_panel(image: ViewedImage) -> Panel:
    truth = image.truth
    assert truth is not None
    if truth.note is not None:
        return Panel(note=truth.note)
    boxes = tuple(truth.boxes)
    if truth.mask is None:
        rgb = np.full((1, 1, 3), _GREY, np.uint8) if image.rgb is None else image.rgb
        return Panel((Layer(rgb, _whole(image), True),), (), TRUTH, boxes, TRUTH)
    height, width = truth.mask.shape
    fitted = _WholeImage(image.size_px, (width, height))
    return Panel((_cut_out(image, truth.mask, fitted),), _outlines(truth.mask, fitted), TRUTH, boxes, TRUTH)


@dataclass(frozen=True)
class _WholeImage:
    """The frame of a mask that shows its whole image, at any size."""

    source_px: tuple[int, int]
    mask_px: tuple[int, int]

    @property
    def window(self) -> tuple[float, float, float, float]:
        width, height = self.source_px
        return 0.0, 0.0, float(width), float(height)

    @property
    def scale(self) -> np.ndarray:
        return np.array(self.mask_px) / np.array(self.source_px)


def _whole(image: ViewedImage) -> tuple[float, float, float, float]:
    width, height = image.size_px
    return 0.0, 0.0, float(width), float(height)


def _cut_out(image: ViewedImage, mask: np.ndarray, frame: ResizeCrop | _WholeImage) -> Layer:
    """The object in colour, what is not object in dark grey."""
    whole = _whole(image)
    if image.rgb is None:
        tones = np.where(mask, _OBJECT, _GREY).astype(np.uint8)
        return Layer(tones[..., None].repeat(3, 2), frame.window, False)
    height, width = image.rgb.shape[:2]
    shown = cv2.cvtColor(image.rgb, cv2.COLOR_RGB2GRAY)[..., None].repeat(3, 2) // 3
    x_scale, y_scale = width / image.size_px[0], height / image.size_px[1]
    left, top = (np.arange(width) + 0.5) / x_scale, (np.arange(height) + 0.5) / y_scale
    x = np.floor((left - frame.window[0]) * frame.scale[0]).astype(int)
    y = np.floor((top - frame.window[1]) * frame.scale[1]).astype(int)
    known_x, known_y = (x >= 0) & (x < mask.shape[1]), (y >= 0) & (y < mask.shape[0])
    inside = np.zeros((height, width), bool)
    inside[np.ix_(known_y, known_x)] = mask[np.ix_(y[known_y], x[known_x])]
    return Layer(np.where(inside[..., None], image.rgb, shown), whole, True)


def _outlines(mask: np.ndarray, frame: ResizeCrop | _WholeImage) -> tuple[np.ndarray, ...]:
    """The outlines of a mask's parts and holes. A border of the mask keeps them closed at the edge of the image."""
    padded = np.pad(mask.astype(np.uint8), 1)
    contours, _ = cv2.findContours(padded, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    origin = np.array(frame.window[:2])
    return tuple((contour[:, 0] - 0.5) / frame.scale + origin for contour in contours)


_PALETTE = np.array([TRIMAP[code][1] for code in range(4)], np.uint8)
