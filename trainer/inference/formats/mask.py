"""OUT/masks/NAME.png: the object in white on black, in the size of the original image."""

import numpy as np
from PIL import Image

from ..predict import Prediction
from .metadata import RunMetadata, cannot_write


class MaskImages:
    def __init__(self, metadata: RunMetadata):
        self.metadata = metadata

    def write(self, number: int, prediction: Prediction, canvas: np.ndarray | None) -> None:
        if prediction.mask is None:
            return
        file = self.metadata.file("masks", number, ".png")
        try:
            Image.fromarray(prediction.mask.astype(np.uint8) * 255).save(file, compress_level=1)
        except OSError as error:
            raise cannot_write(file, error) from None

    def close(self) -> None:
        """Nothing is left to write."""
