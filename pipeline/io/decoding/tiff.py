"""TIFFs that Pillow reads wrongly or not at all: by what their tags say.

Pillow keeps unsigned samples of at most 8 bits in the arrangements it knows. Here are those of more bits, signed
integers and floats, uncompressed planes, and other arrangements:

* WhiteIsZero is inverted. Palettes are looked up. CMYK and Lab become RGB as Pillow does it, from their high bytes.
* Extra samples: the first that is called alpha is alpha. Associated alpha is multiplied in already, so over black the
  colours stay. A fourth sample of RGB without a word about it is alpha if it is a matte (`samples.is_matte`). All
  others (near infrared) are left out.
* BlackIsZero with three or four samples is RGB, as GIS programs show it; with more nothing says which are red, green
  and blue: undecodable.
"""

from functools import partial

import numpy as np
from PIL import Image

from ...errors import ImageError
from .opencv import read_stored
from .opened import Opened
from .samples import grey_to_rgb, is_matte, over_black, to_8_bits, white_of
from .tiff_layout import (
    ASSOCIATED_ALPHA,
    BLACK_IS_ZERO,
    CIE_LAB,
    CMYK,
    ICC_LAB,
    PALETTE,
    RGB,
    UNASSOCIATED_ALPHA,
    WHITE_IS_ZERO,
    YCBCR,
    Layout,
)
from .tiff_strips import check_complete, read_samples

_COLOURS = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, RGB: 3, PALETTE: 1, CMYK: 4, CIE_LAB: 3, ICC_LAB: 3}


def beyond_pillow(layout: Layout) -> bool:
    """True where Pillow would read other values than the file's."""
    if max(layout.bits) > 8 or any(kind != 1 for kind in layout.kinds) or _is_subsampled(layout):
        return True
    # Pillow takes the letters of a mode's name for its planes: "L;I", inverted grey, becomes "L".
    return layout.planar and layout.compression == 1 and layout.photometric != YCBCR


def _is_subsampled(layout: Layout) -> bool:
    return layout.photometric == YCBCR and layout.compression == 1 and layout.subsampling != (1, 1)


def open_tiff(data: bytes, layout: Layout) -> Opened:
    return Opened(layout.size_px, partial(_decode, data, layout), layout.orientation)


def _decode(data: bytes, layout: Layout) -> np.ndarray:
    if _is_subsampled(layout) and max(layout.bits) == 8 and layout.orientation == 1:
        check_complete(data, layout)
        return read_stored(data, "TIFF", colour=True)
    photometric, colours, alpha, premultiplied = _channels(layout)
    channels = (*range(colours), *(() if alpha is None else (alpha,)))
    if len({(layout.bits[channel], layout.kinds[channel]) for channel in channels}) > 1:
        raise ImageError("cannot be decoded: a TIFF with samples of different widths")
    values = read_samples(data, layout, channels)
    colour, opacity = values[..., :colours], values[..., colours:]
    if photometric == PALETTE:
        return _looked_up(colour[..., 0], layout)
    if photometric in (CIE_LAB, ICC_LAB):
        rgb = _lab(colour, layout)
        white: int | float = (1 << layout.bits[0]) - 1
    else:
        white = white_of(colour, layout.bits[0])
        rgb = _rgb(to_8_bits(colour, white), photometric)
    if alpha is None or premultiplied:
        return rgb
    opaque = to_8_bits(opacity[..., 0], white)
    if not layout.extra_declared and not is_matte(opaque):
        return rgb
    return over_black(rgb, opaque)


def _channels(layout: Layout) -> tuple[int, int, int | None, bool]:
    """Photometric interpretation, how many samples are colours, which is alpha, and whether it is multiplied in."""
    photometric, samples = layout.photometric, len(layout.bits)
    if photometric not in _COLOURS:
        raise ImageError(f"cannot be decoded: a TIFF of colours {photometric} (PhotometricInterpretation)")
    declared = sum(kind in (ASSOCIATED_ALPHA, UNASSOCIATED_ALPHA) for kind in layout.extra)
    if photometric == BLACK_IS_ZERO and samples - declared > 2:
        if samples > 4:
            raise ImageError(
                f"cannot be decoded: a TIFF of {samples} samples a pixel, and none is called red, green or blue; write "
                "three of them with PhotometricInterpretation RGB"
            )
        photometric = RGB
    colours = _COLOURS[photometric]
    if samples < colours:
        raise ImageError(f"cannot be decoded: a TIFF of {samples} samples a pixel, where its colours need {colours}")
    extra = layout.extra[-(samples - colours) :] if samples > colours else ()
    for index, kind in enumerate(extra, samples - len(extra)):
        if kind in (ASSOCIATED_ALPHA, UNASSOCIATED_ALPHA):
            return photometric, colours, index, kind == ASSOCIATED_ALPHA
    undeclared = not layout.extra_declared and layout.photometric == RGB and samples == 4
    return photometric, colours, 3 if undeclared else None, False


def _rgb(levels: np.ndarray, photometric: int) -> np.ndarray:
    """uint8 `(H, W, 1, 3 or 4)` > rgb."""
    if photometric == WHITE_IS_ZERO:
        levels = 255 - levels
    if photometric == CMYK:
        return _by_pillow(levels, "CMYK")
    return levels if levels.shape[2] == 3 else grey_to_rgb(levels[..., 0])


def _lab(values: np.ndarray, layout: Layout) -> np.ndarray:
    if layout.bits[0] not in (8, 16) or values.dtype.kind == "f":
        raise ImageError(f"cannot be decoded: a Lab TIFF with {layout.bits[0]}-bit samples of kind {layout.kinds[0]}")
    whole = values.view(f"u{values.dtype.itemsize}")
    levels = (whole >> (layout.bits[0] - 8)).astype(np.uint8)
    if layout.photometric == ICC_LAB:  # a and b are offset by 128, where CIE L*a*b* has signed numbers
        levels[..., 1:] ^= 0x80
    return _by_pillow(levels, "LAB")


def _by_pillow(levels: np.ndarray, mode: str) -> np.ndarray:
    size = (levels.shape[1], levels.shape[0])
    return np.array(Image.frombytes(mode, size, np.ascontiguousarray(levels).tobytes()).convert("RGB"))


def _looked_up(indices: np.ndarray, layout: Layout) -> np.ndarray:
    entries = np.array(layout.colour_map, np.uint32)
    count = 1 << layout.bits[0]
    if indices.dtype.kind != "u" or entries.size != 3 * count:
        raise ImageError("cannot be decoded: a TIFF with a broken palette")
    if entries.max() > 255:  # some writers forget that a palette has 16 bits
        entries >>= 8
    return entries.astype(np.uint8).reshape(3, count).T[indices]
