"""A catalog that comes back from a store is the one that went in."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import zarr
from zarr.storage import MemoryStore

from locloc.pipeline.catalogs.catalog import SCHEMA, CatalogRows, build_catalog, catalog_from_columns
from locloc.pipeline.catalogs.left_out import LeftOut, left_out_json
from locloc.pipeline.errors import CatalogError
from locloc.pipeline.store.schema import read_catalog, read_text, write_catalog

ROWS = [
    ("z/3.png", 1, 2, [(0, 0, 10.5, 20), (1, 2, 3, 4)]),
    ("a/1.jpg", 0, 1, []),
    ("é\n.jpg", -1, 0, [(-0.0, 1, 2, 3)]),
    ("b/2.jpg", 0, 3, []),
]
COLUMNS = {
    "id": pa.array(["a", "b"], pa.large_string()),
    "path": pa.array(["a", "b"]),
    "label": np.zeros(2, np.int32),
    "split": np.zeros(2, np.uint8),
    "boxes": np.array([[0, 0, 1, 1]], np.float32),
    "box_row": np.array([1]),
}


def build(rows):
    gathered = CatalogRows()
    for id, label, split, boxes in rows:
        gathered.add(id, f"images/{id}", label, split, boxes)
    where = "{}({})".format
    return build_catalog("list", Path("/data"), gathered, ("cat", "dog"), where=where, looked_for="x")


@pytest.mark.parametrize("rows", [ROWS, ROWS[1:2], ROWS[::2]], ids=["mixed", "no boxes", "all with boxes"])
def test_a_catalog_survives_the_store(rows):
    catalog = build(rows)
    root = zarr.create_group(store=MemoryStore())
    write_catalog(root, catalog)
    group = root["catalog"]
    numbers = (group[name][:] for name in ("label", "split", "boxes", "box_row"))
    back = catalog_from_columns(
        "list", Path("/data"), ["cat", "dog"], read_text(group, "id"), read_text(group, "path"), *numbers
    )
    assert back.table.schema == SCHEMA and back.table.equals(catalog.table)
    assert back.sha256 == catalog.sha256
    assert (back.kind, back.root, back.classes) == ("list", Path("/data"), ("cat", "dog"))
    assert all(column.num_chunks == 1 for column in back.table.columns)


@pytest.mark.parametrize("is_old", [False, True], ids=["now", "of an older release"])
def test_what_was_left_out_survives_in_the_provenance(is_old):
    left_out = (
        LeftOut("suffix", ".heic", "", 5, ("a.heic",)),
        LeftOut("excluded", "raw", "", 1, ("raw/a.jpg",)),
    )
    catalog = replace(build(ROWS), left_out=left_out, exclude=("raw",))
    assert catalog.sha256 == build(ROWS).sha256
    root = zarr.create_group(store=MemoryStore())
    write_catalog(root, catalog)
    entry = {"kind": "list", "root": "/data", "classes": ["cat", "dog"]}
    if not is_old:
        entry |= {"left_out": left_out_json(left_out), "exclude": ["raw"]}
    back = read_catalog(root, json.loads(json.dumps({"catalog": entry})))
    assert (back.left_out, back.exclude) == (((), ()) if is_old else (left_out, ("raw",)))


def test_columns_make_a_catalog():
    catalog = catalog_from_columns("list", "s3://bucket", (), **COLUMNS)
    assert catalog.table["boxes"].to_pylist() == [[], [[0, 0, 1, 1]]]
    assert catalog.slice(0, 2) == (["a", "b"], ["a", "b"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": np.zeros(3, np.int32)}, "differ in length"),
        ({"box_row": np.array([0, 1])}, "differ in length"),
        ({"id": pa.array(["b", "a"])}, "not sorted"),
        ({"id": pa.array(["a", "a"])}, "not sorted"),
        ({"box_row": np.array([2])}, "belong to no row"),
        ({"box_row": np.array([-1])}, "belong to no row"),
        ({"boxes": np.ones((2, 4), np.float32), "box_row": np.array([1, 0])}, "belong to no row"),
    ],
)
def test_damaged_columns_are_refused(change, message):
    with pytest.raises(CatalogError, match=message):
        catalog_from_columns("list", Path("/data"), (), **(COLUMNS | change))
