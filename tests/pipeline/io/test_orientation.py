"""Orientation and stored size, from a header and beside the decoded pixels."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from locloc.pipeline.errors import ImageError
from locloc.pipeline.io.images import decode_reduced, read_orientation

EXIF_ORIENTATION = 0x0112


def encoded(kind, value, size=(32, 16)):
    file = io.BytesIO()
    image = Image.new("RGB", size, (200, 10, 10))
    if kind == "TIFF":
        image.save(file, kind, tiffinfo={EXIF_ORIENTATION: value})
    else:
        exif = Image.Exif()
        exif[EXIF_ORIENTATION] = value
        image.save(file, kind, exif=exif.tobytes())
    return file.getvalue()


@pytest.mark.parametrize("value", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF"])
def test_header_and_decoder_agree(kind, value):
    data = encoded(kind, value)
    assert read_orientation(data) == (value, (32, 16))
    found = decode_reduced(data, None)
    assert found.orientation == value and found.size_px == ((16, 32) if value >= 5 else (32, 16))


def test_a_reduced_jpeg_has_its_orientation_too():
    data = encoded("JPEG", 6, (320, 160))
    found = decode_reduced(data, 40)
    assert found.rgb.shape[:2] == (80, 40) and found.orientation == 6 and found.size_px == (160, 320)


@pytest.mark.parametrize("kind", ["GIF", "BMP", "PPM", "TGA", "JPEG2000"])
def test_without_exif(kind):
    file = io.BytesIO()
    Image.new("RGB", (32, 16)).save(file, kind)
    assert read_orientation(file.getvalue()) == (1, (32, 16))
    assert decode_reduced(file.getvalue(), None).orientation == 1


def test_exif_behind_the_pixels_of_a_png():
    data = encoded("PNG", 6)
    start = data.index(b"eXIf") - 4
    length = 12 + struct.unpack(">I", data[start : start + 4])[0]
    moved = data[:start] + data[start + length : -12] + data[start : start + length] + data[-12:]
    assert read_orientation(moved) == (6, (32, 16))
    assert decode_reduced(moved, None).rgb.shape == (32, 16, 3)


def test_pixels_are_not_decoded():
    data = encoded("PNG", 8, (3000, 2000))
    cut = data[: data.index(b"IDAT") + 20]
    assert read_orientation(cut) == (8, (3000, 2000))
    header = struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in ((b"IHDR", header), (b"IDAT", b""), (b"IEND", b""))
    )
    assert read_orientation(bomb) == (1, (2**31 - 1, 2**31 - 1))


def test_radiance():
    assert read_orientation(b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 5 +X 9\n") == (1, (9, 5))


@pytest.mark.parametrize("data", [b"", b"no image", b"#?R", np.zeros(50, np.uint8).tobytes()])
def test_what_is_no_image(data):
    with pytest.raises(ImageError):
        read_orientation(data)
