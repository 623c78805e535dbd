"""No refinement: the trimap's own foreground. With a trimap cut at one threshold this is PPD's pseudo-mask."""

from typing import ClassVar, Literal

import numpy as np

from ...config import Settings
from .trimap import trimap_foreground


class Threshold(Settings):
    """The trimap's sure and probable foreground; rgb is not read."""

    revision: ClassVar[int] = 1
    uses_pixels: ClassVar[bool] = False

    engine: Literal["threshold"] = "threshold"

    def __call__(
        self, rgb: np.ndarray, trimap: np.ndarray, seed: int = 0, odds: np.ndarray | None = None
    ) -> np.ndarray:
        return trimap_foreground(trimap)

    def unusable(self, trimap: np.ndarray) -> str | None:
        return None
