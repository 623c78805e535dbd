"""Images by URL, in fsspec's `memory://`: the same catalogs and bytes as on disk, and which failures are whose."""

import os
import pickle
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import fsspec
import pytest

from locloc.pipeline.catalogs import parse_location, read_catalog, resolve
from locloc.pipeline.errors import CatalogError, UnreachableError
from locloc.pipeline.io import fsspec_io as remote
from locloc.pipeline.io import images
from locloc.pipeline.io.images import MissingImageError, read_image_bytes

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
SECRETS = ["s3://AKIA:top/secret@bucket/data", "s3://AKIA:secret@bucket", "http://secret@host/x", "ftp://me:secret@h/x"]


@pytest.fixture
def memory():
    filesystem = fsspec.filesystem("memory")
    filesystem.store.clear()
    yield filesystem
    filesystem.store.clear()


@pytest.fixture
def both(tmp_path, memory):
    """(folder, URL) of the same files; each holds its own name."""
    for name in NAMES:
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).write_bytes(name.encode())
        memory.pipe_file(f"/bucket/data/{name}", name.encode())
    return tmp_path / "data", "memory://bucket/data"


def same(one, other):
    assert one.table.equals(other.table) and one.classes == other.classes and one.sha256 == other.sha256
    return True


# --- catalogs --------------------------------------------------------------------------------------------------------


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
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = tmp_path / f"a list{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.table({"path": ["y/2.jpg", "1.jpg"], "split": ["val", "train"]}), file)
    else:
        text = {".csv": "path,split\ny/2.jpg,val\n1.jpg,train\n", ".jsonl": '{"path": "y/2.jpg", "split": "val"}\n'}
        file.write_text(text[suffix])
    memory.pipe_file(f"/bucket/a list{suffix}", file.read_bytes())
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
def test_what_needs_a_local_folder_says_so(both, kind):
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
    """What an object store may hold and a disk may not; `memory://` tidies names, so the listing stands in."""
    keys = ["a/../b.jpg", "./c.jpg", "folder.jpg/", "d.jpg", "d.jpg/e.jpg"]
    monkeypatch.setattr("locloc.pipeline.catalogs.folder.list_remote", lambda url: keys)
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


def test_a_url_in_a_list_needs_a_root_by_url(tmp_path):
    (tmp_path / "list.csv").write_text("path\ns3://bucket/a.jpg\n")
    with pytest.raises(CatalogError, match="'s3://bucket/a.jpg' is outside the root .*; name another one by --root$"):
        read_catalog(tmp_path / "list.csv")


# --- addresses -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        ("S3://Bucket/a/b//", "s3://Bucket/a/b"),
        ("gs://bucket", "gs://bucket"),
        ("memory://", "memory://"),
        ("s3://bucket/at@home:now", "s3://bucket/at@home:now"),
        ("sftp://user@host:2022/data", "sftp://user@host:2022/data"),
        ("http://host:8000/a@b", "http://host:8000/a@b"),
        ("file:///data/x", Path("/data/x")),
        ("/data/x", Path("/data/x")),
        (Path("data"), Path("data")),
    ],
)
def test_plain_form(given, plain, monkeypatch):
    monkeypatch.setattr(remote, "_filesystem_class", lambda protocol, shown: None)  # sftp's package is not needed here
    assert parse_location(given) == plain


@pytest.mark.parametrize("url", SECRETS)
def test_a_secret_in_an_address_is_refused_and_not_repeated(url, tmp_path):
    (tmp_path / "list.csv").write_text("path\na.jpg\n")
    for arguments in ((url,), (url, "cub"), (tmp_path / "list.csv", None, url)):
        with pytest.raises(
            CatalogError, match=r"\*\*\*@.* holds a secret; give credentials by the environment"
        ) as error:
            read_catalog(*arguments)
        assert "secret@" not in str(error.value) and "AKIA" not in str(error.value)
        assert error.value.__cause__ is None and error.value.__suppress_context__


def test_a_signed_address_is_refused_and_not_repeated():
    with pytest.raises(CatalogError, match="give a plain address") as error:
        parse_location("https://host/data?sig=secret")
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("s4://bucket", "unknown protocol 's4'"),
        ("s3://", "names no bucket"),
        ("gs:///data", "names no bucket"),
        ("https://host/images", "A web server lists no folder; write a list"),
    ],
)
def test_addresses_that_cannot_be(url, reason):
    with pytest.raises(CatalogError, match=reason):
        read_catalog(url)


@pytest.mark.parametrize("url", ["s3://bucket/a", "gs://bucket/a"])
def test_a_package_that_is_not_installed_is_named(url, monkeypatch):
    def missing(protocol):
        raise ImportError(f"Install {protocol}fs")

    monkeypatch.setattr(fsspec, "get_filesystem_class", missing)
    with pytest.raises(CatalogError, match=r"needs a package that is not installed; pip install locloc\[cluster\]$"):
        read_catalog(url)
    with pytest.raises(UnreachableError, match=r"pip install locloc\[cluster\]"):  # on a worker that lacks it
        read_image_bytes(url + "/x.jpg")


def test_names_in_web_addresses_are_quoted():
    assert resolve("https://host/data", "a b/ä#?.jpg") == "https://host/data/a%20b/%C3%A4%23%3F.jpg"
    assert resolve("s3://host/data", "a b/ä#?.jpg") == "s3://host/data/a b/ä#?.jpg"


def test_letters_that_look_like_a_byte_stay_letters_in_a_key():
    assert resolve("s3://b", r"a\xff.jpg") == r"s3://b/a\xff.jpg"  # no key holds that byte
    assert resolve("s3://b", r"a\xc3\xa9.jpg") == r"s3://b/a\xc3\xa9.jpg"
    assert resolve("s3://b", r"a\x5cxff.jpg") == r"s3://b/a\xff.jpg"  # as a walked folder has it


# --- failures --------------------------------------------------------------------------------------------------------


class Answer(Exception):
    def __init__(self, status):
        super().__init__(f"status {status}")
        self.status = status


def s3(error, code):
    """As s3fs raises: a plain error whose cause is botocore's."""
    error.__cause__ = Exception(code)
    error.__cause__.response = {"Error": {"Code": code}}
    return error


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (FileNotFoundError("x"), "no such file"),
        (PermissionError("x"), "permission denied"),
        (IsADirectoryError("x"), "a directory, not a file"),
        (s3(FileNotFoundError("x"), "NoSuchKey"), "no such file"),
        (s3(PermissionError("x"), "AccessDenied"), "permission denied"),
        (s3(PermissionError("x"), "InvalidObjectState"), "InvalidObjectState"),
        (OSError("Forbidden: https://x"), "permission denied"),
        (Answer(404), "status 404"),
        (Answer("403"), "status 403"),
    ],
)
def test_what_is_true_of_one_image_is_its_status(memory, monkeypatch, error, reason):
    monkeypatch.setattr(type(memory), "cat_file", fail_with(error))
    with pytest.raises(MissingImageError, match=f"^{reason}$"):
        read_image_bytes("memory://b/a.jpg")


@pytest.mark.parametrize(
    "error",
    [
        TimeoutError("slow"),
        ConnectionResetError("gone"),
        OSError(5, "Internal error"),
        s3(OSError(16, "Please reduce your request rate"), "SlowDown"),
        s3(PermissionError("The token has expired"), "ExpiredToken"),
        s3(PermissionError("x"), "InvalidAccessKeyId"),
        s3(PermissionError("x"), "RequestTimeTooSkewed"),
        s3(FileNotFoundError("x"), "NoSuchBucket"),
        Answer(503),
        Answer(401),
        Answer(429),
        RuntimeError("a library's own kind"),
        OSError("http://key:secret@host:9000 refused"),
    ],
)
def test_what_is_true_of_the_network_is_no_status(memory, monkeypatch, error):
    monkeypatch.setattr(type(memory), "cat_file", fail_with(error))
    monkeypatch.setattr(type(memory), "find", fail_with(error))
    for read in (lambda: read_image_bytes("memory://b/a.jpg"), lambda: read_catalog("memory://b")):
        with pytest.raises(UnreachableError, match=r"^Images cannot be reached: memory://b.*; check network") as caught:
            read()
        assert "secret" not in str(caught.value)
        assert caught.value.__cause__ is None and caught.value.__suppress_context__
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def fail_with(error):
    def fail(*arguments, **options):
        raise error

    return fail


@pytest.mark.parametrize("number", sorted(images._SYSTEM_ERRORS))
def test_a_failing_disk_is_no_status(tmp_path, monkeypatch, number):
    (tmp_path / "a.jpg").touch()
    monkeypatch.setattr(images.os, "open", fail_with(OSError(number, os.strerror(number))))
    with pytest.raises(UnreachableError, match=r"^Images cannot be reached: .*/a.jpg: .*; check the disk"):
        read_image_bytes(tmp_path / "a.jpg")


def test_a_disk_that_fails_while_reading_is_no_status():
    with pytest.raises(UnreachableError, match=r"/proc/self/mem: reading failed: input/output error"):
        read_image_bytes(Path("/proc/self/mem"))  # page 0 is never mapped


# --- processes -------------------------------------------------------------------------------------------------------


def test_threads_share_one_file_system(both):
    url = both[1] + "/train/cat/a.jpg"
    seen = []

    def read(_):
        seen.append(remote.open_filesystem(url))
        return read_image_bytes(url)

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(read, range(200))) == {b"train/cat/a.jpg"}
    assert len(set(map(id, seen))) == 1


def test_a_file_that_never_comes_has_a_deadline(monkeypatch):
    import asyncio

    from fsspec.asyn import get_loop

    async def never(path):
        await asyncio.sleep(3600)

    stuck = SimpleNamespace(async_impl=True, loop=get_loop(), _cat_file=never, _strip_protocol=lambda url: url)
    monkeypatch.setattr(remote, "open_filesystem", lambda url: stuck)
    monkeypatch.setattr(remote, "READ_DEADLINE_S", 0.2)
    begin = time.monotonic()
    with pytest.raises(UnreachableError, match="FSTimeoutError"):
        read_image_bytes("s3://bucket/a.jpg")
    assert time.monotonic() - begin < 10


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # that it may deadlock is what is tested here
def test_a_forked_child_opens_its_own(both):
    parents = remote.open_filesystem(both[1])
    held = threading.Event()

    def hold():
        with remote._lock:
            held.set()
            time.sleep(2)

    threading.Thread(target=hold).start()
    held.wait()
    child = os.fork()  # while another thread has the lock
    if child == 0:
        fresh = False
        try:
            fresh = not remote._filesystems and remote.open_filesystem(both[1]) is not parents
        finally:
            os._exit(0 if fresh else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_local_work_needs_no_fsspec(tmp_path):
    import subprocess
    import sys

    shutil.copy(__file__, tmp_path / "a.jpg")
    code = (
        "import sys; sys.modules['fsspec'] = None\n"
        "from locloc.pipeline.catalogs import read_catalog, resolve\n"
        "from locloc.pipeline.io.images import read_image_bytes\n"
        f"catalog = read_catalog({str(tmp_path)!r}); assert read_image_bytes(resolve(catalog.root, 'a.jpg'))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
