"""verify, diff and export of a store in a bucket, with its images in the bucket too."""

import numpy as np
import pytest
import zarr
from zarr.storage import ObjectStore

from locloc.pipeline.errors import StoreError, UnreachableError
from locloc.pipeline.export import export_zarr
from locloc.pipeline.export.zarr import ARRAYS
from locloc.pipeline.inspect.diff import diff_versions
from locloc.pipeline.inspect.verify import verify_version
from locloc.pipeline.io.fsspec_io import bucket_below
from locloc.pipeline.store import open_version

from .s3 import SECRET, bucket, bucket_of, put, s3_environment, s3_server  # noqa: F401


@pytest.fixture
def version(bucket, tmp_path, write, made, ids):  # noqa: F811
    return write(f"{bucket}/masks.store", made(ids), tmp_path / "images")


@pytest.fixture
def images(bucket, tmp_path, version, s3_environment) -> str:  # noqa: F811
    for file in (tmp_path / "images").iterdir():
        put(s3_environment, f"/{bucket[5:]}/images/{file.name}", file.read_bytes())
    return f"{bucket}/images"


def test_verify_reads_store_and_images_in_a_bucket(version, images, s3_environment):  # noqa: F811
    verified = verify_version(version, root=images)
    assert (verified.ok, verified.changes, verified.files_checked) == (True, [], 150)
    put(s3_environment, f"/{images[5:]}/0011.jpg", b"another image")
    files = bucket_of(str(version.store))
    chunks = sorted(files.below(f"{version.store.path}/chunks"), key=lambda entry: entry.size)
    for chunk in chunks[-2:]:  # of masks or attention, not of columns
        files.write(chunk.key, b"no chunk")
    verified = verify_version(open_version(version.name), root=images)
    assert [found.kind for found in verified.damage] == ["unreadable"]
    assert [(found.kind, found.first_ids) for found in verified.changes] == [("replaced", ["0011.jpg"])]
    assert verified.mend == f"locloc masks retry {version.name} --damaged"


def test_images_that_cannot_be_reached_are_not_taken_for_gone(version, monkeypatch):
    with pytest.raises(UnreachableError, match="no-such-bucket"):
        verify_version(version, root="s3://no-such-bucket/images")


def test_a_bucket_that_cannot_be_reached_is_not_taken_for_damage(version, monkeypatch):
    version.catalog  # noqa: B018 - all but the chunks has been read
    version.provenance  # noqa: B018
    monkeypatch.setattr("locloc.pipeline.inspect.verify.open_version", _unplugged)
    files = bucket_of(str(version.store))
    for chunk in files.below(f"{version.store.path}/chunks"):
        files.remove(chunk.key)
    with pytest.raises(StoreError, match="no answer"):
        verify_version(version)


def _unplugged(name: str):
    raise StoreError(f"Store {name} cannot be read: no answer")


@pytest.mark.slow
def test_an_export_to_a_bucket_is_read_by_plain_zarr(version, bucket, s3_environment, capfd):  # noqa: F811
    export_zarr(version, f"{bucket}/out.zarr")
    root = zarr.open_group(ObjectStore(bucket_below(f"{bucket}/out.zarr").client), mode="r")
    names = [name for name in ARRAYS if not name.startswith("decisions/")]  # nobody has judged these masks
    assert len(names) > 10
    for name in names:
        assert np.array_equal(root[name][:], version.group[name][:]), name
    assert SECRET not in str(dict(root.attrs)) + "".join(capfd.readouterr())
    with pytest.raises(StoreError, match="out.zarr exists and is not empty"):
        export_zarr(version, f"{bucket}/out.zarr")
    with pytest.raises(StoreError, match="s3://no-such-bucket/out.zarr cannot be written") as caught:
        export_zarr(version, "s3://no-such-bucket/out.zarr")
    assert "\n" not in str(caught.value)


def test_versions_in_a_bucket_and_on_a_disk_are_compared(version, tmp_path, write, made, ids):
    content = made(ids)
    content.masks[10] ^= True
    diff = diff_versions(version, write(tmp_path / "local.store", content, tmp_path / "images"))
    assert (diff.common, diff.changed["mask"].first_ids, diff.changed["file"].rows) == (150, ["0010.jpg"], 0)
