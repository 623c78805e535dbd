"""GrabCut (Rother, Kolmogorov, Blake 2004) by OpenCV: two colour mixtures and a minimum cut."""

from typing import ClassVar, Literal

import cv2
import numpy as np
from pydantic import Field

from ...config import Settings
from .trimap import too_few_pixels, trimap_foreground

# Fixed inside OpenCV: 5 full-covariance components a side, gamma 50, 8 neighbours.
COMPONENTS = 5


class OpenCVGrabCut(Settings):
    """`cv2.grabCut` from a trimap. Its k-means draws random numbers, so the generator is seeded at every call."""

    revision: ClassVar[int] = 1
    uses_pixels: ClassVar[bool] = True

    engine: Literal["opencv"] = "opencv"
    iterations: int = Field(1, ge=1, le=100, description="Rounds of fitting and cutting; the paper takes one.")

    def __call__(
        self, rgb: np.ndarray, trimap: np.ndarray, seed: int = 0, odds: np.ndarray | None = None
    ) -> np.ndarray:
        if self.unusable(trimap):
            return trimap_foreground(trimap)
        labels = np.ascontiguousarray(trimap).copy()  # cv2 writes the result into it
        background, foreground = np.zeros((1, 65)), np.zeros((1, 65))
        bgr = np.ascontiguousarray(rgb[..., ::-1])
        cv2.setRNGSeed(seed & 0x7FFFFFFF)  # each thread has its own generator: seeding once per process is not enough
        unused_rect = (0, 0, 0, 0)  # read with GC_INIT_WITH_RECT only
        cv2.grabCut(bgr, labels, unused_rect, background, foreground, self.iterations, cv2.GC_INIT_WITH_MASK)
        return trimap_foreground(labels)

    def unusable(self, trimap: np.ndarray) -> str | None:
        return too_few_pixels(trimap, COMPONENTS)
