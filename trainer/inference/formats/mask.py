"""OUT/masks/NAME.png: the object white on black, in the size of the original picture."""

import numpy as np
from PIL import Image

from ..predict import Prediction
from .metadata import About, cannot_write


class MaskImages:
    def __init__(self, about: About):
        self.about = about

    def one(self, number: int, prediction: Prediction, picture: np.ndarray | None) -> None:
        if prediction.mask is None:
            return
        file = self.about.file("masks", number, ".png")
        try:
            Image.fromarray(prediction.mask.astype(np.uint8) * 255).save(file, compress_level=1)
        except OSError as error:
            raise cannot_write(file, error) from None

    def close(self) -> None:
        """Every mask has been written."""
