"""Pascal VOC in small: boxes counted from 1, splits, labels, and every way in which a file can be wrong."""

import pytest

from locloc.pipeline.catalogs.registry import read_catalog
from locloc.pipeline.errors import CatalogError

OBJECT = "<object><name>{0}</name><difficult>1</difficult><bndbox><xmin>{1}</xmin><ymin>{2}</ymin><xmax>{3}</xmax>"
OBJECT += "<ymax>{4}</ymax></bndbox><part><name>head</name></part></object>"
SIZE = "<size><width>40</width><height>30</height><depth>3</depth></size>"


def xml(*objects, size=SIZE):
    return f"<annotation>{size}{''.join(OBJECT.format(*item) for item in objects)}</annotation>"


FILES = {
    "JPEGImages/1.jpg": "",
    "JPEGImages/2.jpg": "",
    "JPEGImages/3.jpg": "",
    "JPEGImages/4.jpg": "",
    "Annotations/1.xml": xml(("dog", 1, 1, 10, 20), ("cat", 1, 1, 40, 30)),
    "Annotations/2.xml": xml(("dog", 5.5, 2, 6, 3)),
    "Annotations/3.xml": xml(),
    "ImageSets/Main/train.txt": "1\n",
    "ImageSets/Main/val.txt": "2\n",
    "ImageSets/Main/trainval.txt": "1\n2\n",
    "ImageSets/Main/test.txt": "3 \n",
    "ImageSets/Main/dog_train.txt": "1 -1\n",
}


def write(folder, changes=()):
    for name, text in (FILES | dict(changes)).items():
        if text is not None:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize("below", ["", "VOC2012", "VOCdevkit/VOC2007"])
def test_voc(tmp_path, below):
    write(tmp_path / below)
    catalog = read_catalog(tmp_path, "voc")
    assert (catalog.kind, catalog.root) == ("voc", tmp_path / below / "JPEGImages")
    assert catalog.classes == ("cat", "dog")
    assert [tuple(row.values()) for row in catalog.table.to_pylist()] == [
        ("1.jpg", "1.jpg", 0, 1, [[0, 0, 10, 20], [0, 0, 40, 30]]),
        ("2.jpg", "2.jpg", 1, 2, [[4.5, 1, 6, 3]]),
        ("3.jpg", "3.jpg", -1, 3, []),
        ("4.jpg", "4.jpg", -1, 0, []),
    ]
    assert catalog.annotated_size.tolist() == [[40, 30], [40, 30], [40, 30], [0, 0]]
    assert read_catalog(tmp_path, "voc", label="first").table["label"].to_pylist() == [1, 1, -1, -1]
    with pytest.raises(CatalogError, match=r"1.xml: objects of several classes \(cat, dog\)"):
        read_catalog(tmp_path, "voc", label="error")


def test_segmentation_sets_where_there_is_no_main(tmp_path):
    write(
        tmp_path, {name: None for name in FILES if "Main" in name} | {"ImageSets/Segmentation/trainval.txt": "1\n2\n"}
    )
    assert read_catalog(tmp_path, "voc").table["split"].to_pylist() == [1, 1, 0, 0]


ERRORS = {
    "no size": ({"Annotations/2.xml": xml(("dog", 1, 1, 2, 2), size="")}, "2.xml: size without 2 numbers width height"),
    "size 0": (
        {"Annotations/2.xml": xml(size="<size><width>0</width><height>0</height></size>")},
        "2.xml: size 0 x 0 is no size of an image",
    ),
    "outside": (
        {"Annotations/2.xml": xml(("dog", 1, 1, 50, 20))},
        "2.xml: bndbox 1 1 50 20 is outside of the annotation's size 40 x 30",
    ),
    "no name": ({"Annotations/2.xml": xml((" ", 1, 1, 2, 2))}, "2.xml: object 1 has no name"),
    "word": (
        {"Annotations/2.xml": xml(("dog", 1, 1, 2, 2), ("dog", 1, "x", 2, 2))},
        r"2.xml: object 2 \(dog\): bndbox without 4 numbers xmin ymin xmax ymax",
    ),
    "infinite": ({"Annotations/2.xml": xml(("dog", 1, 1, "inf", 2))}, "object 1 .*bndbox without 4 numbers"),
    "no box": (
        {"Annotations/2.xml": f"<annotation>{SIZE}<object><name>dog</name></object></annotation>"},
        r"2.xml: object 1 \(dog\): bndbox without 4 numbers",
    ),
    "broken": ({"Annotations/2.xml": "<annotation>\n<size>"}, "2.xml:2: broken XML: no element found"),
    "doctype": ({"Annotations/2.xml": "<!DOCTYPE x><annotation/>"}, "2.xml: has a DOCTYPE"),
    "encoding": ({"Annotations/2.xml": "<?xml version='1.0' encoding='no'?><a/>"}, "2.xml.*: broken XML"),
    "no image": ({"JPEGImages/2.jpg": None}, "2.xml: no image 2 in .*JPEGImages"),
    "unknown in a list": ({"ImageSets/Main/val.txt": "2\n9\n"}, "val.txt:2: no image 9 in .*JPEGImages"),
    "two splits": (
        {"ImageSets/Main/test.txt": "3\n2\n", "ImageSets/Main/trainval.txt": None},
        "val.txt:1: image 2 is in split val, and in test at .*test.txt:2",
    ),
    "test and trainval": ({"ImageSets/Main/trainval.txt": "3\n"}, "trainval.txt:1: image 3 is in split train, and in"),
    "two images": ({"JPEGImages/2.png": ""}, "2.jpg and 2.png are both image '2'"),
    "no images": ({name: None for name in FILES if name[:4] == "JPEG"}, "No Pascal VOC in"),
}


@pytest.mark.parametrize("what", ERRORS)
def test_files_that_are_wrong(tmp_path, what):
    changes, message = ERRORS[what]
    write(tmp_path, changes)
    with pytest.raises(CatalogError, match=message) as raised:
        read_catalog(tmp_path, "voc")
    assert "\n" not in str(raised.value)


def test_several_years(tmp_path):
    write(tmp_path / "VOC2007")
    write(tmp_path / "VOC2012")
    with pytest.raises(CatalogError, match="holds VOC2007, VOC2012; name one of them"):
        read_catalog(tmp_path, "voc")


def test_a_box_without_area_is_left_out_and_counted(tmp_path):
    write(tmp_path, {"Annotations/2.xml": xml(("dog", 3, 3, 2, 9))})
    catalog = read_catalog(tmp_path, "voc")
    assert catalog.table["boxes"][1].as_py() == [] and catalog.table["label"][1].as_py() == 1
    assert [(item.kind, item.count, item.why) for item in catalog.left_out] == [("box", 1, "no area")]
