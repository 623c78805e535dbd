"""A whole build against an S3 server: images and store by URL, two workers, the coordinator killed and resumed."""

import json
import pickle
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from locloc.cli import main
from locloc.pipeline.build.spec import provenance, resolve_backbone
from locloc.pipeline.build.tasks import TaskContext
from locloc.pipeline.catalogs.registry import read_catalog
from locloc.pipeline.errors import StoreError
from locloc.pipeline.inspect.verify import verify_version
from locloc.pipeline.recipe import load_recipe
from locloc.pipeline.store import Version, list_versions, open_version
from locloc.pipeline.store.location import StoreLocation
from locloc.pipeline.store.writer import StoreWriter

from ..end_to_end.conftest import assert_same, make_images
from .conftest import Processes
from .s3 import KEY_ID, SECRET, bucket, bucket_of, s3_environment, s3_server  # noqa: F401


@pytest.fixture
def photos(bucket: str, tmp_path: Path) -> tuple[Path, str]:  # noqa: F811
    """The same 200 images on disk and in the bucket."""
    folder = make_images(tmp_path / "photos", 200)
    for file in files_below(folder):
        bucket_of(bucket).write(f"photos/{Path(file).relative_to(folder)}", Path(file).read_bytes())
    return folder, f"{bucket}/photos"


def blocks_done(store: str) -> int:
    try:
        return max((info.metadata.get("counts", {}).get("blocks_done", 0) for info in list_versions(store)), default=0)
    except StoreError:
        return 0


@pytest.mark.slow
def test_killed_and_resumed_against_s3(
    photos: tuple[Path, str],
    bucket: str,  # noqa: F811
    small_recipe: Path,
    processes: Processes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    folder, url = photos
    store, how = f"{bucket}/deep/masks.store", ["--recipe", str(small_recipe), "--weights", "random"]
    command = ["masks", "build", url, "--store", store, *how, "--workers", "2", "--checkpoint-s", "0"]
    command += ["--log", str(tmp_path / "run.jsonl")]

    first = processes.locloc("first", *command)
    give_up = time.monotonic() + 240
    while not blocks_done(store):
        assert first.poll() is None and time.monotonic() < give_up, processes.output("first")
        time.sleep(0.05)
    processes.kill(first, signal.SIGKILL)
    assert [info.tag for info in list_versions(store)] == [None], "it was over before it could be killed"

    second = processes.locloc("second", "masks", "resume", store, "--workers", "2")
    assert second.wait(180) == 0, processes.output("second")
    here = tmp_path / "here.store"
    monkeypatch.setattr("sys.argv", ["locloc", "masks", "build", str(folder), "--store", str(here), *how])
    with pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code
    there = open_version(f"{store}@v1")
    assert_same(open_version(f"{here}@v1"), there)
    assert there.provenance["fingerprint"] == open_version(f"{here}@v1").provenance["fingerprint"]
    assert verify_version(there).ok

    everything = files_below(tmp_path) | {
        name: data for name, data in objects(bucket) if not name.startswith("photos/")
    }
    assert sum("/chunks/" in name for name in everything) >= 8
    assert any(name.endswith("run.jsonl") for name in everything)
    found = [name for name, data in everything.items() if SECRET.encode() in data or KEY_ID.encode() in data]
    assert not found, "secrets were written down"


def test_no_secret_travels_to_workers(photos, bucket, small_recipe):  # noqa: F811
    _, url = photos
    catalog, recipe = read_catalog(url), load_recipe(str(small_recipe))
    backbone = resolve_backbone(recipe, "random")
    metadata = provenance(catalog, recipe, "small", backbone.metadata, {"kind": "build"})
    with StoreWriter(f"{bucket}/masks.store") as writer:
        writer.begin(metadata, catalog, backbone.attention, recipe.mask_px)
        job = TaskContext(catalog.root, recipe, backbone.spec)
        with_parent = replace(job, parent=Version(StoreLocation.of(f"{bucket}/masks.store"), "v1"))
        pickles = [pickle.dumps(value) for value in (writer.fork, job, with_parent, catalog, metadata)]
    assert all(len(data) > 100 for data in pickles)
    for data in [*pickles, json.dumps(metadata).encode()]:
        assert SECRET.encode() not in data
        assert KEY_ID.encode() not in data


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def objects(name: str) -> list[tuple[str, bytes]]:
    whole = bucket_of(name)
    return [(entry.key, whole.read(entry.key)) for entry in whole.below("")]
