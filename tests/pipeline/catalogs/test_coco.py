"""COCO's instances in small: layouts, labels, boxes, crowds, and every way in which an entry can be wrong."""

import copy
import json

import pytest

from locloc.pipeline.catalogs.registry import read_catalog
from locloc.pipeline.errors import CatalogError

CONTENT = {
    "info": {"year": 2017},
    "images": [
        {"id": 7, "file_name": "b.jpg", "width": 40, "height": 30},
        {"id": 9, "file_name": "a.jpg", "width": 20, "height": 10},
        {"id": 8, "file_name": "c.jpg", "width": 20, "height": 10},
    ],
    "categories": [{"id": 3, "name": "dog"}, {"id": 1, "name": "person"}, {"id": 90, "name": "cat"}],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 1, "bbox": [1.5, 2, 10.25, 5], "area": 20, "segmentation": [[1, 2]]},
        {"id": 2, "image_id": 7, "category_id": 3, "bbox": [0, 0, 40, 30]},
        {"id": 3, "image_id": 7, "category_id": 90, "bbox": [0, 0, 40, 30], "iscrowd": 1, "area": 9999},
        {"id": 4, "image_id": 9, "category_id": 90, "bbox": [3, 3, 1, 1], "iscrowd": 0},
    ],
}


def write(file, content=CONTENT, images="images"):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))
    for entry in content.get("images", ()):
        image = file.parent.parent / images / entry.get("file_name", "x") if images else None
        if image:
            image.parent.mkdir(parents=True, exist_ok=True)
            image.touch()
    return file


def rows_of(catalog):
    return [tuple(row.values()) for row in catalog.table.to_pylist()]


def test_a_file(tmp_path):
    file = write(tmp_path / "annotations/instances_val2017.json", images="val2017")
    catalog = read_catalog(file, "coco")
    assert (catalog.kind, catalog.root, catalog.classes) == ("coco", tmp_path / "val2017", ("person", "dog", "cat"))
    assert rows_of(catalog) == [
        ("a.jpg", "a.jpg", 2, 2, [[3, 3, 4, 4]]),
        ("b.jpg", "b.jpg", 1, 2, [[1.5, 2, 11.75, 7], [0, 0, 40, 30]]),
        ("c.jpg", "c.jpg", -1, 2, []),
    ]
    assert catalog.annotated_size.tolist() == [[20, 10], [40, 30], [20, 10]]
    assert catalog.notes == (
        "1 crowd (iscrowd): neither box nor label",
        "1 image has objects of several classes: the label is the largest object's (--label first or error chooses "
        "otherwise)",
    )


def test_which_class_is_the_label(tmp_path):
    file = write(tmp_path / "annotations/x.json")
    labels = {rule: read_catalog(file, "coco", label=rule).table["label"].to_pylist() for rule in ("largest", "first")}
    assert labels == {"largest": [2, 1, -1], "first": [2, 0, -1]}
    with pytest.raises(CatalogError, match=r"images\[0\]: objects of several classes \(person, dog\)"):
        read_catalog(file, "coco", label="error")
    with pytest.raises(CatalogError, match="--label larges: no such rule; did you mean 'largest'"):
        read_catalog(file, "coco", label="larges")
    with pytest.raises(CatalogError, match="A 'folder' catalog takes no --label"):
        read_catalog(tmp_path, label="first")


@pytest.mark.parametrize(
    ("train", "val", "folders"),
    [
        ("annotations/instances_train2017.json", "annotations/instances_val2017.json", ("train2017", "val2017")),
        ("annotations/instances_train.json", "annotations/instances_val.json", ("images/train", "images/val")),
        ("train/_annotations.coco.json", "valid/_annotations.coco.json", ("train", "valid")),
    ],
)
def test_folders(tmp_path, train, val, folders):
    other = copy.deepcopy(CONTENT)
    other["images"] = [{"id": 1, "file_name": "d.jpg", "width": 9, "height": 9}]
    other["annotations"] = []
    write(tmp_path / train, images=folders[0])
    write(tmp_path / val, other, images=folders[1])
    write(tmp_path / "annotations/captions_val2017.json", {}, images=None)
    catalog = read_catalog(tmp_path, "coco")
    assert catalog.root == tmp_path
    assert [row[:4:3] for row in rows_of(catalog)] == [
        *((f"{folders[0]}/{name}.jpg", 1) for name in "abc"),
        (f"{folders[1]}/d.jpg", 2),
    ]


def test_a_folder_as_fiftyone_writes_it_and_a_root(tmp_path):
    file = write(tmp_path / "out/labels.json", images="out/data")
    assert [row[0] for row in rows_of(read_catalog(tmp_path / "out", "coco"))] == [
        "data/a.jpg",
        "data/b.jpg",
        "data/c.jpg",
    ]
    moved = tmp_path / "out/data"
    moved.rename(tmp_path / "elsewhere")
    assert read_catalog(file, "coco", tmp_path / "elsewhere").root == tmp_path / "elsewhere"
    assert read_catalog(file, "coco", "memory://bucket/data").root == "memory://bucket/data"
    with pytest.raises(CatalogError, match=r"labels.json: images such as 'b.jpg' are in none of .*out/data.*--root"):
        read_catalog(file, "coco")
    with pytest.raises(CatalogError, match="takes a root for one file of annotations only"):
        read_catalog(tmp_path / "out", "coco", tmp_path)
    (tmp_path / "elsewhere/a.jpg").unlink()
    assert "1 of 3 images looked for do not exist" in read_catalog(file, "coco", tmp_path / "elsewhere").notes[-1]


def test_a_box_without_area_is_left_out_and_counted(tmp_path):
    content = copy.deepcopy(CONTENT)
    content["annotations"][0]["bbox"] = [1, 2, 0, 5]
    catalog = read_catalog(write(tmp_path / "a/x.json", content), "coco")
    assert [len(row[4]) for row in rows_of(catalog)] == [1, 1, 0]
    assert [(item.kind, item.count, item.why) for item in catalog.left_out] == [("box", 1, "no area")]
    assert "x.json: annotations[0]: 1 2 1 7" in catalog.left_out[0].first[0]


def change(key, number, **fields):
    def apply(content):
        for name, value in fields.items():
            if value is ...:
                del content[key][number][name]
            else:
                content[key][number][name] = value

    return apply


ERRORS = {
    "image": (change("annotations", 3, image_id=5), r"annotations\[3\]: image_id 5 is in none of the images"),
    "category": (
        change("annotations", 0, category_id=2),
        r"annotations\[0\]: category_id 2 is in none of the categories",
    ),
    "no image": (change("annotations", 1, image_id=...), r"annotations\[1\]: no image_id"),
    "outside": (
        change("annotations", 0, bbox=[30, 2, 20, 5]),
        r"annotations\[0\]: box 30 2 50 7 \(corners\) is outside of its image b.jpg of 40 x 30",
    ),
    "no box": (change("annotations", 2, bbox=...), r"annotations\[2\]: bbox None is not \[x, y, width, height\]"),
    "three": (change("annotations", 0, bbox=[1, 2, 3]), r"annotations\[0\]: bbox \[1, 2, 3\] is not"),
    "word": (change("annotations", 0, bbox=[1, 2, 3, "x"]), r"annotations\[0\]: bbox .* is not four numbers"),
    "infinite": (change("annotations", 0, bbox=[1, 2, 3, 1e999]), r"annotations\[0\]: bbox .* is not finite"),
    "size": (change("images", 1, width=...), r"images\[1\]: no width"),
    "zero": (change("images", 1, height=0), r"images\[1\]: height 0 is no number of pixels"),
    "half": (change("images", 1, height=1.5), r"images\[1\]: height '1.5' is not an integer"),
    "name": (change("images", 0, file_name=3), r"images\[0\]: file_name '3' is not text"),
    "leaves": (change("images", 0, file_name="../b.jpg"), r"images\[0\]: path '../b.jpg' has a '..'"),
    "image twice": (change("images", 1, id=7), r"images\[1\]: id 7 comes twice"),
    "file twice": (
        change("images", 1, file_name="b.jpg"),
        r"images\[1\]: id 'b.jpg' was already given at .*images\[0\]",
    ),
    "category twice": (change("categories", 1, id=3), r"categories\[1\]: id 3 comes twice"),
    "name twice": (change("categories", 1, name="dog"), r"categories\[1\]: a second category of the name 'dog'"),
    "no list": (lambda content: content.pop("categories"), "x.json: no list 'categories'; a file of COCO's instances"),
    "empty": (lambda content: content.update(images=[], annotations=[]), "Found no images: the list images is empty"),
}


@pytest.mark.parametrize("what", ERRORS)
def test_entries_that_are_wrong(tmp_path, what):
    content = copy.deepcopy(CONTENT)
    apply, message = ERRORS[what]
    apply(content)
    file = write(tmp_path / "a/x.json")
    file.write_text(json.dumps(content))
    with pytest.raises(CatalogError, match=message) as raised:
        read_catalog(file, "coco")
    assert str(file) in str(raised.value) and "\n" not in str(raised.value)


def test_files_that_are_none(tmp_path):
    with pytest.raises(CatalogError, match="No annotations of COCO in"):
        read_catalog(tmp_path, "coco")
    (tmp_path / "x.json").write_text('{"images": [')
    with pytest.raises(CatalogError, match=r"x.json: broken JSON"):
        read_catalog(tmp_path, "coco")
    (tmp_path / "x.json").write_text("[]")
    with pytest.raises(CatalogError, match=r"x.json: no list 'images'"):
        read_catalog(tmp_path, "coco")


def test_files_of_different_categories(tmp_path):
    other = copy.deepcopy(CONTENT)
    other["categories"][0]["name"] = "wolf"
    write(tmp_path / "annotations/instances_train.json", images="train")
    write(tmp_path / "annotations/instances_val.json", other, images="val")
    with pytest.raises(CatalogError, match=r"val.json: categories\[0\]: id 3 is 'wolf', but 'dog' in another file"):
        read_catalog(tmp_path, "coco")
