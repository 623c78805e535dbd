"""Lists with absolute paths, below one folder and below several."""

from pathlib import Path

import pytest

from locloc.pipeline.catalogs.paths import resolve
from locloc.pipeline.catalogs.registry import read_catalog
from locloc.pipeline.catalogs.roots import common_folder
from locloc.pipeline.errors import CatalogError


@pytest.mark.parametrize(
    ("folders", "common"),
    [
        (["/a/b"], "/a/b"),
        (["/a/b", "/a/b/c"], "/a/b"),
        (["/a/b", "/a/bc"], "/a"),
        (["/a", "/b"], "/"),
        (["", "/b"], "/"),
        (["s3://x/a", "s3://x/b"], "s3://x"),
        (["s3://x", "s3://y"], None),
        (["s3://x", "gs://x"], None),
        (["s3://x", "/x"], None),
    ],
)
def test_common_folder(folders, common):
    assert common_folder(folders) == common_folder(folders[::-1]) == common


@pytest.fixture
def places(tmp_path):
    for name in ("one/cat/1.jpg", "one/cat/2.jpg", "two/dog/1.jpg", "lists/a.jpg", "two/a b.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path


def read(places, *paths, root=None):
    (places / "lists/l.csv").write_text("\n".join(["path", *map(str, paths)]) + "\n")
    catalog = read_catalog(places / "lists/l.csv", root=root)
    for path, wanted in zip(sorted(map(str, paths)), catalog.slice(0, 9)[1], strict=False):
        assert path and Path(resolve(catalog.root, wanted)).is_file()
    return catalog


def test_absolute_paths_below_one_folder(places):
    catalog = read(places, places / "one/cat/1.jpg", f"{places}/one//cat/./2.jpg")
    assert catalog.root == places / "one/cat"
    assert catalog.slice(0, 9) == (["1.jpg", "2.jpg"], ["1.jpg", "2.jpg"])
    assert catalog.notes == (
        f"paths lie outside the list's folder: the root is {places}/one/cat, and an image's id begins there",
    )


def test_absolute_paths_below_several(places):
    catalog = read(places, places / "one/cat/1.jpg", places / "two/dog/1.jpg", "a.jpg")
    assert catalog.root == places
    assert catalog.slice(0, 9)[0] == ["lists/a.jpg", "one/cat/1.jpg", "two/dog/1.jpg"]


def test_given_ids_stay(places):
    (places / "lists/l.csv").write_text(f"path,id\n{places}/one/cat/1.jpg,x\na.jpg,y\n")
    assert read_catalog(places / "lists/l.csv").slice(0, 9) == (["x", "y"], ["one/cat/1.jpg", "lists/a.jpg"])


def test_files_by_url(places):
    url = f"file://{places}/two/a%20b.jpg"
    assert read(places, url).slice(0, 1)[1] == ["a b.jpg"]
    assert read_catalog(url.replace("/a%20b.jpg", "")).root == places / "two"
    assert read_catalog(f"file://localhost{places}/two").root == places / "two"


def test_a_data_set_that_was_moved(places):
    catalog = read(places, "/old/place/one/cat/1.jpg", "/old/place/two/dog/1.jpg", root=f"/old/place={places}")
    assert catalog.root == places and catalog.slice(0, 9)[0] == ["one/cat/1.jpg", "two/dog/1.jpg"]
    assert catalog.notes[0] == f"paths below /old/place are read below {places}"
    with pytest.raises(CatalogError, match="^The root of a list is a folder, but .*/a=b is none"):
        read(places, "a.jpg", root=f"{places}/a=b".lstrip("/"))
    (places / "lists/a=b").mkdir()
    (places / "lists/a=b/c.jpg").touch()
    assert read(places, "c.jpg", root=places / "lists/a=b").root == places / "lists/a=b"


def test_a_root_that_is_given_holds_every_path(places):
    assert read(places, places / "one/cat/1.jpg", root=places).slice(0, 1)[0] == ["one/cat/1.jpg"]
    with pytest.raises(CatalogError, match=r"l.csv:2: path '.*/two/dog/1.jpg' is outside the root .*/one/"):
        read(places, places / "two/dog/1.jpg", root=places / "one")
