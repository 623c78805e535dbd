"""How true masks are paired with images: by path, by name, and by the names that people give to masks."""

import unicodedata
from pathlib import Path

import pytest

from locloc.pipeline.errors import TruthError
from locloc.pipeline.inspect.ground_truth.pairing import pair_masks


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_masks_are_paired_by_path_or_unique_name(tmp_path):
    touch(
        tmp_path, "a.png", "b/c.bmp", "b/d.e.jpg", "else/f.png", "x.png", "m/y.png", "n/y.png", ".hidden/z.png",
        "a.txt", "g.npy",
    )  # fmt: skip
    images = ["a.jpg", "b/c.jpg", "b/d.e.png", "g/f.jpg", "g/x.jpg", "h/x.jpg", "y.jpg", "z.jpg", "none.jpg", "g.jpg"]
    assert pair_masks(images, tmp_path).files == {
        "a.jpg": tmp_path / "a.png",
        "b/c.jpg": tmp_path / "b/c.bmp",
        "b/d.e.png": tmp_path / "b/d.e.jpg",
        "g/f.jpg": tmp_path / "else/f.png",  # by its name; g/x and h/x, m/y and n/y are ambiguous
        "g.jpg": tmp_path / "g.npy",
    }


SAME_BUT_FOR_SUFFIXES = ["a.jpg", "a.jpg.png", "a.png", "b.jpg"]


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        (SAME_BUT_FOR_SUFFIXES, ["a.jpg.png", "a.jpg.png.png", "a.png.png", "b.png"]),  # as exports name them
        (["a.jpg", "a.jpg.png"], ["a.png", "a.jpg.png"]),  # all without suffix
        (["a.jpg", "a.jpg.png"], ["a.jpg.png", None]),
        (["x/a.jpg", "x/a.png"], [None, "x/a.png.png"]),
    ],
)
def test_a_file_is_the_mask_of_one_image(tmp_path, images, masks):
    touch(tmp_path, *filter(None, masks))
    wanted = {image: tmp_path / mask for image, mask in zip(images, masks, strict=True) if mask is not None}
    assert pair_masks(images, tmp_path).files == wanted
    assert pair_masks(images[::-1], tmp_path).files == wanted


def test_a_file_for_two_images_is_an_error(tmp_path):
    touch(tmp_path, "a.bmp", "b.bmp")
    message = (
        "has one mask for both a.jpg and a.png, a.bmp; name the masks of images whose names .* a.jpg.png and so on"
    )
    with pytest.raises(TruthError, match=message):
        pair_masks(["a.jpg", "a.png", "b.jpg"], tmp_path)


def test_two_masks_of_an_image_are_an_error_but_the_image_beside_its_mask_is_not_one(tmp_path):
    touch(tmp_path, "a/b.png", "a/b.jpg", "c.png")
    with pytest.raises(TruthError, match=r"^--truth .* has two masks of a/b.bmp, a/b.jpg and a/b.png; remove one$"):
        pair_masks(["a/b.bmp", "c.png"], tmp_path)
    pairs = pair_masks(["a/b.jpg", "c.png"], tmp_path)
    assert pairs.files == {"a/b.jpg": tmp_path / "a/b.png", "c.png": tmp_path / "c.png"}
    assert pair_masks(["c.jpg"], tmp_path).files == {"c.jpg": tmp_path / "c.png"}, "the two masks of a/b do not matter"


def test_folders_without_masks_of_the_images(tmp_path):
    with pytest.raises(TruthError, match=r"^--truth .*none is no folder of masks, and no .json file"):
        pair_masks(["a.jpg"], tmp_path / "none")
    touch(tmp_path, "m/y.png", "n/y.png", "x.png")
    message = r"^--truth .* has no mask of any of 3 images; name the folder in which a mask has its image's path"
    with pytest.raises(TruthError, match=message):
        pair_masks(["y.jpg", "g/x.jpg", "h/x.jpg"], tmp_path)


@pytest.mark.parametrize(
    ("mask", "named"),
    [
        ("a/cat_mask.png", "NAME_mask"), ("a/cat-mask.png", "NAME-mask"), ("a/cat.mask.png", "NAME.mask"),
        ("a/cat_Mask.PNG", "NAME_Mask"), ("a/cat_seg.npy", "NAME_seg"), ("b/cat_segmentation.png", "NAME_segmentation"),
        ("mask_cat.png", "mask_NAME"), ("gt-cat.png", "gt-NAME"), ("a/cat.jpg.png", "NAME.jpg"),
        ("a/cat.jpg_mask.png", "NAME.jpg_mask"), ("a/cat_ground_truth.bmp", "NAME_ground_truth"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("beside", [False, True])
def test_names_that_mark_a_mask_are_tried_after_the_exact_ones(mask, named, beside, tmp_path):
    touch(tmp_path, mask, *(["a/cat.jpg", "dog.jpg"] if beside else []))
    pairs = pair_masks(["a/cat.jpg", "dog.jpg"], tmp_path, tmp_path if beside else None)
    assert pairs.files == {"a/cat.jpg": tmp_path / mask} and pairs.named == {named: 1}
    touch(tmp_path, "a/cat.bmp")
    exact = pair_masks(["a/cat.jpg"], tmp_path, tmp_path)
    assert exact.files == {"a/cat.jpg": tmp_path / "a/cat.bmp"} and exact.named == {"NAME": 1}


def test_words_inside_a_name_mark_nothing(tmp_path):
    touch(tmp_path, "unmask.png", "maskot.png", "a_masks_b.png", "gt.png")
    with pytest.raises(TruthError, match="has no mask of any of 4 images"):
        pair_masks(["un.jpg", "ot.jpg", "a.jpg", "b.jpg"], tmp_path)
    with pytest.raises(TruthError, match="two masks of a.jpg, a_mask.png and a_seg.png"):
        pair_masks(["a.jpg"], touch(tmp_path, "a_mask.png", "a_seg.png"))


@pytest.mark.parametrize(("images", "masks"), [("NFD", "NFC"), ("NFC", "NFD")])
def test_names_are_compared_in_one_unicode_form(images, masks, tmp_path):
    names = ["café", "naïve", "über", "plain"]
    touch(tmp_path, *(unicodedata.normalize(masks, f"{name}.png") for name in names))
    paths = [unicodedata.normalize(images, f"{name}.jpg") for name in names]
    assert list(pair_masks(paths, tmp_path).files) == paths


def test_images_are_no_masks_of_themselves(tmp_path):
    touch(tmp_path / "photos", "a.png", "b.png", "b_mask.png")
    touch(tmp_path / "masks", "a.png")
    photos = tmp_path / "photos"
    assert pair_masks(["a.png"], tmp_path / "masks", photos).files == {"a.png": tmp_path / "masks/a.png"}
    assert pair_masks(["a.png", "b.png", "b_mask.png"], photos, photos).files == {"b.png": photos / "b_mask.png"}
    with pytest.raises(TruthError, match="holds the images themselves, not their masks; name the folder of masks"):
        pair_masks(["a.png"], photos, photos)
