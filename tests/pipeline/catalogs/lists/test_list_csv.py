"""CSV as spreadsheets and pandas write it."""

import csv

import pytest

from locloc.pipeline.catalogs.lists.list import read_list
from locloc.pipeline.errors import CatalogError


def read(tmp_path, text, encoding="utf-8", name="l.csv"):
    (tmp_path / name).write_bytes(text.encode(encoding))
    return read_list(tmp_path / name, None)


@pytest.mark.parametrize(
    ("text", "encoding", "notes"),
    [
        ("path;label\na.jpg;0\nb.jpg;1\n", "utf-8", ("columns are separated by semicolons",)),
        ("sep=;\r\npath;label\r\na.jpg;0\r\nb.jpg;1\r\n", "utf-8", ("columns are separated by semicolons",)),
        ("path\tlabel\r\na.jpg\t0\r\nb.jpg\t1\r\n", "utf-16", ("columns are separated by tabs",)),
        ("path|label\na.jpg|0\nb.jpg|1\n", "utf-32", ("columns are separated by bars",)),
        ("\n\npath,label\ra.jpg,0\rb.jpg,1\r", "utf-8-sig", ()),
        (
            "label, path\n0, a.jpg\n1, b.jpg\n",
            "utf-8",
            ("blanks after delimiters are left out, as the header has them",),
        ),
        (",path,label,\n0,a.jpg,0,\n1,b.jpg,1,\n", "utf-8", ()),
        ('"Path","LABEL"\n"a.jpg","0"\n"b.jpg","1"\n', "utf-8", ()),
        (f"path,label,rle\na.jpg,0,{'1 2 ' * 50_000}\nb.jpg,1,\n", "utf-8", ("columns ignored: rle",)),
        ('path,note,label\na.jpg,5" wide,0\nb.jpg,"5"" wide",1\n', "utf-8", ("columns ignored: note",)),
    ],
)
def test_forms_of_one_list(tmp_path, text, encoding, notes):
    before = csv.field_size_limit()
    catalog = read(tmp_path, text, encoding)
    assert catalog.slice(0, 9)[1] == ["a.jpg", "b.jpg"]
    assert catalog.table["label"].to_pylist() == [0, 1]
    assert catalog.notes == notes
    assert csv.field_size_limit() == before


def test_a_list_of_tabs_by_its_suffix(tmp_path):
    assert read(tmp_path, "path\tlabel\na,b.jpg\tcat\n", name="l.tsv").slice(0, 1)[1] == ["a,b.jpg"]


def test_rows_of_delimiters_alone_as_spreadsheets_leave_them(tmp_path):
    catalog = read(tmp_path, "path;label;\na.jpg;cat;\n;;\nb.jpg;;\n ; ;\n;;;;\n")
    assert (catalog.slice(0, 9)[1], catalog.table["label"].to_pylist()) == (["a.jpg", "b.jpg"], [0, -1])
    assert "3 rows without any value left out" in catalog.notes
    with pytest.raises(CatalogError, match="l.csv:3: path '' names no file"):
        read(tmp_path, "path,label\na.jpg,0\n,1\n")


def test_a_blank_that_the_header_has_not_is_part_of_the_name(tmp_path):
    assert read(tmp_path, "label,path\n0, a.jpg\n").slice(0, 1)[1] == [" a.jpg"]


@pytest.mark.parametrize("name", ["a\u2028b.jpg", "a\x85b.jpg", "a\x0cb.jpg", "a\x1cb.jpg", "a\u2029b.jpg"])
def test_lines_end_where_a_spreadsheet_ends_them(tmp_path, name):
    catalog = read(tmp_path, f"path,label\n{name},0\nb.jpg,1\n")
    assert catalog.slice(0, 9)[1] == sorted([name, "b.jpg"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "path,label\na,0\nb,0,\n",
            "l.csv:3: 3 fields, but the header names 2; it ends in ',', and the header does not",
        ),
        ("path,label\na,0,x\n", "l.csv:2: 3 fields, but the header names 2$"),
        ("sep=;\npath;label\na;0\nb\n", "l.csv:4: 1 fields, but the header names 2$"),
        ("\n\npath,split\na,trian\n", "l.csv:4: unknown split 'trian'"),
        ("path,boxes\na,100 100 60 70\n", "l.csv:2: box 100 100 60 70 is not a box: .* name the column boxes_xywh$"),
        ("path,boxes_xywh\na,1 1 5 0\n", r"l.csv:2: box 1 1 5 0 \(x y width height\) has no area$"),
        (
            "path,xmin,ymin,xmax,ymax\na,1,2,3,4\na,1,2,3,4\n",
            "l.csv:3: id 'a' .*; a row is an image, with all of its b",
        ),
        ("path,bbox\na,1 1 5 5\n", "l.csv:1: column 'bbox' may hold corners or sizes"),
    ],
)
def test_errors_name_the_line(tmp_path, text, message):
    with pytest.raises(CatalogError, match=message):
        read(tmp_path, text)


def test_latin_1_is_refused_with_its_line(tmp_path):
    with pytest.raises(CatalogError, match=r"l.csv:3: not UTF-8 text \(.*\); save the file as UTF-8$"):
        read(tmp_path, "path,label\na,b\nb,caf\xe9\n", "latin-1")


def test_missing_values_in_every_column(tmp_path):
    catalog = read(tmp_path, "path,label,split,boxes\na,NaN,NaN,NaN\nb,cat,train,1 2 3 4\n")
    first = catalog.table.to_pylist()[0]
    assert (first["label"], first["split"], first["boxes"]) == (-1, 0, [])


def test_boxes_by_size(tmp_path):
    catalog = read(tmp_path, 'path,boxes_xywh\na,"[[10, 20, 30, 40]]"\nb,1 2 3 4; 5 6 7 8\n')
    assert catalog.table["boxes"].to_pylist() == [[[10, 20, 40, 60]], [[1, 2, 4, 6], [5, 6, 12, 14]]]
    assert catalog.notes == ("column 'boxes_xywh' is read as boxes (x y width height)",)
