"""A mask as COCO's run lengths, or as polygons that are close to it."""

import warnings
from typing import Any

import numpy as np
from pycocotools import mask as rle

from ..geometry.boxes import mask_iou
from ..geometry.outline import centre_outlines, filled_with_border, joined, outlines, polygons, simplified
from .stream import ExportRow

LEAST_IOU = 0.98
"""Of polygons with the mask that they stand for."""

_TOLERANCES_PX = (1.0, 0.5, 0.0)  # the coarsest first


def run_lengths(mask: np.ndarray) -> dict[str, Any]:
    """Mask `(H, W) bool` > COCO's compressed run lengths, `counts` as bytes."""
    encoded: dict[str, Any] = rle.encode(np.asfortranarray(mask.view(np.uint8)))
    return encoded


def row_polygons(row: ExportRow) -> list[np.ndarray]:
    """The polygons `(k, 2) float64` of a row's mask in the pixels of `row.mask`, one for each part of the object.

    Outlines of the stored mask with as few corners as keep the IoU with `row.mask` at LEAST_IOU or above; where they do
    not, outlines of `row.mask` itself, which are exact. Holes are joined to their part by bridges of no width.
    """
    stored, true = outlines(row.stored), run_lengths(row.mask)
    width, height = row.frame_px
    for tolerance_px in _TOLERANCES_PX:
        parts = [part.astype(np.float64) for part in polygons(simplified(stored, tolerance_px))]
        if row.size == "original":
            left_top = row.geometry.window[:2]
            parts = [(part / row.geometry.scale + left_top).clip(0, (width, height)) for part in parts]
        if parts and _iou(parts, true, height, width) >= LEAST_IOU:
            return parts
    return [part.astype(np.float64) for part in polygons(outlines(row.mask))]


def row_polygon(row: ExportRow) -> np.ndarray:
    """One polygon `(k, 2) float64` of a row's mask for ultralytics, in the pixels of `row.mask`: its parts and holes.

    It runs through the centres of the outermost pixels, because ultralytics draws the border too, with as few corners
    as keep the IoU at LEAST_IOU or above.
    """
    width, height = row.frame_px
    loops = centre_outlines(row.mask)
    for tolerance_px in _TOLERANCES_PX:
        polygon = joined(simplified(loops, tolerance_px))
        drawn = filled_with_border(polygon, width, height)
        if mask_iou(drawn, row.mask) >= LEAST_IOU:
            break
    if len(polygon) < 3:  # of a point or a line: ultralytics takes four numbers for a box
        polygon = np.resize(polygon, (3, 2))
    return polygon + 0.5


def _iou(parts: list[np.ndarray], true: dict[str, Any], height: int, width: int) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # pycocotools 2.0 with NumPy 2
        drawn = rle.merge(rle.frPyObjects([part.ravel().tolist() for part in parts], height, width))
        return float(rle.iou([drawn], [true], [0])[0, 0])
