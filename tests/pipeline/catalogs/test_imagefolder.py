"""Folders whose images all have to be in the folder of a class."""

import pytest

from locloc.pipeline.catalogs.registry import read_catalog
from locloc.pipeline.errors import CatalogError


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_splits_above_classes(tmp_path):
    touch(tmp_path, "train/cat/1.jpg", "val/dog/2.jpg", "test/dog/deep/3.jpg")
    catalog = read_catalog(tmp_path, "imagefolder")
    assert (catalog.classes, catalog.table["split"].to_pylist()) == (("cat", "dog"), [3, 1, 2])
    assert catalog.sha256 == read_catalog(tmp_path).sha256 and catalog.kind == "folder"


def test_classes_alone(tmp_path):
    touch(tmp_path, "cat/1.jpg", "dog/2.jpg")
    assert read_catalog(tmp_path, "imagefolder").classes == ("cat", "dog")


@pytest.mark.parametrize("stray", ["train/3.jpg", "3.jpg"])
def test_an_image_without_a_class(tmp_path, stray):
    touch(tmp_path, "train/cat/1.jpg", "train/cat/2.jpg", stray)
    with pytest.raises(
        CatalogError, match=rf"{stray}: in no folder of a class; an 'imagefolder' has SPLIT/CLASS/IMAGE"
    ):
        read_catalog(tmp_path, "imagefolder")
