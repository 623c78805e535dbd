"""Holds ground-truth masks against their images, as boxes.py does with boxes.

A mask shows its whole image, at any size: it has the image's proportions, or is a square copy. A mask with the
proportions of the image before its EXIF orientation turns it was drawn on the stored pixels; one with other proportions
is not of this image. Such a mask is left out, counted and named. More than 5 % (and more than 2), or all, are refused.
"""

from typing import get_args

import numpy as np

from ...errors import TruthError, check_known
from ...geometry.orientation import upright_pixels
from .boxes import REFUSED_IMAGES, REFUSED_SHARE, BoxesIn

PROPORTION_SHARE = 0.03  # by which width / height may differ: sides of small copies are rounded


class MaskPlacement:
    """Places masks on their upright images, and counts those that cannot belong to them."""

    def __init__(self, masks: int, where: str, boxes_in: str = "upright"):
        """masks: how many there are; where: for messages; boxes_in: as of `check_boxes`."""
        check_known(TruthError, "--boxes-in", boxes_in, get_args(BoxesIn))
        self.masks, self.where, self.boxes_in = masks, where, boxes_in
        self._checked: set[str] = set()
        self._wrong: dict[str, str] = {}  # reasons by name
        self._turned_unseen: set[str] = set()

    def place(self, mask: np.ndarray, size: np.ndarray, orientation: int, name: str) -> np.ndarray | None:
        """Mask `(h, w, ...)` > the same upright; None where it cannot belong to the image.

        size         width and height of the upright image; zeros: unknown, not checked
        orientation  EXIF orientation of the image, 0: unknown
        name         of the mask, for messages

        Raises TruthError as soon as too many are wrong.
        """
        self._checked.add(name)
        if self.boxes_in == "stored":
            if not orientation and np.all(size):
                raise TruthError(f"--boxes-in stored: the EXIF orientation of {name} is not known; it has to be readable")
            mask = upright_pixels(mask, orientation)
        height, width = mask.shape[:2]
        if np.all(size) and width != height:
            wanted, is_now = size[0] / size[1], width / height
            if not _alike(is_now, wanted, min(width, height)):
                turned = _alike(is_now, 1 / wanted, min(width, height)) and orientation in (0, 5, 6, 7, 8)
                reason = (
                    "has the proportions of the image before its EXIF orientation turns it"
                    if turned
                    else "does not have the proportions of its image"
                )
                self._note(name, f"{name} {reason} (mask {width} x {height}, image {size[0]} x {size[1]})", turned)
                return None
        if orientation > 1 and self.boxes_in == "upright" and (orientation < 5 or width == height):
            self._turned_unseen.add(name)
        return mask

    def warnings(self) -> list[str]:
        """Lines to print at the end. Raises TruthError if no mask belongs to its image."""
        lines = []
        if self._wrong:
            if len(self._wrong) == len(self._checked):
                raise TruthError(self._line())
            lines.append(f"{self._line()}; these masks are left out of the ground truth")
        if self._turned_unseen:
            lines.append(
                f"{len(self._turned_unseen)} of the images with true masks are turned by EXIF; the masks are taken as "
                "drawn on the upright image; if they were drawn on the stored pixels, say --boxes-in stored"
            )
        return lines

    def _note(self, name: str, reason: str, turned: bool) -> None:
        if turned and self.boxes_in == "upright":
            reason += "; say so with --boxes-in stored"
        self._wrong[name] = reason
        if len(self._wrong) > max(REFUSED_IMAGES, REFUSED_SHARE * self.masks):
            raise TruthError(self._line())

    def _line(self) -> str:
        first = next(iter(self._wrong.values()))
        return f"{self.where}: {len(self._wrong)} true masks cannot belong to their images: {first}"


def _alike(proportion: float, wanted: float, side: int) -> bool:
    """Whether width / height is the wanted one, but for the rounding of a side."""
    return abs(proportion / wanted - 1) <= max(PROPORTION_SHARE, 1.5 / side)
