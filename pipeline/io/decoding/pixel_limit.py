"""Pillow's own limit of pixels, which is a global of its module; ours are checked before."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image

from ...errors import ImageError

# Twice Pillow's own warning level, where Pillow too raises: 0.5 GB of RGB, five times a 36 megapixel camera.
MAX_PIXELS = 178_956_970

_changing = threading.Lock()


@contextmanager
def without_pixel_limit(pixels: int | None = None) -> Iterator[None]:
    """Pillow's limit is off inside, for one thread at a time. pixels: if known and few, nothing is changed."""
    if pixels is not None and Image.MAX_IMAGE_PIXELS is not None and pixels <= Image.MAX_IMAGE_PIXELS:
        yield
        return
    with _changing:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def check_pixels(width: int, height: int, max_pixels: int) -> None:
    """Raises ImageError for more pixels than `max_pixels`, and for none."""
    if width * height > max_pixels:
        raise ImageError(f"{width} x {height} is more than {max_pixels:,} pixels (setting images.max_pixels)")
    if not width * height:
        raise ImageError(f"{width} x {height}: no pixels")
