"""`masks export --to zarr`: plain Zarr, without Icechunk and locloc, reads the content of the version."""

import hashlib
import json
import subprocess
import sys

import fsspec
import numpy as np
import pytest
import zarr

from locloc.pipeline.errors import StoreError
from locloc.pipeline.export import Exported, export_version
from locloc.pipeline.export.zarr import ARRAYS, export_zarr
from locloc.pipeline.store import open_version

# A reader with zarr and numpy only, in a process where icechunk and locloc cannot be imported.
PLAIN_READER = """
import sys
sys.modules["icechunk"] = sys.modules["locloc"] = None
import hashlib, json, warnings, zlib
import numpy as np, zarr
warnings.simplefilter("error")
root = zarr.open_group(sys.argv[1], mode="r")
arrays = {name: array for name, array in root.members(max_depth=None) if isinstance(array, zarr.Array)}
masks = np.unpackbits(root["mask"][:], axis=-1).astype(bool)
offsets, data = root["catalog/id/offsets"][:], root["catalog/id/bytes"][:].tobytes()
crc = [zlib.crc32(a.tobytes(), zlib.crc32(m.tobytes())) for m, a in zip(root["mask"][:], root["attention"][:])]
assert crc == root["content_crc"][:].tolist()
print(json.dumps({
    "arrays": {name: [str(a.dtype), a.shape, a.chunks, hashlib.sha256(a[:].tobytes()).hexdigest()] for name, a in arrays.items()},
    "descriptions": {name: a.attrs["description"] for name, a in arrays.items()},
    "axes": {name: a.metadata.dimension_names for name, a in arrays.items()},
    "masks": hashlib.sha256(masks.tobytes()).hexdigest(),
    "ids": [data[a:b].decode() for a, b in zip(offsets, offsets[1:])],
    "reasons": [row.tobytes().rstrip(b"\\0").decode() for row in root["error"][:]],
    "attributes": dict(root.attrs),
    "consolidated": root.metadata.consolidated_metadata is not None,
}))
"""  # noqa: E501


EVERYWHERE = {name for name in ARRAYS if not name.startswith("decisions/")}  # those are there after `masks decide`


@pytest.fixture
def content(made, ids):
    return made(["ä\n" + id for id in ids])


@pytest.fixture
def version(tmp_path, write, content):
    return write(tmp_path / "masks.store", content, tmp_path / "images")


def test_plain_zarr_reads_every_array(version, content, tmp_path):
    out = tmp_path / "new" / "out.zarr"
    assert export_zarr(version, out) == Exported(version.name, "zarr", str(out), 150)
    done = subprocess.run(
        [sys.executable, "-c", PLAIN_READER, str(out)], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    exported = json.loads(done.stdout)
    arrays = {name: a for name, a in version.group.members(max_depth=None) if isinstance(a, zarr.Array)}
    assert exported["arrays"] == {
        name: [str(a.dtype), list(a.shape), list(a.chunks), hashlib.sha256(a[:].tobytes()).hexdigest()]
        for name, a in arrays.items()
    }
    assert exported["masks"] == hashlib.sha256(content.masks.tobytes()).hexdigest()
    assert exported["ids"] == content.ids
    assert exported["reasons"][2:9] == ["", *(f"reason {id}" for id in content.ids[3:8]), ""]
    assert exported["attributes"]["locloc"] == json.loads(json.dumps(version.provenance))
    assert exported["attributes"]["version"] == version.name
    assert all(exported["descriptions"].values())
    assert all(len(axes) == arrays[name].ndim for name, axes in exported["axes"].items())
    assert exported["consolidated"]


def test_every_array_of_the_schema_is_described(version):
    assert {name for name, a in version.group.members(max_depth=None) if isinstance(a, zarr.Array)} == EVERYWHERE


def test_chunks_stay_as_they_are_and_empty_ones_are_not_written(version, tmp_path):
    export_zarr(version, tmp_path / "out")
    out = tmp_path / "out"
    chunks = {str(file.relative_to(out)) for file in out.rglob("*") if file.is_file() and file.name != "zarr.json"}
    assert {name for name in chunks if name.startswith("mask/")} == {f"mask/c/{block}/0/0" for block in range(3)}
    assert "error/c/0/0" in chunks
    assert "error/c/1/0" not in chunks  # no row there has a reason


def test_many_batches_are_one_export(version, tmp_path, monkeypatch):
    monkeypatch.setattr("locloc.pipeline.export.zarr.BATCH_BYTES", 1)
    calls = []
    export_zarr(version, tmp_path / "out", lambda done, total: calls.append((done, total)))
    assert calls == [(64, 150), (128, 150), (150, 150)]
    root = zarr.open_group(tmp_path / "out", mode="r")
    for name in EVERYWHERE:
        assert np.array_equal(root[name][:], version.group[name][:]), name


def test_only_an_empty_folder_is_written_to(version, tmp_path):
    (tmp_path / "empty").mkdir()
    export_zarr(version, tmp_path / "empty")
    assert zarr.open_group(tmp_path / "empty", mode="r")["status"].shape == (150,)
    before = (tmp_path / "empty" / "zarr.json").read_bytes()
    (tmp_path / "file").write_text("precious")
    taken_by = {
        "empty": "is not empty: it holds", "images": "is not empty: it holds", "file": "is a file; name a folder",
        "file/below": "cannot be written: (file exists|not a directory)",
    }  # fmt: skip
    for taken, why in taken_by.items():
        with pytest.raises(StoreError, match=f"{taken} {why}"):
            export_zarr(version, tmp_path / taken)
    assert (tmp_path / "empty" / "zarr.json").read_bytes() == before
    assert (tmp_path / "file").read_text() == "precious"


def test_a_failed_export_leaves_nothing(version, tmp_path, monkeypatch):
    def stop(done, total):
        raise KeyboardInterrupt

    before = sorted(tmp_path.iterdir())
    with pytest.raises(KeyboardInterrupt):
        export_zarr(version, tmp_path / "out", stop)
    assert sorted(tmp_path.iterdir()) == before

    def full(self, *args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("zarr.storage.LocalStore.set", full)
    with pytest.raises(StoreError, match="out cannot be written: no space left on device"):
        export_zarr(version, tmp_path / "out")
    assert sorted(tmp_path.iterdir()) == before


def test_a_target_filled_during_the_export_is_kept(version, tmp_path):
    def meanwhile(done, total):
        (tmp_path / "out").mkdir(exist_ok=True)
        (tmp_path / "out" / "theirs").touch()

    with pytest.raises(StoreError, match="out exists and is not empty"):
        export_zarr(version, tmp_path / "out", meanwhile)
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["theirs"]


def test_damage_is_not_exported(tmp_path, write, made, ids):
    content = made(ids)
    columns = {"content_crc": content.columns["content_crc"] ^ (np.arange(150) == 80).astype(np.uint32)}
    version = write(tmp_path / "masks.store", content, tmp_path / "images", columns)
    with pytest.raises(StoreError, match=r"row 80 is not what was written; `locloc masks verify .*masks.store@v1`"):
        export_zarr(version, tmp_path / "out")
    for file in (tmp_path / "masks.store" / "chunks").iterdir():
        file.write_bytes(b"no chunk")
    with pytest.raises(StoreError, match=r"masks.store@v1 cannot be read \(.*\); `locloc masks verify"):
        export_zarr(open_version(version.name), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_target_that_cannot_be_written(version):
    with pytest.raises(StoreError, match="/proc/no/out cannot be written: no such file"):
        export_zarr(version, "/proc/no/out")


def test_an_export_by_url(version, tmp_path):
    memory = fsspec.filesystem("memory")
    try:
        assert export_zarr(version, "memory://exported/out.zarr/").out == "memory://exported/out.zarr/"
        root = zarr.open_group("memory://exported/out.zarr", mode="r")
        for name in EVERYWHERE:
            assert np.array_equal(root[name][:], version.group[name][:]), name
        assert root.metadata.consolidated_metadata is not None
        with pytest.raises(StoreError, match="memory://exported/out.zarr exists and is not empty"):
            export_zarr(version, "memory://exported/out.zarr")
    finally:
        memory.rm("/exported", recursive=True)


def test_an_interrupted_export_by_url_is_marked_incomplete(version):
    memory = fsspec.filesystem("memory")

    def stop(done, total):
        raise KeyboardInterrupt

    try:
        with pytest.raises(KeyboardInterrupt):
            export_zarr(version, "memory://half", stop)
        root = zarr.open_group("memory://half", mode="r")
        assert dict(root.attrs) == {"title": f"Incomplete export of {version.name}: remove it"}
    finally:
        memory.rm("/half", recursive=True)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense://b/x", "unknown protocol 'nonsense'"),
        ("s3://me:secret@b/x", r"\*\*\*@b/x holds a secret"),
        ("s3://", "names no bucket"),
    ],
)
def test_invalid_urls(version, url, message):
    with pytest.raises(StoreError, match=message) as caught:
        export_zarr(version, url)
    assert "secret@" not in str(caught.value)


def test_zarr_is_in_the_registry(version, tmp_path):
    exported = export_version(version, tmp_path / "out", "zarr")
    assert (exported.format, exported.rows) == ("zarr", 150)
