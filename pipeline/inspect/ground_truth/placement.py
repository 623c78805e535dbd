"""Holds ground-truth masks against their images, as boxes.py does with boxes.

A mask shows its whole image, at any size. A mask with the proportions that the image has before its EXIF orientation
turns it was drawn on the stored pixels: it is left out, counted and named. More than 5 % of such masks (and more than
2), or all, are refused. Masks with other proportions than their images', which square copies have, are taken as
stretched, and counted.
"""

import numpy as np

from ...errors import TruthError
from ...geometry.orientation import SWAPPED, upright_pixels
from .boxes import too_many
from .boxes_in import check_boxes_in

PROPORTION_SHARE = 0.03  # by which width / height may differ: sides of small copies are rounded


class MaskPlacement:
    """Places masks on their upright images, and counts those that cannot belong to them."""

    def __init__(
        self,
        masks: int,
        where: str,
        boxes_in: str = "upright",
        option: str = "--boxes-in",
        known_upright: bool = False,
    ):
        """masks: how many there are; where: for messages; boxes_in: as of `check_boxes`; option: its name.

        known_upright  the masks are known to be drawn on upright images, so nothing is asked where sizes do not tell
        """
        check_boxes_in(boxes_in, option)
        self.masks, self.where, self.boxes_in, self.option = masks, where, boxes_in, option
        self.known_upright = known_upright
        self._checked: set[str] = set()
        self._turned: dict[str, str] = {}  # name and sizes, by name
        self._proven: set[str] = set()  # proportions that only --boxes-in as it was given explains
        self._stretched: set[str] = set()
        self._either_way: set[str] = set()

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
                raise TruthError(f"{self.option} stored: the EXIF orientation of the image of {name} is not known")
            mask = upright_pixels(mask, orientation)
        height, width = mask.shape[:2]
        if np.all(size) and not _alike(width / height, size[0] / size[1], min(width, height)):
            turned = _alike(width / height, size[1] / size[0], min(width, height))
            if turned and orientation in (0, *SWAPPED):
                self._refuse(name, f"{name} (mask {width} x {height}, image {size[0]} x {size[1]})")
                return None
            self._stretched.add(name)
        elif (
            np.all(size)
            and orientation in SWAPPED
            and not _alike(width / height, size[1] / size[0], min(width, height))
        ):
            self._proven.add(name)
        if orientation > 1 and self.boxes_in == "upright" and (orientation < 5 or width == height):
            self._either_way.add(name)
        return mask

    def warnings(self) -> list[str]:
        """Lines to print at the end. Raises TruthError if no mask belongs to its image."""
        lines = []
        if self._turned:
            if len(self._turned) == len(self._checked):
                raise TruthError(self._line())
            lines.append(f"{self._line()}; these masks are left out of the ground truth")
        if self._stretched:
            lines.append(
                f"{len(self._stretched)} true masks do not have the proportions of their images (first "
                f"{min(self._stretched)}); each is taken to show its whole image, stretched"
            )
        if self._either_way and not self.known_upright:
            lines.append(
                f"{len(self._either_way)} of the images with true masks are turned by EXIF so that the masks' sizes do "
                "not tell how they were drawn; they are taken as drawn on the upright image; if they were drawn on the "
                "stored pixels, say --boxes-in stored"
            )
        return lines

    def _refuse(self, name: str, shown: str) -> None:
        self._turned[name] = shown
        if too_many(len(self._turned), self.masks):
            raise TruthError(self._line())

    def _line(self) -> str:
        if self.boxes_in == "upright":
            remedy = f"say so with {self.option} stored"
        elif self.option == "--boxes-in":
            remedy = "leave --boxes-in stored out"
        else:
            remedy = f"say so with {self.option} upright"
        if self._proven:
            remedy = (
                f"others, such as {min(self._proven)}, are {self.boxes_in}: draw all on the upright images, as viewers "
                "show them"
            )
        return (
            f"{self.where}: {len(self._turned)} true masks have width and height exchanged, as their images have "
            f"before EXIF turns them: {next(iter(self._turned.values()))}; {remedy}"
        )


def _alike(proportion: float, wanted: float, side: int) -> bool:
    """Whether width / height is the wanted one, but for the rounding of a side."""
    return abs(proportion / wanted - 1) <= max(PROPORTION_SHARE, 1.5 / side)
