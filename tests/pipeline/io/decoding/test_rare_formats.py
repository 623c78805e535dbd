"""Formats beside TIFF where Pillow shows other pixels than the file's, or refuses what can be read."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from locloc.pipeline.errors import ImageError
from locloc.pipeline.io.images import decode_image, decode_reduced, read_orientation

PATCHES = np.random.default_rng(0).integers(0, 256, (4, 5, 3)).astype(np.float32)
COLOUR = cv2.resize(PATCHES, (40, 32), interpolation=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)
COLOUR[0, 0], COLOUR[0, 1] = 255, 0
GREY, ALPHA = COLOUR[..., 1].copy(), COLOUR[::-1, ::-1, 2].copy()
DEEP = COLOUR.astype(np.uint16) * 257


def as_rgb(levels):
    return np.repeat(levels[..., None], 3, axis=2)


def over_black(colour, alpha):
    return (2 * colour.astype(int) * alpha[..., None] + 255) // 510


def chunk(kind, body, wrong=0):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body) ^ wrong)


def png(samples, depth, colour_type, *chunks):
    if depth < 8:
        spread = (samples[..., None] >> np.arange(depth - 1, -1, -1)) & 1
        rows = np.packbits(spread.reshape(len(samples), -1).astype(np.uint8), axis=1)
    else:
        rows = samples.astype(">u2" if depth == 16 else "u1").reshape(len(samples), -1)
    header = struct.pack(">IIBBBBB", samples.shape[1], samples.shape[0], depth, colour_type, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    return b"\x89PNG\r\n\x1a\n" + b"".join([chunk(b"IHDR", header), *chunks, chunk(b"IDAT", body), chunk(b"IEND", b"")])


BESIDE_THE_PIXELS = {
    "text with a wrong checksum": chunk(b"tEXt", b"a\0hello", wrong=1),
    "pHYs with a wrong checksum": chunk(b"pHYs", bytes(9), wrong=1),
    "tRNS with a wrong checksum": chunk(b"tRNS", bytes(6), wrong=1),
    "large text": chunk(b"tEXt", b"a\0" + b"x" * (2 << 20)),
    "compressed text": chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2 << 20))),
    "international text": chunk(b"iTXt", b"a\0\1\0\0\0" + zlib.compress(bytes(2 << 20))),
    "colour profile": chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(2 << 20))),
    "broken gamma": chunk(b"gAMA", b"\0"),
}


@pytest.mark.parametrize("beside", BESIDE_THE_PIXELS)
def test_what_is_beside_a_png_s_pixels_cannot_hide_them(beside):
    exif = chunk(b"eXIf", b"MM\0*\0\0\0\x08\0\1" + struct.pack(">HHIHH", 0x0112, 3, 1, 3, 0) + bytes(4))
    data = png(COLOUR, 8, 2, BESIDE_THE_PIXELS[beside], exif)
    assert read_orientation(data) == (3, (40, 32))
    np.testing.assert_array_equal(decode_image(data), COLOUR[::-1, ::-1])


@pytest.mark.parametrize("depth", [2, 4, 8, 16])
def test_transparent_grey_of_a_png(depth):
    levels = GREY >> (8 - depth) if depth < 8 else GREY if depth == 8 else GREY.astype(np.uint16) * 257 + 1
    key = levels[5, 5]
    shown = np.where(levels == key, 0, levels.astype(int) * 255 // ((1 << depth) - 1))
    data = png(levels, depth, 0, chunk(b"tRNS", struct.pack(">H", key)))
    np.testing.assert_allclose(decode_image(data), as_rgb(shown), atol=1)


def test_transparent_colour_of_a_deep_png():
    samples = DEEP.copy()
    samples[3, 4], samples[5, 6] = (0x1234, 0x5678, 0x9ABC), (0x1200, 0x5600, 0x9A00)  # equal in their high bytes
    rgb = decode_image(png(samples, 16, 2, chunk(b"tRNS", struct.pack(">3H", *samples[3, 4]))))
    assert rgb[3, 4].tolist() == [0, 0, 0] and rgb[5, 6].tolist() == [0x12, 0x56, 0x9A]


@pytest.mark.parametrize(("colour_type", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_8_bit_levels_in_a_deep_png(colour_type, channels):
    colour = COLOUR if channels > 2 else GREY[..., None]
    alpha = np.full((32, 40, 1), 255)
    samples = np.concatenate([colour, alpha], axis=2) if channels % 2 == 0 else colour
    rgb = decode_image(png(samples, 16, colour_type))
    np.testing.assert_array_equal(rgb, COLOUR if channels > 2 else as_rgb(GREY))


def bmp(bits, pixels, masks, header_size=108):
    header = struct.pack("<IiiHHIIiiII", header_size, 40, 32, 1, bits, 3, len(pixels), 0, 0, 0, 0)
    header = (header + struct.pack("<4I", *masks) + b"BGRs").ljust(header_size, b"\0")
    return b"BM" + struct.pack("<IHHI", 14 + len(header) + len(pixels), 0, 0, 14 + len(header)) + header + pixels


def tga(bits, attributes, pixels):
    return struct.pack("<BBB5xHHHHBB", 0, 0, 2, 0, 0, 40, 32, bits, 0x20 | attributes) + pixels


def sgi(planes):
    head = struct.pack(">HBBHHHHii", 474, 0, 1, 3, 40, 32, len(planes), 0, 255).ljust(512, b"\0")
    return head + b"".join(np.ascontiguousarray(plane[::-1]).tobytes() for plane in planes)


def psd(planes, depth=8):
    samples = b"".join(plane.astype(">u2" if depth == 16 else "u1").tobytes() for plane in planes)
    return b"8BPS" + struct.pack(">H6xHIIHH", 1, len(planes), 32, 40, depth, 3) + bytes(14) + samples


def with_alpha(kind, alpha):
    four = np.dstack([COLOUR[..., ::-1], alpha])
    masks = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    if kind in ("PNG", "WEBP", "TIFF"):
        file = io.BytesIO()
        Image.fromarray(np.dstack([COLOUR, alpha])).save(
            file, kind, **({"lossless": True, "exact": True} if kind == "WEBP" else {})
        )
        return file.getvalue()
    return {
        "BMP V4": lambda: bmp(32, four[::-1].tobytes(), masks),
        "BMP V5": lambda: bmp(32, four[::-1].tobytes(), masks, 124),
        "BMP of OpenCV": lambda: cv2.imencode(".bmp", four)[1].tobytes(),
        "TGA": lambda: tga(32, 8, four.tobytes()),
        "SGI": lambda: sgi([COLOUR[..., 0], COLOUR[..., 1], COLOUR[..., 2], alpha]),
        "PSD": lambda: psd([COLOUR[..., 0], COLOUR[..., 1], COLOUR[..., 2], alpha]),
    }[kind]()


@pytest.mark.parametrize("kind", ["BMP V4", "BMP V5", "BMP of OpenCV", "TGA", "SGI", "PSD", "PNG", "WEBP", "TIFF"])
def test_alpha_bits_that_are_all_zero_are_no_alpha(kind):
    np.testing.assert_array_equal(decode_image(with_alpha(kind, np.zeros_like(ALPHA))), COLOUR)
    np.testing.assert_array_equal(decode_image(with_alpha(kind, ALPHA)), over_black(COLOUR, ALPHA))


def pfm(mark, values, order):
    head = b"P%c\n40 32\n%s1.0\n" % (mark, b"-" if order == "<" else b"")
    return head + values[::-1].astype(order + "f4").tobytes()


@pytest.mark.parametrize("order", "<>")
def test_pfm(order):
    np.testing.assert_array_equal(decode_image(pfm(ord("F"), COLOUR / 255, order)), COLOUR)
    np.testing.assert_array_equal(decode_image(pfm(ord("f"), GREY / 255, order)), as_rgb(GREY))


@pytest.mark.parametrize("top", [255, 1023, 65535])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_pam(channels, top):
    colour = COLOUR if channels > 2 else GREY[..., None]
    values = np.dstack([colour, ALPHA]) if channels % 2 == 0 else colour
    stored = np.round(values / 255 * top).astype(">u2" if top > 255 else "u1")
    data = b"P7\nWIDTH 40\nHEIGHT 32\n# a comment\nDEPTH %d\nMAXVAL %d\nENDHDR\n" % (channels, top) + stored.tobytes()
    expected = COLOUR if channels > 2 else as_rgb(GREY)
    np.testing.assert_allclose(
        decode_image(data), over_black(expected, ALPHA) if channels % 2 == 0 else expected, atol=1
    )
    with pytest.raises(ImageError, match="truncated"):
        decode_image(data[:-1])


@pytest.mark.parametrize("data", [b"PF\n4 4\nx\n", b"Pf\n4 4\n0\n", b"P7\nWIDTH 4\nENDHDR\n", b"P7\nWIDTH 4\nHEIGHT"])
def test_broken_netpbm_headers(data):
    with pytest.raises(ImageError, match="broken P[FA]M header"):
        decode_image(data + bytes(100))
    with pytest.raises(ImageError, match="is more than"):
        decode_image(b"PF\n90000 90000\n-1\n")


def fits(bitpix, values, *cards):
    axes = [("NAXIS", values.ndim), *((f"NAXIS{n + 1}", size) for n, size in enumerate(values.shape[::-1]))]
    every = [("SIMPLE", "T"), ("BITPIX", bitpix), *axes, *cards]
    head = "".join(f"{name:8}= {value:>20} / a comment".ljust(80) for name, value in every) + "END".ljust(80)
    body = values.tobytes()
    return head.ljust(-(-len(head) // 2880) * 2880).encode() + body + bytes(-len(body) % 2880)


def test_fits():
    up = GREY[::-1]
    for data in (
        fits(8, up),
        fits(16, (up.astype(int) * 257 - 32768).astype(">i2"), ("BZERO", 32768), ("BSCALE", "1.0")),
        fits(32, (up.astype(np.int64) * 0x01010101 - 2**31).astype(">i4"), ("BZERO", "2147483648.")),
        fits(16, (up.astype(int) * 128).astype(">i2")),
        fits(-32, (up / 255).astype(">f4")),
        fits(-64, (up / 255).astype(">f8")),
        fits(16, up.astype(">i2")),
        fits(16, (up.astype(int) * 4).astype(">i2"), ("BSCALE", "0.25")),
    ):
        np.testing.assert_allclose(decode_image(data), as_rgb(GREY), atol=1)
    np.testing.assert_array_equal(decode_image(fits(8, np.ascontiguousarray(COLOUR[::-1].transpose(2, 0, 1)))), COLOUR)
    with pytest.raises(ImageError, match="truncated"):
        decode_image(fits(-64, (up / 255).astype(">f8"))[:-3000])
    with pytest.raises(ImageError, match="without an image"):
        decode_image(
            fits(8, np.zeros(0, np.uint8)).replace(b"NAXIS   =                    1", b"NAXIS   =                    0")
        )


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_deep_jpeg_2000_keeps_its_white(channels):
    """Pillow 13 rounds 65535 up to 256, which becomes 0."""
    samples = {1: DEEP[..., 1], 3: DEEP[..., ::-1], 4: np.dstack([DEEP[..., ::-1], ALPHA.astype(np.uint16) * 257])}[
        channels
    ]
    data = cv2.imencode(".jp2", samples, [cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000])[1].tobytes()
    expected = {1: as_rgb(GREY), 3: COLOUR, 4: over_black(COLOUR, ALPHA)}[channels]
    np.testing.assert_allclose(decode_image(data), expected, atol=1)
    with pytest.raises(ImageError):
        decode_image(data[: len(data) // 2])


def test_sun_raster_of_32_bits():
    for kind, colour in ((1, COLOUR[..., ::-1]), (3, COLOUR)):
        pixels = np.dstack([ALPHA, colour]).tobytes()
        data = struct.pack(">8I", 0x59A66A95, 40, 32, 32, len(pixels), kind, 0, 0) + pixels
        np.testing.assert_array_equal(decode_image(data), COLOUR)


def icon(kind, bits, pixels, mask):
    body = struct.pack("<IiiHHIIiiII", 40, 32, 64, 1, bits, 0, 0, 0, 0, 0, 0) + pixels + mask
    hot_spot_or_bits = (3, 4) if kind == 2 else (1, bits)
    return struct.pack("<HHHBBBBHHII", 0, kind, 1, 32, 32, 0, 0, *hot_spot_or_bits, len(body), 22) + body


@pytest.mark.parametrize("kind", [1, 2], ids=["icon", "cursor"])
def test_masks_and_alpha_of_icons(kind):
    square, alpha = COLOUR[:, :32], ALPHA[:, :32]
    hidden = GREY[:, :32] > 128
    pixels = np.ascontiguousarray(square[::-1, :, ::-1]).tobytes()
    mask = np.packbits(hidden[::-1], axis=1).tobytes()
    np.testing.assert_array_equal(decode_image(icon(kind, 24, pixels, mask)), np.where(hidden[..., None], 0, square))
    four = np.ascontiguousarray(np.dstack([square[..., ::-1], alpha])[::-1]).tobytes()
    np.testing.assert_array_equal(decode_image(icon(kind, 32, four, bytes(128))), over_black(square, alpha))


def jpeg_header(marker, bits):
    return b"\xff\xd8\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0" + bytes([0xFF, marker, 0, 11, bits]) + bytes(100)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (jpeg_header(0xC1, 12), "a JPEG of 12 bits a sample is not read"),
        (jpeg_header(0xC3, 16), "a JPEG of 16 bits a sample is not read"),
        (jpeg_header(0xF7, 8), "JPEG-LS is not read"),
        (psd([DEEP[..., 0], DEEP[..., 1], DEEP[..., 2]], 16), "a Photoshop file of 16 bits a channel is not read"),
        (b"8BPS\0\2" + bytes(100), "(PSB) is not read"),
        (b"\xff\x0a" + bytes(100), "JPEG XL is not read"),
        (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(100), "JPEG XL is not read"),
        (b"v/1\1" + bytes(100), "OpenEXR is not read"),
        (b"FUJIFILMCCD-RAW 0201" + bytes(100), "camera raw"),
        (b"\0\0\0\x18ftypcrx " + bytes(100), "camera raw"),
        (b"IIRO\x08\0\0\0" + bytes(100), "camera raw"),
        (b"IIU\0\x18\0\0\0" + bytes(100), "camera raw"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "run git lfs pull"),
        (b"\r\n<!DOCTYPE html><html>404</html>", "a web page, not an image"),
        (bytes(5000), "only zero bytes"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_known_formats_that_are_not_read_are_named(data, reason):
    for read in (decode_image, read_orientation):
        with pytest.raises(ImageError) as caught:
            read(data)
        assert reason in str(caught.value)


def heif(mode, pixels, **options):
    pillow_heif = pytest.importorskip("pillow_heif")
    file = io.BytesIO()
    pillow_heif.register_heif_opener()
    Image.fromarray(pixels, mode).save(file, "HEIF", quality=-1, chroma=444, **options)
    return file.getvalue()


@pytest.mark.filterwarnings("ignore:'mode' parameter:DeprecationWarning")
def test_heif():
    data = heif("RGB", COLOUR)
    np.testing.assert_allclose(decode_image(data), COLOUR.astype(int), atol=6)
    np.testing.assert_allclose(
        decode_image(heif("RGBA", np.dstack([COLOUR, ALPHA]))), over_black(COLOUR, ALPHA), atol=6
    )
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = heif("RGB", COLOUR, exif=exif.tobytes())
    assert read_orientation(turned) == (1, (32, 40)), "HEIF turns its images by itself"
    assert decode_reduced(turned, 8).size_px == (32, 40)
    np.testing.assert_allclose(decode_image(turned), COLOUR[::-1].swapaxes(0, 1).astype(int), atol=6)
    with pytest.raises(ImageError, match="more than 100 pixels"):
        decode_image(data, max_pixels=100)
    with pytest.raises(ImageError):
        decode_image(data[: len(data) // 2])


def test_heif_without_its_decoder(monkeypatch):
    from locloc.pipeline.io.decoding import pillow, recognised

    for module in (pillow, recognised):
        monkeypatch.setattr(module, "installed", lambda extra: False)
    with pytest.raises(ImageError, match=r"^HEIF needs another decoder: pip install locloc\[heif\]$"):
        decode_image(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))
