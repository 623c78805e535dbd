"""Data sets of Hugging Face, from folders: no network."""

import shutil
import sys

import numpy as np
import pytest
from PIL import Image

from locloc.pipeline.catalogs.paths import resolve
from locloc.pipeline.catalogs.registry import read_catalog
from locloc.pipeline.errors import CatalogError
from locloc.pipeline.io.images import read_image_bytes

datasets = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def offline(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def made(count=3, labels=None):
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
    data = {
        "image": [{"bytes": b"%d" % row, "path": None} for row in range(count)],
        "label": labels or [row % 2 for row in range(count)],
    }
    return datasets.Dataset.from_dict(data, features=features)


def bytes_of(catalog):
    return [read_image_bytes(resolve(catalog.root, path)) for path in catalog.table["path"].to_pylist()]


def test_a_folder_that_save_to_disk_wrote(tmp_path):
    datasets.DatasetDict(train=made(), validation=made(2), extra=made(1)).save_to_disk(tmp_path / "d")
    catalog = read_catalog(f"hf:{tmp_path / 'd'}")
    assert (catalog.kind, catalog.root, catalog.classes) == ("hf", tmp_path / "d", ("cat", "dog"))
    assert [(row["id"], row["label"], row["split"]) for row in catalog.table.to_pylist()] == [
        ("extra/00000000", 0, 0),
        *((f"train/0000000{row}", row % 2, 1) for row in range(3)),
        *((f"validation/0000000{row}", row % 2, 2) for row in range(2)),
    ]
    assert bytes_of(catalog) == [b"0", b"0", b"1", b"2", b"0", b"1"]
    assert "splits extra: not train, val or test, so their images have none" in catalog.notes


def test_one_split_of_several_files(tmp_path):
    made(5).save_to_disk(tmp_path / "d", num_shards=2)
    catalog = read_catalog(f"hf:{tmp_path / 'd'}")
    assert bytes_of(catalog) == [b"0", b"1", b"2", b"3", b"4"]
    assert catalog.table["path"][4].as_py() == "data-00001-of-00002.arrow//1/image"


def test_a_folder_that_load_dataset_reads(tmp_path):
    made().to_parquet(tmp_path / "d/train-0.parquet")
    catalog = read_catalog(f"hf:{tmp_path / 'd'}")
    assert bytes_of(catalog) == [b"0", b"1", b"2"]
    assert catalog.table["split"].to_pylist() == [1, 1, 1]


def test_images_that_stay_files(tmp_path):
    for name in ("train/cat/1.png", "train/dog/2.png", "test/dog/3.png"):
        (tmp_path / "d" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 4, 3), int(name[-5]), np.uint8)).save(tmp_path / "d" / name)
    catalog = read_catalog(f"hf:{tmp_path / 'd'}", "hf")
    assert catalog.root == tmp_path / "d"
    assert [(row["path"], row["label"], row["split"]) for row in catalog.table.to_pylist()] == [
        ("test/dog/3.png", 1, 3),
        ("train/cat/1.png", 0, 1),
        ("train/dog/2.png", 1, 1),
    ]


def test_what_cannot_be_loaded(tmp_path, monkeypatch):
    with pytest.raises(
        CatalogError, match=r"^hf:nobody/nothing cannot be loaded by datasets \(\w+: .*network"
    ) as raised:
        read_catalog("hf:nobody/nothing")
    assert "\n" not in str(raised.value)
    with pytest.raises(CatalogError, match="hf: is followed by the name of a data set"):
        read_catalog("hf:")
    made(2, [0, 1]).remove_columns("image").save_to_disk(tmp_path / "none")
    with pytest.raises(CatalogError, match=r"hf:.*none: no column of images"):
        read_catalog(f"hf:{tmp_path / 'none'}")
    bad = made(2).cast_column("image", datasets.Image())
    datasets.concatenate_datasets([bad, bad.select([0]).map(lambda row: {"image": None})]).save_to_disk(
        tmp_path / "null"
    )
    with pytest.raises(CatalogError, match=r"split .* row 2: no image in column 'image' of "):
        read_catalog(f"hf:{tmp_path / 'null'}")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(CatalogError, match="needs the package datasets: pip install "):
        read_catalog("hf:nobody/nothing")


def test_a_cache_that_is_gone_is_missing_images(tmp_path):
    made().save_to_disk(tmp_path / "d")
    catalog = read_catalog(f"hf:{tmp_path / 'd'}")
    shutil.rmtree(tmp_path / "d")
    with pytest.raises(Exception, match="^no such file$"):
        bytes_of(catalog)
