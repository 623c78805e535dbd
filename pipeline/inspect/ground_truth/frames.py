"""Sizes and EXIF orientations of images: from a version, or from the images' headers."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from ...catalogs.paths import resolve
from ...errors import ImageError
from ...geometry.orientation import SWAPPED
from ...io.images import read_image_bytes, read_orientation
from ...store.reader import Version

THREADS = 8


def read_frames(root: Path | str, paths: Sequence[str], rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sizes `(N, 2) int32` of the upright images and EXIF orientations `(N,) uint8` of N paths; decodes no pixels.

    rows  the rows to read; others, and images that cannot be read, have zeros
    """
    sizes, orientation = np.zeros((len(paths), 2), np.int32), np.zeros(len(paths), np.uint8)

    def read(row: int) -> None:
        try:
            turn, (width, height) = read_orientation(read_image_bytes(resolve(root, paths[row])))
        except ImageError:  # the row gets its status, or its error, where the image is decoded
            return
        sizes[row] = (height, width) if turn in SWAPPED else (width, height)
        orientation[row] = turn

    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(read, np.asarray(rows).tolist()))
    return sizes, orientation


def version_frames(
    version: Version, rows: np.ndarray, boxes_in: str, root: Path | str | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """As `read_frames`, from the columns of a version, whose images are read only where it is inevitable.

    That is for "stored" ground truth of a version without orientations, which an older release made.
    """
    sizes, orientation = version.read_column("size"), version.read_column("orientation")
    unknown = rows[(orientation[rows] == 0) & sizes[rows].all(1)]
    if boxes_in == "stored" and len(unknown):
        catalog = version.catalog
        _, read = read_frames(root or catalog.root, catalog.table["path"].to_pylist(), unknown)
        orientation = np.maximum(orientation, read)
    return sizes, orientation
