"""Predictions in other people's formats. To add one, write its file and its line in `FORMATS`.

A format is a class: `Format(about)`, then `one(number, prediction, image)` for each image that got through, in any
thread and any order, then `close()` once. It writes below `about.out`, files of its own only.
"""

from .coco import Coco
from .json import Json
from .mask import MaskImages
from .metadata import RunMetadata
from .overlay import Overlays

FORMATS = {
    "coco": Coco,
    "json": Json,
    "overlay": Overlays,
    "mask": MaskImages,
}

__all__ = ["FORMATS", "RunMetadata"]
