"""OUT/predictions.json: every image's box, classes and scores, and those that did not get through with the reason."""

import threading
from typing import Any

import numpy as np

from ..predict import Prediction
from .metadata import RunMetadata, write_json


class Json:
    def __init__(self, metadata: RunMetadata):
        self.metadata = metadata
        self._found: dict[int, dict[str, Any]] = {}
        self._lock = threading.Lock()

    def one(self, number: int, prediction: Prediction, canvas: np.ndarray | None) -> None:
        with self._lock:
            self._found[number] = {"file": self.metadata.names[number]} | as_json(prediction)

    def close(self) -> None:
        images = [self._found[number] for number in sorted(self._found)]
        write_json(self.metadata.out / "predictions.json", self.metadata.facts() | {"images": images})


def as_json(prediction: Prediction) -> dict[str, Any]:
    """Without the mask. `box` is null where nothing was found."""
    guesses = zip(prediction.labels, prediction.classes, prediction.scores, strict=True)
    found = prediction.box is not None and prediction.box.any()
    return {
        "width": prediction.size_px[0],
        "height": prediction.size_px[1],
        "box": prediction.box.tolist() if found else None,
        "mask_score": prediction.mask_score,
        "classes": [{"label": label, "name": name, "score": score} for label, name, score in guesses],
    }
