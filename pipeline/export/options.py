"""What is exported, and how: the options that all formats share."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Size = Literal["original", "mask"]


@dataclass(frozen=True)
class ExportOptions:
    """The options of `masks export`; None of what a format decides: the first of what it can.

    split         "train", "val", "test", or "none" for images without one; None: all
    classes       names of classes, or their numbers; (): all
    min_quality   least value of the column `quality`; None: any
    images        what is written of the images themselves: "copy", "link" or "none"
    size          of masks: "original", that of the upright image, or "mask", the stored square
    segmentation  how the format writes a mask: COCO has rle, polygon and box, see each format
    root          where the images are now, if they were moved
    """

    split: str | None = None
    classes: tuple[str, ...] = ()
    min_quality: float | None = None
    images: str | None = None
    size: str | None = None
    segmentation: str | None = None
    root: Path | str | None = None

    @property
    def selects(self) -> bool:
        """Whether it asks for a part of the rows."""
        return self.split is not None or bool(self.classes) or self.min_quality is not None


@dataclass(frozen=True)
class Exported:
    """Summary of an export.

    left_out  rows that were not exported, by why
    empty     exported rows whose mask is empty
    size      of the masks, as in ExportOptions; "mask" for Zarr
    notes     lines to print: what a reader of the export has to know
    """

    version: str
    format: str
    out: str
    rows: int
    left_out: dict[str, int] = field(default_factory=dict)
    empty: int = 0
    size: str = "mask"
    notes: tuple[str, ...] = ()
