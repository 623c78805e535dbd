"""Folders of images: labels, splits, and everything odd that a file system can hold."""

import os
import socket

import pytest

from locloc.pipeline.catalogs.folders.walk import IMAGE_SUFFIXES, walk_images
from locloc.pipeline.catalogs.left_out import LeftOut
from locloc.pipeline.catalogs.paths import resolve
from locloc.pipeline.catalogs.registry import read_catalog
from locloc.pipeline.errors import CatalogError


def touch(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()


def columns(catalog, *names):
    return list(zip(*(catalog.table[name].to_pylist() for name in names), strict=True))


def test_classes_are_the_top_folders_that_hold_images(tmp_path):
    touch(tmp_path, "dog/b.JPG", "cat/deep/er/a.png", "root.webp", "dog/notes.txt", "empty/readme.md", "cat/x.pdf")
    catalog = read_catalog(tmp_path)
    assert catalog.classes == ("cat", "dog")
    assert columns(catalog, "id", "path", "label", "split") == [
        ("cat/deep/er/a.png", "cat/deep/er/a.png", 0, 0),
        ("dog/b.JPG", "dog/b.JPG", 1, 0),
        ("root.webp", "root.webp", -1, 0),
    ]


def test_folders_without_an_image_are_named(tmp_path):
    touch(tmp_path, "train/cat/a.jpg", "train/labels/a.txt", "val/.keep", "train/dog/.keep", "train/@eaDir/x", "x.txt")
    assert "no image lies in 2 folders: train/dog/, val/" in read_catalog(tmp_path).notes
    touch(tmp_path, "train/dog/b.jpg", "val/dog/b.jpg")
    assert read_catalog(tmp_path).notes == ()


def test_flat_folder_has_no_classes(tmp_path):
    touch(tmp_path, "b.jpg", "a.jpg")
    catalog = read_catalog(tmp_path)
    assert catalog.classes == ()
    assert columns(catalog, "id", "label") == [("a.jpg", -1), ("b.jpg", -1)]


def test_split_folders(tmp_path):
    touch(tmp_path, "Train/dog/a.jpg", "Train/cat/a.jpg", "VALIDATION/dog/b.jpg", "valid/c.jpg", "test/eel/d.jpg")
    catalog = read_catalog(tmp_path)
    assert catalog.classes == ("cat", "dog", "eel")
    assert columns(catalog, "id", "label", "split") == [
        ("Train/cat/a.jpg", 0, 1),
        ("Train/dog/a.jpg", 1, 1),
        ("VALIDATION/dog/b.jpg", 1, 2),
        ("test/eel/d.jpg", 2, 3),
        ("valid/c.jpg", -1, 2),
    ]


@pytest.mark.parametrize("other", ["extra/a.jpg", "a.jpg", "extra/cat/a.jpg"])
def test_strays_beside_two_splits_have_neither_split_nor_label(tmp_path, other):
    touch(tmp_path, "train/cat/a.jpg", "val/cat/a.jpg", other)
    catalog = read_catalog(tmp_path)
    assert catalog.classes == ("cat",)
    expected = {"train/cat/a.jpg": (0, 1), "val/cat/a.jpg": (0, 2), other: (-1, 0)}
    assert {id: rest for id, *rest in columns(catalog, "id", "label", "split")} == {
        id: list(rest) for id, rest in expected.items()
    }
    shown = other if "/" not in other else "extra/ (1)"
    assert catalog.notes == (f"1 image beside the splits has neither split nor label: {shown}",)


def test_hidden_names_are_skipped(tmp_path):
    touch(tmp_path, ".a.jpg", ".cache/b.jpg", "._c.jpg", "d.jpg")
    assert read_catalog(tmp_path).slice(0, 9)[0] == ["d.jpg"]


def test_suffixes_are_raster_formats_in_any_case(tmp_path):
    assert {".jpg", ".jpeg", ".png", ".tiff", ".webp", ".avif", ".jp2", ".hdr"} <= IMAGE_SUFFIXES
    assert not {".eps", ".ps", ".pdf", ".svg", ".wmf", ".h5"} & IMAGE_SUFFIXES
    touch(tmp_path, *(f"x{suffix.upper()}" for suffix in IMAGE_SUFFIXES))
    assert len(read_catalog(tmp_path)) == len(IMAGE_SUFFIXES)


def test_links_are_followed_and_loops_cut(tmp_path):
    touch(tmp_path / "out", "o.jpg")
    touch(tmp_path / "in", "a/b/c.jpg")
    (tmp_path / "in/linked").symlink_to(tmp_path / "out")
    (tmp_path / "in/a/b/up").symlink_to(tmp_path / "in")
    (tmp_path / "in/self").symlink_to(".")
    (tmp_path / "in/knot").symlink_to("knot")
    assert read_catalog(tmp_path / "in").slice(0, 9)[0] == ["a/b/c.jpg", "linked/o.jpg"]


def test_what_only_looks_like_an_image_is_a_row(tmp_path):
    touch(tmp_path, "full.jpg/a.jpg")
    (tmp_path / "hollow.jpg/inner.png/plain").mkdir(parents=True)
    (tmp_path / "broken.jpg").symlink_to("nowhere")
    (tmp_path / "knot.jpg").symlink_to("knot.jpg")
    (tmp_path / "loop.jpg").symlink_to(".")
    (tmp_path / "broken").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe.jpg")
    ids = read_catalog(tmp_path).slice(0, 9)[0]
    assert ids == ["broken.jpg", "full.jpg/a.jpg", "hollow.jpg/inner.png", "knot.jpg", "loop.jpg", "pipe.jpg"]


def test_socket_is_a_row(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a socket's name may have 107 bytes only
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("s.jpg")
        assert read_catalog(tmp_path).slice(0, 9)[0] == ["s.jpg"]


def test_odd_names(tmp_path):
    names = [b"new\nline.jpg", "日本 é.jpg".encode(), b"bad\xe9\xff.jpg", b"lit\\xe9.jpg", b"\xe9class/a.jpg"]
    try:
        for name in names:
            path = os.path.join(os.fsencode(tmp_path), name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(name)
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    catalog = read_catalog(tmp_path)
    ids, paths = catalog.slice(0, 9)
    assert set(ids) == {"new\nline.jpg", "日本 é.jpg", "bad\\xe9\\xff.jpg", "lit\\x5cxe9.jpg", "\\xe9class/a.jpg"}
    assert catalog.classes == ("\\xe9class",)
    assert {resolve(catalog.root, path).read_bytes() for path in paths} == set(names)


def test_a_thousand_levels(tmp_path, monkeypatch):
    depth = 1200  # more than Python's stack, less than the longest path
    monkeypatch.chdir(tmp_path)
    for _ in range(depth):
        os.mkdir("d")
        os.chdir("d")
    open("a.jpg", "wb").close()
    os.chdir(tmp_path)
    assert read_catalog(tmp_path).slice(0, 9)[0] == ["d/" * depth + "a.jpg"]
    for level in range(depth, -1, -1):  # shutil.rmtree recurses
        folder = "d/" * level
        if level == depth:
            os.remove(folder + "a.jpg")
        else:
            os.rmdir(folder + "d")


def test_no_images_says_what_was_looked_for(tmp_path):
    touch(tmp_path, "a.txt")
    with pytest.raises(CatalogError, match=r"Found no images: no file below .* ends in one of .*\.jpg"):
        read_catalog(tmp_path)


def assert_shut_is_left_out(catalog):
    assert catalog.slice(0, 9)[0] == ["a.jpg"]
    assert catalog.left_out == (LeftOut("unreadable", "permission denied", "", 1, ("shut",)),)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_unreadable_folder_is_named(tmp_path):
    touch(tmp_path, "a.jpg", "shut/b.jpg")
    (tmp_path / "shut").chmod(0)
    try:
        assert_shut_is_left_out(read_catalog(tmp_path))
    finally:
        (tmp_path / "shut").chmod(0o700)


def test_link_that_cannot_be_looked_at_is_named(tmp_path):
    touch(tmp_path, "a.jpg")
    (tmp_path / "far").symlink_to("x" * 300)  # ENAMETOOLONG, for root as well
    (tmp_path / "far.jpg").symlink_to("x" * 300)
    catalog = read_catalog(tmp_path)
    assert catalog.slice(0, 9)[0] == ["a.jpg", "far.jpg"]
    assert catalog.left_out == (LeftOut("unreadable", "file name too long", "", 1, ("far",)),)
    with pytest.raises(CatalogError, match=r"Cannot read .*/far: File name too long"):
        walk_images(tmp_path)  # nobody counts what it leaves out


def test_unreadable_folder_is_named_even_for_root(tmp_path, monkeypatch):
    touch(tmp_path, "a.jpg", "shut/b.jpg")
    scandir = os.scandir

    def refuse(folder):
        if str(folder).endswith("shut"):
            raise PermissionError(13, "Permission denied", folder)
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    assert_shut_is_left_out(read_catalog(tmp_path))
    with pytest.raises(CatalogError, match=r"Cannot read folder .*shut: Permission denied"):
        walk_images(tmp_path)
    with pytest.raises(CatalogError, match=r"Cannot read folder .*shut: Permission denied"):
        read_catalog(tmp_path / "shut")
