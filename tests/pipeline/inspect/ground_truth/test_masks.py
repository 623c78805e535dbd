"""True masks of a folder: one rule for all of them, said in words, and files that do not fit it are named."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from locloc.pipeline.errors import TruthError
from locloc.pipeline.geometry.boxes import mask_iou
from locloc.pipeline.inspect.ground_truth.masks import TrueMasks, find_truth, read_true_mask, read_truth

COLOURS = ((0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128))  # the first of VOC's
OBJECT = np.zeros((40, 60), bool)
OBJECT[10:30, 15:45] = True
RING = np.zeros((40, 60), bool)  # around OBJECT
RING[8:32, 13:47] = True
RING &= ~OBJECT


def save(file: Path, pixels: np.ndarray, mode: str | None = None, **options) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".npy":
        np.save(file, pixels)
    elif file.suffix == ".npz":
        np.savez(file, mask=pixels)
    else:
        Image.fromarray(pixels, mode).save(file, **options) if mode is None else _with_mode(pixels, mode).save(file)
    return file


def _with_mode(pixels: np.ndarray, mode: str) -> Image.Image:
    return Image.fromarray(pixels).convert(mode)


def palette(indices: np.ndarray, colours=COLOURS, void=(224, 224, 192)) -> Image.Image:
    image = Image.fromarray(indices.astype(np.uint8), "L").copy()
    image.putpalette([*np.ravel(colours).tolist(), *[0] * 3 * (255 - len(colours)), *void])
    return image


def levels(object_: int, ring: int = 0, ground: int = 0, dtype=np.uint8) -> np.ndarray:
    pixels = np.full(OBJECT.shape, ground, dtype)
    pixels[OBJECT], pixels[RING] = object_, ring
    return pixels


def colours(object_, ground=(0, 0, 0)) -> np.ndarray:
    pixels = np.empty((*OBJECT.shape, 3), np.uint8)
    pixels[:], pixels[OBJECT] = ground, object_
    return pixels


def with_alpha(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    return np.dstack([rgb, alpha.astype(np.uint8)])


def soft(size: float = 1.0) -> np.ndarray:
    """White on black with soft edges."""
    large = Image.fromarray(levels(255)).resize((600, 400)).resize((60, 40), Image.Resampling.BICUBIC)
    return np.asarray(large)


def found(folder: Path, truth_class: str | None = None, count: int = 3, suffix: str = ".jpg") -> TrueMasks:
    return find_truth([f"{number}{suffix}" for number in range(count)], folder, truth_class)


def folder_of(tmp_path: Path, pixels, name: str = "{}.png", count: int = 3) -> Path:
    """`count` masks, each of `pixels`: an array, an image, or a list of them in turn."""
    several = pixels if isinstance(pixels, list) else [pixels]
    for number in range(count):
        one = several[number % len(several)]
        if isinstance(one, Image.Image):
            one.save(tmp_path / name.format(number))
        else:
            save(tmp_path / name.format(number), one)
    return tmp_path


NOISE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)


@pytest.mark.parametrize(
    ("pixels", "name", "read_as"),
    [
        (levels(255), "{}.png", "grey, brighter than half"),
        (levels(255), "{}.jpg", "grey, brighter than half"),
        (levels(1), "{}.png", "label index, any but 0 is object (seen: 1)"),
        (levels(128), "{}.png", "label index, any but 0 is object (seen: 128)"),
        (OBJECT, "{}.png", "grey, brighter than half"),  # 1 bit
        (OBJECT, "{}.npy", "label index, any but 0 is object (seen: 1)"),
        (OBJECT, "{}.npz", "label index"),
        (OBJECT[None].astype(np.float32), "{}.npy", "label index"),
        (OBJECT.astype(np.int64)[..., None] * 255, "{}.npy", "grey, brighter than half"),
        (np.where(OBJECT, 0.9, 0.02), "{}.npy", "grey, brighter than half"),
        (levels(65535, dtype=np.uint16), "{}.png", "grey, brighter than half"),
        (levels(1, dtype=np.uint16), "{}.png", "label index, any but 0 is object (seen: 1)"),
        (levels(26001, dtype=np.uint16), "{}.png", "label index, any but 0 is object (seen: 26001)"),
        ([levels(15), levels(1), levels(7)], "{}.png", "label index, any but 0 is object (seen: 1, 7, 15)"),
        ([levels(15, 255), levels(1, 255)], "{}.png", "label index, any but 0 is object (seen: 1, 15); 255 is void"),
        (soft(), "{}.png", "grey, brighter than half"),
        (soft(), "{}.jpg", "grey, brighter than half"),
        ([palette(levels(3, 255)), palette(levels(1, 255))], "{}.png", "palette index, any but 0 is object (seen: 1, "),
        ([palette(levels(1))], "{}.png", "palette index, any but 0 is object (seen: 1)"),
        ([palette(levels(1), [(0, 0, 0), (255, 255, 255)], (0, 0, 0))], "{}.png", "grey, brighter than half"),
        ([palette(levels(0, 1, 1), [(255, 255, 255), (0, 0, 0)], (0, 0, 0))], "{}.png", "grey, brighter than half"),
        (colours((255, 255, 255)), "{}.png", "grey, brighter than half"),
        (colours((200, 0, 10)), "{}.png", "#c8000a on black"),
        (colours((200, 0, 10)), "{}.jpg", "on black, brighter than half of it is object"),
        ([colours((128, 0, 0)), colours((0, 128, 0)), colours((128, 128, 128))], "{}.png", "colours, any but black is"),
        (with_alpha(NOISE, OBJECT * 255), "{}.png", "alpha, more than half opaque"),  # cut out
        (with_alpha(colours((0, 0, 0)), OBJECT * 255), "{}.png", "alpha, more than half opaque"),
        (with_alpha(colours((255, 255, 255), (255, 255, 255)), OBJECT * 255), "{}.png", "grey, brighter than half"),
        (with_alpha(colours((255, 255, 255)), np.full((40, 60), 255)), "{}.png", "grey, brighter than half"),
    ],
)  # fmt: skip
def test_masks_as_people_have_them(pixels, name, read_as, tmp_path):
    masks = found(folder_of(tmp_path, pixels, name))
    assert read_as in masks.read_as and not masks.warnings
    assert masks.describe() == f"3 of 3 images have a true mask; masks read as: {masks.read_as}"
    for number in range(3):
        mask = read_truth(masks, f"{number}.jpg", Path("elsewhere.jpg"))
        assert mask.dtype == bool and mask.shape == (40, 60)
        assert mask_iou(mask, OBJECT) > (0.99 if name != "{}.jpg" and pixels is not None else 0.85)


@pytest.mark.parametrize(
    ("pixels", "named", "wanted"),
    [
        (levels(255, 128), "0.png has the values 128, 255: they may be classes, or levels of grey", {"255": OBJECT}),
        (levels(1, 3, 2), "the values 1, 2, 3 and no 0 for the background", {"1": OBJECT, "1,3": OBJECT | RING}),
        (levels(50, 200), "has the values 50, 200: they may be classes", {"any": OBJECT | RING, "50": OBJECT}),
        (levels(2, 255) * (np.arange(60) < 16), "has the values 2, 255: they may be classes", {}),
        (colours((255, 0, 0), (255, 255, 255)), "has colours and no black", {"#ff0000": OBJECT}),
        (NOISE, "has colours, more than 256 of them: it is a photograph", {"#ff0000": None}),
        (with_alpha(colours((0, 0, 0), (255, 255, 255)), 100 + OBJECT * 100), "has an object in alpha and another", {}),
        ([palette(levels(1, 2, 1), [(9, 0, 0), (0, 0, 0), (0, 9, 9)])], "has colours", None),
        ([palette(levels(0, 2, 1), [(9, 0, 0), (0, 0, 0), (0, 9, 9)])], "palette in which 1 is black and 0 is not", {}),
        ([levels(1), levels(255), levels(1), levels(255)], "are of two kinds, as", {"any": OBJECT}),
        ([palette(levels(1)), levels(1)], "are of several kinds, as", {"1": OBJECT}),
    ],
)  # fmt: skip
def test_what_fits_two_rules_names_the_option(pixels, named, wanted, tmp_path):
    folder = folder_of(tmp_path, pixels, count=4)
    if wanted is None:
        return
    with pytest.raises(TruthError, match=named) as caught:
        found(folder, count=4)
    assert "--truth-class" in str(caught.value) and "\n" not in str(caught.value)
    for truth_class, mask in wanted.items():
        masks = found(folder, truth_class, count=4)
        if mask is not None:
            assert np.array_equal(read_truth(masks, "0.jpg", "s3://b/0.jpg"), mask), truth_class


def test_the_class_can_be_named_where_the_masks_would_decide(tmp_path):
    folder = folder_of(tmp_path, palette(levels(3, 2)))
    assert np.array_equal(read_truth(found(folder), "0.jpg", ""), OBJECT | RING)
    assert found(folder, "3").read_as == "index, 3 is object"
    for truth_class, wanted in (("3", OBJECT), ("2", RING), ("0", ~(OBJECT | RING)), ("4", OBJECT & False)):
        assert np.array_equal(read_truth(found(folder, truth_class), "0.jpg", ""), wanted)
    assert np.array_equal(read_truth(found(folder, "#808000"), "0.jpg", ""), OBJECT)
    with pytest.raises(TruthError, match=r"^--truth-class cat: masks in files have any, bright, dark, alpha, an index"):
        found(folder, "cat")
    with pytest.raises(TruthError, match="has no alpha channel"):
        read_truth(found(folder, "alpha"), "0.jpg", "")


def test_one_odd_mask_does_not_change_the_rule_and_is_named(tmp_path):
    folder = folder_of(tmp_path, levels(255), count=9)
    save(folder / "4.png", levels(1))
    masks = found(folder, count=9)
    assert masks.read_as == "grey, brighter than half is object"
    with pytest.raises(
        TruthError, match=r"4\.png is empty: its brightest value is 1, and an object is brighter than 127"
    ):
        read_truth(masks, "4.jpg", "")
    save(folder / "4.png", NOISE)
    with pytest.raises(TruthError, match=r"4\.png has colours \(\d+% of what is not black\)"):
        read_truth(found(folder, count=9), "4.jpg", "")
    for number in range(9):
        palette(levels(3, 255)).save(folder / f"{number}.png")
    save(folder / "4.png", levels(255))
    with pytest.raises(TruthError, match=r"4\.png is a grey image and the other masks are palette images"):
        read_truth(found(folder, count=9), "4.jpg", "")
    palette(levels(255)).save(folder / "4.png")
    with pytest.raises(TruthError, match=r"4\.png has no index but 0 and 255, which is void"):
        read_truth(found(folder, count=9), "4.jpg", "")


@pytest.mark.parametrize(
    ("pixels", "truth_class", "said", "void"),
    [
        ([levels(15, 255), levels(1, 255)], None, "255 is void: left out of the figures of masks", True),
        (palette(levels(3, 255)), None, "255 is void: left out of the figures of masks", True),
        (palette(levels(3, 255)), "3", "index, 3 is object; 255 is void: left out", True),
        (levels(3, 255), "3", "index, 3 is object; 255 is void: left out", True),
        (levels(3, 255), "255", "index, 255 is object", False),
        (levels(128, 255), "128", "index, 128 is object", False),  # a trimap
        ([np.where(RING[..., None], np.uint8([224, 224, 192]), colours(one)) for one in COLOURS[1:4]], None,
         "#e0e0c0 is void: left out of the figures of masks", True),
        (np.where(RING[..., None], np.uint8([224, 224, 192]), colours(COLOURS[1])), "#800000",
         "colours, #800000 is object; #e0e0c0 is void", True),
    ],
)  # fmt: skip
def test_void_is_neither_object_nor_background(pixels, truth_class, said, void, tmp_path):
    masks = found(folder_of(tmp_path, pixels), truth_class)
    assert said in masks.describe() and ("void" in masks.read_as) == void
    mask = read_true_mask(masks, "0.jpg", "")
    assert np.array_equal(mask.object, RING if truth_class == "255" else OBJECT)
    assert np.array_equal(mask.void, RING) if void else mask.void is None


def test_a_void_that_the_masks_lack_is_named(tmp_path):
    folder = folder_of(tmp_path, levels(15), count=40)
    assert read_truth(found(folder, count=40), "0.jpg", "").any()
    paths = [f"{number}.jpg" for number in range(40)]
    sampled = {number * 40 // 32 for number in range(32)}
    other = sorted(paths)[next(number for number in range(40) if number not in sampled)]
    save(folder / other.replace("jpg", "png"), levels(15, 255))
    masks = find_truth(sorted(paths), folder)
    assert masks.read_as == "label index, any but 0 is object (seen: 15)"
    with pytest.raises(TruthError, match="has the index 255, often void, which the masks that decided lack"):
        read_truth(masks, other, "")
    assert np.array_equal(read_truth(find_truth(sorted(paths), folder, "any"), other, ""), OBJECT | RING)


@pytest.mark.parametrize("others", [levels(255), levels(1), palette(levels(2)), colours((9, 99, 0))])
def test_a_mask_in_which_nothing_is_marked_is_empty_by_every_rule(others, tmp_path):
    folder = folder_of(tmp_path, others)
    save(folder / "1.png", levels(0))
    masks = found(folder)
    assert not read_truth(masks, "1.jpg", "").any() and np.array_equal(read_truth(masks, "2.jpg", ""), OBJECT)


def test_masks_that_may_be_inverted_are_warned_of(tmp_path):
    folder = folder_of(tmp_path, levels(0, 255, 255))
    (warning,) = found(folder).warnings
    assert warning.startswith("the object fills the border of the image in 3 of 3 true masks") and "dark" in warning
    masks = found(folder, "dark")
    assert np.array_equal(read_truth(masks, "0.jpg", ""), OBJECT) and not masks.warnings


def test_a_photo_is_no_mask(tmp_path):
    image = save(tmp_path / "image.png", NOISE)
    save(tmp_path / "masks/image.png", levels(255))
    masks = find_truth(["image.png"], tmp_path / "masks", None, tmp_path)
    (tmp_path / "masks/image.png").unlink()
    (tmp_path / "masks/image.png").symlink_to(image)
    with pytest.raises(TruthError, match=r"image.png is the image itself, not its mask; name the folder of masks"):
        read_truth(masks, "image.png", image)
    with pytest.raises(TruthError, match=r"holds the images themselves, not their masks"):
        find_truth(["image.png"], tmp_path, None, tmp_path)


@pytest.mark.parametrize(
    ("write", "why"),
    [
        (lambda file: file.write_bytes(b""), "empty file"),
        (lambda file: file.write_bytes(b"nothing"), "not an image of a known format"),
        (lambda file: file.write_bytes(b"\x93NUMPY"), "not an image of a known format"),
    ],
)
def test_files_that_cannot_be_masks_are_named(write, why, tmp_path):
    write(tmp_path / "0.png")
    with pytest.raises(TruthError, match=rf"^True mask .*0\.png.*{why}"):
        found(tmp_path)
    save(tmp_path / "1.png", levels(255))
    with pytest.raises(TruthError, match=rf"^True mask .*0\.png.*{why}"):
        read_truth(found(tmp_path), "0.jpg", "")


@pytest.mark.parametrize(
    ("array", "why"),
    [
        (np.zeros((3, 4, 5)), r"an array of the shape \(3, 4, 5\); a mask is \(H, W\)"),
        (np.array([["a"]]), "an array of <U1"),
        (np.array([[np.nan]]), "not finite"),
        (np.array([[0, 1.5]]), "floats from 0 to 1.5"),
        (np.array([[-1, 1]]), "values from -1 to 1"),
        (np.array([[{}]]), "no array of NumPy's"),
    ],
)
def test_arrays_that_cannot_be_masks_are_named(array, why, tmp_path):
    np.save(tmp_path / "0.npy", array, allow_pickle=True)
    with pytest.raises(TruthError, match=rf"^True mask .*0\.npy: {why}"):
        found(tmp_path)
