"""Parquet with images inside: columns, splits, places, and every way in which a file can be wrong."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from locloc.pipeline.catalogs import parquet
from locloc.pipeline.catalogs.paths import resolve
from locloc.pipeline.catalogs.registry import read_catalog
from locloc.pipeline.errors import CatalogError
from locloc.pipeline.io.archives import table_rows
from locloc.pipeline.io.images import MissingImageError, read_image_bytes

STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
NAMES = ["cat", "dog", "eel"]


def images(*contents):
    return pa.array(
        [content if content is None else {"bytes": content, "path": "x.jpg"} for content in contents], STRUCT
    )


def write(file, columns, features=None, group_rows=2):
    """A file as `datasets` writes it; features of ClassLabels by column > names."""
    table = pa.table(columns)
    if features is not None:
        found = {name: {"names": names, "_type": "ClassLabel"} for name, names in features.items()}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": found}})})
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, file, row_group_size=group_rows)
    return file


TRAIN = {
    "image": images(b"a", b"b", b"c"),
    "label": pa.array([2, -1, 0]),
    "boxes_xywh": pa.array([[[1.0, 2, 3, 4]], None, []]),
    "caption": ["x", "y", "z"],
}


def rows_of(catalog):
    return [(row["id"], row["label"], row["split"], row["boxes"]) for row in catalog.table.to_pylist()]


def bytes_of(catalog, row):
    (path,) = catalog.slice(row, row + 1)[1]
    return read_image_bytes(resolve(catalog.root, path))


def test_a_data_set(tmp_path, memory):
    write(tmp_path / "d/data/train-00000-of-00002.parquet", TRAIN, {"label": NAMES})
    write(tmp_path / "d/data/train-00001-of-00002.parquet", TRAIN, {"label": NAMES})
    write(tmp_path / "d/data/validation-00000-of-00001.parquet", TRAIN, {"label": NAMES})
    catalog = read_catalog(tmp_path / "d", "parquet")
    assert (catalog.kind, catalog.root, catalog.classes) == ("parquet", tmp_path / "d", ("cat", "dog", "eel"))
    assert rows_of(catalog) == [
        (f"data/{name}/0000000{row}", label, split, boxes)
        for name, split in (
            ("train-00000-of-00002", 1),
            ("train-00001-of-00002", 1),
            ("validation-00000-of-00001", 2),
        )
        for row, (label, boxes) in enumerate([(2, [[1, 2, 4, 6]]), (-1, []), (0, [])])
    ]
    assert catalog.table["path"][1].as_py() == "data/train-00000-of-00002.parquet//1/image"
    assert [bytes_of(catalog, row) for row in range(4)] == [b"a", b"b", b"c", b"a"]
    assert catalog.notes == ("columns ignored: caption",)
    for file in (tmp_path / "d/data").iterdir():
        memory.pipe_file(f"/bucket/d/data/{file.name}", file.read_bytes())
    far = read_catalog("memory://bucket/d", "parquet")
    assert far.sha256 == catalog.sha256
    assert [bytes_of(far, row) for row in range(4)] == [b"a", b"b", b"c", b"a"]


def test_bytes_columns_and_columns_of_one_file(tmp_path):
    file = write(
        tmp_path / "x.parquet",
        {
            "img": pa.array([b"1", b"2"], pa.large_binary()),
            "mask": images(b"m", b"m"),
            "class": ["dog", "cat"],
            "split": ["dev", None],
            "boxes": ["1 2 3 4", ""],
        },
    )
    catalog = read_catalog(file, "parquet")
    assert catalog.classes == ("cat", "dog")
    assert [row[1:] for row in rows_of(catalog)] == [(1, 2, [[1, 2, 3, 4]]), (0, 0, [])]
    assert [bytes_of(catalog, row) for row in range(2)] == [b"1", b"2"]


def test_which_column_is_the_label(tmp_path):
    columns = {"image": images(b"1", b"2"), "fine": pa.array([0, 2]), "coarse": pa.array([1, 0])}
    file = write(tmp_path / "x.parquet", columns, {"fine": NAMES, "coarse": NAMES[:2]})
    assert read_catalog(file, "parquet", label="coarse").classes == ("cat", "dog")
    assert read_catalog(file, "parquet", label="fine").table["label"].to_pylist() == [0, 2]
    with pytest.raises(CatalogError, match="columns fine, coarse may all be the label; choose by --label fine"):
        read_catalog(file, "parquet")
    with pytest.raises(CatalogError, match="no column 'fin' of labels; did you mean 'fine'"):
        read_catalog(file, "parquet", label="fin")


def test_what_datasets_writes(tmp_path):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=NAMES)})
    data = {"image": [{"bytes": b"a", "path": None}, {"bytes": b"b", "path": None}], "label": [1, 2]}
    datasets.Dataset.from_dict(data, features=features).to_parquet(tmp_path / "x.parquet")
    catalog = read_catalog(tmp_path / "x.parquet", "parquet")
    assert (catalog.classes, catalog.table["label"].to_pylist()) == (tuple(NAMES), [1, 2])
    assert [bytes_of(catalog, row) for row in range(2)] == [b"a", b"b"]


def test_a_block_reads_each_row_group_once(tmp_path, monkeypatch):
    count = 64
    write(tmp_path / "x.parquet", {"image": images(*(b"%d" % row for row in range(count)))}, group_rows=10)
    catalog, read = read_catalog(tmp_path, "parquet"), []
    read_group = table_rows._Parquet.read
    monkeypatch.setattr(table_rows._Parquet, "read", lambda self, *at: read.append(at) or read_group(self, *at))
    assert [bytes_of(catalog, row) for row in range(count)] == [b"%d" % row for row in range(count)]
    assert read == [(group, "image") for group in range(7)]


def test_large_row_groups_are_noted(tmp_path, monkeypatch):
    file = write(tmp_path / "x.parquet", {"image": images(b"a" * 2_000_000)})
    monkeypatch.setattr(parquet, "LARGE_GROUP", 1_000_000)
    (note,) = read_catalog(file, "parquet").notes
    assert note.startswith("a row group holds 2 MB of images, and each worker holds two; ")


def test_a_file_that_was_changed_is_noticed(tmp_path):
    file = write(tmp_path / "x.parquet", {"image": images(b"a", b"b", b"c")})
    catalog = read_catalog(file, "parquet")
    assert bytes_of(catalog, 2) == b"c"
    reasons = []
    for columns in ({"image": images(b"a")}, {"img": images(b"a", b"b", b"c")}, {"image": images(b"a", b"b", None)}):
        write(file, columns)
        with pytest.raises(MissingImageError) as raised:
            bytes_of(catalog, 2)
        reasons.append(str(raised.value))
    assert reasons[0] == "no row 2: the file has 1 rows now"
    assert "row 2 of column 'image' cannot be read" in reasons[1]
    assert reasons[2] == "row 2 holds no image"
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(MissingImageError, match="row 2 of column 'image' cannot be read: "):
        bytes_of(catalog, 2)
    file.unlink()
    with pytest.raises(MissingImageError, match="^no such file$"):
        bytes_of(catalog, 2)


ERRORS = {
    "null": ({"image": images(b"a", b"b", None)}, r"b.parquet row 2: no image in column 'image'; leave the row out"),
    "null bytes": (
        {"image": pa.array([{"bytes": b"a"}, {"bytes": None, "path": "x.jpg"}], STRUCT)},
        r"b.parquet row 1: no image in column 'image'",
    ),
    "label": ({"label": pa.array([1, 3, 0])}, r"b.parquet row 1: label '3' is none of the 3 classes"),
    "split": ({"split": ["train", "tran", ""]}, r"b.parquet row 1: unknown split 'tran'; did you mean 'train'"),
    "boxes": ({"boxes_xywh": pa.array([[[1.0, 2, 3, 0]], None, None])}, r"b.parquet row 0: box 1 2 3 0 .* has no area"),
}


@pytest.mark.parametrize("what", ERRORS)
def test_rows_that_are_wrong(tmp_path, what):
    changes, message = ERRORS[what]
    columns = TRAIN | changes
    if what.startswith("null"):
        columns = {name: values[: len(changes["image"])] for name, values in columns.items()}
    columns = {"split": ["train"] * len(columns["image"])} | columns
    write(tmp_path / "a.parquet", TRAIN | {"split": [""] * 3}, {"label": NAMES})
    write(tmp_path / "b.parquet", columns, {"label": NAMES})
    with pytest.raises(CatalogError, match=message) as raised:
        read_catalog(tmp_path, "parquet")
    assert "\n" not in str(raised.value)


def test_files_that_are_wrong(tmp_path):
    write(tmp_path / "a.parquet", TRAIN, {"label": NAMES})
    other = write(tmp_path / "b.parquet", {name: column for name, column in TRAIN.items() if name != "image"})
    with pytest.raises(CatalogError, match=r"b.parquet: no column 'image', which .*a.parquet has"):
        read_catalog(tmp_path, "parquet")
    with pytest.raises(
        CatalogError, match=r"b.parquet: no column of images .*; its columns: label, boxes_xywh, caption"
    ):
        read_catalog(other, "parquet")
    write(other, TRAIN | {"image": ["x", "y", "z"]})
    with pytest.raises(CatalogError, match=r"b.parquet: column 'image' is string, not images"):
        read_catalog(tmp_path, "parquet")
    write(other, {"one": images(b"1"), "two": images(b"2")})
    with pytest.raises(
        CatalogError, match=r"b.parquet: columns one, two hold images; rename the one to read to 'image'"
    ):
        read_catalog(other, "parquet")
    other.write_bytes((tmp_path / "a.parquet").read_bytes()[:-30])
    with pytest.raises(CatalogError, match=r"Cannot read .*b.parquet: ") as raised:
        read_catalog(tmp_path, "parquet")
    assert "\n" not in str(raised.value)
    write(other, {"image": images()})
    with pytest.raises(CatalogError, match=r"Found no images: .*b.parquet has no rows"):
        read_catalog(other, "parquet")


def test_a_list_that_holds_images_names_the_way(tmp_path):
    file = write(tmp_path / "x.parquet", TRAIN)
    with pytest.raises(CatalogError, match=r"x.parquet row 1: the image itself lies in this file .*--catalog parquet"):
        read_catalog(file)
