"""The images of a version, read by row and checked against the files its masks were made from."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from ...pipeline.catalogs import resolve
from ...pipeline.errors import ImageError, TrainError
from ...pipeline.io.images import decode_image, read_image_bytes
from ...pipeline.masks.pseudo_mask import working_geometry
from ...pipeline.recipe import Recipe
from ...pipeline.store.schema import input_digest


@dataclass(frozen=True)
class VersionImages:
    """The images of a version, by row. Travels to loading processes."""

    root: Path | str
    ids: pa.Array
    paths: pa.Array
    digests: np.ndarray | None  # (N, 16) uint8 of the files the masks were made from; None: changed files are taken too
    recipe: Recipe  # of the masks: how an image is shown as a square

    def read(self, row: int) -> np.ndarray:
        """Rgb `(H, W, 3) uint8`, upright. Raises TrainError for a file that is another one than the masks' or gone."""
        try:
            return self.decode(row)
        except ImageError as error:
            image_id, where = self._named(row)
            raise TrainError(f"{image_id}: {error} ({where}); name the images' folder with --images") from None

    def decode(self, row: int) -> np.ndarray:
        """The same; raises ImageError for a file that is gone or broken."""
        image_id, where = self._named(row)
        data = read_image_bytes(where)
        if self.digests is not None and self.digests[row].any() and not self._is_known(data, row):
            raise TrainError(
                f"{image_id} is another file than the one its mask was made from ({where}); "
                "name the images' folder with --images, or go on with --allow-changed-images"
            )
        return decode_image(data, self.recipe.images.max_pixels)

    def _is_known(self, data: bytes, row: int) -> bool:
        return np.array_equal(input_digest(data), self.digests[row])

    def _named(self, row: int) -> tuple[str, Path | str]:
        return self.ids[row].as_py(), resolve(self.root, self.paths[row].as_py())

    def square(self, row: int, side_px: int, image: np.ndarray | None = None) -> np.ndarray:
        """Rgb `(side, side, 3) uint8`, of what the masks show too."""
        image = self.read(row) if image is None else image
        return working_geometry(image.shape[1::-1], self.recipe, side_px).image(image)
