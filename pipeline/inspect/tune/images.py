"""What a trial needs of each image, read once; and the score of a recipe on some of them.

S side of a mask, H maps, h x w token grid.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...catalogs.paths import resolve
from ...errors import ImageError
from ...geometry.boxes import largest_box
from ...geometry.resize_crop import ResizeCrop
from ...io.images import decode_reduced, read_image_bytes
from ...masks.pseudo_mask import make_mask
from ...recipe import Recipe
from ...store.schema import input_digest
from ..true_objects import TrueObject, compare


@dataclass(frozen=True)
class KeptImage:
    """What the store and the ground truth have of one image. Its pixels are read where it is scored."""

    id: str
    path: str
    digest: np.ndarray  # (16,) uint8 of the file whose maps these are
    maps: np.ndarray  # (H, h, w) float16
    packed_truth: np.ndarray | None  # (S, S // 8) uint8; None if the ground truth is boxes only
    boxes: np.ndarray  # (n, 4) true boxes in the original image
    geometry: ResizeCrop
    packed_void: np.ndarray | None = None  # (S, S // 8) uint8

    @classmethod
    def of(cls, id: str, path: str, digest: np.ndarray, maps: np.ndarray, truth: TrueObject) -> "KeptImage":
        packed, void = (None if one is None else np.packbits(one, axis=1) for one in (truth.mask, truth.void))
        return cls(id, path, digest, maps, packed, truth.boxes, truth.geometry, void)

    @property
    def truth(self) -> TrueObject:
        mask, void = (
            None if packed is None else np.unpackbits(packed, axis=1).astype(bool)
            for packed in (self.packed_truth, self.packed_void)
        )
        return TrueObject(mask, self.boxes, self.geometry, void)


class DecodedImages:
    """Images with their pixels at mask size, in memory."""

    def __init__(self, images: list[KeptImage], root: Path | str, recipe: Recipe, revisions: Mapping[str, int]):
        """Reads the files. `unreadable`: id and reason of those that cannot be read or were changed since.

        revisions  of the stages that made the version
        """
        self._images = images
        self._pixels: list[np.ndarray | None] = []  # (S, S, 3) uint8
        self.unreadable: dict[str, str] = {}
        for image in images:
            try:
                self._pixels.append(_decode(image, root, recipe, revisions))
            except ImageError as error:
                self.unreadable[image.id] = str(error)
                self._pixels.append(None)

    def scores(self, recipe: Recipe, start: int, stop: int) -> np.ndarray:
        """FIGURES `(stop - start, 5)` of images by their place in the list; NaN for those that cannot be read."""
        found = np.full((stop - start, 5), np.nan)
        for number in range(start, stop):
            image, rgb = self._images[number], self._pixels[number]
            if rgb is not None:
                mask = make_mask(image.maps, rgb, recipe, image.id).mask
                box = image.geometry.boxes_back(largest_box(mask))
                found[number - start] = compare(mask, box, image.truth)
        return found


def _decode(image: KeptImage, root: Path | str, recipe: Recipe, revisions: Mapping[str, int]) -> np.ndarray:
    """As a build decodes it. Raises ImageError."""
    data = read_image_bytes(resolve(root, image.path))
    if image.digest.any() and not np.array_equal(image.digest, input_digest(data)):
        raise ImageError("the file was changed since its attention was taken")
    decoded = decode_reduced(data, recipe.covers_px(revisions["decode"]), recipe.images.max_pixels)
    square: np.ndarray = image.geometry.image(decoded.rgb, shown=decoded.window, revision=revisions["geometry"])
    return square
