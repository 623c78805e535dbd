"""OUT/predictions.json: every image's box, classes and scores, and the images that failed with the reason."""

import threading
from typing import Any

import numpy as np

from ..predict import Prediction
from .metadata import RunMetadata, write_json


class Json:
    def __init__(self, metadata: RunMetadata):
        self.metadata = metadata
        self._images: dict[int, dict[str, Any]] = {}
        self._lock = threading.Lock()

    def write(self, number: int, prediction: Prediction, canvas: np.ndarray | None) -> None:
        with self._lock:
            self._images[number] = {"file": self.metadata.names[number]} | as_json(prediction)

    def close(self) -> None:
        images = [self._images[number] for number in sorted(self._images)]
        write_json(self.metadata.out / "predictions.json", self.metadata.header() | {"images": images})


def as_json(prediction: Prediction) -> dict[str, Any]:
    """Everything but the mask. `box` is null if no object was found."""
    guesses = zip(prediction.labels, prediction.classes, prediction.scores, strict=True)
    box = prediction.box
    return {
        "width": prediction.size_px[0],
        "height": prediction.size_px[1],
        "box": box.tolist() if box is not None and box.any() else None,
        "mask_score": prediction.mask_score,
        "classes": [{"label": label, "name": name, "score": score} for label, name, score in guesses],
    }
