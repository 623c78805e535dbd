"""What images.py makes of every kind of image that it can decode."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from locloc.pipeline.errors import ImageError
from locloc.pipeline.io.decoding import pillow
from locloc.pipeline.io.formats import FORMATS
from locloc.pipeline.io.images import decode_image

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
CORNERS = np.zeros((16, 32, 3), np.uint8)  # red, green above; blue, white below
CORNERS[:8, :16], CORNERS[:8, 16:], CORNERS[8:, :16], CORNERS[8:, 16:] = RED, GREEN, BLUE, WHITE

# The array that a viewer shows, from the stored one, for each EXIF orientation (EXIF 2.32, 4.6.4).
VIEWED = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: stored[::-1].swapaxes(0, 1),
    7: lambda stored: stored[::-1, ::-1].swapaxes(0, 1),
    8: lambda stored: stored[:, ::-1].swapaxes(0, 1),
}


def encode(image, kind, **options):
    file = io.BytesIO()
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    image.save(file, kind, **options)
    return file.getvalue()


def at_corners(rgb):
    """The pixels next to the four corners: colour bleeds where the quarters of a lossy image meet."""
    return rgb[np.ix_([1, -2], [1, -2])].astype(int)


def grey_levels(data):
    """The first channel, after a check that all three agree."""
    rgb = decode_image(data)
    assert rgb.dtype == np.uint8 and (rgb == rgb[..., :1]).all()
    return rgb[..., 0].tolist()


def png(width, height, depth, colour, rows, *chunks):
    """A PNG by hand: Pillow writes no 16-bit colour."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    rows = b"".join(b"\0" + row for row in rows)
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def exif(*entries):
    """A big-endian EXIF block of raw (tag, type, count, 4 bytes) entries."""
    body = b"".join(struct.pack(">HHI4s", *entry) for entry in entries)
    return b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">H", len(entries)) + body + bytes(4)


def orientation(value):
    return (0x0112, 3, 1, struct.pack(">HH", value, 0))


@pytest.mark.parametrize("value", VIEWED)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF", "MPO"])
def test_exif_orientation_is_applied(kind, value):
    block = exif(orientation(value))
    if kind == "MPO":  # two JPEGs in a row
        data = encode(CORNERS, kind, exif=block, save_all=True, append_images=[Image.new("RGB", (32, 16))], quality=100)
    else:
        data = encode(CORNERS, kind, exif=block, **{"JPEG": {"quality": 100, "subsampling": 0}}.get(kind, {}))
    rgb, expected = decode_image(data), VIEWED[value](CORNERS)
    assert rgb.shape == expected.shape
    np.testing.assert_allclose(at_corners(rgb), at_corners(expected), atol=30)


@pytest.mark.parametrize("value", VIEWED)
@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_tiff_orientation_is_applied_once(value, compression):
    data = encode(CORNERS, "TIFF", tiffinfo={0x0112: value}, compression=compression)
    np.testing.assert_array_equal(decode_image(data), VIEWED[value](CORNERS))


@pytest.mark.parametrize(
    "other",
    [
        (0x0131, 11, 1, b"abcd"),  # the software's name as a float
        (0x0100, 2, 4, b"abc\0"),  # the width as text
        (0x011A, 99, 1, b"abcd"),  # no such type
        (0x0131, 2, 100, struct.pack(">I", 60000)),  # beyond the block's end
        (0x8769, 4, 1, struct.pack(">I", 60000)),  # a directory beyond the block's end
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_orientation_counts_in_a_block_with_another_broken_tag(other):
    data = encode(CORNERS, "PNG", exif=exif(orientation(6), other))
    np.testing.assert_array_equal(decode_image(data), VIEWED[6](CORNERS))


@pytest.mark.parametrize(
    "block",
    [
        b"Exif\0\0",
        b"Exif\0\0not a block at all",
        exif(orientation(0)),
        exif(orientation(9)),
        exif((0x0112, 2, 2, b"6\0\0\0")),  # the orientation as text
        exif(orientation(6))[:20],
        b"Exif\0\0MM\0*\xff\xff\xff\xff",
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_broken_exif_is_ignored(block):
    np.testing.assert_array_equal(decode_image(encode(CORNERS, "PNG", exif=block)), CORNERS)
    assert decode_image(encode(CORNERS, "JPEG", exif=block)).shape == CORNERS.shape


def test_grey():
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    for kind in ("PNG", "BMP", "TIFF", "GIF", "PPM", "TGA"):
        assert grey_levels(encode(grey, kind)) == grey.tolist()


def test_one_bit():
    bits = Image.fromarray(np.array([[0, 255, 0], [255, 255, 0]], np.uint8)).convert("1", dither=Image.Dither.NONE)
    for kind in ("PNG", "TIFF", "BMP", "PPM", "MSP"):
        assert grey_levels(encode(bits, kind)) == [[0, 255, 0], [255, 255, 0]]


def palette_image():
    image = Image.new("P", (4, 1))
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90, 200, 210, 220])
    for x in range(4):
        image.putpixel((x, 0), x)
    return image


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "TIFF"])
def test_palette(kind):
    rgb = decode_image(encode(palette_image(), kind))
    assert rgb.tolist() == [[[10, 20, 30], [40, 50, 60], [70, 80, 90], [200, 210, 220]]]


def test_palette_with_transparency_is_over_black():
    png_rgb = decode_image(encode(palette_image(), "PNG", transparency=bytes([255, 128, 0])))
    assert png_rgb.tolist() == [[[10, 20, 30], [20, 25, 30], [0, 0, 0], [200, 210, 220]]]
    gif_rgb = decode_image(encode(palette_image(), "GIF", transparency=2))
    assert gif_rgb.tolist() == [[[10, 20, 30], [40, 50, 60], [0, 0, 0], [200, 210, 220]]]


def over_black(colour, alpha):
    return (2 * colour.astype(int) * alpha + 255) // 510  # colour * alpha / 255, rounded


def test_rgba_is_over_black_exactly():
    colour, alpha = (grid.astype(np.uint8) for grid in np.mgrid[:256, :256])
    for kind in ("PNG", "TIFF", "WEBP"):
        options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
        rgb = decode_image(
            encode(np.stack([colour, colour[::-1], np.full_like(colour, 255), alpha], -1), kind, **options)
        )
        np.testing.assert_array_equal(rgb[..., 0], over_black(colour, alpha))
        np.testing.assert_array_equal(rgb[..., 1], over_black(colour[::-1], alpha))
        np.testing.assert_array_equal(rgb[..., 2], alpha)


def test_grey_with_alpha_is_over_black_exactly():
    colour, alpha = (grid.astype(np.uint8) for grid in np.mgrid[:256, :256])
    image = Image.merge("LA", [Image.fromarray(colour), Image.fromarray(alpha)])
    assert grey_levels(encode(image, "PNG")) == over_black(colour, alpha).tolist()


def test_colour_key_is_transparent():
    rgb = np.array([[[9, 8, 7], [1, 2, 3]]], np.uint8)
    assert decode_image(encode(rgb, "PNG", transparency=(9, 8, 7))).tolist() == [[[0, 0, 0], [1, 2, 3]]]
    assert grey_levels(encode(np.array([[255, 7]], np.uint8), "PNG", transparency=255)) == [[0, 7]]


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk(kind):
    """Pillow writes Adobe's inverted CMYK into JPEG; each ink darkens its own colour, black all of them."""
    data = encode(Image.new("CMYK", (16, 16), (255, 128, 0, 64)), kind, **({"quality": 100} if kind == "JPEG" else {}))
    assert (b"Adobe" in data) == (kind == "JPEG")
    np.testing.assert_allclose(decode_image(data)[8, 8].astype(int), [0, 95, 191], atol=2)


def test_ycbcr():
    red = Image.new("RGB", (16, 16), RED)
    for data in (encode(red, "JPEG", quality=100), encode(red.convert("YCbCr"), "TIFF")):
        np.testing.assert_allclose(decode_image(data)[8, 8].astype(int), RED, atol=3)


def test_lab():
    """L* 50 % is mid-grey, and a positive a* is reddish."""
    grey, reddish = decode_image(encode(Image.frombytes("LAB", (2, 1), bytes([128, 0, 0, 128, 60, 0])), "TIFF"))[0]
    np.testing.assert_allclose(grey.astype(int), 119, atol=2)
    assert reddish[0] > reddish[1] + 50


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_16_bit_grey_keeps_the_high_byte(kind):
    levels = np.array([[0, 255, 256, 0x1234, 0x12FF, 0xFFFF]], np.uint16)
    assert grey_levels(encode(levels, kind)) == [[0, 0, 1, 0x12, 0x12, 255]]


def test_16_bit_colour_keeps_the_high_byte():
    samples = (0x1234, 0x80FF, 0xFFFF, 0, 255, 256)
    expected = [[[0x12, 0x80, 0xFF], [0, 0, 1]]]
    assert decode_image(png(2, 1, 16, 2, [struct.pack(">6H", *samples)])).tolist() == expected
    tiff = cv2.imencode(".tiff", np.array(samples, np.uint16).reshape(1, 2, 3)[..., ::-1])[1].tobytes()
    assert decode_image(tiff).tolist() == expected


def test_16_bit_with_alpha():
    assert decode_image(png(1, 1, 16, 6, [struct.pack(">4H", 0xFFFF, 0x1234, 0, 0x8000)])).tolist() == [[[128, 9, 0]]]
    assert grey_levels(png(1, 1, 16, 4, [struct.pack(">2H", 0xFFFF, 0x8000)])) == [[128]]


def test_32_bit_integers_are_read_as_16_bit():
    levels = np.array([[-1, 0, 255, 256, 65535, 70000]], np.int32)
    assert grey_levels(encode(levels, "TIFF")) == [[0, 0, 0, 1, 255, 255]]


def test_floats_are_shares_or_levels():
    shares = np.array([[-3e38, 0, 0.5, 1, np.nan, np.inf, -np.inf]], np.float32)
    assert grey_levels(encode(shares, "TIFF")) == [[0, 0, 128, 255, 0, 0, 0]]
    levels = np.array([[-1, 0.4, 0.6, 1.2, 254.6, 3e38]], np.float32)
    assert grey_levels(encode(levels, "TIFF")) == [[0, 0, 1, 1, 255, 255]]
    assert grey_levels(encode(np.array([[0, 0.5]], np.float32), "PPM")) == [[0, 128]]  # .pfm


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "AVIF", "TIFF", "MPO"])
def test_first_frame(kind):
    options = {"quality": 100} if kind in ("WEBP", "AVIF", "MPO") else {}
    frames = [Image.new("RGB", (16, 16), colour) for colour in (GREEN, BLUE)]
    data = encode(Image.new("RGB", (16, 16), RED), kind, save_all=True, append_images=frames, **options)
    with Image.open(io.BytesIO(data)) as image:
        assert image.n_frames == 3
    np.testing.assert_allclose(decode_image(data).astype(int), np.broadcast_to(RED, (16, 16, 3)), atol=3)


def test_radiance():
    """OpenCV writes it; 1.0 is white and more stays white. RGBE keeps 8 bits, so a level may be one off."""
    rgb = np.zeros((5, 9, 3), np.float32)
    rgb[0, 0], rgb[1, 1], rgb[2, 2], rgb[4, 8] = (1, 0, 0), (0, 0.5, 0), (7, 7, 7), (0, 0, 0.25)
    decoded = decode_image(cv2.imencode(".hdr", rgb[..., ::-1])[1].tobytes())
    assert decoded.dtype == np.uint8 and decoded.flags.c_contiguous
    np.testing.assert_allclose(decoded.astype(int), np.round(rgb.clip(0, 1) * 255).astype(int), atol=1)


def test_radiance_header_lines_are_read_over():
    data = cv2.imencode(".hdr", np.full((4, 4, 3), 0.5, np.float32))[1].tobytes()
    longer = data.replace(b"FORMAT=", b"# a comment\nEXPOSURE=2.0\nFORMAT=").replace(b"rgbe\n", b"rgbe\nGAMMA=1\n", 1)
    np.testing.assert_array_equal(decode_image(longer), decode_image(data))


@pytest.mark.parametrize(
    "lossless", ["PNG", "GIF", "BMP", "DIB", "TIFF", "JPEG2000", "PPM", "TGA", "ICO", "ICNS", "PCX"]
)
def test_lossless_formats(lossless):
    square = CORNERS[:16, 8:24].copy()  # icons are square, and of a known size
    data = encode(square, lossless, **{"ICO": {"sizes": [(16, 16)]}, "ICNS": {"sizes": [(16, 16)]}}.get(lossless, {}))
    if lossless == "ICNS":  # holds several sizes, and the largest is shown
        assert decode_image(data)[0, 0].tolist() == list(RED)
    else:
        np.testing.assert_array_equal(decode_image(data), square)


@pytest.mark.parametrize("lossless", ["DDS", "SGI", "QOI", "SUN"])
def test_rarer_lossless_formats(lossless):
    sun = cv2.imencode(".ras", CORNERS[..., ::-1])[1].tobytes()
    data = sun if lossless == "SUN" else encode(CORNERS, lossless)
    np.testing.assert_array_equal(decode_image(data), CORNERS)


def test_transparent_xpm():
    text = b'/* XPM */\nstatic char *x[] = {\n"2 1 2 1",\n"a c None",\n"b c #ff0000",\n"ab"\n};\n'
    assert decode_image(text).tolist() == [[[0, 0, 0], [255, 0, 0]]]


def test_icon_that_resembles_a_tga():
    """A TGA has no magic number: an icon of 64 to 128 KiB has a header that its reader takes too."""
    noise = np.random.default_rng(0).integers(0, 256, (160, 160, 3), np.uint8)
    data = encode(noise, "ICO", sizes=[(160, 160)])
    assert 65536 < len(data) < 131072
    np.testing.assert_array_equal(decode_image(data), noise)


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (5000, 1)])
def test_extreme_shapes(shape):
    noise = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    for data in (encode(noise, "PNG"), encode(noise, "BMP"), encode(noise, "TIFF")):
        np.testing.assert_array_equal(decode_image(data), noise)
    assert decode_image(encode(noise, "JPEG")).shape == noise.shape


def test_a_format_that_pillow_drops_hides_no_other(monkeypatch):
    monkeypatch.setattr(pillow, "FORMATS", ["DROPPED", *FORMATS])
    np.testing.assert_array_equal(decode_image(encode(CORNERS, "PNG")), CORNERS)
    with pytest.raises(ImageError, match="^not an image of a known format$"):
        decode_image(b"not an image")
