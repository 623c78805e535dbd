"""What is drawn of each image: its pixels, and what a version and the ground truth have of it.

A row of which something is missing keeps the rest, and a note that says what is missing and why.

S side of a mask.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ...catalogs.paths import parse_location, resolve
from ...errors import ImageError, StoreError
from ...geometry.boxes import box_iou, mask_iou
from ...geometry.resize_crop import ResizeCrop
from ...io.images import decode_reduced, read_image_bytes
from ...masks.pseudo_mask import heads_or_contrast, working_geometry
from ...masks.saliency import make_trimap, saliency_map
from ...recipe import Recipe
from ...status import HAS_MASK, Status, usable_rows
from ...store.reader import Version
from ...store.schema import input_digest
from ..ground_truth.masks import square_truth
from .truth import ImageTruth, ViewTruth

SHOWN_PX = 512
"""Longest side of the pixels that are kept of an image: twice that of a panel, for vector formats."""


@dataclass(frozen=True)
class ViewedImage:
    """One image of a version, as far as it is known. Boxes are in pixels of the upright image."""

    id: str
    size_px: tuple[int, int]  # width and height of the upright image; a square if they are not known
    rgb: np.ndarray | None  # (h, w, 3) uint8, a copy of the whole image, at most SHOWN_PX long
    geometry: ResizeCrop  # from the image to the S x S pixels of the next three
    saliency: np.ndarray | None  # (S, S) float32, in the unit of the recipe's thresholds
    trimap: np.ndarray | None  # (S, S) uint8, OpenCV's codes
    mask: np.ndarray | None  # (S, S) bool
    box: np.ndarray | None  # (4,) of the mask's largest object; None if the mask is empty
    truth: ImageTruth | None  # None if no ground truth was asked for
    figures: str  # "mask 27 % of the image, IoU 0.83"
    notes: tuple[str, ...]  # what is missing, and why

    def all_notes(self) -> tuple[str, ...]:
        """With why there is no ground truth."""
        return (*self.notes, self.truth.note) if self.truth is not None and self.truth.note else self.notes


def view_images(
    version: Version, rows: list[int], root: Path | str | None = None, truth: ViewTruth | None = None
) -> list[ViewedImage]:
    """Reads the images of rows, in their order.

    root  folder or URL of the images, if they were moved after the build

    Raises ImageError if none of the images can be read, TruthError if the ground truth
    cannot belong to the images.
    """
    where = parse_location(root or version.provenance["catalog"]["root"])
    recipe = Recipe.model_validate(version.provenance["recipe"])
    viewed = [_view(version, row, where, recipe, truth) for row in rows]
    if viewed and not any(one.rgb is not None for one in viewed):
        file = resolve(where, version.table["path"][rows[0]].as_py())
        of = f"none of {len(rows)} images can be read; " if len(rows) > 1 else ""
        were_read = np.isin(version.status[rows], HAS_MASK).any()  # by the build
        advice = "; if the images were moved, give their folder with --root" if were_read else ""
        raise ImageError(f"{of}{file}: {viewed[0].notes[0]}{advice}")
    return viewed


def worst_rows(version: Version, count: int) -> list[int]:
    """The `count` rows whose masks have the lowest quality, lowest first; of equal ones the first.

    Raises StoreError where no mask has one.
    """
    quality = version.read_column("quality")
    known = np.flatnonzero(usable_rows(version.status) & (quality > 0))
    if count and not len(known):
        raise StoreError(
            f"{version.name} has no qualities: an older release made it; `locloc masks refine` with its own recipe "
            "makes them"
        )
    return known[np.argsort(quality[known], kind="stable")][:count].tolist()


def _view(version: Version, row: int, root: Path | str, recipe: Recipe, truth_of: ViewTruth | None) -> ViewedImage:
    notes: list[str] = []
    rgb, read_px = _read_pixels(version, row, root, recipe, notes)
    stored_px = version.read_column("size", [row])[0].tolist()
    size_px = (stored_px[0], stored_px[1]) if all(stored_px) else read_px or (1, 1)
    saliency = trimap = mask = box = None
    status, reason = version.reasons([row])[0]
    if reason is not None and not notes:
        notes.append(f"{status.label}: {reason}")
    if status in HAS_MASK:
        maps = heads_or_contrast(version.read_attention([row])[0], recipe)
        saliency = saliency_map(maps, recipe.saliency, recipe.mask_px)
        trimap = None if saliency is None else make_trimap(saliency, recipe.saliency)
        mask = version.read_masks([row])[0]
        stored_box = version.read_column("box", [row])[0].astype(np.float64)
        box = stored_box if stored_box.any() else None
    geometry = working_geometry(np.array(size_px), recipe, recipe.mask_px)
    truth = None if truth_of is None else truth_of(row, size_px)
    figures = _figures(status, mask, box, truth, recipe, float(version.read_column("quality", [row])[0]))
    return ViewedImage(
        version.ids[row], size_px, rgb, geometry, saliency, trimap, mask, box, truth, figures, tuple(notes)
    )


def _read_pixels(
    version: Version, row: int, root: Path | str, recipe: Recipe, notes: list[str]
) -> tuple[np.ndarray | None, tuple[int, int] | None]:
    """The image, small, and its size; None with a note if it cannot be read."""
    try:
        data = read_image_bytes(resolve(root, version.table["path"][row].as_py()))
        image = decode_reduced(data, SHOWN_PX, recipe.images.max_pixels)
    except ImageError as error:
        notes.append(str(error))
        return None, None
    digest = version.read_column("input_digest", [row])[0]
    if digest.any() and not np.array_equal(digest, input_digest(data)):
        notes.append("the image has changed since the version was built")
    scale = min(1.0, SHOWN_PX / max(image.size_px))
    width, height = (max(1, round(side * scale)) for side in image.size_px)
    small = Image.fromarray(image.rgb).resize((width, height), Image.Resampling.BICUBIC, box=image.window)
    return np.array(small), image.size_px


def _figures(
    status: Status,
    mask: np.ndarray | None,
    box: np.ndarray | None,
    truth: ImageTruth | None,
    recipe: Recipe,
    quality: float,
) -> str:
    """As `locloc masks score` compares: masks on the working copy, boxes in the image."""
    if mask is None:
        return f"no mask: {status.label}"
    figures = [f"mask {mask.mean():.0%} of the {'image' if recipe.images.fit == 'stretch' else 'crop'}"]
    if quality:
        figures.append(f"quality {quality:.2f}")
    if truth is not None and truth.mask is not None:
        geometry = working_geometry(np.array(truth.mask.shape[::-1]), recipe, recipe.mask_px)
        compared = mask if truth.void is None else mask & ~square_truth(truth.void, geometry)
        figures.append(f"mask IoU {mask_iou(compared, square_truth(truth.mask, geometry)):.2f}")
    if truth is not None and len(truth.boxes):
        best = 0.0 if box is None else float(box_iou(box[None], truth.boxes).max())
        figures.append(f"box IoU {best:.2f}")
    return ", ".join(figures)
