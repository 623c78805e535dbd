"""JPEGs by simplejpeg: the pixels, the verdicts and the reasons of Pillow, whichever of both decodes."""

import io

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from locloc.pipeline.errors import ImageError
from locloc.pipeline.io.decoding import jpeg
from locloc.pipeline.io.images import decode_reduced

pytest.importorskip("simplejpeg")
unhurried = settings(deadline=None, max_examples=150)  # shared machines stall

RGB = cv2.resize(
    np.random.default_rng(0).integers(0, 256, (6, 5, 3), dtype=np.uint8), (77, 101), interpolation=cv2.INTER_CUBIC
)


def encoded(mode: str = "RGB", orientation: int = 1, **options) -> bytes:
    if orientation > 1:
        exif = Image.Exif()
        exif[0x0112] = orientation
        options["exif"] = exif.tobytes()
    file = io.BytesIO()
    Image.fromarray(RGB).convert(mode).save(file, options.pop("kind", "JPEG"), **options)
    return file.getvalue()


def sampled(factors: int) -> bytes:
    return cv2.imencode(".jpg", RGB, [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, factors])[1].tobytes()


TAKEN = {
    "plain": encoded(),
    "grey": encoded("L"),
    "progressive": encoded(progressive=True),
    "4:4:4": encoded(subsampling=0),
    "4:2:2": encoded(subsampling=1),
    "4:4:0": sampled(0x121111),
    "4:1:1": sampled(0x411111),
    "restart markers": encoded(restart_marker_rows=1),
    "turned": encoded(orientation=6),
    "turned by XMP": encoded(xmp=b'<x tiff:Orientation="8"/>'),
    "profile": encoded(icc_profile=bytes(70_000)),
    "MPO": encoded(kind="MPO", orientation=3),
}
LEFT = {
    "CMYK": encoded("CMYK"),
    "truncated": encoded()[:-200],
    "no end": encoded()[:-2],
    "header alone": encoded()[:300],
    "no pixels": encoded().replace((101).to_bytes(2) + (77).to_bytes(2), bytes(4), 1),
    "a PNG": b"\x89PNG\r\n\x1a\n",
    "begins as one": b"\xff\xd8\xff\xe0",
    "empty": b"",
}


def both(data: bytes, covers_px: int | None, max_pixels: int = 10**6):
    """What `decode_reduced` gives with simplejpeg and without it, or the reasons."""
    found = []
    for available in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(jpeg, "AVAILABLE", available)
            try:
                one = decode_reduced(data, covers_px, max_pixels)
                found.append((one.size_px, one.window, one.orientation, one.rgb.shape, one.rgb.tobytes()))
            except ImageError as error:
                found.append(str(error))
    return found


@pytest.mark.parametrize("covers_px", [None, 40, 20, 8])
@pytest.mark.parametrize("kind", TAKEN | LEFT)
def test_the_same_from_both(kind, covers_px):
    fast, slow = both((TAKEN | LEFT)[kind], covers_px)
    assert fast == slow
    if kind in TAKEN:
        assert fast[3] != () and not isinstance(fast, str)


@pytest.mark.parametrize("kind", TAKEN)
def test_what_it_takes(kind):
    header = jpeg.read_header(TAKEN[kind])
    assert header.size_px == (77, 101) and header.has_app1 == (kind in ("turned", "turned by XMP", "MPO"))
    assert jpeg.decode(TAKEN[kind], header.size_px, 1).shape == (101, 77, 3)


@pytest.mark.parametrize("kind", LEFT)
def test_what_it_leaves_to_pillow(kind):
    header = jpeg.read_header(LEFT[kind])
    assert header is None or jpeg.decode(LEFT[kind], header.size_px, 1) is None


def test_too_many_pixels():
    fast, slow = both(TAKEN["plain"], None, max_pixels=1000)
    assert fast == slow == "77 x 101 is more than 1,000 pixels (setting images.max_pixels)"


@unhurried
@given(data=st.data(), kind=st.sampled_from(sorted(TAKEN)), covers_px=st.none() | st.just(20))
def test_the_same_verdicts_on_what_is_damaged(data, kind, covers_px):
    """Bytes that were changed, lost or put in: what a warning of libjpeg is about has to be left to Pillow."""
    damaged = bytearray(TAKEN[kind])
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(2, len(damaged) - 1))
        act = data.draw(st.sampled_from(["change", "cut", "put in", "end"]))
        if act == "change":
            damaged[at] = data.draw(st.sampled_from([0, 1, 255]) | st.integers(0, 255))
        elif act == "cut":
            del damaged[at : at + data.draw(st.integers(1, 20))]
        elif act == "put in":
            damaged[at:at] = data.draw(st.binary(max_size=20))
        else:
            del damaged[at:]
        if len(damaged) < 4:
            break
    fast, slow = both(bytes(damaged), covers_px)
    assert fast == slow
