"""Masks to boxes, and IoU. Boxes are `x0, y0, x1, y1` in the coordinates of resize_crop.py."""

import cv2
import numpy as np

CORRECT_IOU = 0.5
"""IoU at which a box counts as correct: GT-known Loc, Top-1 Loc and CorLoc (Deselaers et al. 2012)."""

EMPTY_BOX = np.zeros(4, np.float32)


def mask_boxes(mask: np.ndarray) -> np.ndarray:
    """Mask `(H, W) bool` > a box per 8-connected outer contour, `(n, 4) float32`, largest contour first.

    Contours are sorted by area (`cv2.contourArea`, as in the WSOL protocols), equal ones by the area of their boxes.
    """
    return np.array([box for box, _ in _contours(mask)], np.float32).reshape(-1, 4)


def largest_object(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mask `(H, W) bool` > the box of its largest contour, and the part of the mask inside that contour.

    `(4,) float32` and `(H, W) bool`: one object and the box that encloses it. Both are zeros for an empty mask.
    """
    contours = _contours(mask)
    if not contours:
        return EMPTY_BOX.copy(), np.zeros_like(mask)
    box, contour = contours[0]
    within = cv2.drawContours(np.zeros(mask.shape, np.uint8), [contour], -1, 1, cv2.FILLED)
    return np.array(box, np.float32), mask & within.astype(bool)


def _contours(mask: np.ndarray) -> list[tuple[tuple[int, int, int, int], np.ndarray]]:
    """Outer contours with their boxes, in the order of `mask_boxes`."""
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    sortable = []
    for number, contour in enumerate(contours):
        x, y, width, height = cv2.boundingRect(contour)
        sortable.append((-cv2.contourArea(contour), -width * height, y, x, number, (x, y, x + width, y + height)))
    return [(box, contours[number]) for *_, number, box in sorted(sortable)]


def largest_box(mask: np.ndarray) -> np.ndarray:
    """Mask `(H, W) bool` > the box of its largest contour, `(4,) float32`; all zeros for an empty mask."""
    boxes = mask_boxes(mask)
    return boxes[0] if len(boxes) else EMPTY_BOX.copy()


def enclosing_box(mask: np.ndarray) -> np.ndarray:
    """Mask `(H, W) bool` > the box around all of it, `(4,) float64` xyxy; zeros where it is empty."""
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    if not len(columns):
        return np.zeros(4)
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float64)


def box_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Boxes `(n, 4)` and `(m, 4)` > intersection over union `(n, m) float64`, without the +1 of older protocols."""
    a, b = np.asarray(a, np.float64)[:, None], np.asarray(b, np.float64)[None]
    overlap = (np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])).clip(0).prod(-1)
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - overlap
    return np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0)


def mask_iou(a: np.ndarray, b: np.ndarray) -> float:
    """Masks `(H, W) bool` > intersection over union; 1 where both are empty."""
    union = np.count_nonzero(a | b)
    return np.count_nonzero(a & b) / union if union else 1.0
