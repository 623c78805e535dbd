"""The true masks of N images by row, upright: read, held against their images, and counted where they are left out."""

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from ...catalogs.paths import parse_location, resolve
from ...errors import TruthError
from ...store.reader import Version
from .boxes import too_many
from .frames import version_frames
from .masks import TrueMask, TrueMasks, find_truth, read_true_mask
from .pixels import UnreadableMask
from .placement import MaskPlacement

Frames = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Rows > sizes `(N, 2)` of the upright images and EXIF orientations `(N,)`, known of these rows; see frames.py."""


def masks_of_version(
    version: Version, truth: str, truth_class: str | None, boxes_in: str, root: Path | str | None
) -> "UprightMasks":
    """The true masks of a version's images, in a folder or a .json file; root: of the images if they were moved."""
    paths = version.table["path"].to_pylist()
    where = parse_location(root or version.provenance["catalog"]["root"])
    masks = find_truth(paths, Path(truth), truth_class, where)
    return UprightMasks(masks, paths, where, lambda rows: version_frames(version, rows, boxes_in, where), boxes_in)


class UprightMasks:
    """An image's mask is left out where it is empty, where it cannot belong to the image (placement.py), and where its
    file cannot be read. More than 5 % of the last kind (and more than 2), or all, are refused."""

    def __init__(
        self,
        masks: TrueMasks,
        paths: Sequence[str],
        root: Path | str,
        frames: Frames,
        boxes_in: str,
        option: str = "--boxes-in",
    ):
        """paths: of the N images, below `root`; boxes_in: "upright", or "stored" for masks that EXIF does not turn.

        option: that gave `boxes_in`, for messages.
        """
        self.masks = masks
        self.rows = np.array([row for row, path in enumerate(paths) if path in masks], np.int64)
        self.empty: set[int] = set()  # rows, as far as they were read
        self._unreadable: dict[int, str] = {}  # reasons by row
        self._paths, self._root, self._frames_of = paths, root, frames
        self._placement = MaskPlacement(len(self.rows), masks.source, boxes_in, option)

    def mask(self, row: int) -> np.ndarray | None:
        """The object `(H, W) bool` of the whole upright image, at any size; None without one. Raises TruthError."""
        found = self.with_void(row)
        return None if found is None else found.object

    def with_void(self, row: int) -> TrueMask | None:
        """As `mask`, with the pixels that are neither object nor background."""
        path = self._paths[row]
        if path not in self.masks:
            return None
        try:
            read = read_true_mask(self.masks, path, resolve(self._root, path))
        except UnreadableMask as error:
            self._unreadable[row] = str(error)
            if too_many(len(self._unreadable), len(self.rows)):
                raise TruthError(self._unreadable_line()) from None
            return None
        if not read.object.any():
            self.empty.add(row)
            return None
        sizes, orientation = self._frames
        both = read.object if read.void is None else np.dstack((read.object, read.void))
        placed = self._placement.place(both, sizes[row], int(orientation[row]), self.masks.name(path))
        if placed is None or read.void is None:
            return None if placed is None else TrueMask(placed)
        return TrueMask(*(np.ascontiguousarray(placed[..., part]) for part in (0, 1)))

    def size_px(self, row: int, mask: np.ndarray) -> np.ndarray:
        """Width and height `(2,)` of a row's image; those of its mask where they are not known."""
        size: np.ndarray = self._frames[0][row]
        return size if size.all() else np.array(mask.shape[1::-1])

    def warnings(self) -> list[str]:
        """Lines about what was read so far. Raises TruthError if no mask belongs to its image."""
        lines = [*self.masks.warnings, *self._placement.warnings()]
        if self._unreadable:
            if len(self._unreadable) == len(self.rows):
                raise TruthError(self._unreadable_line())
            lines.append(f"{self._unreadable_line()}; their images are left out of the ground truth")
        if self.empty:
            first = self.masks.name(self._paths[min(self.empty)])
            lines.append(
                f"nothing is marked in {len(self.empty)} true masks (first {first}): their images are left out"
            )
        return lines

    def _unreadable_line(self) -> str:
        first = self._unreadable[min(self._unreadable)]
        return f"{len(self._unreadable)} of {len(self.rows)} true masks cannot be read (as {first})"

    @cached_property
    def _frames(self) -> tuple[np.ndarray, np.ndarray]:
        return self._frames_of(self.rows)
