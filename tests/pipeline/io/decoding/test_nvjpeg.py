"""JPEGs for a GPU: which files it is given, and what becomes of those that it refuses. Its decoder is a fake."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from locloc.pipeline.errors import BuildError
from locloc.pipeline.io.decoding import jpeg, nvjpeg
from locloc.pipeline.io.images import decode_image

RGB = np.random.default_rng(0).integers(0, 256, (6, 5, 3), dtype=np.uint8).repeat(12, 0).repeat(12, 1)


def encoded(mode: str = "RGB", orientation: int | None = None, **options) -> bytes:
    if orientation is not None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        options["exif"] = exif.tobytes()
    file = io.BytesIO()
    Image.fromarray(RGB).convert(mode).save(file, "JPEG", **options)
    return file.getvalue()


PLAIN = {
    "4:2:0": encoded(),
    "4:4:4": encoded(subsampling=0),
    "grey": encoded("L"),
    "upright by EXIF": encoded(orientation=1),
    "zeros after its end": encoded() + bytes(100),
}
LEFT = {
    "progressive": encoded(progressive=True),
    "turned": encoded(orientation=6),
    "CMYK": encoded("CMYK"),
    "RGB by Adobe's marker": encoded(subsampling=0, keep_rgb=True),
    "truncated": encoded()[:-200],
    "no end": encoded()[:-2],
    "a PNG": b"\x89PNG\r\n\x1a\n",
    "no image": b"no image",
    "empty": b"",
}


@pytest.mark.parametrize("kind", PLAIN | LEFT)
def test_upright_baseline_jpegs_alone_are_for_the_gpu(kind, monkeypatch):
    data = (PLAIN | LEFT)[kind]
    assert nvjpeg.is_plain(data, 72 * 60) == (kind in PLAIN)
    assert not nvjpeg.is_plain(data, 72 * 60 - 1), "too many pixels"
    monkeypatch.setattr(jpeg, "AVAILABLE", False)
    assert nvjpeg.is_plain(data, 72 * 60) == (kind in PLAIN), "masks depend on no package that may be missing"


@pytest.fixture
def device(monkeypatch):
    """The calls of torchvision's decoder, which as on a GPU fails whole lists; files that end with BAD make it fail."""
    calls = []

    def decode_jpeg(files, mode, device):
        calls.append((len(files), device))
        files = [bytes(file.numpy()) for file in files]
        if any(file.endswith(b"BAD") for file in files):
            raise RuntimeError("Error while decoding JPEG images")
        return [torch.from_numpy(decode_image(file)).permute(2, 0, 1) for file in files]

    monkeypatch.setattr("torchvision.io.decode_jpeg", decode_jpeg)
    nvjpeg._check.cache_clear()
    yield calls
    nvjpeg._check.cache_clear()


def test_one_bad_file_costs_a_list_its_speed_and_itself_its_pixels(device):
    files = [PLAIN["4:2:0"], PLAIN["grey"] + b"BAD", PLAIN["4:4:4"]]
    found = nvjpeg.decode(files, "cuda")
    assert found[1] is None
    for row in (0, 2):
        np.testing.assert_array_equal(found[row], decode_image(files[row]))
    first, whole, *alone = device
    assert first == (1, "cuda") and whole == (3, "cuda") and alone == [(1, "cuda")] * 3
    assert [rgb.shape for rgb in nvjpeg.decode(files[::2], "cuda")] == [(72, 60, 3)] * 2
    assert device[5:] == [(2, "cuda")], "the device is tried once"


def test_pixels_of_another_size_are_left_to_pillow(device, monkeypatch):
    monkeypatch.setattr(jpeg, "read_header", lambda data: jpeg.Jpeg((60, 71), False, jpeg.BASELINE, True))
    assert nvjpeg.decode([PLAIN["4:2:0"]], "cuda") == [None]


def test_a_torchvision_without_nvjpeg_is_an_error(device, monkeypatch):
    def decode_jpeg(files, mode, device):
        raise RuntimeError("decode_jpegs_cuda: torchvision not compiled with nvJPEG support\nat ...")

    monkeypatch.setattr("torchvision.io.decode_jpeg", decode_jpeg)
    with pytest.raises(BuildError, match="cannot use it: decode_jpegs_cuda: torchvision not compiled with nvJPEG supp"):
        nvjpeg.decode([PLAIN["4:2:0"]], "cuda")
