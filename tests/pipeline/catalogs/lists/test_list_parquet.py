"""Parquet with columns of every type that can hold a field."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from locloc.pipeline.catalogs.lists.list import read_list
from locloc.pipeline.errors import CatalogError

BOX = {"xmin": 1, "ymin": 2, "xmax": 3, "ymax": 4}


def read(tmp_path, **columns):
    pq.write_table(pa.table(columns), tmp_path / "l.parquet")
    return read_list(tmp_path / "l.parquet", None)


@pytest.mark.parametrize(
    "path",
    [
        pa.array(["a", "b"]).dictionary_encode(),
        pa.array(["a", "b"], pa.large_string()),
        pa.array(["a", "b"], pa.string_view()),
        pa.array([b"a", b"b"], pa.binary()),
        pa.array([{"bytes": None, "path": "a"}, {"bytes": None, "path": "b"}]),
    ],
    ids=["dictionary", "large", "view", "binary", "image"],
)
@pytest.mark.parametrize(
    "label",
    [
        pa.array([1, None], pa.int8()),
        pa.array([1, None], pa.uint64()),
        pa.array([1.0, None]),
        pa.array([1.0, float("nan")], pa.float16()),
        pa.array([1, None], pa.decimal128(5, 1)),
    ],
    ids=["int8", "uint64", "float", "nan", "decimal"],
)
def test_types_of_columns(tmp_path, path, label):
    catalog = read(tmp_path, path=path, label=label, split=pa.nulls(2), boxes=pa.nulls(2))
    assert catalog.slice(0, 9)[1] == ["a", "b"]
    assert catalog.table["label"].to_pylist() == [1, -1]


@pytest.mark.parametrize(
    "boxes",
    [
        pa.array([[[1.0, 2.0, 3.0, 4.0]]]),
        pa.array([[[1, 2, 3, 4]]], pa.list_(pa.list_(pa.int64(), 4))),
        pa.array([[1, 2, 3, 4]], pa.list_(pa.int16(), 4)),
        pa.array([[BOX]]),
        pa.array([BOX]),
        pa.array(["[1, 2, 3, 4]"]),
    ],
)
def test_types_of_boxes(tmp_path, boxes):
    assert read(tmp_path, path=["a"], boxes=boxes).table["boxes"].to_pylist() == [[[1, 2, 3, 4]]]


def test_ids_as_numbers(tmp_path):
    catalog = read(tmp_path, path=["a", "b"], id=[10.0, None])
    assert catalog.slice(0, 9)[0] == ["10", "b"]
    assert catalog.notes == ("ids with a decimal point, such as 10.0, are read as integers",)
    assert read(tmp_path, path=["a"], id=pa.array([7], pa.uint8())).slice(0, 1)[0] == ["7"]


def test_bytes_of_a_path_that_are_not_utf_8(tmp_path):
    assert read(tmp_path, path=pa.array([b"caf\xe9.jpg"], pa.binary())).slice(0, 1)[1] == [r"caf\xe9.jpg"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"image": [{"bytes": b"x", "path": "a"}]}, "l.parquet row 1: the image itself lies in this file"),
        ({"image": [b"\x89PNG\r\n\x1a\n\x00"]}, "l.parquet row 1: "),
        ({"path": ["a"], "id": [0.5]}, "l.parquet row 1: id '0.5' is not text or an integer"),
        ({"path": [3]}, "l.parquet row 1: path '3' is not text"),
        ({"path": ["a"], "bbox": [[1, 2, 3, 4]]}, "l.parquet: column 'bbox' may hold corners or sizes"),
        ({"path": ["a"], "boxes": [[{"a": 1}]]}, "l.parquet row 1: boxes .* are not"),
    ],
)
def test_errors_name_the_row(tmp_path, columns, message):
    with pytest.raises(CatalogError, match=message):
        read(tmp_path, **columns)
