"""COCO's annotations as true masks: pairing, categories, polygons and run lengths, and files that are wrong."""

import json

import numpy as np
import pytest
from pycocotools import mask as rle

from locloc.pipeline.errors import TruthError
from locloc.pipeline.inspect.ground_truth.coco import read_coco
from locloc.pipeline.inspect.ground_truth.masks import find_truth, read_truth

LEFT = np.zeros((20, 30), bool)
LEFT[:, :10] = True
TOP = np.zeros((20, 30), bool)
TOP[:5] = True


def encoded(mask: np.ndarray, as_text: bool = True) -> dict:
    if as_text:
        found = rle.encode(np.asfortranarray(mask.astype(np.uint8)))
        return {"size": found["size"], "counts": found["counts"].decode()}
    flat = mask.T.ravel().astype(np.int8)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flat])))
    return {"size": list(mask.shape), "counts": np.diff([0, *edges, flat.size]).tolist()}


@pytest.fixture
def content() -> dict:
    """a/1.jpg has two objects of two categories and a crowd, b/2.jpg none, é.jpg a polygon."""
    return {
        "images": [
            {"id": 1, "file_name": "train/a/1.jpg", "width": 30, "height": 20},
            {"id": 2, "file_name": "b/2.jpg", "width": 30, "height": 20},
            {"id": 3, "file_name": "e\u0301.jpg", "width": 30, "height": 20},
        ],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 7, "segmentation": encoded(LEFT), "iscrowd": 0},
            {"id": 2, "image_id": 1, "category_id": 8, "segmentation": encoded(TOP, as_text=False), "iscrowd": 0},
            {"id": 3, "image_id": 1, "category_id": 8, "segmentation": encoded(~TOP), "iscrowd": 1},
            {"id": 4, "image_id": 3, "category_id": 8, "segmentation": [[0, 0, 30, 0, 30, 5, 0, 5]]},
        ],
        "categories": [{"id": 7, "name": "cat"}, {"id": 8, "name": "hot dog"}],
    }


@pytest.fixture
def write(tmp_path):
    def write(content) -> object:
        (tmp_path / "instances.json").write_text(json.dumps(content) if not isinstance(content, str) else content)
        return tmp_path / "instances.json"

    return write


PATHS = ["1.jpg", "b/2.jpg", "c/é.jpg", "none.jpg"]


def test_an_images_mask_is_the_union_of_its_annotations(content, write):
    masks = find_truth(PATHS, write(content))
    assert masks.describe().startswith("3 of 4 images have a true mask; masks read as: COCO annotations, the")
    assert np.array_equal(read_truth(masks, "1.jpg", "s3://1.jpg"), LEFT | TOP)
    assert not read_truth(masks, "b/2.jpg", "s3://2.jpg").any()
    assert np.array_equal(read_truth(masks, "c/é.jpg", ""), TOP)


@pytest.mark.parametrize(("chosen", "wanted"), [("cat", LEFT), ("7", LEFT), ("hot dog", TOP), ("any", LEFT | TOP)])
def test_categories_are_chosen_by_name_or_id(content, write, chosen, wanted):
    masks = find_truth(PATHS, write(content), chosen)
    assert np.array_equal(read_truth(masks, "1.jpg", ""), wanted)


def test_ambiguous_names_are_not_paired(content, write):
    content["images"][1]["file_name"] = "b/1.jpg"
    assert list(find_truth(["x/1.jpg", "train/a/1.jpg", "é.jpg"], write(content)).files) == ["train/a/1.jpg", "é.jpg"]
    with pytest.raises(TruthError, match=r"has none of 1 images; its file_names are paths such as train/a/1.jpg"):
        find_truth(["x/1.jpg"], write(content))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda c: c.pop("images"), "no file of COCO's annotations: it needs lists images and annotations"),
        (lambda c: c["images"][1].pop("height"), r"images\[1\] has no height"),
        (lambda c: c["annotations"][2].pop("image_id"), r"annotations\[2\] has no image_id"),
        (lambda c: c["categories"].append(3), r"categories\[2\] has no id"),
        (lambda c: c["images"][1].update(width=None), r"images\[1\] has the width None; it is in pixels"),
        (lambda c: c["images"][1].update(height=0.5), r"images\[1\] has the height 0.5; it is in pixels"),
        (lambda c: c["images"][1].update(file_name=7), r"images\[1\] has the file_name 7; it is text"),
        (lambda c: c.update(chosen="cta"), "has no category 'cta'; did you mean 'cat'"),
    ],
)
def test_files_that_are_no_annotations(content, write, change, why):
    change(content)
    with pytest.raises(TruthError, match=why):
        find_truth(PATHS, write(content), content.get("chosen"))


@pytest.mark.parametrize(
    ("shape", "why"),
    [
        (None, "annotation 1 of train/a/1.jpg has no segmentation"),
        ([], "annotation 1 of train/a/1.jpg has no segmentation"),
        (
            [[0, 0, 60, 0, 60, 40]],
            "reaches to 60 x 40, and the file calls the image 30 x 20; its polygons were drawn on",
        ),
        ([["a"]], "has a segmentation that cannot be read"),
        ({"size": [20, 30], "counts": 5}, "has a segmentation that cannot be read"),
        (encoded(np.ones((9, 9))), "is 9 x 9, the image 30 x 20"),
    ],
)
def test_segmentations_that_are_wrong_name_their_annotation(content, write, shape, why):
    content["annotations"][0]["segmentation"] = shape
    masks = find_truth(PATHS, write(content))
    with pytest.raises(TruthError, match=why):
        read_truth(masks, "1.jpg", "")


def test_a_file_that_cannot_be_read(write, tmp_path):
    with pytest.raises(TruthError, match="is no JSON"):
        find_truth(PATHS, write("{"))
    with pytest.raises(TruthError, match="cannot be read: No such file or directory; name COCO's file of annotations"):
        find_truth(PATHS, tmp_path / "gone.json")


def test_a_key_that_is_there_twice_is_an_error(content, write):
    twice = json.dumps(content).replace('"iscrowd": 1', '"iscrowd": 1, "category_id": 7')
    with pytest.raises(TruthError, match="instances.json is no JSON: an object has the key 'category_id' twice"):
        find_truth(PATHS, write(twice))


def test_an_entry_of_an_export_is_of_the_image_that_it_names(content, write):
    """`b.jpeg` was exported as `b.jpg`, and another `b.jpg` was added since."""
    own = content | {"images": [content["images"][0] | {"file_name": "b.jpg", "locloc_id": "b.jpeg"}]}
    masks = read_coco(write(own), ["b.jpeg", "b.jpg"], None)
    assert [*masks.images] == ["b.jpeg"] and masks.unused == 0
