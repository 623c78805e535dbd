"""OpenCV's part: what Pillow reads wrongly or not at all, and OpenCV reads by the same libraries."""

import cv2
import numpy as np

from ...errors import ImageError


def read_stored(data: bytes, what: str, colour: bool = False) -> np.ndarray:
    """Samples as stored, `(H, W)` or `(H, W, 3 or 4)` in RGB order; with `colour`, `(H, W, 3) uint8`.

    The size has been checked before. Raises ImageError, with `what` in its message.
    """
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION if colour else cv2.IMREAD_UNCHANGED
    try:
        found = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise ImageError(f"cannot be decoded: {error.err}") from None
    if found is None:
        raise ImageError(f"cannot be decoded: broken {what} data")
    if found.ndim == 2:
        return found
    return np.ascontiguousarray(found[..., [2, 1, 0, *range(3, found.shape[2])]])
