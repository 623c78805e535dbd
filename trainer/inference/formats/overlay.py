"""OUT/overlays/NAME.jpg: the image with the prediction's mask tinted and outlined, its box, and a label.

The canvas has a long side of 640 to 2048 px: small images are enlarged, so that text is legible and lines are thin, and
very large ones reduced. Outlines are smooth curves drawn at that size, not scaled pixels.
"""

import cv2
import numpy as np
from PIL import Image, ImageDraw

from ..predict import Prediction
from .label import draw_label
from .metadata import RunMetadata, cannot_write

LEAST_PX, MOST_PX = 640, 2048  # of the canvas's long side
TINT = 0.38
# Colours that colour-blind readers can tell apart (Okabe and Ito), without the darkest and the lightest.
COLOURS = [(230, 159, 0), (86, 180, 233), (0, 158, 115), (213, 94, 0), (204, 121, 167), (0, 114, 178)]


class Overlays:
    def __init__(self, metadata: RunMetadata):
        self.metadata = metadata

    def write(self, number: int, prediction: Prediction, canvas: np.ndarray | None) -> None:
        file = self.metadata.file("overlays", number, ".jpg")
        assert canvas is not None, "`canvas_of` is passed to `Predictor.each` with this format"
        try:
            # A fifth of the time of PNG; colours at full resolution keep lines crisp.
            Image.fromarray(draw_overlay(canvas, prediction)).save(file, quality=95, subsampling=0)
        except OSError as error:
            raise cannot_write(file, error) from None

    def close(self) -> None:
        """Nothing is left to write."""


def canvas_of(rgb: np.ndarray) -> np.ndarray:
    """Rgb `(H, W, 3) uint8` > resized for drawing."""
    long = max(rgb.shape[:2])
    scale = min(max(long, LEAST_PX), MOST_PX) / long
    if scale == 1:
        return rgb
    size = [max(1, round(side * scale)) for side in rgb.shape[1::-1]]
    return np.array(Image.fromarray(rgb).resize(size, Image.Resampling.BICUBIC))


def draw_overlay(canvas: np.ndarray, prediction: Prediction) -> np.ndarray:
    """Canvas `(h, w, 3) uint8` of `canvas_of` > with the prediction drawn on it."""
    height, width = canvas.shape[:2]
    line = max(2, round(max(width, height) / 320))
    colour = COLOURS[(prediction.labels[0] if prediction.labels else 0) % len(COLOURS)]
    shown = canvas.copy()
    box = None
    if prediction.mask is not None and prediction.mask.any():
        box = prediction.box * np.tile([width / prediction.size_px[0], height / prediction.size_px[1]], 2)
        curves = _curves(prediction.mask, (width, height))
        tinted = shown.copy()
        cv2.fillPoly(tinted, curves, colour, cv2.LINE_AA, _SHIFT)
        shown = cv2.addWeighted(tinted, TINT, shown, 1 - TINT, 0)
        cv2.polylines(shown, curves, True, (16, 16, 16), line + 2, cv2.LINE_AA, _SHIFT)
        cv2.polylines(shown, curves, True, colour, line, cv2.LINE_AA, _SHIFT)
    sheet = Image.fromarray(shown)
    pen = ImageDraw.Draw(sheet)
    if box is not None:
        _draw_box(pen, box, line, colour, (width, height))
    draw_label(pen, prediction, box, colour, (width, height))
    return np.array(sheet)


_SHIFT = 4
"""Fractional bits of the coordinates that OpenCV draws."""


def _curves(mask: np.ndarray, size: tuple[int, int]) -> list[np.ndarray]:
    """Mask `(H, W) bool` > smooth outlines on a canvas of `size`, holes too, in 16ths of a pixel."""
    scale = np.array(size) / mask.shape[1::-1]
    stretched = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    blur = min(max(1.0, float(scale.max()) * 0.8), max(size) / 40)
    soft = cv2.GaussianBlur(stretched, (0, 0), blur, borderType=cv2.BORDER_REPLICATE)
    soft = cv2.copyMakeBorder(soft, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)  # objects end at the image border
    contours, _ = cv2.findContours((soft > 0.5).astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    reach = max(3, max(size) // 100)  # points averaged on each side: about a cell of the map
    curves = []
    for contour in contours:
        points = contour[:, 0].astype(np.float64) - 1
        if len(points) > 4 * reach:
            wrapped = np.concatenate([points[-reach:], points, points[:reach]])
            sums = np.cumsum(np.concatenate([np.zeros((1, 2)), wrapped]), axis=0)
            points = (sums[2 * reach + 1 :] - sums[: -2 * reach - 1]) / (2 * reach + 1)
        curves.append((points * (1 << _SHIFT)).round().astype(np.int32)[:, None])
    return curves


def _draw_box(pen: ImageDraw.ImageDraw, box: np.ndarray, line: int, colour, size: tuple[int, int]) -> None:
    """A line of the colour with a dark rim, clipped to the canvas."""
    x0, y0, x1, y1 = box
    edges = [max(x0, 0), max(y0, 0), min(x1, size[0]) - 1, min(y1, size[1]) - 1]
    edges[2:] = [max(edges[2], edges[0]), max(edges[3], edges[1])]
    pen.rectangle(edges, outline=(16, 16, 16), width=line + 2)
    if edges[2] - edges[0] > 2 * line and edges[3] - edges[1] > 2 * line:
        pen.rectangle([edges[0] + 1, edges[1] + 1, edges[2] - 1, edges[3] - 1], outline=colour, width=line)
