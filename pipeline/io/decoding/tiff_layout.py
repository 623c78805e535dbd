"""What the tags of a TIFF say: pages, samples, strips and tiles. No pixel is read.

Tag numbers and names are those of TIFF 6.0, TIFF/EP (camera raw) and DNG.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from PIL.TiffImagePlugin import ImageFileDirectory_v2

from ...errors import ImageError

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR, CIE_LAB, ICC_LAB = 0, 1, 2, 3, 5, 6, 8, 9
ASSOCIATED_ALPHA, UNASSOCIATED_ALPHA = 1, 2
_CFA, _LINEAR_RAW = 32803, 34892
_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # + is BigTIFF
_MAX_PAGES = 64  # that are looked through for the main image

# Camera raw whose magic number is a TIFF's: Canon CR2, Phase One IIQ.
_RAW_MARKS = ((8, b"CR"), (8, b"IIII"), (8, b"MMMM"))


@dataclass(frozen=True)
class Layout:
    """One page. Tags that a file leaves out have TIFF's defaults."""

    size_px: tuple[int, int]  # width, height as stored
    big_endian: bool
    bits: tuple[int, ...]  # of each sample
    kinds: tuple[int, ...]  # SampleFormat of each sample: 1 unsigned, 2 signed, 3 float
    photometric: int
    extra: tuple[int, ...]  # ExtraSamples
    extra_declared: bool
    planar: bool  # one plane after the other
    compression: int
    predictor: int
    fill_order: int
    orientation: int
    colour_map: tuple[int, ...]
    subsampling: tuple[int, ...]
    segment_px: tuple[int, int]  # width, height of a strip or tile
    tiled: bool
    offsets: tuple[int, ...]
    counts: tuple[int, ...]


def is_tiff(data: bytes) -> bool:
    return data[:4] in _MAGIC


def main_page(data: bytes) -> tuple[int, Layout]:
    """The number of the page to show, and its layout: the first that is not a reduced copy of another.

    Raises ImageError for a camera's raw file: its pages are previews, its image is sensor data in a sub-directory.
    """
    pages = []
    for page in islice(_pages(data), _MAX_PAGES):
        pages.append(page)
        if len(pages) == 1 and 330 not in page and not _reduced(page):
            break  # the common case: the first page is the image
    if not pages:
        raise ImageError("cannot be decoded: a TIFF without a page")
    subpages = [sub for page in pages for sub in _subpages(data, page)]
    sensor = any(_int(page, 262, -1) in (_CFA, _LINEAR_RAW) for page in pages + subpages)
    if sensor or any(data[at : at + len(mark)] == mark for at, mark in _RAW_MARKS):
        raise ImageError("camera raw: only previews and sensor data; develop it to JPEG or TIFF first")
    whole = [number for number, page in enumerate(pages) if not _reduced(page)]
    if not whole and any(not _reduced(page) for page in subpages):
        raise ImageError("cannot be decoded: its pages are reduced copies, and the image is in a sub-directory")
    number = whole[0] if whole else 0
    return number, _layout(data, pages[number])


def _pages(data: bytes) -> Iterator[ImageFileDirectory_v2]:
    ahead = ImageFileDirectory_v2(_magic(data)).next
    seen: set[int] = set()
    while ahead and ahead not in seen and ahead < len(data):
        seen.add(ahead)
        page = _directory(data, ahead)
        yield page
        ahead = page.next


def _subpages(data: bytes, page: ImageFileDirectory_v2) -> list[ImageFileDirectory_v2]:
    offsets = [offset for offset in _all(page, 330, ()) if isinstance(offset, int) and 0 < offset < len(data)]
    return [_directory(data, offset) for offset in offsets[:_MAX_PAGES]]


def _directory(data: bytes, offset: int) -> ImageFileDirectory_v2:
    page = ImageFileDirectory_v2(_magic(data))
    file = io.BytesIO(data)
    file.seek(offset)
    page.next = 0
    page.load(file)
    return page


def _magic(data: bytes) -> bytes:
    """The header before the first directory, longer in a BigTIFF."""
    magic = data[: 16 if 43 in data[2:4] else 8]
    if len(magic) < 8 or (43 in data[2:4] and len(magic) < 16):
        raise ImageError("cannot be decoded: image file is truncated")
    return magic


def _reduced(page: ImageFileDirectory_v2) -> bool:
    """A reduced copy of another page, or a transparency mask."""
    return bool(_int(page, 254, 0) & 5) or _int(page, 255, 1) == 2


def _layout(data: bytes, page: ImageFileDirectory_v2) -> Layout:
    width, height, samples = _int(page, 256, 0), _int(page, 257, 0), _int(page, 277, 1)
    if not 0 < samples <= 65535:
        raise ImageError(f"cannot be decoded: a TIFF of {samples} samples a pixel")
    tiled = 324 in page
    segment = (_int(page, 322, 0), _int(page, 323, 0)) if tiled else (width, min(_int(page, 278, height), height))
    return Layout(
        size_px=(width, height),
        big_endian=data[:1] == b"M",
        bits=_each(page, 258, 1, samples),
        kinds=tuple({4: 1}.get(kind, kind) for kind in _each(page, 339, 1, samples)),  # 4 is undefined
        photometric=_int(page, 262, 0),
        extra=_ints(page, 338),
        extra_declared=338 in page,
        planar=_int(page, 284, 1) == 2,
        compression=_int(page, 259, 1),
        predictor=_int(page, 317, 1),
        fill_order=_int(page, 266, 1),
        orientation=_int(page, 274, 1) if _int(page, 274, 1) in range(1, 9) else 1,
        colour_map=_ints(page, 320),
        subsampling=_ints(page, 530) or (2, 2),
        segment_px=segment,
        tiled=tiled,
        offsets=_ints(page, 324 if tiled else 273),
        counts=_ints(page, 325 if tiled else 279),
    )


def _all(page: ImageFileDirectory_v2, tag: int, default: tuple[Any, ...]) -> tuple[Any, ...]:
    value = page.get(tag, default)
    return value if isinstance(value, tuple) else (value,)


def _ints(page: ImageFileDirectory_v2, tag: int) -> tuple[int, ...]:
    values = _all(page, tag, ())
    if not all(isinstance(value, int) for value in values):
        raise ImageError(f"cannot be decoded: TIFF tag {tag} holds no whole numbers")
    return values


def _int(page: ImageFileDirectory_v2, tag: int, default: int) -> int:
    values = _ints(page, tag)
    return values[0] if values else default


def _each(page: ImageFileDirectory_v2, tag: int, default: int, samples: int) -> tuple[int, ...]:
    """One value for each sample: a file may give one for all of them."""
    values = _ints(page, tag) or (default,)
    if len(values) == 1 or (len(values) < samples and len(set(values)) == 1):
        return values[:1] * samples
    if len(values) < samples:
        raise ImageError(f"cannot be decoded: TIFF tag {tag} has {len(values)} values for {samples} samples a pixel")
    return values[:samples]
