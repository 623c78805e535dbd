"""Addresses of images inside archives, as text and back."""

from pathlib import Path

import pytest

from locloc.pipeline.catalogs.paths import resolve
from locloc.pipeline.io.archives.member import (
    TableCell,
    TarMember,
    cell_address,
    file_names,
    member_id,
    split_address,
    tar_address,
)


def test_an_address_is_a_path_below_the_root():
    path = tar_address("a/x.tar", 1536, 7, "c/d//e.jpg")
    assert path == "a/x.tar//1536+7/c/d//e.jpg"
    assert split_address(path) == ("a/x.tar", "1536+7/c/d//e.jpg")
    assert resolve(Path("/root"), path) == TarMember(Path("/root/a/x.tar"), 1536, 7, "c/d//e.jpg")
    assert resolve("s3://b/r", path) == TarMember("s3://b/r/a/x.tar", 1536, 7, "c/d//e.jpg")
    cell = cell_address("x.parquet", 17, "image")
    assert resolve(Path("/root"), cell) == TableCell(Path("/root/x.parquet"), 17, "image")
    assert str(resolve(Path("/root"), cell)) == "/root/x.parquet//17/image"


def test_other_paths_stay_files():
    for path in ("a/b.jpg", "a.tar/1536+7/b.jpg"):
        assert resolve(Path("/root"), path) == Path("/root", path)


def test_ids():
    assert member_id("a/x.tar//1536+7/./c//d.jpg") == "a/x/c/d.jpg"
    assert member_id("a/x-0.parquet//17/image") == "a/x-0/00000017"
    with pytest.raises(ValueError, match="relative and has no"):
        member_id("x.tar//1536+7/../d.jpg")


def test_names_that_masks_are_found_by():
    assert file_names(["a.jpg", "x.tar//1+2/c/1.jpg"]) == ["a.jpg", "c/1.jpg"]
    assert file_names(["x.tar//1+2/c/1.jpg", "y.tar//1+2/c/1.jpg"]) == ["x/c/1.jpg", "y/c/1.jpg"]
    assert file_names(["x.parquet//1/image", "x.parquet//2/image"]) == ["x/00000001", "x/00000002"]
