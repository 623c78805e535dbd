"""What every decoder here gives before it decodes."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Opened:
    """A header that was read; no pixel is decoded yet."""

    size_px: tuple[int, int]  # width, height as stored
    decode: Callable[
        [], np.ndarray
    ]  # rgb (height, width, 3) uint8, as stored; raises ImageError or what a library raises
    orientation: int = 1  # EXIF, 1 to 8
