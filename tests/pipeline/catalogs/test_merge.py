"""The union of two catalogs is what a reader finds once the data set has grown."""

import random
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from locloc.pipeline.catalogs.catalog import SCHEMA, Catalog, CatalogRows, build_catalog
from locloc.pipeline.catalogs.merge import merge_catalogs
from locloc.pipeline.catalogs.registry import read_catalog
from locloc.pipeline.errors import CatalogError


def touch(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()


def build(rows, classes=(), root="/data", kind="list"):
    gathered = CatalogRows()
    for id, *rest in rows:
        gathered.add(id, id, *rest)
    root = root if "://" in root else Path(root)
    return build_catalog(kind, root, gathered, classes, where="{}({})".format, looked_for="x")


def labels(catalog):
    names = [*catalog.classes, None]
    ids, codes = (catalog.table[name].to_pylist() for name in ("id", "label"))
    return {id: names[code] for id, code in zip(ids, codes, strict=True)}


def assert_same(union, fresh):
    assert union.table.schema == SCHEMA
    assert all(column.num_chunks == 1 and column.null_count == 0 for column in union.table.columns)
    assert union.table.equals(fresh.table) and union.classes == fresh.classes
    assert union.sha256 == fresh.sha256
    assert (union.kind, union.root) == (fresh.kind, fresh.root)


# --- grown data sets -------------------------------------------------------------------------------------------------


def test_a_grown_folder(tmp_path):
    touch(tmp_path, "cat/a.jpg", "eel/b.jpg", "root.jpg")
    old = read_catalog(tmp_path)
    touch(tmp_path, "ant/c.jpg", "dog/d.jpg", "cat/0.jpg", "zoo.jpg")
    new = read_catalog(tmp_path)
    assert_same(merge_catalogs(old, new), new)
    assert_same(merge_catalogs(old, old), old)
    assert_same(merge_catalogs(new, old), new)


def test_a_grown_folder_with_splits(tmp_path):
    touch(tmp_path, "train/cat/a.jpg", "val/dog/b.jpg")
    old = read_catalog(tmp_path)
    touch(tmp_path, "test/bat/c.jpg", "train/d.jpg")
    new = read_catalog(tmp_path)
    assert_same(merge_catalogs(old, new), new)


@pytest.mark.parametrize("below", ["eel", "eel/deep", "cat", "cat/deep"])
def test_a_new_folder_below_the_old(tmp_path, below):
    touch(tmp_path, "cat/a.jpg", "dog/b.jpg")
    old = read_catalog(tmp_path)
    touch(tmp_path / below, "c.jpg", "x/d.jpg")
    union = merge_catalogs(old, read_catalog(tmp_path / below))
    assert_same(union, read_catalog(tmp_path))
    assert labels(union)[f"{below}/x/d.jpg"] == below.partition("/")[0]


def test_a_new_split_below_the_old(tmp_path):
    touch(tmp_path, "train/cat/a.jpg")
    old = read_catalog(tmp_path)
    touch(tmp_path, "val/ant/b.jpg")
    assert_same(merge_catalogs(old, read_catalog(tmp_path / "val")), read_catalog(tmp_path))


def test_a_folder_that_ends_the_splits_says_so(tmp_path):
    touch(tmp_path, "train/cat/a.jpg")
    old = read_catalog(tmp_path)
    touch(tmp_path, "extra/b.jpg")
    for new in (read_catalog(tmp_path), read_catalog(tmp_path / "extra")):
        with pytest.raises(CatalogError, match="Image 'train/cat/a.jpg' is in both catalogs with another label: 'cat'"):
            merge_catalogs(old, new)


def test_a_grown_list(tmp_path):
    rows = [
        "a.jpg,cat,train,1 2 3 4",
        "b.jpg,eel,val,",
        "c.jpg,,test,0 0 1 1;2 2 3 3",
        "d/e.jpg,ant,,",
        "f.jpg,cat,,5 5 6 6",
    ]
    header = "path,label,split,boxes"

    def read(chosen):
        (tmp_path / "list.csv").write_text("\n".join([header, *chosen]))
        return read_catalog(tmp_path / "list.csv")

    touch(tmp_path, *(row.partition(",")[0] for row in rows))
    whole = read(rows)
    for seed in range(20):
        picked = random.Random(seed)
        old = picked.sample(rows, picked.randint(1, 5))
        new = [row for row in rows if row not in old or picked.random() < 0.5] or rows[:1]
        assert_same(merge_catalogs(read(old), read(new)), whole)


def test_a_list_below(tmp_path):
    touch(tmp_path, "new/é/x.jpg", "a.jpg")
    (tmp_path / "list.csv").write_text("path,label\na.jpg,cat\n")
    (tmp_path / "new/list.csv").write_text("path,label\né/x.jpg,ant\n")
    union = merge_catalogs(read_catalog(tmp_path / "list.csv"), read_catalog(tmp_path / "new/list.csv"))
    (tmp_path / "list.csv").write_text("path,label\na.jpg,cat\nnew/é/x.jpg,ant\n")
    assert_same(union, read_catalog(tmp_path / "list.csv"))


def test_names_that_the_file_system_links(tmp_path):
    touch(tmp_path / "real", "a/1.jpg")
    (tmp_path / "link").symlink_to("real")
    old = read_catalog(tmp_path / "link")
    touch(tmp_path / "real", "b/2.jpg")
    union = merge_catalogs(old, read_catalog(tmp_path / "real" / "b"))
    assert_same(union, read_catalog(tmp_path / "link"))


def test_bare_integers_stay_as_they_are():
    union = merge_catalogs(build([("a", 7), ("c", -1)]), build([("b", 3)]))
    assert union.classes == () and union.table["label"].to_pylist() == [7, 3, -1]
    unlabelled = merge_catalogs(build([("a", 7)]), build([("b", -1)]))
    assert unlabelled.table["label"].to_pylist() == [7, -1]


def test_names_meet_images_without_labels():
    union = merge_catalogs(build([("a", -1)]), build([("b", 0)], ["cat"]))
    assert labels(union) == {"a": None, "b": "cat"}


def test_an_order_of_classes_that_is_not_sorted_is_kept():
    old = build([("a", 0), ("b", 1)], ["zebra", "ant"], kind="cub")
    assert merge_catalogs(old, build([("c", 0)], ["zebra", "ant", "eel"], kind="cub")).classes == (
        "zebra",
        "ant",
        "eel",
    )
    union = merge_catalogs(old, build([("c", 0), ("d", 1)], ["bat", "ant"], kind="cub"))
    assert union.classes == ("zebra", "ant", "bat")
    assert labels(union) == {"a": "zebra", "b": "ant", "c": "bat", "d": "ant"}


# --- what does not fit -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "between"),
    [
        ("/data", "/data", ""),
        ("/data", "/data/x/y", "x/y/"),
        ("/", "/data", "data/"),
        ("s3://bucket", "s3://bucket", ""),
        ("s3://bucket", "s3://bucket/x", "x/"),
        ("s3://bucket/x", "s3://bucket/x/y z", "y z/"),
    ],
)
def test_roots(old, new, between):
    union = merge_catalogs(build([("a.jpg",)], root=old), build([("b.jpg",)], root=new))
    assert sorted(union.table["path"].to_pylist()) == sorted(["a.jpg", f"{between}b.jpg"])
    assert union.table["id"].equals(union.table["path"])
    assert str(union.root) == old


@pytest.mark.parametrize(
    ("old", "new", "root", "old_path", "new_path"),
    [
        ("/data/x", "/data", "/data", "x/a.jpg", "b.jpg"),
        ("/data", "/data2", "/", "data/a.jpg", "data2/b.jpg"),
        ("/data/x", "/data/y/z", "/data", "x/a.jpg", "y/z/b.jpg"),
        ("s3://bucket/x", "s3://bucket", "s3://bucket", "x/a.jpg", "b.jpg"),
        ("s3://bucket/x", "s3://bucket/x2", "s3://bucket", "x/a.jpg", "x2/b.jpg"),
    ],
)
def test_another_root(old, new, root, old_path, new_path):
    """Ids of the old images stay: their masks are copied by id."""
    union = merge_catalogs(build([("a.jpg",)], root=old), build([("b.jpg",)], root=new))
    assert str(union.root) == root
    assert dict(zip(*union.slice(0, 9), strict=True)) == {"a.jpg": old_path, new_path: new_path}
    assert union.notes == (f"the root is {root} now, which holds old and new images; the old images keep their ids",)


def test_another_root_and_back(tmp_path):
    """Images of the old root are known again by their files, whatever the root is now."""
    touch(tmp_path, "a/cat/1.jpg", "b/cat/1.jpg", "b/dog/2.jpg")
    first, second = read_catalog(tmp_path / "a"), read_catalog(tmp_path / "b")
    union = merge_catalogs(first, second)
    assert union.slice(0, 9)[0] == ["b/cat/1.jpg", "b/dog/2.jpg", "cat/1.jpg"]
    assert union.kind == "list" and union.root == tmp_path and set(labels(union).values()) == {"cat", "dog"}
    for again in (first, second):
        assert_same(merge_catalogs(union, again), union)
    touch(tmp_path, "a/eel/3.jpg")
    grown = merge_catalogs(union, read_catalog(tmp_path / "a"))
    assert labels(grown) == {"b/cat/1.jpg": "cat", "b/dog/2.jpg": "dog", "cat/1.jpg": "cat", "a/eel/3.jpg": "eel"}


def test_a_data_set_that_was_moved_is_not_added_to_itself(tmp_path):
    touch(tmp_path, "new/cat/1.jpg", "new/cat/2.jpg")
    old = build([("cat/1.jpg", 0)], ["cat"], root=str(tmp_path / "old"))
    with pytest.raises(CatalogError, match="/old is not there any more, and 1 images in .*/new have the ids of old"):
        merge_catalogs(old, read_catalog(tmp_path / "new"))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("s3://bucket", "gs://bucket"),
        ("s3://bucket/x", "s3://bucket2/x"),
        ("s3://data", "/data"),
        ("/data", "s3://data"),
    ],
)
def test_roots_that_do_not_fit(old, new):
    with pytest.raises(CatalogError, match=f"^The new images are at {new}, outside {old} .*write a list of both"):
        merge_catalogs(build([("a.jpg",)], root=old), build([("b.jpg",)], root=new))


def test_integers_and_names_do_not_mix():
    names, integers = build([("a", 0)], ["cat"]), build([("b", 0)])
    with pytest.raises(CatalogError, match="^The new images .* bare integers, the old ones .*'cat'; use one kind"):
        merge_catalogs(names, integers)
    with pytest.raises(CatalogError, match="^The old images .* bare integers, the new ones .*'cat'; use one kind"):
        merge_catalogs(integers, names)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("b", 0, 1, [(0, 0, 1, 1)]), "another label: 'dog' in the old one, 'cat' in the new"),
        (("b", -1, 1, [(0, 0, 1, 1)]), "another label: 'dog' in the old one, none in the new"),
        (("b", 1, 2, [(0, 0, 1, 1)]), "another split: 'train' in the old one, 'val' in the new"),
        (
            ("b", 1, 1, [(0, 0, 1, 2)]),
            r"another boxes: \[\[0.0, 0.0, 1.0, 1.0\]\] in .*, \[\[0.0, 0.0, 1.0, 2.0\]\] in",
        ),
        (("b", 1, 1, []), r"another boxes: .* in the old one, \[\] in the new"),
    ],
)
def test_images_of_both_must_agree(change, message):
    old = build([("a", 0), ("b", 1, 1, [(0, 0, 1, 1)]), ("c", 0)], ["cat", "dog"])
    merge_catalogs(old, build([("b", 0, 1, [(0, 0, 1, 1)]), ("d", 0)], ["dog"]))
    with pytest.raises(CatalogError, match=f"^Image 'b' is in both catalogs with {message}"):
        merge_catalogs(old, build([("d", 0), change], ["cat", "dog"]))


def test_one_id_for_two_files():
    gathered = CatalogRows()
    gathered.add("a", "elsewhere.jpg")
    new = build_catalog("list", Path("/data"), gathered, (), where="{}({})".format, looked_for="x")
    with pytest.raises(CatalogError, match="^Image 'a' .* another path: 'a' in the old one, 'elsewhere.jpg'"):
        merge_catalogs(build([("a",)]), new)


def test_a_million_rows_take_seconds():
    def catalog(start, count, classes):
        numbers = range(start, start + count)
        boxes = pa.array([[[0, 0, 1, 1]]] * count, SCHEMA.field("boxes").type)
        ids = pa.array([f"n{number:08d}.jpg" for number in numbers])
        zeros = np.zeros(count, np.uint8)
        table = pa.table([ids, ids, pa.array(zeros.astype(np.int32)), pa.array(zeros), boxes], schema=SCHEMA)
        return Catalog("list", Path("/data"), table, classes)

    old, new = catalog(0, 1_000_000, ("cat",)), catalog(900_000, 400_000, ("cat", "dog"))
    begin = time.monotonic()
    union = merge_catalogs(old, new)
    assert time.monotonic() - begin < 20
    assert len(union) == 1_300_000
