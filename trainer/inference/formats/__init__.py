"""Predictions in other people's formats. To add one, write its file and its line in `FORMATS`.

A format is a class: `Format(about)`, then `one(number, prediction, picture)` for each picture that got through, in any
thread and any order, then `close()` once. It writes below `about.out`, files of its own only.
"""

from .metadata import About
from .coco import Coco
from .json import Json
from .mask import MaskImages
from .overlay import Overlays

FORMATS = {
    "coco": Coco,
    "json": Json,
    "overlay": Overlays,
    "mask": MaskImages,
}

__all__ = ["FORMATS", "About"]
