"""Output formats of predictions. To add one, write a class in its own file and add it to `FORMATS`."""

from collections.abc import Callable

from .coco import Coco
from .json import Json
from .mask import MaskImages
from .metadata import Format, RunMetadata
from .overlay import Overlays

FORMATS: dict[str, Callable[[RunMetadata], Format]] = {
    "coco": Coco,
    "json": Json,
    "overlay": Overlays,
    "mask": MaskImages,
}

__all__ = ["FORMATS", "Format", "RunMetadata"]
