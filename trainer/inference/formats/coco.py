"""OUT/coco.json: a COCO file of instances for pycocotools, with one scored annotation per image.

Categories are the run's classes, id = label + 1; a single category `object` if the run has no classifier. The
annotation has the best class and its softmax score; without a classifier, the mask's score.
"""

import threading
from typing import Any

import numpy as np
from pycocotools import mask as rle

from ..predict import Prediction
from .metadata import RunMetadata, write_json


class Coco:
    def __init__(self, metadata: RunMetadata):
        self.metadata = metadata
        self._entries: dict[int, tuple[dict[str, Any], dict[str, Any] | None]] = {}
        self._lock = threading.Lock()

    def write(self, number: int, prediction: Prediction, canvas: np.ndarray | None) -> None:
        width, height = prediction.size_px
        image = {"id": number + 1, "file_name": self.metadata.names[number], "width": width, "height": height}
        with self._lock:
            self._entries[number] = image, _annotation(number, prediction)

    def close(self) -> None:
        entries = [self._entries[number] for number in sorted(self._entries)]
        annotations = [annotation for _, annotation in entries if annotation]
        content = {
            "info": {"description": "Predictions of locloc", **self.metadata.header()},
            "licenses": [],
            "images": [image for image, _ in entries],
            "annotations": [{"id": number} | annotation for number, annotation in enumerate(annotations, 1)],
            "categories": _categories(self.metadata),
        }
        write_json(self.metadata.out / "coco.json", content)


def _annotation(number: int, prediction: Prediction) -> dict[str, Any] | None:
    """None without an object."""
    if prediction.mask is None or prediction.box is None or not prediction.mask.any():
        return None
    segmentation = rle.encode(np.asfortranarray(prediction.mask.astype(np.uint8)))
    segmentation["counts"] = segmentation["counts"].decode("ascii")
    x0, y0, x1, y1 = prediction.box.tolist()
    return {
        "image_id": number + 1,
        "category_id": (prediction.labels[0] if prediction.labels else 0) + 1,
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "area": int(np.count_nonzero(prediction.mask)),
        "segmentation": segmentation,
        "iscrowd": 0,
        "score": prediction.scores[0] if prediction.scores else prediction.mask_score,
    }


def _categories(metadata: RunMetadata) -> list[dict[str, Any]]:
    localizer = metadata.localizer
    names = localizer.classes or [str(label) for label in range(localizer.count)] or ["object"]
    return [{"id": label + 1, "name": name} for label, name in enumerate(names)]
