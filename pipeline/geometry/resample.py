"""Bicubic, antialiased resampling of images `(H, W, 3) uint8`: by torch, or as versions of before have it by Pillow.

Torch's has integer arithmetic, so that the bytes are the same on every processor (AVX2 or not). It is Pillow's filter
with weights of fewer bits, in a seventh of the time, but resamples whole images only: the window of a crop has to be
whole pixels of the resampled image.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image

PILLOW, TORCH = 1, 2
"""Revisions of the stage `geometry`: by which library images are resampled."""

_LONGEST = 16  # squares: of a longer resampled image Pillow cuts the window, since torch would make all of it

Box = tuple[float, float, float, float]  # left, top, right, bottom


def by_pillow(image: np.ndarray, resample: Image.Resampling, box: Box, side_px: int) -> np.ndarray:
    """The part `box` of an image `(H, W[, 3]) uint8` > `(side, side[, 3]) uint8`."""
    return np.array(Image.fromarray(image).resize((side_px, side_px), resample, box=box))


def by_torch(image: np.ndarray, box: Box, side_px: int) -> np.ndarray | None:
    """The part `box` of an image `(H, W, 3) uint8` > `(side, side, 3) uint8`, by torch.

    None where torch cannot: the box is not whole pixels of the resampled image, that is very long, or it would be as
    large as the image although a part of the last pixel is not of the box.
    """
    import torch  # not above: commands that only show a version do without it
    from torch.nn.functional import interpolate

    (height, width), (left, top, right, bottom) = image.shape[:2], box
    rows, columns = _axis(height, top, bottom, side_px), _axis(width, left, right, side_px)
    if rows is None or columns is None:
        return None
    image = np.ascontiguousarray(image[:: -1 if rows.flipped else 1, :: -1 if columns.flipped else 1])
    image = image if image.flags.writeable else image.copy()  # torch warns of arrays that are read-only
    pixels = torch.from_numpy(image)[None].permute(0, 3, 1, 2)  # channels last: torch's fast path, in and out
    if rows.whole and columns.whole:
        resampled = interpolate(pixels, (rows.resampled_px, columns.resampled_px), mode="bicubic", antialias=True)
    else:
        scale = [axis.scale * (1 + 1e-12) for axis in (rows, columns)]  # torch rounds the resampled sides down
        resampled = interpolate(
            pixels, scale_factor=scale, mode="bicubic", antialias=True, recompute_scale_factor=False
        )
    square = resampled[0].permute(1, 2, 0).numpy()
    square = square[rows.start : rows.start + side_px, columns.start : columns.start + side_px]
    return np.ascontiguousarray(square[:: -1 if rows.flipped else 1, :: -1 if columns.flipped else 1])


@dataclass(frozen=True)
class _Axis:
    """One axis of a resampled image, with the window in it."""

    resampled_px: int  # side of the whole image, resampled
    start: int  # of the window, in pixels of the resampled image
    scale: float  # resampled pixels a pixel
    whole: bool  # whether `resampled_px` are all pixels: no part of the last one lies outside the image
    flipped: bool  # whether the part that lies outside is before the first pixel


def _axis(source_px: int, first: float, last: float, side_px: int) -> _Axis | None:
    """The window from `first` to `last` of `source_px` pixels; None where torch cannot cut it out of resampled ones."""
    step = (last - first) / side_px
    if (resampled := source_px / step) > _LONGEST * side_px:
        return None
    for start, flipped in ((first / step, False), ((source_px - last) / step, True)):
        if _is_whole(start) and (_is_whole(resampled) or int(resampled) >= round(start) + side_px):
            if int(resampled) == source_px and not _is_whole(resampled):
                return None  # torch does not resample to the size that is there, whatever the scale
            return _Axis(round(resampled), round(start), 1 / step, _is_whole(resampled), flipped)
    return None


def _is_whole(number: float) -> bool:
    return abs(number - round(number)) < 1e-6
