"""What the page shows of 64 rows: outlines, boxes, attention and trimaps, small enough to be loaded as one looks.

A block of the page is 64 of its rows, which a sample may take from anywhere in the version. S side of a mask.
"""

import base64
import io
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from PIL import Image

from ...geometry.normalize import min_max_or_zeros
from ...masks.pseudo_mask import heads_or_contrast, working_geometry
from ...masks.saliency import make_trimap, saliency_map
from ...recipe import Recipe
from ...status import HAS_MASK
from ...store.reader import Version
from ..visualize.panels import TRIMAP
from .outline import outline_path

ROWS = 64
TRIMAP_PX = 64
SHAPE_PX = 8
"""Side of the small masks by which images are told to look alike."""

_PALETTE = [tone for code in range(4) for tone in TRIMAP[code][1]]


@dataclass(frozen=True)
class TruthOf:
    """The ground truth of a row as the page draws it."""

    path: str  # "" if there are boxes only
    boxes: list[list[float]]  # in shares of the image


@dataclass(frozen=True)
class MaskBlock:
    """Masks of n rows, for the page."""

    rows: list[dict[str, Any]]  # see `row_json`
    masks: np.ndarray  # (n, S, S) bool
    shapes: np.ndarray  # (n, SHAPE_PX, SHAPE_PX) float32: share of each cell that is object
    has_mask: np.ndarray  # (n,) bool
    truth: dict[int, TruthOf] = field(default_factory=dict)


def read_mask_block(version: Version, recipe: Recipe, rows: np.ndarray, sizes: np.ndarray | None = None) -> MaskBlock:
    """Reads `rows` (n,) of a version.

    sizes  (n, 2) width and height of images that the store does not know, if they were read here; else None
    """
    has_mask = np.isin(version.status[rows], HAS_MASK)
    masks, attention = version.read_masks(rows), version.read_attention(rows)
    boxes, stored = version.read_column("box", rows), version.read_column("size", rows)
    size = np.where(np.all(stored > 0, axis=1, keepdims=True), stored, 1 if sizes is None else sizes)
    described = [
        row_json(masks[n], attention[n], boxes[n], size[n], recipe) if has_mask[n] else {} for n in range(len(rows))
    ]
    small = [cv2.resize(mask.astype(np.float32), (SHAPE_PX, SHAPE_PX), interpolation=cv2.INTER_AREA) for mask in masks]
    shapes = np.stack(small) if small else np.zeros((0, SHAPE_PX, SHAPE_PX), np.float32)
    return MaskBlock(described, masks, shapes, has_mask)


def row_json(
    mask: np.ndarray, attention: np.ndarray, box: np.ndarray, size: np.ndarray, recipe: Recipe
) -> dict[str, Any]:
    """One row for the page.

    o  the mask's outline, an SVG path in pixels of the mask
    w  left, top, width, height of the square of the mask, in shares of the image; left out where it is all of it
    b  the box, left, top, width, height in shares of the image; left out where there is none
    a  [width, height, base64 of uint8]: saliency, scaled to its range
    t  base64 of a PNG of TRIMAP_PX: the trimap
    """
    geometry = working_geometry(size, recipe, len(mask))
    row: dict[str, Any] = {"o": outline_path(mask)}
    left, top, right, bottom = geometry.window
    width, height = geometry.source_px
    if (left, top, right, bottom) != (0, 0, width, height):
        row["w"] = _shares([left, top, right, bottom], width, height)
    if box.any():
        row["b"] = _shares(box.tolist(), width, height)
    maps = heads_or_contrast(attention, recipe)
    saliency = saliency_map(maps, recipe.saliency, TRIMAP_PX)
    if saliency is not None:
        grid = saliency_map(maps, recipe.saliency, maps.shape[-1])
        assert grid is not None
        scaled = (min_max_or_zeros(grid) * 255).astype(np.uint8)
        row["a"] = [grid.shape[1], grid.shape[0], base64.b64encode(scaled.tobytes()).decode()]
        row["t"] = base64.b64encode(_png(make_trimap(saliency, recipe.saliency))).decode()
    return row


def _shares(box: list[float], width: int, height: int) -> list[float]:
    """x0 y0 x1 y1 in pixels > left, top, width, height in shares of the image."""
    x0, y0, x1, y1 = box
    return [round(value, 4) for value in (x0 / width, y0 / height, (x1 - x0) / width, (y1 - y0) / height)]


def box_shares(boxes: np.ndarray, size_px: tuple[int, int]) -> list[list[float]]:
    """Boxes `(n, 4)` xyxy in pixels of an image > left, top, width, height in shares of it."""
    return [_shares(box, *size_px) for box in np.asarray(boxes, np.float64).tolist()]


def _png(trimap: np.ndarray) -> bytes:
    image = Image.frombytes("P", trimap.shape[::-1], trimap.tobytes())
    image.putpalette(_PALETTE)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", bits=2, compress_level=9)
    return buffer.getvalue()
