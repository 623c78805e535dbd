"""What images.py refuses, and with which reason: no file, half a file, a bomb, no image at all."""

import io
import os
import socket
import struct
import time
import tracemalloc
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from locloc.pipeline.errors import ImageError
from locloc.pipeline.io.images import MAX_PIXELS, MissingImageError, decode_image, read_image_bytes

from .decoding.tiffs import tiff

IMAGE = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (24, 31, 3), np.uint8), (0, 0), 1)
# `Image.save` options of each kind of small file to break.
KINDS = {
    "JPEG": {},
    "JPEG progressive": {"progressive": True},
    "PNG": {},
    "GIF": {},
    "BMP": {},
    "TIFF": {},
    "TIFF lzw": {"compression": "tiff_lzw"},
    "WEBP": {},
    "WEBP lossless": {"lossless": True},
}


def encode(image, kind, **options):
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind.split()[0], **options)
    return file.getvalue()


DEEP = IMAGE.astype(np.uint16) * 257
FILES = {kind: encode(IMAGE, kind, **options) for kind, options in KINDS.items()} | {
    "TIFF 16 bits": tiff(DEEP, photometric=2, rows=7),
    "TIFF 16 bits deflated": tiff(DEEP, photometric=2, deflate=True, predictor=2, rows=7),
    "TIFF 12 bits": tiff(DEEP >> 4, photometric=2, bits=12),
    "TIFF floats": tiff((IMAGE / 255).astype(np.float32), photometric=2, deflate=True, predictor=3, planar=True),
    "PFM": b"PF\n31 24\n-1\n" + (IMAGE / 255).astype("<f4").tobytes(),
    "PAM": b"P7\nWIDTH 31\nHEIGHT 24\nDEPTH 3\nMAXVAL 255\nENDHDR\n" + IMAGE.tobytes(),
}


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def empty_png(width, height):
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"")


def hdr(size_line, header=b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n"):
    return header + b"\n" + size_line + b"\n"


def image_or_error(data):
    """The one contract of `decode_image`; anything else that it does fails the test."""
    try:
        rgb = decode_image(data, max_pixels=100_000)
    except ImageError as error:
        assert str(error) and not isinstance(error, MissingImageError)
        return None
    assert rgb.ndim == 3 and rgb.shape[2] == 3 and rgb.dtype == np.uint8
    assert 0 < rgb.shape[0] * rgb.shape[1] <= 100_000
    return rgb


# --- no file ---------------------------------------------------------------------------------------------------------


def test_a_regular_file_is_read(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"\0\xff")
    (tmp_path / "link.jpg").symlink_to("a.jpg")
    assert read_image_bytes(tmp_path / "a.jpg") == read_image_bytes(tmp_path / "link.jpg") == b"\0\xff"
    (tmp_path / "empty.jpg").touch()
    assert read_image_bytes(tmp_path / "empty.jpg") == b""


def test_missing_files_say_why(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a socket's path may have 107 bytes
    (tmp_path / "broken.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "fifo.jpg")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.jpg")
        for name, reason in {
            "none.jpg": "no such file",
            "broken.jpg": "broken link",
            "loop.jpg": "too many levels of symbolic links",
            "folder.jpg": "a directory, not a file",
            "file/below.jpg": "not a directory",
            "fifo.jpg": "not a regular file",  # nobody writes into it, so waiting would be for ever
            "socket.jpg": "no such device or address",
            "x" * 300 + ".jpg": "file name too long",
        }.items():
            with pytest.raises(MissingImageError, match=f"^{reason}$"):
                read_image_bytes(tmp_path / name)
    with pytest.raises(MissingImageError, match="^not a regular file$"):
        read_image_bytes(type(tmp_path)("/dev/zero"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission(tmp_path):
    (tmp_path / "a.jpg").touch(mode=0o000)
    with pytest.raises(MissingImageError, match="^permission denied$"):
        read_image_bytes(tmp_path / "a.jpg")


def test_no_descriptor_is_left_open(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    before = len(os.listdir("/proc/self/fd"))
    for name in ("fifo", "none", "."):
        with pytest.raises(MissingImageError):
            read_image_bytes(tmp_path / name)
    assert len(os.listdir("/proc/self/fd")) == before


# --- no image ------------------------------------------------------------------------------------------------------


def test_empty_file():
    with pytest.raises(ImageError, match="^empty file$"):
        decode_image(b"")


UNKNOWN = "not an image of a known format"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"This is a text that somebody named .jpg.\n" * 50, UNKNOWN),
        (b"<!DOCTYPE html><html><body>404</body></html>", "a web page, not an image: the download failed"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n", UNKNOWN),
        (b"%PDF-1.4\n1 0 obj\n<< /Type /Catalog >>\nendobj\ntrailer\n<< /Root 1 0 R >>\n%%EOF\n", UNKNOWN),
        (b'<svg xmlns="http://www.w3.org/2000/svg" width="10" height="10"><rect width="5" height="5"/></svg>', UNKNOWN),
        (b"\xd7\xcd\xc6\x9a" + bytes(100), UNKNOWN),  # WMF
        (b"\0" * 1000, "only zero bytes: the copy or download was not finished"),
    ],
    ids=["text", "html", "eps", "pdf", "svg", "wmf", "zeros"],
)
def test_what_is_no_image(data, reason):
    with pytest.raises(ImageError, match=f"^{reason}$"):
        decode_image(data)


# --- half an image --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FILES)
def test_truncated_file_is_never_half_an_image(kind):
    """At every length either the whole image (only an end mark is lacking) or an error."""
    whole = decode_image(FILES[kind])
    lengths = {len for len in range(1, len(FILES[kind])) if image_or_error(FILES[kind][:len]) is not None}
    assert all(length > 0.9 * len(FILES[kind]) for length in lengths)
    for length in lengths:
        np.testing.assert_array_equal(decode_image(FILES[kind][:length]), whole)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_truncated_jpeg_of_a_photograph_s_size(share):
    data = encode(np.random.default_rng(0).integers(0, 256, (375, 500, 3), np.uint8), "JPEG")
    with pytest.raises(ImageError, match="truncated|not an image"):
        decode_image(data[: int(share * len(data))])


def test_truncated_radiance(capfd):
    data = cv2.imencode(".hdr", np.random.default_rng(0).random((6, 9, 3)).astype(np.float32))[1].tobytes()
    for length in range(len(data) - 1, 2, -7):
        with pytest.raises(ImageError, match="cannot be decoded: broken Radiance|not an image of a known format"):
            decode_image(data[:length])


@pytest.mark.parametrize("kind", [b"IHDR", b"IDAT"])
def test_corrupt_png_chunk(kind):
    data = bytearray(FILES["PNG"])
    data[data.index(kind) + 12] ^= 0xFF
    with pytest.raises(ImageError):
        decode_image(bytes(data))


# --- too many pixels -------------------------------------------------------------------------------------------------


def test_pixel_limit_is_exact():
    data = encode(np.zeros((20, 30, 3), np.uint8), "PNG")
    assert decode_image(data, max_pixels=600).shape == (20, 30, 3)
    with pytest.raises(ImageError, match=r"30 x 20 is more than 599 pixels \(setting images.max_pixels\)"):
        decode_image(data, max_pixels=599)
    radiance = cv2.imencode(".hdr", np.zeros((20, 30, 3), np.float32))[1].tobytes()
    assert decode_image(radiance, max_pixels=600).shape == (20, 30, 3)
    with pytest.raises(ImageError, match="30 x 20 is more than 599 pixels"):
        decode_image(radiance, max_pixels=599)


def test_icon_s_own_size_counts_not_the_one_it_claims():
    png = encode(np.zeros((200, 300, 3), np.uint8), "PNG")
    icon = b"\0\0\1\0\1\0" + struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 8, len(png), 22) + png
    with pytest.raises(ImageError):
        decode_image(icon, max_pixels=1000)


@pytest.mark.parametrize(
    "bomb",
    [
        empty_png(20_000, 20_000),
        empty_png(2**31 - 1, 2**31 - 1),
        hdr(b"-Y 50000 +X 50000"),
        hdr(b"-Y 999999999 +X 999999999"),
        struct.pack("<2sIHHIIiiHHIIiiII", b"BM", 54, 0, 0, 54, 40, 30_000, 30_000, 1, 24, 0, 0, 0, 0, 0, 0),
        b"P6\n40000 40000\n255\n",
        b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0) + b",\0\0\0\0\xff\xff\xff\xff\0\x08\0;",
    ],
    ids=["png", "largest png", "hdr", "largest hdr", "bmp", "ppm", "gif"],
)
def test_bomb_fails_fast_and_without_memory(bomb):
    decode_image(FILES["PNG"])  # so that what is imported at the first call is not counted
    tracemalloc.start()
    started = time.perf_counter()
    try:
        with pytest.raises(ImageError, match=f"is more than {MAX_PIXELS:,} pixels"):
            decode_image(bomb)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
    assert time.perf_counter() - started < 1


def test_limit_above_pillow_s_own_holds(monkeypatch):
    """The limit is ours alone, in both directions; Pillow's warning level is as the caller left it."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert decode_image(FILES["PNG"]).shape == IMAGE.shape
    assert Image.MAX_IMAGE_PIXELS == 10
    for data in (b"not an image", FILES["PNG"][:50], empty_png(20_000, 20_000)):
        with pytest.raises(ImageError):
            decode_image(data)
        assert Image.MAX_IMAGE_PIXELS == 10


# --- Radiance headers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"#?R",
        b"#?RADIANCE\n",
        hdr(b"-Y 4 +X 4", header=b"#?RADIANCE\n"),  # without its format
        hdr(b"-Y 4 +X 4", header=b"#?RADIANCE\nFORMAT=32-bit_rle_xyze\n"),  # no RGB
        hdr(b"+X 4 -Y 4"),  # on its side
        hdr(b"-Y " + b"9" * 5000 + b" +X 1"),  # more digits than Python takes for a number
    ],
)
def test_broken_radiance_header(data):
    with pytest.raises(ImageError, match="^cannot be decoded: broken Radiance header$"):
        decode_image(data + bytes(100))


def test_radiance_without_pixels():
    with pytest.raises(ImageError, match="0 x 5: no pixels"):
        decode_image(hdr(b"-Y 5 +X 0"))


def test_radiance_size_is_the_one_that_was_checked():
    """OpenCV breaks a line of 127 bytes, sees the rest as the header's end, and would take the size that follows."""
    header = b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n" + b"x" * 127 + b"\n-Y 300 +X 300\n"
    assert decode_image(hdr(b"-Y 1 +X 1", header) + bytes(400_000), max_pixels=1).shape == (1, 1, 3)


# --- fuzz ------------------------------------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(
    data=st.binary(max_size=200),
    start=st.sampled_from([b"", *(file[:24] for file in FILES.values()), hdr(b"-Y 2 +X 2")]),
)
@example(data=b"\0\0\2\0" + bytes(8) + b"\1\0\1\0\x18\0", start=b"")  # a TGA without pixels
def test_any_bytes_are_an_image_or_an_error(start, data):
    image_or_error(start + data)


@settings(max_examples=500, deadline=None)
@given(kind=st.sampled_from(sorted(FILES)), place=st.integers(0, 2**31), byte=st.integers(0, 255))
def test_one_wrong_byte_is_an_image_or_an_error(kind, place, byte):
    data = bytearray(FILES[kind])
    data[place % len(data)] = byte
    image_or_error(bytes(data))


@settings(max_examples=200, deadline=None)
@given(kind=st.sampled_from(sorted(FILES)), start=st.integers(0, 2**31), length=st.integers(1, 100))
def test_a_gap_is_an_image_or_an_error(kind, start, length):
    start %= len(FILES[kind])
    image_or_error(FILES[kind][:start] + FILES[kind][start + length :])
