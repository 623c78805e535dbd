"""Holds ground-truth boxes against their images, for `score`, `eval`, `train` and the check before a build.

Boxes are x0 y0 x1 y1 in pixels of the original, upright image, as viewers show it. An image's boxes cannot belong to it
where

    turned      one fits the image only as it is stored, before its EXIF orientation turns it
    shares      one is given as shares of width and height, 0 to 1
    outside     one does not touch the image
    beyond      one reaches beyond the image by more than 2 pixels and 1 % of its side
    other size  the annotation names a size that the file does not have

If one image is `turned`, so are all others that EXIF turns and whose boxes fit both ways. An image with such boxes is
left out of the ground truth, counted and named. More than 5 % of them (and more than 2), or all, are refused.
What boxes of another scale look like is told, see copies.py.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from ...catalogs.catalog import SCHEMA, Catalog
from ...errors import TruthError
from ...geometry.orientation import SWAPPED, stored_size, upright_boxes
from ...store.reader import Version
from .boxes_in import check_boxes_in
from .copies import corner_hint, grid_hint, scale_hint
from .frames import read_frames, version_frames

TOLERANCE_PX, TOLERANCE_SHARE = 2.0, 0.01  # by which boxes of real data sets reach beyond their images
REFUSED_SHARE, REFUSED_IMAGES = 0.05, 2
SAMPLE_IMAGES = 200  # checked before a build
SHARE_SLACK = 0.02  # by which shares reach beyond 0 and 1

FAULTS = ("turned", "shares", "outside", "beyond", "other size")
_SAYS = {
    "turned": "fit the image only with width and height exchanged, as before its EXIF orientation turns it",
    "shares": "are shares of width and height from 0 to 1",
    "outside": "lie outside the image",
    "beyond": "reach beyond the image",
    "other size": "were drawn on an image of another size",
}
_REMEDY = {
    "turned": "say so with --boxes-in stored",
    "shares": "give boxes as x0 y0 x1 y1 in pixels of the original image",
    "outside": "give boxes as x0 y0 x1 y1 in pixels of the original image",
    "beyond": "give boxes as x0 y0 x1 y1 in pixels of the original image",
    "other size": "use the image files that the annotations were made for",
}


@dataclass(frozen=True)
class TrueBoxes:
    """The usable ground-truth boxes of a data set."""

    boxes: dict[int, np.ndarray]  # (n, 4) float32 by row, in the upright image; only rows that have any
    left_out: dict[str, list[int]]  # rows whose boxes cannot belong to their image, by fault
    warnings: tuple[str, ...]  # lines to print


def too_many(wrong: int, images: int) -> bool:
    """Whether so much ground truth is wrong that it is refused, and not left out."""
    return wrong > max(REFUSED_IMAGES, REFUSED_SHARE * images)


def boxes_of_version(version: Version, boxes_in: str = "upright", root: Path | str | None = None) -> TrueBoxes:
    """The usable boxes of a version's catalog, see `check_boxes`.

    root  where the images are now, for orientations that the version does not have; None: where they were
    """
    boxes, box_row = version.catalog_boxes()
    sizes, orientation = version_frames(version, np.unique(box_row), boxes_in, root)
    return check_boxes(boxes, box_row, sizes, orientation, lambda row: version.ids[row], version.name, boxes_in)


def boxes_of_catalog(catalog: Catalog, boxes_in: str = "upright", rows: np.ndarray | None = None) -> TrueBoxes:
    """The usable boxes of a catalog, see `check_boxes`; reads the images' headers.

    rows  only boxes of these are used and checked; None: all
    """
    boxes, box_row = _flat_boxes(catalog)
    if rows is not None:
        chosen = np.isin(box_row, rows)
        boxes, box_row = boxes[chosen], box_row[chosen]
    ids, paths = (catalog.table[name].to_pylist() for name in ("id", "path"))
    sizes, orientation = read_frames(catalog.root, paths, np.unique(box_row))
    where, annotated = str(catalog.root), catalog.annotated_size
    return check_boxes(boxes, box_row, sizes, orientation, lambda row: ids[row], where, boxes_in, annotated)


def suspicious_boxes(catalog: Catalog, boxes_in: str = "upright") -> list[str]:
    """Lines about boxes that cannot belong to their images, from evenly drawn images; for the start of a build.

    The masks do not depend on boxes, so nothing is refused here.
    """
    with_boxes = np.flatnonzero(_box_counts(catalog))
    drawn = with_boxes[np.linspace(0, len(with_boxes) - 1, min(SAMPLE_IMAGES, len(with_boxes))).astype(int)]
    try:
        return [*boxes_of_catalog(catalog, boxes_in, drawn).warnings]
    except TruthError as error:
        return [f"{error}; checked on {len(drawn)} images"]


def upright_catalog(catalog: Catalog) -> Catalog:
    """A catalog whose boxes were drawn on stored pixels, with the same boxes in the upright images.

    Reads the header of every image that has boxes; boxes of an image that cannot be read stay as they are.
    """
    boxes, box_row = _flat_boxes(catalog)
    sizes, orientation = read_frames(catalog.root, catalog.table["path"].to_pylist(), np.unique(box_row))
    turned = np.where(
        (sizes[box_row] > 0).all(1)[:, None], upright_boxes(boxes, sizes[box_row], orientation[box_row]), boxes
    )
    column = pa.ListArray.from_arrays(
        pa.array(np.concatenate([[0], np.cumsum(_box_counts(catalog))]).astype(np.int32)),
        pa.FixedSizeListArray.from_arrays(pa.array(turned.astype(np.float32).ravel()), 4),
    )
    at, annotated = SCHEMA.get_field_index("boxes"), catalog.annotated_size
    return replace(
        catalog,
        table=catalog.table.set_column(at, SCHEMA.field("boxes"), column.cast(SCHEMA.types[at])),
        annotated_size=None if annotated is None else stored_size(annotated, orientation).astype(np.int32),
    )


def check_boxes(
    boxes: np.ndarray,
    box_row: np.ndarray,
    sizes: np.ndarray,
    orientation: np.ndarray,
    image_id: Callable[[int], str],
    where: str,
    boxes_in: str = "upright",
    annotated: np.ndarray | None = None,
) -> TrueBoxes:
    """The boxes of N images that can belong to them, by the rules at the top of this file.

    boxes        (M, 4) xyxy
    box_row      (M,) the row of each, ascending
    sizes        (N, 2) width and height of the upright images; zeros: unknown, and not checked
    orientation  (N,) EXIF orientation, 0: unknown
    image_id     row > id, for messages
    where        the version, list or folder, for messages
    boxes_in     "stored": boxes are in stored pixels, and are turned upright here
    annotated    (N, 2) the size that an image's annotation names; zeros: none

    Raises TruthError where too many images are wrong, and for "stored" where an orientation is unknown.
    """
    check_boxes_in(boxes_in)
    boxes, box_row = np.asarray(boxes, np.float32).reshape(-1, 4), np.asarray(box_row, np.int64)
    if not len(boxes):
        return TrueBoxes({}, {}, ())
    given = boxes
    if boxes_in == "stored":
        boxes = _turn_upright(boxes, box_row, sizes, orientation, image_id)
        if annotated is not None:
            annotated = stored_size(annotated, orientation)
    faults = _faults(boxes, box_row, sizes, orientation, annotated)
    rows = np.unique(box_row)
    left_out = {name: np.flatnonzero(faults == code).tolist() for code, name in enumerate(FAULTS, 1)}
    left_out = {name: wrong for name, wrong in left_out.items() if wrong}
    warnings = []
    if left_out:
        line = _describe(left_out, len(rows), boxes, box_row, sizes, image_id, where)
        wrong_images = int(np.count_nonzero(faults))
        if wrong_images == len(rows) or too_many(wrong_images, len(rows)):
            raise TruthError(f"{line}; {_remedy(left_out, given, box_row, sizes, orientation, boxes_in)}")
        warnings.append(f"{line}; these images are left out of the ground truth")
    usable = faults[box_row] == 0
    kept, kept_row = boxes[usable], box_row[usable]
    if boxes_in == "upright" and not left_out.get("turned"):
        warnings += _turned_hint(kept, kept_row, sizes, orientation)
    scaled = (kept, kept_row, sizes)
    warnings += scale_hint(*scaled) or grid_hint(*scaled) or corner_hint(*scaled)
    by_row = np.split(kept, np.flatnonzero(np.diff(kept_row)) + 1)
    return TrueBoxes(dict(zip(np.unique(kept_row).tolist(), by_row, strict=True)), left_out, tuple(warnings))


def _box_counts(catalog: Catalog) -> np.ndarray:
    return catalog.table["boxes"].chunk(0).value_lengths().to_numpy(zero_copy_only=False)


def _flat_boxes(catalog: Catalog) -> tuple[np.ndarray, np.ndarray]:
    """All boxes `(M, 4) float32`, and the row `(M,)` of each."""
    values = catalog.table["boxes"].chunk(0).flatten().flatten().to_numpy(zero_copy_only=False)
    return values.reshape(-1, 4), np.repeat(np.arange(len(catalog)), _box_counts(catalog))


def _turn_upright(
    boxes: np.ndarray, box_row: np.ndarray, sizes: np.ndarray, orientation: np.ndarray, image_id: Callable[[int], str]
) -> np.ndarray:
    unknown = (orientation[box_row] == 0) & (sizes[box_row] > 0).all(1)
    if unknown.any():
        raise TruthError(
            f"--boxes-in stored: the EXIF orientation of {image_id(int(box_row[unknown.argmax()]))} is not known; "
            "its image has to be readable"
        )
    return upright_boxes(boxes, sizes[box_row], orientation[box_row])


def _faults(
    boxes: np.ndarray, box_row: np.ndarray, sizes: np.ndarray, orientation: np.ndarray, annotated: np.ndarray | None
) -> np.ndarray:
    """`(N,) int`: 1 + index of each row's fault in FAULTS, 0 for none."""
    size = np.asarray(sizes, np.float64)
    of_box, known = size[box_row], (size[box_row] > 0).all(1)
    upright, stored = _fits(boxes, of_box), _fits(boxes, of_box[:, ::-1])
    can_turn = np.isin(orientation, (0, *SWAPPED)) & (size[:, 0] != size[:, 1])
    shares = (boxes >= -SHARE_SLACK).all(1) & (boxes <= 1 + SHARE_SLACK).all(1) & (of_box > 2).all(1)
    outside = (boxes[:, 2:] <= 0).any(1) | (boxes[:, :2] >= of_box).any(1)

    def any_box(flags: np.ndarray) -> np.ndarray:
        return np.bincount(box_row[flags & known], minlength=len(size)) > 0

    faults = np.zeros(len(size), np.int64)

    def mark(name: str, rows: np.ndarray) -> None:
        faults[rows & (faults == 0)] = FAULTS.index(name) + 1

    has_boxes = any_box(np.ones(len(boxes), bool))
    mark("shares", any_box(shares))
    turned = any_box(~upright) & ~any_box(~stored) & can_turn
    if annotated is not None:
        named = has_boxes & (annotated > 0).all(1)
        other = (np.abs(annotated - size) > TOLERANCE_PX).any(1) & named
        turned |= other & can_turn & (np.abs(annotated - size[:, ::-1]) <= TOLERANCE_PX).all(1)
        mark("turned", turned)
        mark("other size", other)
    if turned.any():  # then the boxes of images that fit both ways are in stored pixels too
        turned |= has_boxes & np.isin(orientation, SWAPPED) & ~any_box(~stored)
    mark("turned", turned)
    mark("outside", any_box(outside))
    mark("beyond", any_box(~upright))
    return faults


def _fits(boxes: np.ndarray, size: np.ndarray) -> np.ndarray:
    """`(M,) bool`: within the image, but for the tolerance."""
    slack = np.maximum(TOLERANCE_PX, TOLERANCE_SHARE * size)
    inside = np.concatenate([boxes[:, :2] >= -slack, boxes[:, 2:] <= size + slack], axis=1)
    return np.asarray(inside.all(1))


def _describe(
    left_out: dict[str, list[int]],
    images: int,
    boxes: np.ndarray,
    box_row: np.ndarray,
    sizes: np.ndarray,
    image_id: Callable[[int], str],
    where: str,
) -> str:
    parts = []
    reach = (boxes[:, 2:] / np.maximum(np.asarray(sizes, np.float64)[box_row], 1)).max(1)
    for name, rows in left_out.items():
        worst = int(np.where(np.isin(box_row, rows), reach, -np.inf).argmax())
        row, shown = int(box_row[worst]), " ".join(f"{number:g}" for number in boxes[worst].tolist())
        parts.append(
            f"{len(rows)} {_SAYS[name]} (as {image_id(row)}: box {shown}, image {sizes[row][0]} x {sizes[row][1]})"
        )
    wrong = sum(map(len, left_out.values()))
    return f"{where}: true boxes of {wrong} of {images} images cannot belong to them: {', '.join(parts)}"


def _remedy(
    left_out: dict[str, list[int]],
    given: np.ndarray,
    box_row: np.ndarray,
    sizes: np.ndarray,
    orientation: np.ndarray,
    boxes_in: str,
) -> str:
    """What to do about refused boxes: the other --boxes-in only where that lets them all fit."""
    most = max(left_out, key=lambda name: len(left_out[name]))
    if boxes_in == "stored":
        other = given
    elif (orientation[box_row] > 0).all():
        other = upright_boxes(given, sizes[box_row], orientation[box_row])
    else:
        return _REMEDY[most]
    wrong = np.isin(np.arange(len(sizes)), np.concatenate([*left_out.values()]))
    wrong_otherwise = _faults(other, box_row, sizes, np.ones_like(orientation), None) > 0
    if boxes_in == "stored" and not wrong_otherwise.any():
        return "leave --boxes-in stored out: as they are given they fit"
    if wrong_otherwise.any() and not (wrong & wrong_otherwise).any():
        return (
            "some are drawn on upright and some on stored pixels: draw all on the upright images, as viewers show them"
        )
    return "give boxes as x0 y0 x1 y1 in pixels" if boxes_in == "stored" and most == "turned" else _REMEDY[most]


def _turned_hint(boxes: np.ndarray, box_row: np.ndarray, sizes: np.ndarray, orientation: np.ndarray) -> list[str]:
    """A line where EXIF turns images and no box tells in which pixels they were drawn."""
    turned = orientation[box_row] > 1
    swapped = np.isin(orientation[box_row], SWAPPED)
    size = np.asarray(sizes, np.float64)[box_row]
    if not turned.any() or (swapped & _fits(boxes, size) & ~_fits(boxes, size[:, ::-1])).any():
        return []
    count = len(np.unique(box_row[turned]))
    return [
        f"{count} of the images with true boxes {'is' if count == 1 else 'are'} turned by EXIF; boxes are taken as "
        "drawn on the upright image; if they were drawn on the stored pixels, say --boxes-in stored"
    ]
