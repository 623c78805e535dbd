"""Versions of an older release, which lack the columns `orientation`, `quality`, `quality_parts` and `seen`."""

import numpy as np
import pytest

from locloc.pipeline.masks.quality import PARTS
from locloc.pipeline.store import open_version, schema
from locloc.pipeline.store.schema import ADDED_COLUMNS, COLUMNS
from locloc.pipeline.store.writer import SharedParent, StoreWriter


@pytest.fixture
def old(tmp_path, made, write, ids, monkeypatch):
    """v1 as an older release made it: 150 rows."""
    for name in ADDED_COLUMNS:
        monkeypatch.delitem(schema.COLUMNS, name)
    monkeypatch.setattr(schema, "ADDED_COLUMNS", ())
    version = write(tmp_path / "masks.store", made(ids), tmp_path / "images")
    monkeypatch.undo()
    assert not any(name in version.group for name in ADDED_COLUMNS)
    return open_version(version.name)


def test_they_read_as_unknown(old):
    assert np.array_equal(old.read_column("orientation"), np.zeros(150, np.uint8))
    assert len(old.read_column("orientation", [3, 5])) == 2
    assert old.read_column("quality_parts", slice(10, 20)).shape == (10, len(PARTS))
    for name in ("quality", "seen", *PARTS):
        assert old.table[name].null_count == 150, name


def test_a_version_that_shares_its_chunks_gets_the_columns(old, made, ids):
    with StoreWriter(old.store) as writer:
        copied = {name: old.provenance[name] for name in ("catalog", "recipe", "recipe_name", "backbone", "created_at")}
        copied |= {"parent": "v1", "fingerprint": "cd" * 32, "build_id": "ef" * 32}
        writer.begin(copied, old.catalog, (2, 3, 3), 32, SharedParent("v1", np.array([1])))
        columns = {name: old.read_column(name, slice(64, 128)) for name in COLUMNS}
        new = {"orientation": np.full(64, 6, np.uint8), "quality": np.full(64, 0.5, np.float32)}
        writer.merge(writer.fork, 1, columns | new | {"seen": np.full(64, 3, np.uint8)})
        writer.publish()
    version = open_version(f"{old.store}@v2")
    for name in new:
        values = version.read_column(name)
        assert (values[64:128] == new[name]).all() and not values[:64].any() and not values[128:].any()
    quality, seen = version.table["quality"].to_pylist(), version.table["seen"].to_pylist()
    assert quality[:64] == [None] * 64 and quality[64:128] == [0.5] * 64
    assert seen[:64] == [None] * 64 and seen[64:128] == ["trained on"] * 64
