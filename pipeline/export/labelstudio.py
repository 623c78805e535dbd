"""Label Studio's pre-annotations: OUT/tasks.json to import, and OUT/labels.xml, the labelling interface that they fit.

A task has one prediction with a brush (`brushlabels`, run lengths) and a box (`rectanglelabels`, percent of the image).
Browsers turn images as EXIF says, so both are in the upright image. Images are read from local files, whose document
root is OUT where images are written, else the folder of the images; or from the address where they are.
"""

import json
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from ..catalogs.paths import resolve
from ..errors import StoreError
from ..geometry.brush_rle import encode_brush
from .format import ExportTarget
from .stream import ExportRow

IMAGES = "images"
_LOCAL = "/data/local-files/?d="


class LabelStudio:
    images: ClassVar[tuple[str, ...]] = ("none", "copy", "link")
    sizes: ClassVar[tuple[str, ...]] = ("original",)
    segmentations: ClassVar[tuple[str, ...]] = ("rle", "box")

    def __init__(self, target: ExportTarget) -> None:
        self.target = target
        self._tasks = target.open_files.enter_context((target.folder / "tasks.json").open("w", encoding="utf-8"))
        self._tasks.write("[")
        (target.folder / "labels.xml").write_text(_interface(target.classes), encoding="utf-8")

    def write(self, row: ExportRow) -> None:
        name = self.target.images.put(row, self.target.folder / IMAGES)
        data = {"image": self._address(row, name), "locloc_id": row.id, "path": row.file_name, "split": row.split}
        prediction: dict[str, Any] = {"model_version": self.target.about["version"], "result": self._regions(row)}
        if row.quality is not None:
            prediction["score"] = round(row.quality, 6)
        self._tasks.write((",\n" if row.number else "\n") + json.dumps({"data": data, "predictions": [prediction]}))

    def _address(self, row: ExportRow, name: str | None) -> str:
        if name is not None:
            return _LOCAL + quote(f"{IMAGES}/{name}")
        where = resolve(self.target.images.root, row.path)
        if isinstance(where, str):
            return str(where)
        if not isinstance(where, Path):
            raise StoreError(f"The image {row.id} lies in an archive ({where}); use --images copy")
        root = self.target.images.root
        inside = isinstance(root, Path) and where.is_relative_to(root)
        return _LOCAL + quote(str(where.relative_to(root) if inside else where).lstrip("/"), errors="surrogateescape")

    def _regions(self, row: ExportRow) -> list[dict[str, Any]]:
        if row.empty or not row.mask.any():
            return []
        width, height = row.frame_px
        label = [self.target.classes[row.class_number]]
        x0, y0, x1, y1 = row.box.tolist()
        percent = {
            "x": 100 * x0 / width,
            "y": 100 * y0 / height,
            "width": 100 * (x1 - x0) / width,
            "height": 100 * (y1 - y0) / height,
            "rotation": 0,
        }
        shared = {"original_width": width, "original_height": height, "image_rotation": 0, "to_name": "image"}
        box = {"id": f"{row.number}b", "type": "rectanglelabels", "from_name": "box", **shared}
        regions = [box | {"value": percent | {"rectanglelabels": label}}]
        if self.target.segmentation == "rle":
            value = {"format": "rle", "rle": encode_brush(row.mask), "brushlabels": label}
            brush = {"id": f"{row.number}m", "type": "brushlabels", "from_name": "mask", **shared}
            regions.insert(0, brush | {"value": value})
        return regions

    def close(self) -> None:
        self._tasks.write("\n]\n")


def _interface(classes: tuple[str, ...]) -> str:
    labels = "\n".join(f"    <Label value={quoteattr(name)}/>" for name in classes)
    return (
        '<View>\n  <Image name="image" value="$image" zoom="true"/>\n'
        f'  <BrushLabels name="mask" toName="image">\n{labels}\n  </BrushLabels>\n'
        f'  <RectangleLabels name="box" toName="image">\n{labels}\n  </RectangleLabels>\n</View>\n'
    )
