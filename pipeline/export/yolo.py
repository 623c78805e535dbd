"""Ultralytics' layout: data.yaml, images/SPLIT and labels/SPLIT with a text file for each image.

With `--segmentation polygon` a line is `class x y x y ...`, with `box` it is `class x_centre y_centre width height`,
all as shares of the upright image's width and height. An image has one line, and an empty file where its mask is empty.
A polygon runs through the centres of the outermost pixels, since ultralytics draws its border too; parts and holes are
joined to it by bridges. Images without split are for training.

Ultralytics finds an image's labels by exchanging the last folder `images` of its path for `labels`. So leading folders
that all images share are left out, and another folder `images` is `images_`.
"""

import json
from collections.abc import Sequence
from itertools import takewhile
from typing import ClassVar

import numpy as np

from ..catalogs.paths import to_os_path
from .format import ExportTarget
from .segmentation import row_polygon
from .stream import ExportRow

_FOLDERS = {"train": "train", "val": "val", "test": "test", "": "train"}


class Yolo:
    images: ClassVar[tuple[str, ...]] = ("copy", "link", "none")
    sizes: ClassVar[tuple[str, ...]] = ("original", "mask")
    segmentations: ClassVar[tuple[str, ...]] = ("polygon", "box")

    def __init__(self, target: ExportTarget) -> None:
        self.target = target
        self._splits: set[str] = set()
        self._names = label_names(target.names)

    def write(self, row: ExportRow) -> None:
        split = _FOLDERS[row.split]
        self._splits.add(split)
        name = to_os_path(self._names[row.number])
        self.target.images.put(row, self.target.folder / "images" / split, name)
        file = self.target.folder / "labels" / split / f"{name}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(self._line(row), encoding="ascii")

    def _line(self, row: ExportRow) -> str:
        if row.empty or not row.mask.any():
            return ""
        frame = np.array(row.frame_px, np.float64)
        if self.target.segmentation == "box":
            low, high = row.box[:2] / frame, row.box[2:] / frame
            numbers = np.concatenate([(low + high) / 2, high - low])
        else:
            numbers = (row_polygon(row) / frame).ravel()
        return " ".join([str(row.class_number), *(f"{number:.6g}" for number in numbers.clip(0, 1).tolist())]) + "\n"

    def close(self) -> None:
        there = [split for split in ("train", "val", "test") if split in self._splits]
        lines = [f"# Masks of {self.target.about['version']}, by locloc"]  # without `path`: this file's folder is meant
        for split in ("train", "val"):
            if split in there:
                lines.append(f"{split}: images/{split}")
            else:  # ultralytics needs both
                lines.append(f"{split}: images/{there[0]}  # no image is of the split {split}")
        if "test" in there:
            lines.append("test: images/test")
        names = [f"  {number}: {json.dumps(name)}" for number, name in enumerate(self.target.classes)]
        text = "\n".join([*lines, "names:", *names]) + "\n"
        (self.target.folder / "data.yaml").write_text(text, encoding="utf-8")


def label_names(names: Sequence[str]) -> list[str]:
    """Names without the folders that all share, and without a folder `images`."""
    folders = [name.split("/")[:-1] for name in names]
    pairs = zip(min(folders), max(folders), strict=False)
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    return ["/".join(_renamed(name.split("/")[shared:])) for name in names]


def _renamed(parts: list[str]) -> list[str]:
    return [f"{part}_" if part == "images" else part for part in parts[:-1]] + parts[-1:]
