"""xarray opens a version: from Icechunk without locloc, and as `Version.to_xarray`."""

import sys

import icechunk
import numpy as np
import pytest
import xarray

from locloc.pipeline.errors import StoreError
from locloc.pipeline.export import export_zarr
from locloc.pipeline.inspect.verify import verify_version
from locloc.pipeline.store import open_version, schema
from locloc.pipeline.store.schema import unpack_masks


@pytest.fixture
def content(made, ids):
    return made(["ä\n" + id for id in ids])


@pytest.fixture
def version(tmp_path, write, content):
    return write(tmp_path / "masks.store", content, tmp_path / "images")


def test_a_version_opens_straight_from_icechunk(version, content):
    repository = icechunk.Repository.open(icechunk.local_filesystem_storage(str(version.store)))
    store = repository.readonly_session(tag=version.tag).store
    data = xarray.open_zarr(store, consolidated=False)
    assert (data.mask.dims, data.attention.dims) == (("row", "y", "x_byte"), ("row", "head", "grid_y", "grid_x"))
    assert data.id.values.tolist() == content.ids and "id" in data.coords
    assert np.array_equal(unpack_masks(data.mask[60:70].values), content.masks[60:70])
    assert np.array_equal(data.box.sel(corner="y1"), content.boxes[:, 3])
    assert np.array_equal(data["size"].sel(side="width")[:2], [64, 64])
    assert np.array_equal(data.stats.sel(statistic="mask_share"), content.columns["stats"][:, 0])
    one = data.set_xindex("id").sel(id=content.ids[9])
    assert np.array_equal(unpack_masks(one.mask.values[None])[0], content.masks[9])
    assert data.attrs["locloc"]["fingerprint"] == "ab" * 32
    catalog = xarray.open_zarr(store, group="catalog", consolidated=False)
    assert np.array_equal(catalog.label, content.labels)
    tree = xarray.open_datatree(store, engine="zarr", consolidated=False)
    assert {"mask", "status"} <= set(tree.data_vars) and tree["catalog/id"].sizes["id_end"] == 151


def test_masks_are_unpacked_and_read_where_they_are_used(version, content, monkeypatch):
    data = version.to_xarray()
    assert data.sizes == {
        "row": 150, "y": 32, "x": 32, "head": 2, "grid_y": 3, "grid_x": 3, "corner": 4, "statistic": 3, "side": 2,
        "part": 9,
    }  # fmt: skip
    assert (data.mask.dtype, data.attention.dtype) == (bool, np.float16)
    assert data.id.values.tolist() == content.ids and data.status.values[3:5].tolist() == ["fallback", "undecodable"]
    assert data.attrs == {"version": version.name, "classes": ["a", "b", "c"]}
    read, asked = version.read_masks, []
    monkeypatch.setattr(version, "read_masks", lambda rows: asked.append(rows) or read(rows))
    masks = content.masks
    for chosen, expected in {
        "one": (data.mask[5], masks[5]),
        "rows": (data.mask[[9, 3, 100]], masks[[9, 3, 100]]),
        "flags": (data.mask[data.label == 1], masks[np.array(content.labels) == 1]),
        "part": (data.mask.isel(row=[3, 9], y=slice(2, 9), x=4), masks[[3, 9], 2:9, 4]),
        "outer": (data.mask.isel(row=[3, 9], y=[1, 2, 5], x=[0, 7]), masks[np.ix_([3, 9], [1, 2, 5], [0, 7])]),
        "pixel": (data.mask[-1, 3, 4], masks[-1, 3, 4]),
        "backwards": (data.mask[10:0:-2], masks[10:0:-2]),
        "id": (data.set_xindex("id").sel(id=content.ids[8]).mask, masks[8]),
    }.values():
        assert not asked
        assert np.array_equal(chosen.values, expected)
        asked.clear()
    assert np.array_equal(data.box.sel(corner=["x0", "x1"])[:5], content.boxes[:5, [0, 2]])
    assert np.array_equal(data.attention.mean("head")[7], content.attention[7].mean(0))


@pytest.fixture
def old(tmp_path, write, content, monkeypatch):
    """A version as an older release made it: without names of axes, coordinates and the column `orientation`."""
    monkeypatch.setattr(schema, "ARRAYS", {name: (None, text) for name, (_, text) in schema.ARRAYS.items()})
    monkeypatch.setattr(schema, "write_coordinates", lambda root, ids: None)
    monkeypatch.delitem(schema.COLUMNS, "orientation")
    monkeypatch.setattr(schema, "ADDED_COLUMNS", ())
    version = write(tmp_path / "old.store", content, tmp_path / "images")
    monkeypatch.undo()
    return open_version(version.name)


def test_a_version_of_an_older_release_opens_by_its_method_and_from_its_export(old, content, tmp_path):
    with pytest.raises(KeyError, match="dimension_names"):
        xarray.open_zarr(old.group.store, consolidated=False)
    data = old.to_xarray()
    assert np.array_equal(data.mask[7:9], content.masks[7:9]) and not data.orientation.any()
    export_zarr(old, tmp_path / "out.zarr")
    data = xarray.open_zarr(tmp_path / "out.zarr")
    assert data.id.values.tolist() == content.ids and data.corner.values.tolist() == ["x0", "y0", "x1", "y1"]
    assert np.array_equal(unpack_masks(data.mask.values), content.masks)
    assert verify_version(old).ok


def test_without_xarray_a_line_says_what_installs_it(version, monkeypatch):
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(StoreError, match=r"masks.store@v1 as an xarray.Dataset needs xarray: pip install xarray$"):
        version.to_xarray()
