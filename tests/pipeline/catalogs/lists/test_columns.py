"""Columns by the names that other tools give them."""

import pytest

from locloc.pipeline.catalogs.lists.columns import find_columns
from locloc.pipeline.errors import CatalogError


@pytest.mark.parametrize(
    "name",
    ["path", "Path", " PATH ", "file", "filename", "File Name", "file-name", "filepath", "image", "Image Path", "img"],
)
def test_a_path_by_many_names(name):
    columns = find_columns(["x", name], "l.csv:1")
    assert columns.at == (1, None, None, None, None)
    renamed = name.strip().lower() != "path"
    assert columns.notes == ((f"column {name!r} is read as path",) if renamed else ()) + ("columns ignored: x",)


@pytest.mark.parametrize("name", ["Label", "class", "class_name", "Category", "target"])
def test_a_label_by_many_names(name):
    assert find_columns([name, "path"], "l.csv:1").at == (1, None, 0, None, None)


def test_a_fields_own_name_wins():
    columns = find_columns(["filename", "class", "path", "label"], "l.csv:1")
    assert columns.at == (2, None, 3, None, None)
    assert columns.notes == ("columns ignored: filename, class",)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (["filename", "image"], "l.csv:1: columns 'filename' and 'image' both name the path; keep one of them"),
        (["path", "class", "Category"], "l.csv:1: columns 'class' and 'Category' both name the label"),
        (["Path", "path"], "l.csv:1: columns 'Path' and 'path' both name the path"),
        (["path", "split", "split"], "l.csv:1: column 'split' is there 2 times"),
        (["path", "boxes", "boxes_xywh"], "l.csv:1: columns 'boxes' and 'boxes_xywh' both name the boxes"),
        (["path", "bbox"], "l.csv:1: column 'bbox' may hold corners or sizes; name it 'boxes' .*'boxes_xywh'"),
        (["images/1.jpg", "0"], "l.csv:1: no column 'path'; a list names its columns first"),
    ],
)
def test_headers_that_do_not_say_what_they_mean(header, message):
    with pytest.raises(CatalogError, match=f"^{message}"):
        find_columns(header, "l.csv:1")


def test_indices_of_rows_are_not_worth_a_note():
    assert find_columns(["", "path", "Unnamed: 0", "__index_level_0__", "index", ""], "x").notes == ()
    many = find_columns(["path", *"abcdefghij"], "x").notes
    assert many == ("columns ignored: a, b, c, d, e, f, g, h and 2 more",)


def test_sizes_by_the_columns_name():
    assert find_columns(["path", "bbox_xywh"], "x").xywh and not find_columns(["path", "boxes"], "x").xywh
    assert find_columns(["path", "bbox", "boxes"], "x").notes == ("columns ignored: bbox",)
