"""What is told about a data set before work begins."""

import json
import re
from dataclasses import replace

import pytest

from locloc.pipeline.catalogs.catalog import CatalogRows, build_catalog
from locloc.pipeline.catalogs.data_warnings import catalog_warnings
from locloc.pipeline.catalogs.left_out import LeftOut
from locloc.pipeline.catalogs.registry import read_catalog
from locloc.pipeline.catalogs.summary import summarize
from locloc.pipeline.commands.rendering.catalogs import catalog_lines
from locloc.pipeline.errors import CatalogError


def touch(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()


def test_lines(tmp_path):
    touch(tmp_path, "training/cat/a.jpg", "training/dog/a.jpg", "dev/cat/a.jpg", "b.jpg", "c.nef", "@eaDir/x.jpg")
    lines = list(catalog_lines(summarize(read_catalog(tmp_path))))
    assert lines == [
        f"data: 4 images of {tmp_path} (folder)",
        "  classes   2: cat, dog",
        "  splits    none 1, train 2, val 1",
        "  labels    on 3 of 4 images",
        "  left out  1 .nef",
        "  by rule   1 @eaDir (thumbnails that a NAS made)",
        "  note      folders taken as splits: dev is val, training is train",
        "  note      1 image beside the splits has neither split nor label: b.jpg",
    ]


def test_boxes_and_numbered_classes(tmp_path):
    touch(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    (tmp_path / "list.csv").write_text("path,label,boxes\na.jpg,4,0 0 1 1;0 0 2 2\nb.jpg,7,\nc.jpg,,\n")
    summary = summarize(read_catalog(tmp_path / "list.csv"))
    assert (summary.classes, summary.first_classes, summary.labels) == (2, (), 2)
    assert (summary.boxes, summary.images_with_boxes, summary.splits) == (2, 1, {"": 3})
    assert list(catalog_lines(summary))[1:] == [
        "  classes   2 (numbers)",
        "  splits    none",
        "  labels    on 2 of 3 images",
        "  boxes     2, on 1 image",
    ]


def test_json(tmp_path):
    touch(tmp_path, "a.jpg", "b.jxl", "c")
    data = json.loads(json.dumps(summarize(read_catalog(tmp_path)).json()))
    assert (data["images"], data["splits"], data["exclude"]) == (1, {"": 1}, [])
    assert {"suffix"} == {item["kind"] for item in data["left_out"]} and data["warnings"]


def test_long_and_many_names(tmp_path):
    touch(tmp_path, *(f"{'x' * 30}{number}/a.jpg" for number in range(10)))
    line = list(catalog_lines(summarize(read_catalog(tmp_path))))[1]
    assert line.startswith(f"  classes   10: {'x' * 23}…, ") and line.endswith(", ...")


WARNINGS = {
    "a split's name": (["train/a.jpg", "bus/a.jpg"], "taken for class 'train', though named like a split"),
    "two names with a split's word": (["seg_train/a.jpg", "seg_test/a.jpg"], "'seg_test', 'seg_train', though named"),
    "masks": (
        ["masks/a.png", "cat/a.png"],
        "taken for class 'masks', though named like a folder of masks; --exclude 'masks'",
    ),
    "images": (["images/a.png"], "taken for class 'images', though named like a folder of all images"),
    "the data set one level down": (
        ["set/train/a/a.jpg", "set/val/a/a.jpg"],
        "folders named train, val lie inside class 'set'",
    ),
    "splits of each class": (
        ["a/train/1.jpg", "a/test/1.jpg", "b/test/1.jpg"],
        "lie inside class 'a' and are not read as splits",
    ),
    "folds": (["fold0/cat/a.jpg", "fold1/cat/a.jpg"], "taken for classes 'fold0', 'fold1', though named like a split"),
    "labeled in a split": (["train/labeled/cat/a.jpg", "train/unlabeled/a.jpg"], "taken for class 'labeled', though"),
    "classes one level down": (["set/cat/a.jpg", "set/dog/deep/a.jpg"], "which holds folders cat, dog; name .*/set "),
    "parts with other names": (
        ["lernen/cat/a.jpg", "probe2/cat/a.jpg", "probe2/dog/a.jpg"],
        r"every class holds folders of the same names \(cat\)",
    ),
    "masks beside": (
        ["a.jpg", "a_mask.png"],
        "1 image named like masks of others, such as a_mask.png; .*'\\*_mask.png'",
    ),
    "blanks": (["cat/a.jpg", "Cat /b.jpg", "cow/c.jpg"], "differ in blanks only: 'Cat ' and 'cat'"),
    "letter case": (["Cat/a.jpg", "cat/a.jpg"], "differ in letter case or Unicode normal form only: 'Cat' and 'cat'"),
    "normal form of a class": (
        ["caf\u00e9/a.jpg", "cafe\u0301/a.jpg"],
        "'caf\u00e9' and 'cafe\\\\u0301'|'cafe\\\\u0301' and 'caf\u00e9'",
    ),
    "normal form of an image": (
        ["caf\u00e9.jpg", "cafe\u0301.jpg"],
        "images whose names differ in Unicode normal form only",
    ),
    "heic": (["a.jpg", "b.svg"], "left out: 1 .svg; locloc does not read them"),
    "no suffix": (["a.jpg", "b"], "left out: 1 file without a suffix, such as b"),
}


@pytest.mark.parametrize(("paths", "message"), WARNINGS.values(), ids=WARNINGS.keys())
def test_warnings(tmp_path, paths, message):
    touch(tmp_path, *paths)
    found = list(catalog_warnings(read_catalog(tmp_path)))
    assert any(re.search(message, warning) for warning in found), found


@pytest.mark.parametrize(
    "paths",
    [
        ["cat/a.jpg", "dog/a.jpg", "trainer/a.jpg", "test_tube/a.jpg"],
        ["train/cat/a.jpg", "val/cat/a.jpg"],
        ["cat/red/a.jpg", "dog/blue/a.jpg"],
        ["cat/red/a.jpg", "dog/red/a.jpg", "dog/a.jpg"],
        ["cat/red/a.jpg"],
        ["train/cat/a.jpg", "train/cat/deep/val/b.jpg"],
        ["a.jpg", "b_mask.png", "README.md"],
        ["caf\u00e9/a.jpg", "th\u00e9/a.jpg"],
    ],
)
def test_no_warnings(tmp_path, paths):
    touch(tmp_path, *paths)
    assert list(catalog_warnings(read_catalog(tmp_path))) == []


def test_warnings_of_what_was_left_out():
    rows = CatalogRows()
    rows.add("a.jpg", "a.jpg")
    catalog = build_catalog("list", "s3://bucket", rows, (), where="{}{}".format, looked_for="x")
    items = (
        LeftOut("suffix", ".heic", "", 5, ("x.heic",)),
        LeftOut("suffix", ".jxl", "", 1, ("x.jxl",)),
        LeftOut("unreadable", "permission denied", "", 1, ("shut",)),
        LeftOut("box", "", "min above max", 2, ("a.xml: 5 1 1 2", "b.xml: 5 1 1 2")),
    )
    assert list(catalog_warnings(replace(catalog, left_out=items))) == [
        "left out: 5 .heic; `pip install locloc[heif]` reads them",
        "left out: 1 .jxl; locloc does not read them: convert them to PNG or JPEG",
        "left out: 1 folder or link unreadable (permission denied), such as shut; mend the permissions, then "
        "build again",
        "left out: 2 boxes (min above max), such as a.xml: 5 1 1 2; b.xml: 5 1 1 2; the image stays",
    ]


@pytest.mark.parametrize(
    ("beside", "remedy"),
    [
        ([], "name the folder .*/images, or leave it out by --exclude masks"),
        (["list.csv"], "give --catalog synthetic .* or name the list .*/list.csv"),
        (["labels.parquet"], "name the list .*/labels.parquet or the folder .*/images"),
    ],
)
def test_images_and_masks_side_by_side_are_refused(tmp_path, beside, remedy):
    touch(tmp_path, "images/a.jpg", "masks/a.png", *beside)
    with pytest.raises(CatalogError, match=f"holds images/ and masks/: what is in masks/ would be taken as .*{remedy}"):
        read_catalog(tmp_path)
    assert len(read_catalog(tmp_path, exclude=["masks"])) == 1
    touch(tmp_path, "cat/a.jpg")  # then they may be classes
    assert len(read_catalog(tmp_path)) == 3


def test_images_and_masks_side_by_side_in_splits_are_refused(tmp_path):
    touch(tmp_path, *(f"{split}/{folder}/a.png" for split in ("train", "val") for folder in ("images", "masks")))
    with pytest.raises(CatalogError, match=r"hold images/ and masks/: .* leave it out by --exclude '\*/masks'$"):
        read_catalog(tmp_path)
    catalog = read_catalog(tmp_path, exclude=["*/masks"])
    assert (catalog.table["split"].to_pylist(), catalog.classes) == ([1, 2], ())


def test_seg_train_is_no_folder_of_masks(tmp_path):
    touch(tmp_path, "seg_train/seg_train/forest/a.jpg", "seg_test/seg_test/forest/a.jpg", "train_masks/a.png")
    found = list(catalog_warnings(read_catalog(tmp_path)))
    assert [line for line in found if "folder of masks" in line] == [
        "taken for class 'train_masks', though named like a folder of masks; --exclude 'train_masks' leaves it out"
    ]


@pytest.mark.parametrize("masks", ["SegmentationClass", "annotations", "train_masks", "gt", "GroundTruth", "masks_2"])
def test_names_of_mask_folders(tmp_path, masks):
    touch(tmp_path, "JPEGImages/a.jpg", f"{masks}/a.png")
    with pytest.raises(CatalogError, match="would be taken as images"):
        read_catalog(tmp_path)
    assert len(read_catalog(tmp_path / "JPEGImages")) == 1


def test_a_list_in_the_folder_is_said(tmp_path):
    touch(tmp_path, "a.jpg", "metadata.csv")
    assert summarize(read_catalog(tmp_path)).notes == (
        "not read: metadata.csv; where it names labels, splits or boxes, give the list itself instead of the folder",
    )
