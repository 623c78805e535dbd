"""Reads the images of a version by row, and checks that they are the files its masks were made from."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from ...pipeline.catalogs.paths import resolve
from ...pipeline.errors import ImageError, TrainError
from ...pipeline.io.image_files import ImagePlace
from ...pipeline.io.images import decode_image, read_image_bytes
from ...pipeline.masks.pseudo_mask import working_geometry
from ...pipeline.recipe import Recipe
from ...pipeline.store.schema import input_digest


@dataclass(frozen=True)
class VersionImages:
    """The images of a version, by row. Can be pickled for loading processes."""

    root: Path | str
    ids: pa.Array
    paths: pa.Array
    digests: np.ndarray | None  # (N, 16) uint8 of the files the masks were made from; None: unchecked
    recipe: Recipe  # of the masks, with the fit of an image to the square

    def read(self, row: int) -> np.ndarray:
        """Rgb `(H, W, 3) uint8`, upright. Raises TrainError for a file that is missing, damaged or changed."""
        try:
            return self.decode(row)
        except ImageError as error:
            image_id, location = self._id_and_location(row)
            raise TrainError(f"{image_id}: {error} ({location}); name the images' folder with --images") from None

    def decode(self, row: int) -> np.ndarray:
        """As `read`, but raises ImageError for a file that is missing or damaged."""
        image_id, location = self._id_and_location(row)
        data = read_image_bytes(location)
        if self._is_changed(data, row):
            raise TrainError(
                f"{image_id} is another file than the one its mask was made from ({location}); "
                "name the images' folder with --images, or use them with --allow-changed-images"
            )
        return decode_image(data, self.recipe.images.max_pixels)

    def _is_changed(self, data: bytes, row: int) -> bool:
        """Whether a file differs from the one with the recorded digest; zeros stand for none."""
        if self.digests is None or not self.digests[row].any():
            return False
        return not np.array_equal(input_digest(data), self.digests[row])

    def _id_and_location(self, row: int) -> tuple[str, ImagePlace]:
        return self.ids[row].as_py(), resolve(self.root, self.paths[row].as_py())

    def square(self, row: int, side_px: int, image: np.ndarray | None = None) -> np.ndarray:
        """Rgb `(side, side, 3) uint8`: the square that the mask covers."""
        image = self.read(row) if image is None else image
        return working_geometry(np.array(image.shape[1::-1]), self.recipe, side_px).image(image)
