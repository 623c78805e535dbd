"""Tar shards: what is read, the index that is kept, and every way in which a shard can be wrong."""

import gzip
import io
import json
import tarfile
from itertools import pairwise

import pytest

from locloc.pipeline.catalogs.exclude import exclude_images
from locloc.pipeline.catalogs.merge import merge_catalogs
from locloc.pipeline.catalogs.paths import resolve
from locloc.pipeline.catalogs.registry import read_catalog
from locloc.pipeline.catalogs.shards.files import expand_braces, split_of_shard
from locloc.pipeline.errors import CatalogError
from locloc.pipeline.io.archives import tar, tar_index
from locloc.pipeline.io.archives.member import TarMember
from locloc.pipeline.io.images import MissingImageError, read_image_bytes

LONG = "a" * 60 + "/" + "b" * 90 + ".jpg"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An index cache of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def write_tar(file, members, **options):
    """members: name > bytes, text, or a value that becomes JSON."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, "w", **options) as tar:
        for name, content in members.items():
            data = (
                content if isinstance(content, bytes) else content if isinstance(content, str) else json.dumps(content)
            )
            data = data.encode() if isinstance(data, str) else data
            header = tarfile.TarInfo(name)
            header.size = len(data)
            tar.addfile(header, io.BytesIO(data))
    return file


def rows_of(catalog):
    return [(row["id"], row["label"], row["split"], row["boxes"]) for row in catalog.table.to_pylist()]


def bytes_of(catalog, row):
    (path,) = catalog.slice(row, row + 1)[1]
    return read_image_bytes(resolve(catalog.root, path))


TRAIN = {
    "b/1.jpg": b"first",
    "b/1.cls": "dog\n",
    "b/1.json": {"boxes": [[1, 2, 3, 4]], "width": 9, "height": 8, "caption": "x", "class": "cat"},
    "b/2.png": b"second",
    "b/2.json": {"Class Name": "cat", "bbox-xywh": [1, 2, 3, 4], "split": "val"},
    "./c.jpeg": b"third",
}


@pytest.mark.parametrize("options", [{}, {"format": tarfile.GNU_FORMAT}, {"format": tarfile.PAX_FORMAT}])
def test_samples(tmp_path, options):
    write_tar(tmp_path / "data/train-000.tar", TRAIN, **options)
    write_tar(tmp_path / "data/sub/test_1.tar", {LONG: b"long", "ä ñ.jpg": b"accents"}, **options)
    (tmp_path / "data/readme.txt").touch()
    catalog = read_catalog(tmp_path / "data", "webdataset")
    assert (catalog.kind, catalog.root, catalog.classes) == ("webdataset", tmp_path / "data", ("cat", "dog"))
    assert rows_of(catalog) == [
        (f"sub/test_1/{LONG}", -1, 3, []),
        ("sub/test_1/ä ñ.jpg", -1, 3, []),
        ("train-000/b/1.jpg", 1, 1, [[1, 2, 3, 4]]),
        ("train-000/b/2.png", 0, 2, [[1, 2, 4, 6]]),
        ("train-000/c.jpeg", -1, 1, []),
    ]
    assert [bytes_of(catalog, row) for row in range(5)] == [b"long", b"accents", b"first", b"second", b"third"]
    assert catalog.annotated_size.tolist() == [[0, 0], [0, 0], [9, 8], [0, 0], [0, 0]]


def test_links_are_followed_once(tmp_path):
    write_tar(tmp_path / "elsewhere/x.tar", {"1.jpg": b"1"})
    (tmp_path / "d").mkdir()
    (tmp_path / "d/link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "d/one.tar").symlink_to(tmp_path / "elsewhere/x.tar")
    (tmp_path / "elsewhere/back").symlink_to(tmp_path / "d")
    assert [row[0] for row in rows_of(read_catalog(tmp_path / "d", "webdataset"))] == ["link/x/1.jpg", "one/1.jpg"]


def test_a_bucket_holds_the_same_catalog(tmp_path, memory):
    file = write_tar(tmp_path / "data/train-000.tar", TRAIN)
    memory.pipe_file("/bucket/data/train-000.tar", file.read_bytes())
    local = read_catalog(tmp_path / "data", "webdataset")
    for images in (
        "memory://bucket/data",
        "memory://bucket/data/train-000.tar",
        "memory://bucket/data/{train}-000.tar",
    ):
        if "{" in images:
            images = images.replace("{train}", "{train,train}").replace("{train,train}-000", "train-{000..000}")
        far = read_catalog(images, "webdataset" if images.endswith("data") else None)
        assert (far.root, far.sha256) == ("memory://bucket/data", local.sha256)
        assert [bytes_of(far, row) for row in range(3)] == [b"first", b"second", b"third"]


def test_the_class_folder_of_a_key_is_no_label(tmp_path):
    write_tar(tmp_path / "a.tar", {"cat/1.jpg": b"1"})
    catalog = read_catalog(tmp_path / "a.tar")
    assert rows_of(catalog) == [("a/cat/1.jpg", -1, 0, [])]
    assert catalog.notes == ("no .cls or .json gives a label; folders of members are no classes",)


def test_integers_stay_labels(tmp_path):
    write_tar(tmp_path / "a.tar", {"1.jpg": b"1", "1.cls": b"7", "2.jpg": b"2", "2.json": {"label": 3}})
    catalog = read_catalog(tmp_path / "a.tar")
    assert ([row[1] for row in rows_of(catalog)], catalog.classes) == ([7, 3], ())


def test_of_several_images_of_a_sample_one_is_read(tmp_path):
    members = {"1.png": b"mask", "1.jpg": b"1", "2.seg.png": b"mask", "2.png": b"2", "3.image.png": b"3"}
    write_tar(tmp_path / "a.tar", members | {"1.txt": "t", ".4.jpg": b"", "._5.jpg": b"", "__MACOSX/6.jpg": b""})
    catalog = read_catalog(tmp_path / "a.tar")
    assert [bytes_of(catalog, row) for row in range(len(catalog))] == [b"1", b"2", b"3"]
    assert {(item.kind, item.name, item.count) for item in catalog.left_out} == {
        ("file", ".png", 1),
        ("file", ".seg.png", 1),
        ("suffix", ".txt", 1),
        ("file", ".*", 1),
        ("file", "._*", 1),
        ("folder", "__MACOSX", 1),
    }


def test_what_json_holds_besides_is_noted(tmp_path):
    members = {"1.jpg": b"1", "1.json": [1], "2.jpg": b"2", "2.json": {"bbox": [1, 2, 3, 4]}}
    notes = read_catalog(write_tar(tmp_path / "a.tar", members)).notes
    assert any("1 .json members hold no object" in note for note in notes)
    assert any("1 samples have 'bbox'" in note for note in notes)


def test_the_index_is_kept_until_the_tar_changes(tmp_path, monkeypatch, cache):
    file, made = write_tar(tmp_path / "data/a.tar", TRAIN), []
    read_headers = tar_index._read_headers
    monkeypatch.setattr(tar_index, "_read_headers", lambda tar, *rest: made.append(tar) or read_headers(tar, *rest))
    first = read_catalog(file)
    assert read_catalog(tmp_path / "data", "webdataset").sha256 == first.sha256
    assert made == [file]
    write_tar(file, TRAIN | {"d.jpg": b"4"})
    assert len(read_catalog(file)) == 4 and len(made) == 2
    (kept,) = (cache / "locloc/tars").iterdir()
    kept.write_bytes(kept.read_bytes()[:-40])  # a crash of the machine
    assert len(read_catalog(file)) == 4 and len(made) == 3


def test_a_block_reads_no_byte_twice(tmp_path, monkeypatch):
    for shard in range(3):
        write_tar(tmp_path / f"d/{shard}.tar", {f"{number:03}.jpg": b"%d" % number * 500 for number in range(40)})
    catalog, read = read_catalog(tmp_path / "d", "webdataset"), []
    read_range = tar.read_range
    monkeypatch.setattr(tar, "read_range", lambda *place: read.append(place) or read_range(*place))
    for row in range(len(catalog)):
        bytes_of(catalog, row)
    parts = sorted((file, start, start + size) for file, start, size in read)
    assert len(parts) == 120
    assert all(one[0] != next[0] or one[2] <= next[1] for one, next in pairwise(parts))


def test_a_data_set_that_grew(tmp_path):
    write_tar(tmp_path / "d/train-0.tar", {"1.jpg": b"1", "1.cls": "dog"})
    old = read_catalog(tmp_path / "d", "webdataset")
    write_tar(tmp_path / "d/val-1.tar", {"1.jpg": b"2", "1.cls": "cat"})
    grown = read_catalog(tmp_path / "d", "webdataset")
    assert merge_catalogs(old, grown).sha256 == grown.sha256
    only = exclude_images(grown, ["train-0"])
    assert (rows_of(only), only.classes) == ([("val-1/1.jpg", 0, 2, [])], ("cat",))


def test_a_cache_that_cannot_be_written_costs_time_only(tmp_path, cache):
    cache.touch()
    assert len(read_catalog(write_tar(tmp_path / "a.tar", TRAIN))) == 3


def test_what_the_webdataset_package_writes(tmp_path):
    webdataset = pytest.importorskip("webdataset")
    with webdataset.TarWriter(str(tmp_path / "w.tar"), encoder=True) as writer:
        for number in range(3):
            writer.write(
                {"__key__": f"k{number}", "jpg": b"%d" % number, "cls": number, "json": {"boxes": [0, 0, 1, 1]}}
            )
    catalog = read_catalog(tmp_path / "w.tar")
    assert rows_of(catalog) == [(f"w/k{number}.jpg", number, 0, [[0, 0, 1, 1]]) for number in range(3)]
    assert [bytes_of(catalog, row) for row in range(3)] == [b"0", b"1", b"2"]


def test_a_tar_that_was_rewritten_is_noticed(tmp_path):
    file = write_tar(tmp_path / "a.tar", {"1.jpg": b"1" * 600, "2.jpg": b"2" * 600})
    catalog = read_catalog(file)
    reasons = {}
    for what, members in {
        "renamed": {"1.jpg": b"1" * 600, "3.jpg": b"2" * 600},
        "longer": {"1.jpg": b"1" * 600, "2.jpg": b"2" * 700},
        "moved": {"1.jpg": b"1" * 1600, "2.jpg": b"2" * 600},
        "shorter": {"1.jpg": b"1" * 600},
    }.items():
        write_tar(file, members)
        if what == "shorter":
            file.write_bytes(file.read_bytes()[:2000])
        with pytest.raises(MissingImageError) as raised:
            bytes_of(catalog, 1)
        reasons[what] = str(raised.value)
    assert reasons == {
        "renamed": "the tar was rewritten: '3.jpg' of 600 bytes is at byte 2048",
        "longer": "the tar was rewritten: '2.jpg' of 700 bytes is at byte 2048",
        "moved": "the tar was rewritten: no member begins at byte 2048",
        "shorter": "the tar ends before byte 2648, within member '2.jpg': it was cut off",
    }
    file.unlink()
    with pytest.raises(MissingImageError, match="^no such file$"):
        bytes_of(catalog, 0)
    assert str(TarMember(file, 1, 2, "x")) == f"{file}//1+2/x"


ERRORS = {
    "label alone": ({"1.jpg": b"", "2.cls": "3"}, "member '2.cls' belongs to no image: none is named '2'"),
    "json alone": ({"1.jpg": b"", "2.json": {}}, "member '2.json' belongs to no image"),
    "two images": ({"1.a.png": b"", "1.b.png": b""}, "sample '1' has images a.png, b.png, and none of jpg"),
    "two kinds": ({"1.gif": b"", "1.bmp": b""}, "sample '1' has images gif, bmp, and none of jpg"),
    "json": ({"1.jpg": b"", "1.json": "{"}, r"member '1.json': broken JSON \(Expecting"),
    "json bytes": ({"1.jpg": b"", "1.json": b"\xff"}, r"member '1.json': not UTF-8 text"),
    "label bytes": ({"1.jpg": b"", "1.cls": b"\xff"}, r"member '1.cls': not UTF-8 text"),
    "label text": ({"1.jpg": b"", "1.cls": "a\nb\nc"}, r"member '1.cls': a .cls holds one integer or class name"),
    "two labels": ({"1.jpg": b"", "1.json": {"class": 1, "target": 2}}, "'class' and 'target' both name the label"),
    "two boxes": ({"1.jpg": b"", "1.json": {"boxes": [], "boxes_xywh": []}}, "both name the boxes"),
    "split": ({"1.jpg": b"", "1.json": {"split": "tran"}}, "member '1.jpg': unknown split 'tran'"),
    "boxes": ({"1.jpg": b"", "1.json": {"boxes": [1, 2]}}, "member '1.jpg': boxes '1 2' are not"),
    "no box": ({"1.jpg": b"", "1.json": {"boxes": [3, 0, 1, 1]}}, "member '1.jpg': box 3 0 1 1 is not a box"),
    "label kinds": ({"1.jpg": b"", "1.cls": "a", "2.jpg": b"", "2.cls": "1"}, "member '2.jpg': label '1', but those"),
    "outside": ({"../1.jpg": b""}, "member '../1.jpg': a member's name is relative and has no '..'"),
    "no image": ({"1.txt": "x"}, "Found no images: no member of 1 tars such as .*a.tar is named like one"),
}


@pytest.mark.parametrize("what", ERRORS)
def test_samples_that_are_wrong(tmp_path, what):
    members, message = ERRORS[what]
    write_tar(tmp_path / "a.tar", members)
    with pytest.raises(CatalogError, match=message) as raised:
        read_catalog(tmp_path / "a.tar")
    assert str(tmp_path / "a.tar") in str(raised.value) and "\n" not in str(raised.value)


def duplicate(file):
    with tarfile.open(file, "a") as tar:
        tar.addfile(tarfile.TarInfo("1.jpg"))


def link(file):
    with tarfile.open(file, "a") as tar:
        header = tarfile.TarInfo("3.jpg")
        header.type, header.linkname = tarfile.LNKTYPE, "1.jpg"
        tar.addfile(header)


BROKEN = {
    "within a member": (
        lambda file: file.write_bytes(file.read_bytes()[:1500]),
        "a.tar is cut off: it ends after member",
    ),
    "between members": (
        lambda file: file.write_bytes(file.read_bytes()[:2048]),
        "a.tar is cut off.* after member '1.jpg'",
    ),
    "compressed": (lambda file: file.write_bytes(gzip.compress(file.read_bytes())), "compressed by gzip.*`gunzip` it"),
    "text": (lambda file: file.write_text("no tar at all" * 100), "a.tar is no tar, or is damaged"),
    "empty": (lambda file: file.write_bytes(b""), "a.tar is (cut off|no tar)"),
    "twice": (duplicate, "a.tar: member '1.jpg' is there twice"),
    "link": (link, "a.tar: member '3.jpg' is no plain file but a link or device"),
    "damaged": (lambda file: file.write_bytes(file.read_bytes()[:2048] + b"x" * 8000), "no tar, or is damaged|cut off"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_shards_that_are_broken(tmp_path, what):
    file = write_tar(tmp_path / "a.tar", {"1.jpg": b"1" * 1200, "2.jpg": b"2" * 1200})
    BROKEN[what][0](file)
    with pytest.raises(CatalogError, match=BROKEN[what][1]) as raised:
        read_catalog(file)
    assert "\n" not in str(raised.value)


def test_a_folder_of_archives_names_the_way(tmp_path):
    write_tar(tmp_path / "a.tar", {"1.jpg": b""})
    with pytest.raises(
        CatalogError, match=r"no image file below .*, but 1 .tar; --catalog webdataset reads the images"
    ):
        read_catalog(tmp_path)


def test_no_shards(tmp_path):
    (tmp_path / "a.jpg").touch()
    with pytest.raises(CatalogError, match=r"is read from files that end in .tar; .* holds none"):
        read_catalog(tmp_path, "webdataset")
    with pytest.raises(CatalogError, match=r"Cannot read .*x-1.tar: no such file"):
        read_catalog(str(tmp_path / "x-{1..2}.tar"))
    with pytest.raises(CatalogError, match="A web server lists no folder; name the shards by a pattern"):
        read_catalog("https://127.0.0.1/shards", "webdataset")


def test_patterns():
    assert expand_braces("{a,b}/{08..10}.tar") == [f"{x}/{n}.tar" for x in "ab" for n in ("08", "09", "10")]
    assert expand_braces("{8..10}") == ["8", "9", "10"]
    for wrong in ("{a}", "{3..1}", "{0..9999999}", "{0..999}{0..9999}"):
        with pytest.raises(CatalogError, match="pattern"):
            expand_braces(f"x{wrong}.tar")


@pytest.mark.parametrize(
    ("shard", "split"),
    [
        ("train/000.tar", 1),
        ("imagenet1k-validation-00.tar", 2),
        ("data/test-00000-of-00003.parquet", 3),
        ("val2017/train-0.tar", 2),
        ("train-test.tar", 0),
        ("000.tar", 0),
    ],
)
def test_splits_of_shards(shard, split):
    assert split_of_shard(shard) == split
