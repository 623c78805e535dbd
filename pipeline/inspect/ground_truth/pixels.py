"""What a mask file stores, before any rule about it: grey levels, indices of a palette, or colours; and alpha.

Unlike `io/images.py`, which shows every file as RGB, this keeps indices and 16 bits, because they may be classes.
"""

import io
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageOps

from ...errors import ImageError, TruthError
from ...io.formats import FORMATS
from ...io.images import MAX_PIXELS, decode_image, read_image_bytes
from .pairing import ARRAY_SUFFIXES

GREY = 16  # largest difference between the channels of a grey image after JPEG
COLOURED = 0.01  # largest share of pixels, of those that are not black, whose channels differ by more
WHITE_16 = 65535
LOSSY = ("JPEG", "MPO")


@dataclass(frozen=True)
class MaskPixels:
    """One mask file. `values` hold what is not a colour, `colours` what is."""

    kind: Literal["grey", "palette", "colour"]
    values: np.ndarray | None  # (H, W) uint8 or uint16: levels of grey, or indices of the palette
    colours: np.ndarray | None = None  # (H, W, 3) uint8 of the kind colour, over black where it is transparent
    palette: np.ndarray | None = None  # (256, 3) uint8
    alpha: np.ndarray | None = None  # (H, W) uint8 of files that have it
    soft: bool = False  # lossy, or fractions: its levels cannot be classes

    @property
    def shape(self) -> tuple[int, int]:
        stored = self.values if self.values is not None else self.colours
        assert stored is not None
        return stored.shape[0], stored.shape[1]

    @property
    def black(self) -> bool:
        """Whether nothing is marked: every value is 0, every colour black."""
        stored = self.values if self.values is not None else self.colours
        return not np.any(stored)

    @property
    def has_matte(self) -> bool:
        """Whether a part of it is transparent."""
        return self.alpha is not None and int(self.alpha.min()) < 255

    @cached_property
    def white(self) -> int:
        """The brightest level of grey that the file can hold: 255, or 65535 if any value is above that."""
        return 255 if self.values is None or self.values.max() <= 255 else WHITE_16

    def rgb(self) -> np.ndarray:
        """`(H, W, 3) uint8` as a viewer shows it."""
        if self.colours is not None:
            return self.colours
        assert self.values is not None
        if self.palette is not None and self.kind == "palette":
            shown: np.ndarray = self.palette[self.values]
            return shown
        level = self.values if self.white == 255 else self.values // 257
        return np.repeat(level.astype(np.uint8)[..., None], 3, axis=2)

    def thinned(self, longest_px: int) -> "MaskPixels":
        """Every n-th pixel of both axes, so that no side is longer than `longest_px`."""
        step = max(1, -(-max(self.shape) // longest_px))
        values, colours, alpha = (
            None if part is None else part[::step, ::step] for part in (self.values, self.colours, self.alpha)
        )
        return replace(self, values=values, colours=colours, alpha=alpha)


class UnreadableMask(TruthError):
    """A file that is missing or damaged, or no image: says nothing about the other true masks."""


def read_pixels(file: Path) -> MaskPixels:
    """Reads an image file, a NumPy array (.npy) or an archive of one array (.npz). Raises UnreadableMask."""
    try:
        data = read_image_bytes(file)
        if file.suffix.lower() in ARRAY_SUFFIXES:
            return _of_array(_load_array(data))
        return _of_image(data)
    except ImageError as error:
        raise UnreadableMask(f"True mask {file}: {error}") from None


def _of_image(data: bytes) -> MaskPixels:
    if not data:
        raise ImageError("empty file")
    try:
        image: Image.Image = Image.open(io.BytesIO(data), formats=[name for name in FORMATS if name in Image.OPEN])
        if image.size[0] * image.size[1] > MAX_PIXELS:
            raise ImageError(f"{image.size[0]} x {image.size[1]} is more than {MAX_PIXELS:,} pixels")
        image.load()
        image_format = image.format
    except (ImageError, MemoryError):
        raise
    except Exception:  # what Pillow refuses may be read by the decoder of images, which says what is wrong otherwise
        return _of_rgb(decode_image(data), None)
    with suppress(Exception):  # a broken EXIF block says nothing about the pixels
        image = ImageOps.exif_transpose(image)
    return replace(_of_loaded(image), soft=image_format in LOSSY)


def _of_loaded(image: Image.Image) -> MaskPixels:
    if image.mode == "F":
        return _of_array(np.asarray(image))
    if image.mode.startswith("I"):
        return MaskPixels("grey", _whole_numbers(np.asarray(image)))
    if image.has_transparency_data:
        whole = image.convert("RGBA")
        alpha = np.asarray(whole.getchannel("A"))
        if image.mode == "P" and alpha.min() == 255:
            return _of_palette(image)
        over_black = Image.new("RGB", image.size)
        over_black.paste(whole, mask=whole.getchannel("A"))
        return _of_rgb(np.asarray(over_black), alpha)
    if image.mode == "P":
        return _of_palette(image)
    if image.mode in ("1", "L"):
        return MaskPixels("grey", np.asarray(image.convert("L")))
    return _of_rgb(np.asarray(image.convert("RGB")), None)


def _of_palette(image: Image.Image) -> MaskPixels:
    """Indices; levels of grey if the whole palette is grey."""
    entries = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(entries)] = entries
    indices = np.asarray(image)
    if not np.ptp(palette.astype(np.int16), axis=1).any():
        return MaskPixels("grey", palette[indices, 0])
    return MaskPixels("palette", indices, palette=palette)


def _of_rgb(rgb: np.ndarray, alpha: np.ndarray | None) -> MaskPixels:
    """Grey if, of what is not black, not more than COLOURED has a colour."""
    high, low = rgb.max(2), rgb.min(2)
    marked = high > GREY
    coloured = np.count_nonzero((high - low > GREY) & marked)
    if coloured <= COLOURED * np.count_nonzero(marked):
        return MaskPixels("grey", np.ascontiguousarray(rgb[..., 0]), alpha=alpha)
    return MaskPixels("colour", None, rgb, alpha=alpha)


def _load_array(data: bytes) -> np.ndarray:
    try:
        loaded = np.load(io.BytesIO(data), allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        if len(loaded.files) != 1:
            raise ImageError(f"an archive of {len(loaded.files)} arrays; a mask is one array")
        array: np.ndarray = loaded[loaded.files[0]]
        return array
    except (OSError, ValueError, EOFError) as error:
        raise ImageError(f"no array of NumPy's: {error}") from None
    except ImageError:
        raise
    except Exception as error:  # zipfile and the header's parser raise classes of their own
        raise ImageError(f"no array of NumPy's: {error}") from None


def _of_array(array: np.ndarray) -> MaskPixels:
    """Bools and integers as they are; floats as integers if all are whole, else 0..1 as 0..255."""
    shape = array.shape
    if array.ndim == 3 and 1 in (shape[0], shape[2]):
        array = array[0] if shape[0] == 1 else array[..., 0]
    if array.ndim == 3 and array.shape[2] == 3 and array.dtype == np.uint8:
        return _of_rgb(array, None)
    if array.ndim != 2 or not array.size:
        raise ImageError(f"an array of the shape {shape}; a mask is (H, W)")
    if array.dtype.kind not in "biuf":
        raise ImageError(f"an array of {array.dtype}; a mask has bools, integers or floats")
    if array.dtype.kind == "f":
        if not np.isfinite(array).all():
            raise ImageError("not finite")
        if (array != np.rint(array)).any():
            if array.min() < 0 or array.max() > 1:
                raise ImageError(f"floats from {array.min():g} to {array.max():g}; a mask has 0..1, or whole numbers")
            return MaskPixels("grey", np.rint(array * 255).astype(np.uint8), soft=True)
    return MaskPixels("grey", _whole_numbers(array))


def _whole_numbers(values: np.ndarray) -> np.ndarray:
    """`uint8` or `uint16`. Raises ImageError for values below 0 or above 65535."""
    if values.dtype == np.bool_:
        return values.astype(np.uint8)
    low, high = values.min(), values.max()
    if low < 0 or high > WHITE_16:
        raise ImageError(f"values from {low:g} to {high:g}; a mask has 0 to {WHITE_16}")
    return values.astype(np.uint8 if high <= 255 else np.uint16)
