"""COCO's instances for pycocotools and FiftyOne: OUT/instances.json, and OUT/data where images are written.

An image has one annotation, none where its mask is empty. Category ids are label + 1, as in `predict`. Boxes are x, y,
width, height. `bbox` encloses all of the mask, as COCO's do, since programs such as FiftyOne cut masks to it;
`locloc_box` is that of the mask's largest contour, which is `bbox` where no mask is written. `score` is the row's
quality, where the version has one. `locloc_id` is the image's id in the store.
"""

import json
import shutil
from typing import Any, ClassVar

import numpy as np

from ..geometry.boxes import enclosing_box
from .format import ExportTarget
from .segmentation import row_polygons, run_lengths
from .stream import ExportRow

LABELS, DATA = "instances.json", "data"
_ANNOTATIONS = "annotations.part"


class Coco:
    images: ClassVar[tuple[str, ...]] = ("none", "copy", "link")
    sizes: ClassVar[tuple[str, ...]] = ("original", "mask")
    segmentations: ClassVar[tuple[str, ...]] = ("rle", "polygon", "box")

    def __init__(self, target: ExportTarget) -> None:
        self.target = target
        open_file = target.open_files.enter_context
        self._images = open_file((target.folder / LABELS).open("w", encoding="utf-8"))
        self._annotations = open_file((target.folder / _ANNOTATIONS).open("w+", encoding="utf-8"))
        categories = [{"id": number, "name": name} for number, name in enumerate(target.classes, 1)]
        head = {"info": {"description": f"Masks of {target.about['version']}", **target.about}, "licenses": []}
        self._images.write(json.dumps(head)[:-1] + ', "categories": ' + json.dumps(categories) + ', "images": [')
        self._count = 0

    def write(self, row: ExportRow) -> None:
        width, height = row.frame_px
        name = self.target.images.put(row, self.target.folder / DATA) or row.file_name
        image = {"id": row.number + 1, "file_name": name, "width": width, "height": height, "locloc_id": row.id}
        if row.split:
            image["split"] = row.split
        self._images.write((",\n" if row.number else "\n") + json.dumps(image))
        if row.empty or not row.mask.any():  # a thin mask may have no pixel in a smaller image
            return
        self._annotations.write((",\n" if self._count else "\n") + json.dumps(self._annotation(row)))
        self._count += 1

    def _annotation(self, row: ExportRow) -> dict[str, Any]:
        own_box = _xywh(row.box)
        annotation: dict[str, Any] = {
            "id": self._count + 1,
            "image_id": row.number + 1,
            "category_id": row.class_number + 1,
            "bbox": own_box if self.target.segmentation == "box" else _xywh(enclosing_box(row.mask)),
            "locloc_box": own_box,
            "area": int(np.count_nonzero(row.mask)),
            "iscrowd": 0,
        }
        if self.target.segmentation == "rle":
            encoded = run_lengths(row.mask)
            annotation["segmentation"] = encoded | {"counts": encoded["counts"].decode("ascii")}
        elif self.target.segmentation == "polygon":
            annotation["segmentation"] = [part.round(2).ravel().tolist() for part in row_polygons(row)]
        if row.quality is not None:
            annotation["score"] = round(row.quality, 6)
        return annotation

    def close(self) -> None:
        self._images.write('], "annotations": [')
        self._annotations.seek(0)
        shutil.copyfileobj(self._annotations, self._images)
        self._images.write("]}\n")
        (self.target.folder / _ANNOTATIONS).unlink()


def _xywh(box: np.ndarray) -> list[float]:
    x0, y0, x1, y1 = box.tolist()
    return [x0, y0, x1 - x0, y1 - y0]
