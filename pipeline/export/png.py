"""OUT/masks/NAME.png: a file for each image, at its path. Binary, white on black; or indices of classes, 0 background.

With `--segmentation class` the index is label + 1, in the palette of PASCAL VOC; beyond 254 classes files are grey with
16 bits, since 255 is VOC's void. OUT/classes.txt has a name a line, the background first.
"""

import io
from pathlib import Path
from typing import ClassVar

import numpy as np
from PIL import Image

from ..catalogs.paths import to_os_path
from .format import ExportTarget
from .stream import ExportRow

MASKS, IMAGES = "masks", "images"
PALETTE_CLASSES = 254


class Png:
    images: ClassVar[tuple[str, ...]] = ("none", "copy", "link")
    sizes: ClassVar[tuple[str, ...]] = ("original", "mask")
    segmentations: ClassVar[tuple[str, ...]] = ("binary", "class")

    def __init__(self, target: ExportTarget) -> None:
        self.target = target
        if target.segmentation == "class":
            names = "".join(f"{' '.join(name.split())}\n" for name in ("background", *target.classes))
            (target.folder / "classes.txt").write_text(names, encoding="utf-8")

    def write(self, row: ExportRow) -> None:
        self.target.images.put(row, self.target.folder / IMAGES)
        file = Path(self.target.folder, MASKS, to_os_path(row.name) + ".png")
        file.parent.mkdir(parents=True, exist_ok=True)
        self._picture(row).save(file, compress_level=1)

    def _picture(self, row: ExportRow) -> Image.Image:
        if self.target.segmentation == "binary":
            return Image.fromarray(row.mask)
        index = row.class_number + 1
        if len(self.target.classes) > PALETTE_CLASSES:
            return Image.fromarray(row.mask.astype(np.uint16) * np.uint16(index))
        picture = Image.fromarray(row.mask.astype(np.uint8) * np.uint8(index), "P")
        picture.putpalette(voc_palette())
        return picture

    def close(self) -> None:
        """Nothing is left to write."""


def png_bytes(mask: np.ndarray) -> bytes:
    """Mask `(H, W) bool` > a PNG file, white on black, one bit a pixel."""
    file = io.BytesIO()
    Image.fromarray(mask).save(file, "png", compress_level=1)
    return file.getvalue()


def voc_palette() -> list[int]:
    """The 256 colours of PASCAL VOC's label images, r g b r g b ...: the bits of an index, spread over the channels."""
    index = np.arange(256)
    colours = np.zeros((256, 3), np.int64)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= ((index >> (3 * bit + channel)) & 1) << (7 - bit)
    found: list[int] = colours.ravel().tolist()
    return found
