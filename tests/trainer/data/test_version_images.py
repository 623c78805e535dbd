"""Images of a version: moved, changed and broken files, and squares as the masks have them."""

import io
import os
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from locloc.pipeline.errors import TrainError, UnreachableError
from locloc.pipeline.recipe import Recipe
from locloc.pipeline.store import Version
from locloc.trainer.data.splits import load_training_rows
from locloc.trainer.data.version_images import VersionImages


@pytest.fixture
def pixels(png) -> Callable[[int], np.ndarray]:
    """`pixels(number)`: the image of that row, decoded."""
    return lambda number: np.array(Image.open(io.BytesIO(png(number))))


@pytest.fixture
def version(write_rows) -> Version:
    """A row to train on and a row to validate on."""
    return write_rows([{"split": "train"}, {"split": "val"}])


def test_images_are_where_they_were(small, pixels):
    images = load_training_rows(small, None, 0, 0.5).images
    assert np.array_equal(images.read(4), pixels(4))


def test_moved_images_are_found_in_a_relative_folder(version, tmp_path, monkeypatch, pixels):
    (tmp_path / "images").rename(tmp_path / "moved")
    with pytest.raises(TrainError, match=r"^001.png: no such file \(.*/images/001.png\); .*--images$"):
        load_training_rows(version, None, 0, 0.5).images.read(1)
    monkeypatch.chdir(tmp_path)
    images = load_training_rows(version, "moved", 0, 0.5).images
    monkeypatch.chdir("/")  # a loading process may be anywhere
    assert np.array_equal(images.read(1), pixels(1))


def test_moved_images_are_found_by_url(small, memory, png, pixels):
    memory.pipe_file("/bucket/data/003.png", png(3))
    images = load_training_rows(small, "memory://bucket/data/", 0, 0.5).images
    assert images.root == "memory://bucket/data"
    assert np.array_equal(images.read(3), pixels(3))
    with pytest.raises(TrainError, match=r"^002.png: .*memory://bucket/data/002.png\); .*--images$"):
        images.read(2)


def replaced(version: Version, row: int, data: bytes, **settings) -> VersionImages:
    """The images of a version after the file of one was replaced."""
    images = load_training_rows(version, None, 0, 0.5, **settings).images
    (images.root / f"{row:03}.png").write_bytes(data)
    return images


def test_a_changed_file_is_refused(version, png, pixels):
    images = replaced(version, 1, png(7))
    with pytest.raises(TrainError, match=r"^001.png is another file .*/001.png\); .*--allow-changed-images$") as raised:
        images.read(1)
    assert "\n" not in str(raised.value)
    assert np.array_equal(images.read(0), pixels(0))


def test_a_changed_file_is_read_if_allowed(version, png, pixels):
    images = replaced(version, 1, png(7), allow_changed_images=True)
    assert images.digests is None
    assert np.array_equal(images.read(1), pixels(7))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda file: b"", "empty file"),
        (lambda file: b"GIF? no", "not an image of a known"),
        (lambda file: file[:200], "cannot be dec"),
    ],
    ids=["empty", "no image", "cut off"],
)
def test_a_file_that_cannot_be_decoded_is_one_line(change, reason, version, png):
    images = replaced(version, 1, change(png(1)), allow_changed_images=True)
    with pytest.raises(TrainError, match=rf"^001.png: {reason}.*/001.png\)") as raised:
        images.read(1)
    assert "\n" not in str(raised.value)


def test_a_disk_error_is_raised(small, monkeypatch):
    images = load_training_rows(small, None, 0, 0.5).images

    def fail(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(UnreachableError, match="000.png: input/output error"):
        images.read(0)


def test_more_pixels_than_the_masks_recipe_allows_are_refused(small):
    images = load_training_rows(small, None, 0, 0.5).images
    recipe = Recipe.model_validate({"images": {"max_pixels": 100}})
    limited = VersionImages(images.root, images.ids, images.paths, images.digests, recipe)
    with pytest.raises(TrainError, match="^000.png: .*pixels"):
        limited.read(0)


@pytest.mark.parametrize("fit", ["stretch", "centre_crop"])
def test_squares_show_what_the_masks_show(fit, tmp_path):
    left_to_right = np.repeat(np.array([[0, 80, 80, 160, 160, 240]], np.uint8), 4, axis=0)
    Image.fromarray(left_to_right).convert("RGB").save(tmp_path / "a.png")
    recipe = Recipe.model_validate({"images": {"fit": fit}})
    images = VersionImages(tmp_path, pa.array(["a"]), pa.array(["a.png"]), None, recipe)
    square = images.square(0, 4)
    assert square.shape == (4, 4, 3) and square.dtype == np.uint8
    if fit == "centre_crop":
        assert square[..., 0].tolist() == [[80, 80, 160, 160]] * 4
    else:
        assert square[0, 0, 0] < 80 and square[0, 3, 0] > 160
    assert np.array_equal(images.square(0, 4, images.read(0)), square)
