"""Ground-truth masks in a folder: how they are paired with images, and which files are refused."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from locloc.pipeline.errors import TruthError
from locloc.pipeline.inspect.ground_truth.masks import pair_masks, read_truth


def save(file: Path, pixels: np.ndarray) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file)
    return file


def half(channels: int = 0) -> np.ndarray:
    """Black on the left, white on the right, `(20, 30[, channels]) uint8`."""
    pixels = np.zeros((20, 30, channels) if channels else (20, 30), np.uint8)
    pixels[:, 15:] = 255
    return pixels


def test_masks_are_paired_by_path_or_unique_name(tmp_path):
    for name in ("a.png", "b/c.bmp", "b/d.e.jpg", "else/f.png", "x.png", "m/y.png", "n/y.png", ".hidden/z.png"):
        save(tmp_path / name, half())
    (tmp_path / "a.txt").write_text("a note")
    images = ["a.jpg", "b/c.jpg", "b/d.e.png", "g/f.jpg", "g/x.jpg", "h/x.jpg", "y.jpg", "z.jpg", "none.jpg"]
    assert pair_masks(images, tmp_path) == {
        "a.jpg": tmp_path / "a.png",
        "b/c.jpg": tmp_path / "b/c.bmp",
        "b/d.e.png": tmp_path / "b/d.e.jpg",
        "g/f.jpg": tmp_path / "else/f.png",  # by its name; g/x and h/x, m/y and n/y are ambiguous
    }


def test_two_masks_of_an_image_are_an_error_but_the_image_beside_its_mask_is_not_one(tmp_path):
    for name in ("a/b.png", "a/b.jpg", "c.png"):
        save(tmp_path / name, half())
    with pytest.raises(TruthError, match=r"^--truth .* has two masks of a/b.bmp, a/b.jpg and a/b.png; remove one$"):
        pair_masks(["a/b.bmp", "c.png"], tmp_path)
    assert pair_masks(["a/b.jpg", "c.png"], tmp_path) == {"a/b.jpg": tmp_path / "a/b.png", "c.png": tmp_path / "c.png"}
    assert pair_masks(["c.jpg"], tmp_path) == {"c.jpg": tmp_path / "c.png"}, "the two masks of a/b do not matter"


def test_folders_without_masks_of_the_images(tmp_path):
    with pytest.raises(TruthError, match=r"^--truth .*none is no folder of masks$"):
        pair_masks(["a.jpg"], tmp_path / "none")
    for name in ("m/y.png", "n/y.png", "x.png"):
        save(tmp_path / name, half())
    message = r"^--truth .* has no mask of any of 3 images; name the folder in which a mask has its image's path"
    with pytest.raises(TruthError, match=message):
        pair_masks(["y.jpg", "g/x.jpg", "h/x.jpg"], tmp_path)


@pytest.mark.parametrize("name", ["mask.png", "mask.jpg"])
@pytest.mark.parametrize("channels", [0, 3])
def test_object_is_brighter_than_half(name, channels, tmp_path):
    mask = read_truth(save(tmp_path / name, half(channels)), tmp_path / "image.jpg")
    assert mask.dtype == bool and np.array_equal(mask, half() > 0)


def test_a_photo_is_no_mask(tmp_path):
    rng = np.random.default_rng(0)
    image = save(tmp_path / "image.png", rng.integers(0, 256, (20, 30, 3), np.uint8))
    with pytest.raises(TruthError, match=r"image.png is the image itself, not its mask; name the folder of masks"):
        read_truth(image, image)
    with pytest.raises(
        TruthError, match=r"^True mask .*image.png has colours \(\d+% of what is bright\); a mask is grey"
    ):
        read_truth(image, "s3://bucket/image.png")


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "LA"])
def test_masks_of_every_png_mode(mode, tmp_path):
    Image.fromarray(half()).convert(mode).save(tmp_path / "mask.png")
    assert np.array_equal(read_truth(tmp_path / "mask.png", tmp_path / "image.jpg"), half() > 0)


@pytest.mark.parametrize(
    ("colour", "accepted"), [((255, 250, 242), True), ((255, 255, 235), False), ((0, 255, 0), False)]
)
@pytest.mark.parametrize("columns", [1, 15])
def test_a_slight_tint_is_accepted(colour, accepted, columns, tmp_path):
    pixels = np.zeros((20, 3000, 3), np.uint8)
    pixels[:, :columns] = colour
    file = save(tmp_path / "mask.png", pixels)
    if accepted:
        assert np.array_equal(read_truth(file, tmp_path / "image.jpg"), pixels[..., 0] > 0)
        return
    with pytest.raises(TruthError, match=r"has colours \(100% of what is bright\)"):
        read_truth(file, tmp_path / "image.jpg")


@pytest.mark.parametrize(
    ("write", "why"),
    [
        (lambda file: save(file, np.ones((20, 30), np.uint8)), "is empty: its brightest value is 1, and an object is"),
        (lambda file: file.write_bytes(b""), "empty file"),
        (lambda file: file.write_bytes(b"nothing"), "not an image of a known format"),
    ],
)
def test_files_that_cannot_be_masks_are_named(write, why, tmp_path):
    write(tmp_path / "mask.png")
    with pytest.raises(TruthError, match=rf"^True mask .*mask\.png.*{why}"):
        read_truth(tmp_path / "mask.png", tmp_path / "image.jpg")
