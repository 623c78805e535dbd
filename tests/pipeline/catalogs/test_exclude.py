"""`--exclude GLOB`: the catalog of a data set that never had these images."""

import pytest

from locloc.pipeline.catalogs.exclude import exclude_images
from locloc.pipeline.catalogs.merge import merge_catalogs
from locloc.pipeline.catalogs.registry import read_catalog
from locloc.pipeline.errors import CatalogError


def touch(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()


@pytest.mark.parametrize(
    ("globs", "left"),
    [
        (["raw"], ["a.jpg", "cat/b.png", "cat/raw/c.jpg"]),
        (["raw/"], ["a.jpg", "cat/b.png", "cat/raw/c.jpg"]),
        (["*raw*"], ["a.jpg", "cat/b.png"]),
        (["*/raw", "*.png"], ["a.jpg", "raw/d.jpg"]),
        (["*/*"], ["a.jpg"]),
        (["cat/?.png"], ["a.jpg", "cat/raw/c.jpg", "raw/d.jpg"]),
        (["[ab].jpg"], ["cat/b.png", "cat/raw/c.jpg", "raw/d.jpg"]),
        (["RAW"], ["a.jpg", "cat/b.png", "cat/raw/c.jpg", "raw/d.jpg"]),
        ([], ["a.jpg", "cat/b.png", "cat/raw/c.jpg", "raw/d.jpg"]),
    ],
)
def test_globs(tmp_path, globs, left):
    touch(tmp_path, "a.jpg", "cat/b.png", "cat/raw/c.jpg", "raw/d.jpg")
    catalog = read_catalog(tmp_path, exclude=globs)
    assert catalog.slice(0, 9)[0] == left and catalog.exclude == tuple(globs)
    assert sum(item.count for item in catalog.left_out) == 4 - len(left)
    assert [note.endswith("matches no image") for note in catalog.notes] == [True] * (len(left) == 4 and bool(globs))


def test_it_is_the_catalog_of_a_folder_without_these_images(tmp_path):
    touch(tmp_path / "all", "train/cat/a.jpg", "val/dog/b.jpg", "extra/eel/c.jpg", "extra/d.jpg", "extra/e.jpg")
    touch(tmp_path / "some", "train/cat/a.jpg", "val/dog/b.jpg")
    assert "extra" in read_catalog(tmp_path / "all").classes
    catalog, expected = read_catalog(tmp_path / "all", exclude=["extra"]), read_catalog(tmp_path / "some")
    assert catalog.sha256 == expected.sha256 and catalog.classes == ("cat", "dog")


@pytest.mark.parametrize("labels", [["cat", "dog", "eel", ""], ["4", "2", "7", ""]])
def test_a_list_without_these_rows(tmp_path, labels):
    touch(tmp_path, *"abcd")
    lines = [f"{name},{label},0 0 {ord(name)} 9" for name, label in zip("abcd", labels, strict=True)]
    (tmp_path / "all.csv").write_text("\n".join(["path,label,boxes", *lines]))
    (tmp_path / "some.csv").write_text("\n".join(["path,label,boxes", lines[0], *lines[2:]]))
    catalog, expected = read_catalog(tmp_path / "all.csv", exclude=["b"]), read_catalog(tmp_path / "some.csv")
    assert catalog.sha256 == expected.sha256 and catalog.classes == expected.classes


def test_nothing_left(tmp_path):
    touch(tmp_path, "a.jpg", "b.jpg")
    with pytest.raises(CatalogError, match=r"--exclude \* leaves none of the 2 images"):
        read_catalog(tmp_path, exclude=["*"])


def test_accents_match_in_any_normal_form(tmp_path):
    touch(tmp_path, "cafe\u0301/a.jpg", "b.jpg")
    assert read_catalog(tmp_path, exclude=["caf\u00e9"]).slice(0, 9)[0] == ["b.jpg"]


def test_a_grown_data_set_is_read_with_the_same_globs(tmp_path):
    touch(tmp_path, "cat/a.jpg", "raw/b.jpg")
    old = read_catalog(tmp_path, exclude=["raw"])
    touch(tmp_path, "cat/c.jpg", "raw/d.jpg")
    new = read_catalog(tmp_path, grown_from=old)
    union = merge_catalogs(old, new)
    assert union.slice(0, 9)[0] == ["cat/a.jpg", "cat/c.jpg"] and union.exclude == ("raw",)
    assert [(item.kind, item.count) for item in union.left_out] == [("excluded", 2)]
    named = read_catalog(tmp_path / "raw", grown_from=old)  # another folder, asked for by name
    union = merge_catalogs(old, named)
    assert union.slice(0, 9)[0] == ["cat/a.jpg", "raw/b.jpg", "raw/d.jpg"]
    assert [(item.kind, item.count) for item in union.left_out] == [("excluded", 1)]


def test_twice(tmp_path):
    touch(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    catalog = exclude_images(read_catalog(tmp_path, exclude=["a*"]), ["b*", "b*"])
    assert catalog.slice(0, 9)[0] == ["c.jpg"] and catalog.exclude == ("a*", "b*")
