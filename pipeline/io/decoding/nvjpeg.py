"""Plain JPEGs on a GPU, by nvJPEG in torchvision: whole lists at once, with a simpler filter of chroma than libjpeg's.

Only files that say of themselves that they are upright baseline JPEGs in 8 bits, grey or YCbCr, with an end, are given
to it. All else, and what it refuses, is Pillow's, which decides what is undecodable.
"""

import functools
import io
import warnings

import numpy as np
from PIL import Image

from ...errors import BuildError
from . import jpeg, pillow
from .exif import orientation_of

_END = b"\xff\xd9"


def is_plain(data: bytes, max_pixels: int) -> bool:
    """Whether `decode` may have a file, by its header and its last bytes."""
    header = jpeg.read_header(data)
    return (
        header is not None
        and header.frame == jpeg.BASELINE
        and header.is_ycbcr
        and header.size_px[0] * header.size_px[1] <= max_pixels
        and data.rstrip(b"\0").endswith(_END)  # else it is truncated
        and not (header.has_app1 and _is_turned(data))
    )


def _is_turned(data: bytes) -> bool:
    """Also where the header cannot be read."""
    try:
        with pillow.open_image(data) as image:
            return orientation_of(image) != 1
    except Exception:  # Pillow's plugins raise many classes
        return True


def decode(files: list[bytes], device: str) -> list[np.ndarray | None]:
    """rgb `(H, W, 3) uint8` of each file, None where the decoder refuses it. On device "cpu" libjpeg decodes.

    Raises BuildError where torchvision cannot decode on the device at all.
    """
    _check(device)
    decoded: list[np.ndarray | None]
    try:
        decoded = [*_decode(files, device)]
    except RuntimeError:  # one bad file fails the list
        decoded = [_decode_alone(data, device) for data in files]
    return [rgb if rgb is not None and _has_size(rgb, data) else None for rgb, data in zip(decoded, files, strict=True)]


def _decode_alone(data: bytes, device: str) -> np.ndarray | None:
    try:
        return _decode([data], device)[0]
    except RuntimeError:
        return None


def _decode(files: list[bytes], device: str) -> list[np.ndarray]:
    import torch
    from torchvision.io import ImageReadMode, decode_jpeg

    encoded = [torch.frombuffer(bytearray(data), dtype=torch.uint8) for data in files]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # from 0.29 on: TorchCodec is to take its place
        decoded = decode_jpeg(encoded, mode=ImageReadMode.RGB, device=device)
    return [pixels.permute(1, 2, 0).contiguous().cpu().numpy() for pixels in decoded]


def _has_size(rgb: np.ndarray, data: bytes) -> bool:
    header = jpeg.read_header(data)
    return header is not None and rgb.shape[1::-1] == header.size_px


@functools.cache
def _check(device: str) -> None:
    """Decodes a square, once per process: a torchvision without nvJPEG would leave every file to Pillow."""
    square = io.BytesIO()
    Image.new("RGB", (16, 16)).save(square, "JPEG")
    try:
        _decode([square.getvalue()], device)
    except (RuntimeError, ImportError) as error:
        reason = str(error).strip().splitlines()[0]
        raise BuildError(f'images.decoder = "nvjpeg", but torchvision here cannot use it: {reason}') from None
