"""What `masks export` writes with its images goes in again: the same images with the same labels and splits."""

import pytest

from locloc.pipeline.catalogs.paths import resolve
from locloc.pipeline.catalogs.registry import read_catalog
from locloc.pipeline.catalogs.split_words import SPLITS
from locloc.pipeline.export import ExportOptions, export_version
from locloc.pipeline.io.images import read_image_bytes
from locloc.pipeline.status import DONE, Status


@pytest.mark.parametrize("name", ["coco", "webdataset", "parquet"])
def test_an_export_is_a_data_set(version, content, tmp_path, monkeypatch, name):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    export_version(version, tmp_path / "out", name, ExportOptions(images="copy"))
    catalog = read_catalog(tmp_path / "out", name)
    found = {}
    for row in catalog.table.to_pylist():
        label = catalog.classes[row["label"]] if catalog.classes and row["label"] >= 0 else row["label"]
        found[read_image_bytes(resolve(catalog.root, row["path"]))] = (label, SPLITS[row["split"]])
    done = [row for row, status in enumerate(content.status) if status in DONE]
    wanted = {}
    for row in done:
        label, split = content.labels[row], SPLITS[content.splits[row]]
        has_object = content.status[row] == Status.OK and content.masks[row].any()
        wanted[content.files[row]] = {
            "coco": ("abc"[label] if has_object else -1, ""),  # one file of annotations for all splits
            "webdataset": (label, split or "train"),
            "parquet": ("abc"[label], split or "train"),
        }[name]
    assert found == wanted
