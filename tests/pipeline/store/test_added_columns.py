"""Versions of an older release, which lack the column `orientation`."""

import numpy as np
import pytest

from locloc.pipeline.store import open_version, schema
from locloc.pipeline.store.schema import COLUMNS
from locloc.pipeline.store.writer import SharedParent, StoreWriter


@pytest.fixture
def old(tmp_path, made, write, ids, monkeypatch):
    """v1 as an older release made it: 150 rows."""
    monkeypatch.delitem(schema.COLUMNS, "orientation")
    monkeypatch.setattr(schema, "ADDED_COLUMNS", ())
    version = write(tmp_path / "masks.store", made(ids), tmp_path / "images")
    monkeypatch.undo()
    assert "orientation" not in version.group
    return open_version(version.name)


def test_it_reads_as_unknown(old):
    assert np.array_equal(old.read_column("orientation"), np.zeros(150, np.uint8))
    assert len(old.read_column("orientation", [3, 5])) == 2
    assert len(old.read_column("orientation", slice(10, 20))) == 10


def test_a_version_that_shares_its_chunks_gets_the_column(old, made, ids):
    with StoreWriter(old.store) as writer:
        copied = {name: old.provenance[name] for name in ("catalog", "recipe", "recipe_name", "backbone", "created_at")}
        copied |= {"parent": "v1", "fingerprint": "cd" * 32, "build_id": "ef" * 32}
        writer.begin(copied, old.catalog, (2, 3, 3), 32, SharedParent("v1", np.array([1])))
        columns = {name: old.read_column(name, slice(64, 128)) for name in COLUMNS}
        writer.merge(writer.fork, 1, columns | {"orientation": np.full(64, 6, np.uint8)})
        writer.publish()
    orientation = open_version(f"{old.store}@v2").read_column("orientation")
    assert (orientation[64:128] == 6).all() and not orientation[:64].any() and not orientation[128:].any()
