"""Resize and crop: one transform for pixels and boxes between an image and its square working copy, both ways.

Coordinates are continuous and measured from the top left *edge*: pixel i covers [i, i + 1), a box `x0, y0, x1, y1`
encloses whole pixels, and its width is x1 - x0. Scaling an image by s scales its boxes by s, with no half-pixel terms.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from .resample import PILLOW, TORCH, Box, by_pillow, by_torch

RESAMPLE = {
    "nearest": Image.Resampling.NEAREST,
    "area": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,  # with antialiasing when shrinking, as Pillow and torchvision do
    "bicubic": Image.Resampling.BICUBIC,
}


@dataclass(frozen=True)
class ResizeCrop:
    """A window of the image (left, top, right, bottom, in its pixels) shown as a square of `target_px`."""

    source_px: tuple[int, int]  # width, height of the upright image
    window: Box
    target_px: int

    @classmethod
    def of_fit(cls, fit: str, source_px: tuple[int, int], target_px: int) -> "ResizeCrop":
        """By the recipe's setting `images.fit`: "centre_crop", or "stretch"."""
        return cls.centre_crop(source_px, target_px) if fit == "centre_crop" else cls.stretch(source_px, target_px)

    @classmethod
    def stretch(cls, source_px: tuple[int, int], target_px: int) -> "ResizeCrop":
        """The whole image, stretched to a square: nothing is cut off."""
        width, height = source_px
        return cls(source_px, (0.0, 0.0, float(width), float(height)), target_px)

    @classmethod
    def centre_crop(cls, source_px: tuple[int, int], target_px: int, resize_px: int | None = None) -> "ResizeCrop":
        """Short side to `resize_px` (default `target_px`), then the central square of `target_px`.

        Sizes and offsets are rounded as torchvision's Resize and CenterCrop do, so that evaluation protocols agree.
        """
        width, height = source_px
        resize_px = resize_px or target_px
        short = min(width, height)
        resized = (resize_px * width // short, resize_px * height // short)
        left, top = (round((side - target_px) / 2.0) for side in resized)
        x_scale, y_scale = width / resized[0], height / resized[1]
        right, bottom = (left + target_px) * x_scale, (top + target_px) * y_scale
        return cls(source_px, (left * x_scale, top * y_scale, right, bottom), target_px)

    @property
    def scale(self) -> np.ndarray:
        """Target pixels a source pixel: `(2,) float64`, x then y."""
        left, top, right, bottom = self.window
        return self.target_px / np.array([right - left, bottom - top])

    def image(
        self, image: np.ndarray, resample: str = "bicubic", shown: Box | None = None, revision: int = TORCH
    ) -> np.ndarray:
        """Image `(H, W[, 3]) uint8` > `(target_px, target_px[, 3]) uint8`. The window must lie inside the image.

        `image` may be a smaller copy of the source. Its part `shown` (left, top, right, bottom, in its pixels) is then
        the whole source; boxes and sizes stay those of the source.

        revision  of the stage `geometry`: TORCH resamples rgb by torch where it can; PILLOW, as versions of before,
                  all by Pillow. Other filters than bicubic, and grey, are Pillow's in both
        """
        box = self.window
        if shown is not None:
            (width, height), (left, top, right, bottom) = self.source_px, shown
            x_scale, y_scale = (right - left) / width, (bottom - top) / height
            box = (
                left + box[0] * x_scale,
                top + box[1] * y_scale,
                min(left + box[2] * x_scale, image.shape[1]),  # Pillow refuses an excess by a rounding error
                min(top + box[3] * y_scale, image.shape[0]),
            )
        square = None
        if revision != PILLOW and resample == "bicubic" and image.ndim == 3:
            square = by_torch(image, box, self.target_px)
        return by_pillow(image, RESAMPLE[resample], box, self.target_px) if square is None else square

    def image_back(self, square: np.ndarray) -> np.ndarray:
        """Square `(target_px, target_px[, C])`, bool, uint8 or float32 > its place in the image, zero outside.

        Returns `(H, W[, C])` of the same dtype; bool by the nearest pixel, others bilinear.
        """
        width, height = self.source_px
        (x_scale, y_scale), (left, top) = self.scale, self.window[:2]
        # cv2 measures from pixel centres: edge coordinate e is e - 0.5 there, on both sides.
        x_shift, y_shift = (0.5 - left) * x_scale - 0.5, (0.5 - top) * y_scale - 0.5
        to_square = np.array([[x_scale, 0.0, x_shift], [0.0, y_scale, y_shift]])
        nearest = square.dtype == np.bool_
        flags = (cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR) | cv2.WARP_INVERSE_MAP
        whole = cv2.warpAffine(
            square.astype(np.uint8) if nearest else square,
            to_square,
            (width, height),
            flags=flags,
            borderMode=cv2.BORDER_REPLICATE,
        )
        outside = np.ones((height, width), bool)
        x0, y0, x1, y1 = (round(edge) for edge in self.window)
        outside[y0:y1, x0:x1] = False
        whole[outside] = 0
        return whole.reshape(height, width, *square.shape[2:]).astype(square.dtype)  # cv2 drops a last axis of 1

    def boxes(self, boxes: np.ndarray) -> np.ndarray:
        """Boxes `(..., 4) float` xyxy in the image > in the square, clipped to it."""
        left, top = self.window[:2]
        moved = (np.asarray(boxes, np.float64) - [left, top, left, top]) * np.tile(self.scale, 2)
        return moved.clip(0, self.target_px)

    def boxes_back(self, boxes: np.ndarray) -> np.ndarray:
        """Boxes `(..., 4) float` xyxy in the square > in the image."""
        left, top = self.window[:2]
        return np.asarray(boxes, np.float64) / np.tile(self.scale, 2) + [left, top, left, top]
