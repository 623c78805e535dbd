"""The catalog itself, its hash, names of files and the registry."""

import os
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from locloc.pipeline.catalogs.catalog import SCHEMA, CatalogRows, build_catalog
from locloc.pipeline.catalogs.paths import resolve, to_os_path, to_text
from locloc.pipeline.catalogs.registry import CATALOGS, read_catalog
from locloc.pipeline.errors import CatalogError

TINY = [("b/2.png", 1, 2, [(0, 0, 10.5, 20), (1, 2, 3, 4)]), ("a/1.jpg", 0, 1, []), ("é.jpg", -1, 0, [(-0.0, 1, 2, 3)])]


def build(rows, classes=("cat", "dog"), root="/data", kind="list"):
    gathered = CatalogRows()
    for id, label, split, boxes in rows:
        gathered.add(id, id, label, split, boxes)
    return build_catalog(
        kind, Path(root), gathered, classes, where=lambda row, column: f"x.csv:{row + 2}({column})", looked_for="x"
    )


def test_table_is_sorted_typed_and_in_one_chunk():
    catalog = build(TINY)
    assert len(catalog) == 3
    assert catalog.table.schema == SCHEMA
    assert all(column.num_chunks == 1 and column.null_count == 0 for column in catalog.table.columns)
    assert catalog.table["id"].to_pylist() == ["a/1.jpg", "b/2.png", "é.jpg"]
    assert catalog.table["label"].to_pylist() == [0, 1, -1]
    assert catalog.table["split"].to_pylist() == [1, 2, 0]
    assert catalog.table["boxes"].to_pylist() == [[], [[0, 0, 10.5, 20], [1, 2, 3, 4]], [[0, 1, 2, 3]]]


def test_slice_counts_as_python_does():
    catalog = build(TINY)
    assert catalog.slice(1, 3) == (["b/2.png", "é.jpg"], ["b/2.png", "é.jpg"])
    assert catalog.slice(-1, 99) == (["é.jpg"], ["é.jpg"])
    assert catalog.slice(2, 1) == ([], [])


def test_sha256_golden():
    assert build(TINY).sha256 == "59b85df3ab133eaa191826548588d6a43782798189f23ce04315ba626b2e9a80"


def test_sha256_ignores_order_root_kind_and_chunks():
    catalog = build(TINY)
    assert build(TINY[::-1], root="/elsewhere", kind="cub").sha256 == catalog.sha256
    chunked = pa.concat_tables([catalog.table.slice(0, 1), catalog.table.slice(1)])
    assert type(catalog)("list", catalog.root, chunked, catalog.classes).sha256 == catalog.sha256


@pytest.mark.parametrize(
    "change",
    [("b/3.png", *TINY[0][1:]), ("b/2.png", 0, *TINY[0][2:]), ("b/2.png", 1, 3, TINY[0][3]), (*TINY[0][:3], [])],
)
def test_sha256_sees_every_column(change):
    assert build([change, *TINY[1:]]).sha256 != build(TINY).sha256


def test_sha256_sees_paths_classes_and_where_boxes_belong():
    assert build(TINY, classes=("cat", "doge")).sha256 != build(TINY).sha256
    one = build([("a", 0, 0, [(1, 2, 3, 4)]), ("b", 0, 0, [])])
    two = build([("a", 0, 0, []), ("b", 0, 0, [(1, 2, 3, 4)])])
    assert one.sha256 != two.sha256
    rows = CatalogRows()
    rows.add("a", "other")
    moved = build_catalog("list", Path("/"), rows, (), where=lambda *_: "", looked_for="")
    assert moved.sha256 != build([("a", -1, 0, [])], classes=()).sha256


def test_duplicate_names_both_places():
    with pytest.raises(CatalogError, match=r"^x.csv:4\(id\): id 'a' was already given at x.csv:2\(id\)$"):
        build([("a", 0, 0, []), ("b", 0, 0, []), ("a", 0, 0, [])])


def test_no_rows():
    with pytest.raises(CatalogError, match="Found no images: x"):
        build([])


@pytest.mark.parametrize(
    "box", [(0, 0, float("nan"), 1), (0, 0, 1e39, 1), (2, 0, 2, 1), (0, 2, 1, 1), (16777216, 0, 16777217, 1)]
)
def test_bad_box_names_its_row(box):
    with pytest.raises(CatalogError, match=r"^x.csv:4\(boxes\): box .* is not a box"):
        build([("a", 0, 0, [(0, 0, 1, 1)]), ("b", 0, 0, []), ("c", 0, 0, [(0, 0, 1, 1), box]), ("d", 0, 0, [])])


def test_half_a_surrogate_pair_is_named():
    with pytest.raises(CatalogError, match=r"x.csv:3\(id\): id .* is not valid Unicode"):
        build([("a", 0, 0, []), ("\ud800", 0, 0, [])])


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1, unique=True), st.randoms())
def test_any_order_gives_the_same_sorted_catalog(ids, random):
    rows = [(id, n % 3 - 1, n % 4, [(0, 0, n + 1, 1)] * (n % 3)) for n, id in enumerate(ids)]
    catalog = build(rows)
    assert catalog.table["id"].to_pylist() == sorted(ids, key=str.encode)
    assert dict(zip(*(catalog.table[name].to_pylist() for name in ("id", "label")), strict=True)) == {
        id: label for id, label, _, _ in rows
    }
    random.shuffle(rows)
    assert build(rows).sha256 == catalog.sha256


def test_200_000_rows_take_seconds(tmp_path):
    order = np.random.default_rng(0).permutation(200_000)
    lines = [f"train/n{i // 1300:08d}/{i}.JPEG,n{i // 1300:08d},train,1 2 3 4" for i in order]
    (tmp_path / "train/n00000000").mkdir(parents=True)
    (tmp_path / "train/n00000000/0.JPEG").touch()
    (tmp_path / "big.csv").write_text("path,label,split,boxes\n" + "\n".join(lines))
    begin = time.monotonic()
    catalog = read_catalog(tmp_path / "big.csv")
    assert len(catalog.sha256) == 64
    assert time.monotonic() - begin < 20
    assert len(catalog) == 200_000
    assert len(catalog.classes) == 154


# names


@given(st.binary(min_size=1).filter(lambda name: b"\0" not in name))
def test_any_name_survives_as_text(name):
    text = to_text(os.fsdecode(name))
    text.encode()
    assert os.fsencode(to_os_path(text)) == name


@given(st.lists(st.sampled_from([b"\\", b"x", b"5", b"c", b"\xff", b"f", b"e9", "é".encode()])))
def test_names_that_look_escaped_survive(parts):
    name = os.fsdecode(b"".join(parts))
    assert to_os_path(to_text(name)) == name


def test_to_text_shows_the_byte():
    assert to_text(os.fsdecode(b"caf\xe9\n.jpg")) == "caf\\xe9\n.jpg"
    assert to_text("a\\xff") == "a\\x5cxff"
    assert to_text("a\\b é") == "a\\b é"


def test_resolve_finds_bytes_and_letters():
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        assert resolve(root, "a.jpg") == root / "a.jpg"
        (root / "a\\xff.jpg").touch()
        assert resolve(root, "a\\xff.jpg").name == "a\\xff.jpg"
        assert resolve(root, to_text("a\\xff.jpg")).name == "a\\xff.jpg"
        try:
            Path(root, os.fsdecode(b"a\xff.jpg")).touch()
        except OSError:
            pytest.skip("this file system takes UTF-8 names only")
        assert os.fsencode(resolve(root, "a\\xff.jpg").name) == b"a\xff.jpg"
        assert resolve(root, to_text("a\\xff.jpg")).name == "a\\xff.jpg"


# read_catalog


def test_registry_and_defaults(tmp_path):
    (tmp_path / "a.jpg").touch()
    (tmp_path / "l.csv").write_text("path\na.jpg\n")
    assert list(CATALOGS) == [
        *("folder", "list", "cub", "ilsvrc", "synthetic", "imagefolder", "webdataset", "coco", "voc", "parquet", "hf")
    ]
    assert read_catalog(str(tmp_path)).kind == "folder"
    listed = read_catalog(tmp_path / "l.csv")
    assert (listed.kind, listed.root) == ("list", tmp_path)
    assert listed.sha256 == read_catalog(tmp_path, "folder").sha256


def test_root_is_absolute(tmp_path, monkeypatch):
    (tmp_path / "a.jpg").touch()
    monkeypatch.chdir(tmp_path)
    assert read_catalog(".").root == tmp_path


def test_unknown_kind_suggests(tmp_path):
    with pytest.raises(CatalogError, match="Unknown kind of catalog 'folders'; did you mean 'folder'"):
        read_catalog(tmp_path, "folders")


@pytest.mark.parametrize("name", [None, *(name for name in CATALOGS if name != "hf")])
def test_missing_images(tmp_path, name):
    with pytest.raises(CatalogError, match=r"Cannot read images at .*gone: No such file"):
        read_catalog(tmp_path / "gone", name)
    with pytest.raises(CatalogError, match="null byte"):
        read_catalog("a\0b", name)


@pytest.mark.parametrize("name", ["folder", "cub", "ilsvrc", "voc", "webdataset", "parquet", "hf"])
def test_root_is_for_lists_only(tmp_path, name):
    with pytest.raises(CatalogError, match=f"A '{name}' catalog takes no root"):
        read_catalog(tmp_path, name, tmp_path)


@pytest.mark.parametrize("name", ["folder", "cub", "ilsvrc", "voc"])
def test_a_file_is_no_folder(tmp_path, name):
    (tmp_path / "f").touch()
    with pytest.raises(CatalogError, match=f"A '{name}' catalog is a folder, but .*f is none"):
        read_catalog(tmp_path / "f", name)


def test_a_folder_without_scenes_is_told_how_to_be_read(tmp_path):
    (tmp_path / "a.jpg").touch()
    with pytest.raises(CatalogError, match=r"no list\.csv, as `locloc data synth` writes; for .* --catalog folder"):
        read_catalog(tmp_path, "synthetic")
