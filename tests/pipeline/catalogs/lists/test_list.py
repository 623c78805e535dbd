"""Lists in CSV, Parquet and JSON lines, and the line that each error names."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from locloc.pipeline.catalogs.lists.list import read_list
from locloc.pipeline.catalogs.paths import resolve
from locloc.pipeline.catalogs.registry import read_catalog
from locloc.pipeline.errors import CatalogError


def read(tmp_path, text, name="l.csv", root=None):
    """The reader alone: `read_catalog` also looks for the images."""
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_list(tmp_path / name, root)


def rows(catalog):
    return [tuple(row.values()) for row in catalog.table.to_pylist()]


WANTED = [("a.jpg", "a.jpg", 1, 1, [[1, 2, 3, 4]]), ("two", "b/b.jpg", 0, 2, [[0, 0, 1, 1], [0.5, 0, 2, 2]])]


def test_csv(tmp_path):
    catalog = read(
        tmp_path,
        "\ufeffpath,note,id,label,split,boxes\r\n"
        "a.jpg,x,,dog, Train ,1 2 3 4\r\n\r\n"
        'b/b.jpg,"y\nz",two, cat ,validation,"[[0, 0, 1, 1], [0.5, 0, 2, 2]]"\r\n',
    )
    assert rows(catalog) == WANTED
    assert catalog.classes == ("cat", "dog")


def test_json_lines(tmp_path):
    text = """{"path": "a.jpg", "label": "dog", "split": "train", "boxes": [1, 2, 3, 4], "other": {}}

{"path": "b/b.jpg", "id": "two", "label": "cat", "split": "val", "boxes": [[0, 0, 1, 1], [0.5, 0, 2, 2]]}
"""
    for name in ("l.jsonl", "L.NDJSON"):
        assert rows(read(tmp_path, "\ufeff" + text, name)) == WANTED


@pytest.mark.parametrize("name", ["l.parquet", "l.pq"])
def test_parquet(tmp_path, name):
    table = pa.table(
        {
            "path": pa.array(["a.jpg", "b/b.jpg"]).dictionary_encode(),
            "id": [None, "two"],
            "label": ["dog", "cat"],
            "split": ["train", "val"],
            "boxes": [[[1, 2, 3, 4]], [[0, 0, 1, 1], [0.5, 0, 2, 2]]],
            "other": [1, 2],
        }
    )
    pq.write_table(table, tmp_path / name, row_group_size=1)
    catalog = read_list(tmp_path / name, None)
    assert rows(catalog) == WANTED
    assert catalog.classes == ("cat", "dog")


def test_path_alone_is_enough(tmp_path):
    assert rows(read(tmp_path, "path\n./x//a b.jpg\n")) == [("x/a b.jpg", "x/a b.jpg", -1, 0, [])]


def test_integer_labels_stay(tmp_path):
    catalog = read(tmp_path, "path,label\na,7\nb,\nc,0\n")
    assert catalog.table["label"].to_pylist() == [7, -1, 0]
    assert catalog.classes == ()
    same = read(
        tmp_path, '{"path": "a", "label": 7}\n{"path": "b", "label": null}\n{"path": "c", "label": "0"}', "l.jsonl"
    )
    assert same.sha256 == catalog.sha256


def test_absolute_paths_inside_the_root_become_relative(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "link").symlink_to("images")
    text = f"path\n{tmp_path}/images/a.jpg\n{tmp_path}/link/b.jpg\nc.jpg\n"
    catalog = read(tmp_path, text, root=tmp_path / "link")
    assert catalog.root == tmp_path / "link"
    assert catalog.slice(0, 9)[1] == ["a.jpg", "b.jpg", "c.jpg"]


@pytest.mark.parametrize("path", ["/etc/passwd", "../a.jpg", "a/../../b.jpg", "a/..", "", ".", "/", "{root}x/a.jpg"])
def test_paths_that_leave_the_root(tmp_path, path):
    path = path.replace("{root}", str(tmp_path))
    with pytest.raises(CatalogError, match=rf"{tmp_path}/l.csv:3: path '.*' (has a '..'|is outside|names no file)"):
        read(tmp_path, f'path,label\na.jpg,0\n"{path}",0\n', root=tmp_path)


@pytest.mark.parametrize("path", ["../a.jpg", "a/../../b.jpg", "a/..", "", ".", "/"])
def test_paths_that_name_no_file(tmp_path, path):
    with pytest.raises(CatalogError, match=rf"{tmp_path}/l.csv:3: path '.*' (has a '..'|names no file)"):
        read(tmp_path, f'path,label\na.jpg,0\n"{path}",0\n')


CSV_ERRORS = {
    "no header": ("", r"l.csv:1: no column 'path'"),
    "no path column": ("paths,label\na,1\n", r"l.csv:1: no column 'path'.*did you mean 'paths'"),
    "column twice": ("path,label,label\na,1,1\n", r"l.csv:1: column 'label' is there 2 times"),
    "no rows": ("path,label\n", r"Found no images: .*l.csv has no rows"),
    "ragged": ("path,label\na,1\nb\n", r"l.csv:3: 1 fields, but the header names 2"),
    "after a quoted newline": ('path,x,label\na,"1\n\n2",0\nb,c\n', r"l.csv:5: 2 fields"),
    "at a quoted newline": ('path,x,label\na,b,0\nb,"1\n2"\nc,d,0\n', r"l.csv:3: 2 fields"),
    "open quote": ('path,label\na,1\n"b,2\nc,3\n', r"l.csv:3: broken CSV"),
    "NUL": (b"path,label\na,1\nb\0,2\n", r"l.csv:3: holds a NUL byte"),
    "undecodable": (b"path,label\n" + b"a,\n" * 9000 + b"caf\xe9.jpg,1\nb,2\n", r"l.csv:9002: not UTF-8 text"),
    "cut off": (b"path\na\ncaf\xc3", r"l.csv:3: not UTF-8 text"),
    "UTF-16 without its mark": ("path\na\n".encode("utf-16-le"), r"l.csv:1: holds a NUL byte; save the file as UTF-8"),
    "UTF-16 cut off": ("path\na\n".encode("utf-16")[:-1], r"l.csv:3: not UTF-16-LE text"),
    "negative label": ("path,label\na,1\nb,-1\n", r"l.csv:3: label '-1' is neither"),
    "fraction": ("path,label\na,1.0\nb,0.5\n", r"l.csv:3: label '0.5' is neither"),
    "huge label": ("path,label\na,2147483648\n", r"l.csv:2: label '2147483648' is neither"),
    "monstrous label": (f"path,label\na,{'9' * 6000}\n", r"l.csv:2: label '9+' is neither"),
    "name among integers": (
        "path,label\na,1\nb,\nc,2\nd,dog\n",
        r"l.csv:5: label 'dog', but those before it are integers",
    ),
    "integer among names": (
        "path,label\na,dog\nb,7\nc,cat\n",
        r"l.csv:3: label '7', but those before it are class names",
    ),
    "split": ("path,split\na,train\nb,tets\n", r"l.csv:3: unknown split 'tets'; did you mean 'test'"),
    "box of three": ("path,boxes\na,1 2 3\n", r"l.csv:2: boxes '1 2 3' are not"),
    "box of words": ("path,boxes\na,1 2 x 4\n", r"l.csv:2: boxes '1 2 x 4' are not"),
    "box of broken JSON": ('path,boxes\na,"[1, 2"\n', r"l.csv:2: boxes '\[1, 2' are not"),
    "empty box": ("path,boxes\na,\nb,1 2 3 4;1 2 1 4\n", r"l.csv:3: box 1 2 1 4 is not a box"),
    "infinite box": ("path,boxes\na,1 2 inf 4\n", r"l.csv:2: box 1 2 inf 4 is not a box"),
    "same id": (
        "path,id\na,x\nb,\nc,x\n",
        r"l.csv:4: id 'x' was already given at .*l.csv:2; a row is an image, with all of its boxes$",
    ),
    "same path, no id": (
        "path\na\nb\n./a\n",
        r"l.csv:4: id 'a' was already given at .*l.csv:2; a row is an image, with all of its boxes$",
    ),
}


@pytest.mark.parametrize(("text", "message"), CSV_ERRORS.values(), ids=CSV_ERRORS.keys())
def test_csv_errors_name_the_line(tmp_path, text, message):
    with pytest.raises(CatalogError, match=message):
        read(tmp_path, text)


JSON_ERRORS = {
    "broken": ('{"path": "a"}\n\n{"path": \n', r"l.jsonl:3: broken JSON"),
    "too deep": ('{"path": "a"}\n' + "[" * 100_000, r"l.jsonl:2: broken JSON"),
    "no object": ('{"path": "a"}\n["b"]\n', r"l.jsonl:2: not a JSON object"),
    "no path": ('{"paht": "a"}\n', r"l.jsonl:1: no key 'path'; did you mean 'paht'"),
    "nothing": ("{}\n", r"l.jsonl:1: no key 'path'$"),
    "path is a number": ('{"path": 3}\n', r"l.jsonl:1: path '3' is not text"),
    "NUL": ('{"path": "a"}\n{"path": "b\\u0000"}\n', r"l.jsonl:2: the path holds a NUL byte"),
    "undecodable": (b'{"path": "a"}\n{"path": "\xe9"}\n', r"l.jsonl:2: not UTF-8"),
    "half a pair": ('{"path": "a"}\n{"path": "\\ud800"}\n', r"l.jsonl:2: id .* is not valid Unicode"),
    "half a pair as label": ('{"path": "a", "label": "\\ud800"}\n', r"l.jsonl:1: .*surrogates not allowed"),
    "true label": (
        '{"path": "a", "label": 1}\n{"path": "b", "label": true}\n',
        r"l.jsonl:2: label 'True', but those before",
    ),
    "real label": ('{"path": "a", "label": 1.5}\n', r"l.jsonl:1: label '1.5' is not"),
    "split": ('{"path": "a", "split": 1}\n', r"l.jsonl:1: unknown split '1'"),
    "NaN box": ('{"path": "a", "boxes": [0, 0, NaN, 1]}\n', r"l.jsonl:1: box 0 0 nan 1 is not a box"),
    "box of nulls": ('{"path": "a", "boxes": [0, 0, null, 1]}\n', r"l.jsonl:1: boxes '0 0 None 1' are not"),
    "boxes too deep": ('{"path": "a", "boxes": [[[0, 0, 1, 1]]]}\n', r"l.jsonl:1: boxes .* are not"),
    "boxes as an object": ('{"path": "a", "boxes": {"x": 1}}\n', r"l.jsonl:1: boxes .* are not"),
    "empty": ("\n", r"l.jsonl has no rows"),
}


@pytest.mark.parametrize(("text", "message"), JSON_ERRORS.values(), ids=JSON_ERRORS.keys())
def test_json_errors_name_the_line(tmp_path, text, message):
    with pytest.raises(CatalogError, match=message):
        read(tmp_path, text, "l.jsonl")


PARQUET_ERRORS = {
    "no path": ({"files": ["a"]}, r"l.parquet: no column 'path'"),
    "null path": ({"path": ["a", None]}, r"l.parquet row 2: path '' names no file"),
    "struct path": ({"path": [{"a": 1}]}, r"l.parquet row 1: path .* is not text"),
    "real label": ({"path": ["a", "b"], "label": [None, 1.5]}, r"l.parquet row 2: label '1.5' is not"),
    "box": (
        {"path": ["a", "b"], "boxes": [None, [[0.0, 0.0, 0.0, 1.0]]]},
        r"l.parquet row 2: box 0 0 0 1 is not a box",
    ),
    "same id": ({"path": ["a", "b"], "id": [5, 5]}, r"row 2: id '5' was already given at .*l.parquet row 1"),
}


@pytest.mark.parametrize(("columns", "message"), PARQUET_ERRORS.values(), ids=PARQUET_ERRORS.keys())
def test_parquet_errors_name_the_row(tmp_path, columns, message):
    pq.write_table(pa.table(columns), tmp_path / "l.parquet")
    with pytest.raises(CatalogError, match=message):
        read_list(tmp_path / "l.parquet", None)


def test_broken_parquet(tmp_path):
    with pytest.raises(CatalogError, match=r"Cannot read .*l.parquet"):
        read(tmp_path, b"PAR1 no", "l.parquet")


def test_names_in_another_normal_form_are_found(tmp_path):
    (tmp_path / "cafe\u0301").mkdir()
    (tmp_path / "cafe\u0301/e\u0301.jpg").touch()
    (tmp_path / "l.csv").write_text("path\ncaf\xe9/\xe9.jpg\n", encoding="utf-8")
    catalog = read_catalog(tmp_path / "l.csv")
    assert catalog.slice(0, 1)[1] == ["caf\xe9/\xe9.jpg"] and resolve(catalog.root, "caf\xe9/\xe9.jpg").is_file()


def test_unknown_suffix(tmp_path):
    with pytest.raises(CatalogError, match=r"A list of images ends in one of .csv .*did you mean '.jsonl'"):
        read(tmp_path, "", "l.jsonll")


def test_root_must_be_a_folder(tmp_path):
    with pytest.raises(CatalogError, match="The root of a list is a folder, but .*gone is none"):
        read(tmp_path, "path\na\n", root=tmp_path / "gone")


def test_a_folder_named_like_a_list(tmp_path):
    (tmp_path / "l.csv").mkdir()
    with pytest.raises(CatalogError, match=r"Cannot read .*l.csv: Is a directory"):
        read_catalog(tmp_path / "l.csv", "list")


@given(st.permutations([{"path": f"{n}.jpg", "label": "ab"[n % 2], "boxes": [[0, 0, n + 1, 1]] * n} for n in range(6)]))
def test_order_of_a_list_does_not_matter(tmp_path_factory, records):
    folder = tmp_path_factory.mktemp("list")
    (folder / "l.jsonl").write_text("\n".join(map(json.dumps, records)))
    (folder / "sorted.jsonl").write_text("\n".join(map(json.dumps, sorted(records, key=lambda r: r["path"]))))
    catalog = read_list(folder / "l.jsonl", None)
    assert catalog.sha256 == read_list(folder / "sorted.jsonl", None).sha256
    assert [len(boxes) for boxes in catalog.table["boxes"].to_pylist()] == [0, 1, 2, 3, 4, 5]
