"""CUB-200-2011 as distributed, in small."""

import pytest

from locloc.pipeline.catalogs.registry import read_catalog
from locloc.pipeline.errors import CatalogError

FILES = {
    "images.txt": "1 001.Albatross/A_1.jpg\n2 002.Auk/B_2.jpg\n3 001.Albatross/A_3.jpg\n",
    "image_class_labels.txt": "1 1\n2 2\n3 1\n",
    "classes.txt": "1 001.Albatross\n2 002.Auk\n",
    "train_test_split.txt": "1 0\n2 1\n3 1\n",
    "bounding_boxes.txt": "1 60.0 27.0 325.0 304.0\n2 139.0 30.0 153.0 264.0\n3 0.0 1.0 2.0 3.5\n",
}


def write(folder, **changes):
    (folder / "images").mkdir(parents=True)
    for name, text in FILES.items():
        text = changes.get(name.removesuffix(".txt"), text)
        if text is not None:
            (folder / name).write_text(text)


@pytest.mark.parametrize("below", ["", "CUB_200_2011"])
def test_cub(tmp_path, below):
    write(tmp_path / below)
    catalog = read_catalog(tmp_path, "cub")
    assert (catalog.kind, catalog.root) == ("cub", tmp_path / below / "images")
    assert catalog.classes == ("001.Albatross", "002.Auk")
    assert [tuple(row.values()) for row in catalog.table.to_pylist()] == [
        ("001.Albatross/A_1.jpg", "001.Albatross/A_1.jpg", 0, 3, [[60, 27, 385, 331]]),
        ("001.Albatross/A_3.jpg", "001.Albatross/A_3.jpg", 0, 1, [[0, 1, 2, 4.5]]),
        ("002.Auk/B_2.jpg", "002.Auk/B_2.jpg", 1, 1, [[139, 30, 292, 294]]),
    ]


ERRORS = {
    "no label": ({"image_class_labels": "1 1\n3 1\n"}, r"images.txt:2: image 2 is not in image_class_labels.txt"),
    "no box": ({"bounding_boxes": "1 1 1 1 1\n2 1 1 1 1\n"}, r"images.txt:3: image 3 is not in bounding_boxes.txt"),
    "unknown image": ({"train_test_split": "1 0\n9 1\n"}, r"train_test_split.txt:2: image 9 is not in images.txt"),
    "unknown class": (
        {"image_class_labels": "1 1\n2 3\n3 1\n"},
        r"image_class_labels.txt:2: class 3 is not in classes",
    ),
    "class 0": ({"image_class_labels": "1 0\n2 2\n3 1\n"}, r"image_class_labels.txt:1: class 0 is not in classes.txt"),
    "split 2": ({"train_test_split": "1 0\n2 1\n3 2\n"}, r"train_test_split.txt:3: 2 is neither 0 nor 1"),
    "word": ({"bounding_boxes": "1 1 1 1 1\n2 1 x 1 1\n"}, r"bounding_boxes.txt:2: could not convert"),
    "three": ({"bounding_boxes": "1 1 1 1\n"}, r"bounding_boxes.txt:1: 3 numbers after the image's, not 4"),
    "number twice": ({"images": "1 a/a.jpg\n1 a/b.jpg\n"}, r"images.txt:2: number 1 comes twice"),
    "label twice": ({"image_class_labels": "1 1\n1 2\n"}, r"image_class_labels.txt:2: number 1 comes twice"),
    "path twice": (
        {"images": "1 a/a.jpg\n2 b/b.jpg\n3 a/a.jpg\n"},
        r"images.txt:3: id .* already given at .*images.txt:1",
    ),
    "leaves": ({"images": "1 ../a.jpg\n2 b.jpg\n3 c.jpg"}, r"images.txt:1: path '../a.jpg' has a '..'"),
    "absolute": ({"images": "1 a.jpg\n2 /b.jpg\n3 c.jpg"}, r"images.txt:2: path '/b.jpg' is outside"),
    "no number": ({"images": "a.jpg\n"}, r"images.txt:1: expected 'number value'"),
    "number only": ({"images": "1 \n"}, r"images.txt:1: expected 'number value'"),
    "class order": ({"classes": "1 a\n3 b\n"}, r"classes.txt:2: class 3, but 2 comes next"),
    "missing file": ({"bounding_boxes": None}, r"Cannot read .*bounding_boxes.txt: No such file"),
    "empty": (
        dict.fromkeys((name.removesuffix(".txt") for name in FILES), ""),
        r"Found no images: .*images.txt is empty",
    ),
}


@pytest.mark.parametrize(("changes", "message"), ERRORS.values(), ids=ERRORS.keys())
def test_errors_name_the_line(tmp_path, changes, message):
    write(tmp_path, **changes)
    with pytest.raises(CatalogError, match=message):
        read_catalog(tmp_path, "cub")


@pytest.mark.parametrize("bad", ["1 1 0 1", "9 9 -5 4", "1 1 nan 4", "1 1 1e30 4"])
def test_a_box_that_is_none_is_left_out(tmp_path, bad):
    write(tmp_path, bounding_boxes=f"1 1 1 1 1\n2 {bad}\n3 1 1 1 1")
    catalog = read_catalog(tmp_path, "cub")
    assert [len(boxes) for boxes in catalog.table["boxes"].to_pylist()] == [1, 1, 0]
    (left,) = catalog.left_out
    assert (left.kind, left.count) == ("box", 1) and left.first[0].startswith(f"{tmp_path}/bounding_boxes.txt:2: ")


def test_not_cub(tmp_path):
    with pytest.raises(CatalogError, match=r"No CUB-200-2011 in .*: looked for images.txt"):
        read_catalog(tmp_path, "cub")
    (tmp_path / "images.txt").write_text(FILES["images.txt"])
    with pytest.raises(CatalogError, match="no folder 'images' beside it"):
        read_catalog(tmp_path, "cub")
