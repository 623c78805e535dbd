"""Images to measure on: folders with masks, what is skipped and why, synthetic scenes."""

import numpy as np
import pytest
from PIL import Image

from locloc.pipeline.bench.images import _image, load_images, make_images
from locloc.pipeline.errors import BenchError, TruthError


def save(file, shape=(20, 30), white=None):
    """A black image `shape` with a white window."""
    file.parent.mkdir(parents=True, exist_ok=True)
    image = np.zeros(shape, np.uint8)
    if white is not None:
        image[white] = 255
    Image.fromarray(image).save(file)


LEFT = np.s_[:, :15]


def test_masks_are_found_by_the_names_of_their_images(tmp_path):
    images, truth = tmp_path / "images", tmp_path / "masks"
    for name in ("a.jpg", "b/c.jpg", "b/d.e.png", "f.jpg", "g/x.png", "h/x.png"):
        save(images / name)
    save(truth / "a.png", (40, 60), np.s_[:, :30])  # twice the size
    save(truth / "c.bmp", white=LEFT)  # the same name in another folder
    save(truth / "b/d.e.jpg", white=np.s_[:10])
    save(truth / "x.png", white=LEFT)  # two images have this name
    loaded = load_images(images, truth, 0, 16)
    assert [image.name for image in loaded.images] == ["a.jpg", "b/c.jpg", "b/d.e.png"] and not loaded.skipped
    left = np.arange(16) + np.zeros((16, 1), int) < 8
    for image, wanted in zip(loaded.images, (left, left, left.T), strict=True):
        np.testing.assert_array_equal(image.truth, wanted)
        assert image.rgb.shape == (16, 16, 3) and image.inputs.shape == (224, 224, 3)
        assert image.decode_s > 0 < image.resize_s


def test_a_sample_is_spread_over_the_folder(tmp_path):
    for number in range(10):
        save(tmp_path / f"{number}.png")
    assert [image.name for image in load_images(tmp_path, None, 3, 16).images] == ["0.png", "3.png", "6.png"]
    loaded = load_images(tmp_path, None, 0, 16).images
    assert len(loaded) == 10 and all(image.truth is None for image in loaded)


def test_unusable_images_are_skipped_with_their_reasons(tmp_path):
    images, truth = tmp_path / "images", tmp_path / "masks"
    for name in "abcdef":
        save(images / f"{name}.png")
    (images / "a.png").write_bytes(b"nothing")
    save(truth / "a.png", white=LEFT)
    save(truth / "b.png", white=np.s_[:])
    save(truth / "c.png")
    save(truth / "d.png", (30, 20), np.s_[:, :10])
    (truth / "e.png").write_bytes(b"nothing")
    save(truth / "f.png", white=LEFT)
    loaded = load_images(images, truth, 0, 16)
    assert [image.name for image in loaded.images] == ["f.png"]
    assert loaded.skipped == [
        "a.png: not an image of a known format",
        "b.png: its mask has no background",
        "c.png: its mask has no object",
        "d.png: its mask is 20 x 30, the image 30 x 20",
        f"e.png: True mask {truth}/e.png: not an image of a known format",
    ]
    (truth / "f.png").unlink()
    with pytest.raises(BenchError, match=r"^None of 5 images of --images .* can be measured on; a.png: not an image"):
        load_images(images, truth, 0, 16)


def test_the_first_usable_image_warms_up(tmp_path, monkeypatch):
    made = []
    where = "locloc.pipeline.bench.images._image"
    monkeypatch.setattr(where, lambda name, *rest: made.append(name) or _image(name, *rest))
    for name in "abc":
        save(tmp_path / f"{name}.png")
    (tmp_path / "a.png").write_bytes(b"nothing")
    assert [image.name for image in load_images(tmp_path, None, 0, 16).images] == ["b.png", "c.png"]
    assert made == ["a.png", "b.png", "b.png", "c.png"]


def test_wrong_folders(tmp_path):
    images, truth, none = tmp_path / "images", tmp_path / "masks", tmp_path / "none"
    save(images / "a.png")
    truth.mkdir()
    with pytest.raises(BenchError, match=r"^--images .*none is no folder$"):
        load_images(none, truth, 0, 16)
    with pytest.raises(BenchError, match=r"^--images .*masks holds no image$"):
        load_images(truth, truth, 0, 16)
    with pytest.raises(TruthError, match=r"^--truth .*none is no folder of masks, and no .json file"):
        load_images(images, none, 0, 16)
    save(truth / "b.png")
    with pytest.raises(TruthError, match=r"^--truth .*masks has no mask of any of 1 images"):
        load_images(images, truth, 0, 16)


def test_synthetic_scenes_are_reproducible():
    first, second = make_images(2, 32).images, make_images(3, 32).images
    assert [image.name for image in first] == ["scene 0", "scene 1"]
    for a, b in zip(first, second, strict=False):
        np.testing.assert_array_equal(a.rgb, b.rgb)
        np.testing.assert_array_equal(a.truth, b.truth)
        assert 0 < a.truth.mean() < 1
    assert (first[0].rgb != first[1].rgb).any()
