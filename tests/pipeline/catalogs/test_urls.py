"""Catalogs of images by URL, in fsspec's `memory://`: the same as of a copy on disk, and what is refused."""

import shutil
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from locloc.pipeline.catalogs.paths import resolve
from locloc.pipeline.catalogs.registry import read_catalog
from locloc.pipeline.errors import CatalogError
from locloc.pipeline.io.images import read_image_bytes

NAMES = [
    "train/cat/a.jpg",
    "train/cat/ä ñ#?%20.JPEG",
    "train/dog/deep/er/b.png",
    r"val/dog/as written \xff.jpg",
    r"val/dog/\x5cxe9.jpg",
    "val/eel/c.webp",
    "val/.hidden.jpg",
    "val/.cache/d.jpg",
    "val/eel/notes.txt",
]


@pytest.fixture
def both(tmp_path, memory):
    """(folder, URL) of the same files; each holds its own name."""
    for name in NAMES:
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).write_bytes(name.encode())
        memory.pipe_file(f"/bucket/data/{name}", name.encode())
    return tmp_path / "data", "memory://bucket/data"


def same(first, second):
    assert first.table.equals(second.table) and first.classes == second.classes and first.sha256 == second.sha256
    return True


def test_a_folder_and_its_copy_are_one_catalog(both):
    folder, url = both
    local, far = read_catalog(folder), read_catalog(url + "/")
    assert same(local, far)
    assert (far.kind, far.root) == ("folder", url)
    assert far.classes == ("cat", "dog", "eel") and len(far) == 6
    for path in far.table["path"].to_pylist():
        assert read_image_bytes(resolve(far.root, path)) == read_image_bytes(resolve(local.root, path))


def test_copying_from_url_to_disk_keeps_the_catalog(memory, tmp_path):
    memory.pipe_file("/b/x/a.jpg", b"1")
    memory.pipe_file("/b/y.jpg", b"2")
    memory.get("/b", str(tmp_path / "b"), recursive=True)
    assert same(read_catalog("memory://b"), read_catalog(tmp_path / "b"))


def test_a_local_list_with_a_root_by_url(both, tmp_path):
    folder, url = both
    (tmp_path / "list.csv").write_text(f"path,label\ntrain/cat/a.jpg,cat\n{url}/val/eel/c.webp,eel\n./val/x.jpg,eel\n")
    far = read_catalog(tmp_path / "list.csv", root=url)
    assert far.root == url
    assert far.slice(0, 9)[1] == ["train/cat/a.jpg", "val/eel/c.webp", "val/x.jpg"]
    (tmp_path / "list.csv").write_text("path,label\ntrain/cat/a.jpg,cat\nval/eel/c.webp,eel\nval/x.jpg,eel\n")
    assert same(far, read_catalog(tmp_path / "list.csv", root=folder))
    assert read_image_bytes(resolve(url, "val/eel/c.webp")) == b"val/eel/c.webp"


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_list_by_url(memory, tmp_path, suffix):
    file = tmp_path / f"a list{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.table({"path": ["y/2.jpg", "1.jpg"], "split": ["val", "train"]}), file)
    else:
        text = {".csv": "path,split\ny/2.jpg,val\n1.jpg,train\n", ".jsonl": '{"path": "y/2.jpg", "split": "val"}\n'}
        file.write_text(text[suffix])
    memory.pipe_file(f"/bucket/a list{suffix}", file.read_bytes())
    (tmp_path / "y").mkdir()
    for name in ("1.jpg", "y/2.jpg"):
        (tmp_path / name).touch()
    far = read_catalog(f"memory://bucket/a list{suffix}")
    assert far.kind == "list" and far.root == "memory://bucket"
    assert same(far, read_catalog(file))
    assert read_catalog(f"memory://bucket/a list{suffix}", root=tmp_path).root == tmp_path


def test_a_broken_list_by_url_is_named_by_it(memory):
    memory.pipe_file("/b/list.csv", b"path,split\na.jpg,trian\n")
    with pytest.raises(CatalogError, match=r"^memory://b/list.csv:2: unknown split 'trian'; did you mean 'train'\?$"):
        read_catalog("memory://b/list.csv")
    with pytest.raises(CatalogError, match="^Cannot read memory://b/none.csv: no such file$"):
        read_catalog("memory://b/none.csv")


@pytest.mark.parametrize("kind", ["cub", "ilsvrc", "synthetic"])
def test_kinds_that_need_a_local_folder(both, kind):
    with pytest.raises(CatalogError, match=f"^A '{kind}' catalog is a local folder, not {both[1]}; write a list"):
        read_catalog(both[1], kind)


def test_a_folder_by_url_takes_no_root(both):
    with pytest.raises(CatalogError, match="takes no root"):
        read_catalog(both[1], "folder", root=both[0])


def test_nothing_found_below_a_url(memory):
    memory.pipe_file("/b/notes.txt", b"")
    with pytest.raises(CatalogError, match="^Found no images: no file below memory://b ends in"):
        read_catalog("memory://b")


def test_a_url_of_a_file_is_no_folder(memory):
    memory.pipe_file("/b/a.jpg", b"")
    with pytest.raises(CatalogError, match="^Cannot read images at memory://b/a.jpg: a file, not a folder$"):
        read_catalog("memory://b/a.jpg")


def test_keys_that_are_no_paths(both, monkeypatch):
    """Keys that an object store can hold and a disk cannot. `memory://` tidies names, so the listing is patched."""
    keys = ["a/../b.jpg", "./c.jpg", "folder.jpg/", "d.jpg", "d.jpg/e.jpg"]
    monkeypatch.setattr("locloc.pipeline.catalogs.folders.walk.list_remote", lambda url: keys)
    assert read_catalog(both[1]).slice(0, 9)[0] == ["d.jpg", "d.jpg/e.jpg"]
    keys += ["x//f.jpg", "/g.jpg"]
    with pytest.raises(CatalogError, match="2 keys .* empty name between slashes, such as '/g.jpg'; rename them$"):
        read_catalog(both[1])


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("memory://other/a.jpg", "outside the root memory://bucket/data/; name another one by --root"),
        ("memory://bucket/data2/a.jpg", "outside the root"),
        ("s3://me:secret@bucket/a.jpg", "outside the root"),
        ("a/../b.jpg", "has a '..'"),
        ("memory://bucket/data/../b.jpg", "has a '..'"),
        ("a//b.jpg", "empty name between slashes"),
        ("a/b.jpg/", "empty name between slashes"),
        ("/a.jpg", "outside the root"),
        ("memory://bucket/data/", "names no file"),
        (".", "names no file"),
    ],
)
def test_paths_of_a_list_that_leave_the_root(both, tmp_path, path, reason):
    (tmp_path / "list.csv").write_text(f"path\n{path}\n")
    with pytest.raises(CatalogError, match=f"list.csv:2: .*{reason}") as error:
        read_catalog(tmp_path / "list.csv", root=both[1])
    assert "secret" not in str(error.value)


def test_urls_in_a_local_list_have_a_root_of_their_own(memory, tmp_path):
    file = tmp_path / "list.csv"
    file.write_text("path\nmemory://bucket/x/a b.jpg\nmemory://bucket/x/y/c.jpg\n")
    catalog = read_catalog(file)
    assert catalog.root == "memory://bucket/x"
    assert catalog.slice(0, 9)[0] == ["a b.jpg", "y/c.jpg"]
    file.write_text("path\nmemory://bucket/a.jpg\nmemory://other/b.jpg\n")
    with pytest.raises(CatalogError, match="list.csv:3: images in memory://bucket and in memory://other have no root"):
        read_catalog(file)
    file.write_text("path\nc.jpg\nmemory://bucket/a.jpg\n")
    with pytest.raises(CatalogError, match="list.csv:3: images in .* and in memory://bucket have no root in common"):
        read_catalog(file)


@pytest.mark.parametrize("path", ["s3://me:secret@bucket/a.jpg", "http://host/a.jpg?sig=secret"])
def test_a_secret_in_a_list_is_not_repeated(tmp_path, path):
    (tmp_path / "list.csv").write_text(f"path\n{path}\n")
    with pytest.raises(CatalogError, match="list.csv:2: path .* (holds a secret|give a plain address)") as error:
        read_catalog(tmp_path / "list.csv")
    assert "secret@" not in str(error.value) and "sig" not in str(error.value)


def test_web_addresses_in_a_list_are_quoted_once(tmp_path):
    (tmp_path / "list.csv").write_text("path\nhttp://host/a%20b/c.jpg\n")
    catalog = read_catalog(tmp_path / "list.csv")
    assert catalog.slice(0, 1)[0] == ["c.jpg"] and resolve(catalog.root, "c.jpg") == "http://host/a%20b/c.jpg"


def test_local_work_needs_no_fsspec(tmp_path):
    shutil.copy(__file__, tmp_path / "a.jpg")
    code = (
        "import sys; sys.modules['fsspec'] = None\n"
        "from locloc.pipeline.catalogs.paths import resolve\n"
        "from locloc.pipeline.catalogs.registry import read_catalog\n"
        "from locloc.pipeline.io.images import read_image_bytes\n"
        f"catalog = read_catalog({str(tmp_path)!r}); assert read_image_bytes(resolve(catalog.root, 'a.jpg'))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
