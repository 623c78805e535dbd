"""TIFFs by their tags: widths, kinds, planes, byte orders, predictors, extra samples, pages and camera raw."""

import struct

import cv2
import numpy as np
import pytest
from PIL import Image

from locloc.pipeline.errors import ImageError
from locloc.pipeline.io.images import decode_image, decode_reduced, read_orientation

from .tiffs import directory, tiff

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR, CIE_LAB, ICC_LAB, CFA = 0, 1, 2, 3, 5, 6, 8, 9, 32803
PATCHES = np.random.default_rng(0).integers(0, 256, (4, 5, 3)).astype(np.float32)
COLOUR = cv2.resize(PATCHES, (43, 21), interpolation=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)
COLOUR[0, 0], COLOUR[0, 1] = 0, 255
ALPHA = COLOUR[::-1, ::-1, 0].copy()

# Samples of each width and kind, whose image is COLOUR.
SAMPLES = {
    "uint8": COLOUR,
    "uint16": COLOUR.astype(np.uint16) * 257,
    "uint16 of 8 bits": COLOUR.astype(np.uint16),
    "int16": COLOUR.astype(np.int16) * 128 + 127,
    "uint32": COLOUR.astype(np.uint32) * 0x01010101,
    "uint32 of 16 bits": COLOUR.astype(np.uint32) * 257,
    "uint32 of 8 bits": COLOUR.astype(np.uint32),
    "int32": COLOUR.astype(np.int32) * (1 << 23),
    "int32 of 16 bits": COLOUR.astype(np.int32) * 257,
    "int32 of 8 bits": COLOUR.astype(np.int32),
    "uint64": COLOUR.astype(np.uint64) << np.uint64(56),
    "float16": (COLOUR / 255).astype(np.float16),
    "float32": (COLOUR / 255).astype(np.float32),
    "float32 of 8 bits": COLOUR.astype(np.float32),
    "float64": COLOUR / 255,
    "float64 of 16 bits": COLOUR * 257.0,
}
ARRANGEMENTS = {
    "one strip": {},
    "strips": {"rows": 8},
    "tiles": {"tile": 16},
    "planes": {"planar": True},
    "tiled planes": {"planar": True, "tile": 16},
    "deflated strips": {"deflate": True, "rows": 8},
    "deflated tiles": {"deflate": True, "tile": 16},
    "deflated planes": {"deflate": True, "planar": True, "rows": 8},
    "predicted": {"deflate": True, "predictor": 2, "rows": 8},
    "predicted planes": {"deflate": True, "predictor": 2, "planar": True},
}


def grey(levels):
    return np.repeat(levels[..., None], 3, axis=2)


def over_black(colour, alpha):
    return (2 * colour.astype(int) * alpha[..., None] + 255) // 510


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("kind", SAMPLES)
def test_every_width_in_every_arrangement(kind, order):
    values = SAMPLES[kind]
    for name, options in ARRANGEMENTS.items():
        if options.get("predictor") == 2 and values.dtype.kind == "f":
            options = options | {"predictor": 3}
        rgb = decode_image(tiff(values, RGB, order=order, **options))
        np.testing.assert_allclose(rgb, COLOUR.astype(int), atol=1, err_msg=name)
        one = decode_image(tiff(values[..., 1], BLACK_IS_ZERO, order=order, **options))
        np.testing.assert_allclose(one, grey(COLOUR[..., 1]).astype(int), atol=1, err_msg=name)
        negative = decode_image(tiff(values[..., 1], WHITE_IS_ZERO, order=order, **options))
        np.testing.assert_allclose(negative, 255 - grey(COLOUR[..., 1]).astype(int), atol=1, err_msg=name)


@pytest.mark.parametrize("bits", [9, 10, 12, 14, 24])
def test_widths_that_are_no_machine_word(bits):
    values = COLOUR.astype(np.uint32) << (bits - 8) if bits < 24 else COLOUR.astype(np.uint32) * 0x010101
    for options in ({}, {"deflate": True, "rows": 4}, {"order": ">"}, {"planar": True}, {"tile": 16}):
        np.testing.assert_array_equal(decode_image(tiff(values, RGB, bits=bits, **options)), COLOUR)
    negative = decode_image(tiff(values[..., 0], WHITE_IS_ZERO, bits=bits))
    np.testing.assert_allclose(negative, 255 - grey(COLOUR[..., 0]).astype(int), atol=1)


def test_lzw_packbits_and_opencv():
    deep = SAMPLES["uint16"]
    for samples in (deep, deep[..., 0], SAMPLES["float32"], SAMPLES["float64"]):
        for compression in (1, 5, 8, 32773):
            bgr = samples[..., ::-1] if samples.ndim == 3 else samples
            data = cv2.imencode(".tiff", bgr, [cv2.IMWRITE_TIFF_COMPRESSION, compression])[1].tobytes()
            np.testing.assert_allclose(
                decode_image(data), COLOUR if samples.ndim == 3 else grey(COLOUR[..., 0]), atol=1
            )


def test_bigtiff_and_reversed_bits():
    np.testing.assert_array_equal(decode_image(tiff(SAMPLES["uint16"], RGB, big=True, rows=8)), COLOUR)
    np.testing.assert_array_equal(decode_image(tiff(COLOUR, RGB, big=True)), COLOUR)
    for deflate in (False, True):
        data = tiff(SAMPLES["uint16"], RGB, fill_order=2, deflate=deflate)
        np.testing.assert_array_equal(decode_image(data), COLOUR)


@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32", "float64"])
@pytest.mark.parametrize("planar", [False, True])
def test_extra_samples(kind, planar):
    colour = SAMPLES[kind]
    alpha = {"uint8": ALPHA, "uint16": ALPHA.astype(np.uint16) * 257}.get(kind, (ALPHA / 255).astype(colour.dtype))[
        ..., None
    ]

    def shown(extra, *channels):
        return decode_image(tiff(np.concatenate(channels, axis=2), RGB, extra=extra, planar=planar))

    near_infrared = colour[..., :1] // 2 if kind[0] == "u" else colour[..., :1] / 2
    np.testing.assert_allclose(shown([0], colour, near_infrared), COLOUR.astype(int), atol=1)
    np.testing.assert_allclose(shown([0, 0], colour, near_infrared, alpha), COLOUR.astype(int), atol=1)
    np.testing.assert_allclose(shown([2], colour, alpha), over_black(COLOUR, ALPHA), atol=1)
    np.testing.assert_allclose(shown([2], colour, alpha * 0), COLOUR.astype(int), atol=1)
    np.testing.assert_allclose(shown([0, 2], colour, near_infrared, alpha), over_black(COLOUR, ALPHA), atol=1)
    multiplied = over_black(COLOUR, ALPHA)
    stored = (
        multiplied.astype(np.uint8) if kind == "uint8" else multiplied * 257 if kind == "uint16" else multiplied / 255
    )
    np.testing.assert_allclose(shown([1], stored.astype(colour.dtype), alpha), multiplied, atol=2)


@pytest.mark.parametrize("kind", ["uint8", "uint16"])
def test_a_fourth_sample_without_a_word(kind):
    """Alpha if most of it is opaque or clear, as Pillow and OpenCV write mattes; else a fourth colour."""
    factor = 257 if kind == "uint16" else 1
    matte = np.where(np.abs(ALPHA.astype(int) - 128) > 40, 255 * (ALPHA > 128), ALPHA).astype(np.uint8)  # soft edges
    four = np.dstack([SAMPLES[kind], (matte.astype(int) * factor).astype(kind)])
    np.testing.assert_array_equal(decode_image(tiff(four, RGB)), over_black(COLOUR, matte))
    near_infrared = np.dstack([SAMPLES[kind], (ALPHA.astype(int) * factor).astype(kind)])
    assert (ALPHA == 255).any(), "saturated somewhere"
    np.testing.assert_array_equal(decode_image(tiff(near_infrared, RGB)), COLOUR)


def test_grey_with_more_samples():
    deep = SAMPLES["uint16"]
    two = np.dstack([deep[..., 0], ALPHA.astype(np.uint16) * 257])
    np.testing.assert_array_equal(
        decode_image(tiff(two, BLACK_IS_ZERO, extra=[2])), grey(over_black(COLOUR, ALPHA)[..., 0])
    )
    np.testing.assert_array_equal(decode_image(tiff(two, BLACK_IS_ZERO, extra=[0])), grey(COLOUR[..., 0]))
    four = np.dstack([deep, deep[..., :1]])
    for values in (deep, four, COLOUR, COLOUR.astype(np.float32)):  # as GDAL and tifffile write colours
        rgb = decode_image(tiff(values, BLACK_IS_ZERO, extra=[0] * (values.shape[2] - 1)))
        np.testing.assert_array_equal(rgb, COLOUR)
    with pytest.raises(ImageError, match="8 samples a pixel, and none is called red, green or blue"):
        decode_image(tiff(np.dstack([four, four]), BLACK_IS_ZERO, extra=[0] * 7))
    np.testing.assert_array_equal(decode_image(tiff(np.dstack([four, four]), RGB, extra=[0] * 5)), COLOUR)


def test_cmyk_palettes_and_lab():
    inks = np.asarray(Image.fromarray(COLOUR).convert("CMYK"))
    for values in (inks, inks.astype(np.uint16) * 257):
        np.testing.assert_array_equal(decode_image(tiff(values, CMYK)), COLOUR)
    entries = np.random.default_rng(1).integers(0, 65536, (3, 256))
    for scale in (1, 256):
        data = tiff(COLOUR[..., 0], PALETTE, tags={320: (entries // scale).ravel().tolist()})
        np.testing.assert_array_equal(decode_image(data), (entries // 256).T[COLOUR[..., 0]])
    cie = np.array([[[128, 0, 0], [128, 60, 0], [128, 196, 226]]], np.uint8)
    expected = decode_image(tiff(cie, CIE_LAB))
    assert expected[0, 0].max() - expected[0, 0].min() <= 1 and expected[0, 1, 0] > expected[0, 1, 1] + 50
    np.testing.assert_array_equal(decode_image(tiff(cie.astype(np.uint16) * 256, CIE_LAB)), expected)
    icc = cie ^ np.array([0, 128, 128], np.uint8)
    np.testing.assert_array_equal(decode_image(tiff(icc.astype(np.uint16) * 256, ICC_LAB)), expected)


def test_uncompressed_ycbcr_of_fewer_colours():
    """Blocks of 2 x 2 luminances and one colour each; what follows the pixels must not be read for them."""
    blocks = np.zeros((8, 8, 6), np.uint8)
    blocks[..., :4], blocks[..., 4], blocks[..., 5] = 76, 85, 255  # red
    packed = blocks.tobytes()
    data = tiff(np.zeros((16, 16, 3), np.uint8), YCBCR, tags={279: len(packed), 530: [2, 2]})
    np.testing.assert_allclose(decode_image(data[:8] + packed + data[8 + len(packed) :])[8, 8], (255, 0, 0), atol=3)


@pytest.mark.parametrize("value", range(1, 9))
def test_orientation(value):
    expected = decode_image(tiff(COLOUR, RGB, orientation=value))
    for kind in ("uint16", "float32"):
        data = tiff(SAMPLES[kind], RGB, orientation=value)
        assert read_orientation(data) == (value, (43, 21))
        found = decode_reduced(data, 8)
        assert found.orientation == value
        np.testing.assert_allclose(found.rgb, expected.astype(int), atol=1)


@pytest.mark.parametrize(
    "options", [{}, {"deflate": True}, {"deflate": True, "rows": 4}, {"planar": True}, {"tile": 16}]
)
def test_truncated(options):
    pixels = np.random.default_rng(0).integers(0, 65536, (40, 40, 3), np.uint16)
    data = tiff(pixels, RGB, **options)
    where = struct.unpack("<I", data[4:8])[0]
    for cut in (1, 50, where // 2):  # from the end of the pixels; the directory moves up
        moved = where - cut - (where - cut) % 2
        tags = data[where:]
        again = tiff(pixels, RGB, **options)[:moved]
        assert len(again) == moved
        with pytest.raises(ImageError, match="truncated|decod"):
            decode_image(data[:4] + struct.pack("<I", moved) + again[8:] + tags)


def test_pixel_limit():
    data = tiff(SAMPLES["uint16"], RGB)
    assert decode_image(data, max_pixels=43 * 21).shape == (21, 43, 3)
    with pytest.raises(ImageError, match="43 x 21 is more than 902 pixels"):
        decode_image(data, max_pixels=902)
    huge = tiff(np.zeros((1, 1), np.uint16), BLACK_IS_ZERO, tags={256: 100_000, 257: 100_000})
    with pytest.raises(ImageError, match="is more than"):
        decode_image(huge)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"tags": {259: 7}}, "TIFF compression 7"),
        ({"tags": {262: 6}}, "colours 6"),
        ({"tags": {339: 6}}, "kind 6"),
        ({"tags": {317: 9}, "deflate": True}, "predictor 9"),
        ({"tags": {258: [16, 8, 16]}}, "different widths"),
        ({"tags": {273: []}}, "too few strips"),
        ({"tags": {322: 1 << 30, 323: 1 << 30, 324: 8, 325: 8}}, "pixels a tile"),
    ],
)
def test_what_is_not_sure_is_refused(options, reason):
    with pytest.raises(ImageError, match=reason):
        decode_image(tiff(SAMPLES["uint16"], RGB, **options))


def pages(*entries, first_at=8):
    """Directories one after the other, all without pixels of their own: (tags, ...)."""
    data = b"II*\0" + struct.pack("<I", first_at)
    for number, tags in enumerate(entries):
        where = len(data)
        size = len(directory(tags, where))
        data += directory(tags, where, following=where + size if number + 1 < len(entries) else 0)
    return data


def page(where, photometric=RGB, reduced=0, **tags):
    shared = {256: 4, 257: 2, 258: [8, 8, 8], 259: 1, 262: photometric, 273: where, 277: 3, 278: 2, 279: 24}
    return shared | ({254: 1} if reduced else {}) | {int(tag[1:]): value for tag, value in tags.items()}


def test_the_page_that_is_no_reduced_copy_is_shown():
    where = len(pages(page(0, reduced=1), page(0)))
    data = pages(page(where, reduced=1), page(where + 24))
    rgb = decode_image(data + bytes(24) + bytes(range(24)))
    np.testing.assert_array_equal(rgb.ravel(), np.arange(24))
    alone = len(pages(page(0, reduced=1)))
    assert decode_image(pages(page(alone, reduced=1)) + bytes(range(24))).shape == (2, 4, 3)


@pytest.mark.parametrize(
    "sub",
    [{262: CFA, 258: 14, 277: 1}, {262: 34892, 258: 16}],
    ids=["sensor data", "linear raw"],
)
def test_camera_raw_is_not_shown_as_its_preview(sub):
    """NEF, ARW and DNG are TIFFs: the first page is a preview, a sub-directory has the sensor's data."""
    first = page(0, reduced=1, t330=0)
    where = len(pages(first))
    data = pages(first | {330: where, 273: where + 500}) + directory({256: 400, 257: 300, **sub}, where)
    for read in (decode_image, read_orientation):
        with pytest.raises(ImageError, match="^camera raw: "):
            read(data + bytes(1000))


def test_canon_raw_is_known_by_its_mark():
    data = pages(page(0), first_at=16)
    with pytest.raises(ImageError, match="^camera raw: "):
        decode_image(data[:8] + b"CR\x02\0\0\0\0\0" + data[8:])
