"""Polygons, the primitives of all drawing. y points down; polygons are (N, 2)."""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Float = NDArray[Any]  # float32 unless a docstring says otherwise; OpenCV's stubs declare no dtype
Polygon = NDArray[np.float64]  # (N, 2), x y
Part = tuple[Polygon, int]  # a polygon in object units and its material: 0 main colour, 1 second colour, 2 dark


def ellipse(cx: float, cy: float, rx: float, ry: float, turn: float = 0.0, n: int = 26) -> Polygon:
    """Ellipse as a polygon (n, 2), turned by `turn` radians."""
    a = np.linspace(0, 2 * np.pi, n, endpoint=False)
    x, y = rx * np.cos(a), ry * np.sin(a)
    return np.stack([cx + x * np.cos(turn) - y * np.sin(turn), cy + x * np.sin(turn) + y * np.cos(turn)], 1)


def limb(x0: float, y0: float, x1: float, y1: float, w0: float, w1: float) -> Polygon:
    """Tapered bar with round ends from (x0, y0) of half width w0 to (x1, y1) of half width w1: a polygon (N, 2)."""
    ends = np.concatenate([ellipse(x0, y0, w0, w0, n=12), ellipse(x1, y1, w1, w1, n=12)]).astype(np.float32)
    return cv2.convexHull(ends).reshape(-1, 2).astype(np.float64)


def chain(start: tuple[float, float], steps: list[tuple[float, float, float]], w: float, part: int) -> list[Part]:
    """Jointed limb: each step is (angle in radians, 0 = right and pi/2 = down, length, half width at its end)."""
    parts, (x, y) = [], start
    for angle, length, end in steps:
        nx, ny = x + length * np.cos(angle), y + length * np.sin(angle)
        parts.append((limb(x, y, nx, ny, w, end), part))
        x, y, w = nx, ny, end
    return parts


def polar(radius: Callable[[NDArray[np.float64]], NDArray[np.float64]], n: int = 90) -> Polygon:
    """Closed curve (n, 2) of radius(angle) about the origin."""
    a = np.linspace(0, 2 * np.pi, n, endpoint=False)
    return radius(a)[:, None] * np.stack([np.cos(a), np.sin(a)], 1)


def fill(canvas: NDArray[np.uint8], polygon: NDArray, colour: Float | tuple[float, ...] | float) -> None:
    """Fill a polygon (N, 2) in pixels on a uint8 canvas, anti-aliased, at 1/16 pixel."""
    cv2.fillPoly(
        canvas, [np.rint(polygon * 16).astype(np.int32)], [float(c) for c in np.atleast_1d(colour)], cv2.LINE_AA, 4
    )


def box_of(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Tight box x0 y0 x1 y1 (exclusive ends) of a mask (H, W) bool that is not empty."""
    x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
    return x, y, x + w, y + h
