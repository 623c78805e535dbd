"""The arrays of schema.py for readers of other programs: the names of their axes, which xarray needs, and descriptions.

Axes of one name have one length within a group. `COORDINATES` are arrays that name what lies along an axis; arrays of
older releases lack them, and lack the names of axes.
"""

from collections.abc import Mapping
from types import MappingProxyType

from ..masks.quality import PARTS
from ..status import Status

STATS = ("mask_share", "unknown_share", "threshold_iou")

LABELS: Mapping[str, tuple[str, ...]] = MappingProxyType({
    "corner": ("x0", "y0", "x1", "y1"),
    "side": ("width", "height"),
    "statistic": STATS,
    "part": PARTS,
})  # fmt: skip
"""Axes whose places have names, which an array of the axis's name holds."""

COORDINATES = ("id", *LABELS)
"""Arrays that versions of older releases lack."""

_STATUSES = ", ".join(f"{status.value} {status.label}" for status in Status)

ARRAYS: Mapping[str, tuple[tuple[str, ...], str]] = MappingProxyType({
    "mask": (
        ("row", "y", "x_byte"),
        "Masks of the object on the square working copy of the image, eight pixels a byte from left to right, most "
        "significant bit first: numpy.unpackbits(mask[rows], axis=-1).astype(bool) is (rows, y, x).",
    ),
    "attention": (("row", "head", "grid_y", "grid_x"), "CLS attention over the patches in the ViT's last block."),
    "box": (
        ("row", "corner"),
        "Box of the mask's largest contour, x0, y0, x1, y1 in pixels of the upright original image; zeros where the "
        "mask is empty.",
    ),
    "stats": (("row", "statistic"), "In this order: " + ", ".join(STATS) + "."),
    "quality": (
        ("row",),
        "Expected IoU of the mask with a true one, in (0, 1]; 0 where it is not known or there is no mask. Versions of "
        "older releases lack it.",
    ),
    "quality_parts": (("row", "part"), "What quality was computed from, in this order: " + ", ".join(PARTS) + "."),
    "seen": (
        ("row",),
        "What the image was to the generator that drew its map: 0 there was none, or it is not known; 1 unseen; "
        "2 weights were chosen on it; 3 it was trained on it. Versions of older releases lack it.",
    ),
    "status": (("row",), f"What became of the image: {_STATUSES}."),
    "size": (
        ("row", "side"),
        "Width and height of the upright original image, in pixels; zeros where it was not decoded.",
    ),
    "orientation": (
        ("row",),
        "EXIF orientation that was applied, 1 to 8; 0 where it is not known. Versions of older releases lack it.",
    ),
    "content_crc": (("row",), "CRC-32 of the row's bytes of mask, then attention (little endian)."),
    "input_digest": (("row", "digest_byte"), "blake2b, 16 bytes, of the image's file; zeros where it was not read."),
    "block_done": (("block",), "1 where the 64 rows of the block are complete: everywhere, in a published version."),
    "error": (("row", "error_byte"), "Why the row has no mask, or only a fallback: UTF-8, padded with zeros."),
    "id": (("row",), "The image's id, as in catalog/id. Join by it, never by position."),
    "corner": (("corner",), "What a box holds."),
    "side": (("side",), "What a size holds."),
    "statistic": (("statistic",), "What the statistics are."),
    "part": (("part",), "What the parts of a quality are."),
    "catalog/id/offsets": (("id_end",), "Where ids begin and end: id n is bytes[offsets[n]:offsets[n + 1]]."),
    "catalog/id/bytes": (("id_byte",), "All ids end to end, UTF-8, sorted. Join by id, never by position."),
    "catalog/path/offsets": (("path_end",), "As of the ids."),
    "catalog/path/bytes": (("path_byte",), "All paths end to end, UTF-8, relative to the catalog's root."),
    "catalog/label": (("row",), "Class by number, -1 where none was given."),
    "catalog/split": (("row",), "0 none given, 1 train, 2 val, 3 test."),
    "catalog/boxes": (("box", "corner"), "Boxes that were given with the images, in the original's pixels."),
    "catalog/box_row": (("box",), "The row that each given box belongs to."),
    "decisions/row": (("decision",), "Rows that a person decided about, ascending. Only after `locloc masks decide`."),
    "decisions/code": (("decision",), "1 accepted, 2 rejected."),
    "decisions/note/offsets": (("note_end",), "Where notes begin and end, as of the ids."),
    "decisions/note/bytes": (("note_byte",), "All notes end to end, UTF-8."),
})  # fmt: skip
"""Every array: the names of its axes and its description."""
