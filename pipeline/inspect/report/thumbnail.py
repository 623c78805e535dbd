"""One image of the page: small, whole and upright, as WebP."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ...catalogs.paths import resolve
from ...errors import ImageError
from ...io.images import decode_reduced, read_image_bytes
from ...store.schema import input_digest

QUALITY = 70
METHOD = 2  # of WebP: from 4 on it takes twice the time for 3 % of the bytes

GRID = 8
"""Side of the colours by which images are told to look alike."""


@dataclass(frozen=True)
class Thumbnail:
    """An image as the page shows it, or why it cannot."""

    webp: bytes | None
    size_px: tuple[int, int]  # of the upright original; 0, 0 where it cannot be read
    colours: np.ndarray  # (GRID, GRID, 3) float32 in [0, 1]; zeros where it cannot be read
    note: str | None = None  # why there is no image, or that it has changed


def make_thumbnail(root: Path | str, path: str, side_px: int, max_pixels: int, digest: np.ndarray) -> Thumbnail:
    """Reads and shrinks an image to `side_px` on its longest side.

    digest  (16,) uint8 of the file that the mask was made from, zeros for none
    """
    try:
        data = read_image_bytes(resolve(root, path))
        image = decode_reduced(data, side_px, max_pixels)
    except ImageError as error:
        return Thumbnail(None, (0, 0), np.zeros((GRID, GRID, 3), np.float32), str(error))
    changed = digest.any() and not np.array_equal(digest, input_digest(data))
    scale = min(1.0, side_px / max(image.size_px))
    width, height = (max(1, round(side * scale)) for side in image.size_px)
    whole = Image.fromarray(image.rgb)
    small = whole.resize((width, height), Image.Resampling.BICUBIC, box=image.window, reducing_gap=2.0)
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=QUALITY, method=METHOD)
    colours = np.asarray(small.resize((GRID, GRID), Image.Resampling.BOX), np.float32) / 255
    note = "the image has changed since the version was built" if changed else None
    return Thumbnail(buffer.getvalue(), image.size_px, colours, note)
