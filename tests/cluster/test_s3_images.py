"""Images in S3, from a real server on loopback: the same catalog and bytes as on disk, and each way to fail."""

import http.server
import io
import pickle
import socket
import tarfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("obstore")
pytest.importorskip("moto.server")

from locloc.pipeline.catalogs.paths import resolve
from locloc.pipeline.catalogs.registry import read_catalog
from locloc.pipeline.errors import CatalogError, UnreachableError
from locloc.pipeline.io import fsspec_io as remote
from locloc.pipeline.io.images import MissingImageError, read_image_bytes

from .s3 import forget_filesystems, serving_s3

SECRET = "wJalrXUtnFEMI/K7MDENG"
LISTED_AT_ONCE = 4
NAMES = [
    "cat/a.jpg",
    "cat/ä ñ#?%20+&.JPEG",
    r"cat/as written \xff.jpg",
    "cat/[glob]*.png",
    "dog/deep/er/b.png",
    "dog/versioned?versionId.webp",
    "root.jpg",
    ".hidden.jpg",
    "dog/.cache/c.jpg",
    "dog/notes.txt",
]


@pytest.fixture(scope="module")
def server():
    # a real one lists 1,000 keys an answer; four, so that every listing here takes several
    with serving_s3(MOTO_S3_DEFAULT_MAX_KEYS=str(LISTED_AT_ONCE)) as address:
        yield address


@pytest.fixture
def environment(monkeypatch):
    """The address of an endpoint > what a user exports for it; no file system is kept from another test."""
    forget_filesystems()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDENTIFIER")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    yield lambda address: monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    forget_filesystems()


@pytest.fixture
def s3(server, environment):
    """An S3 client, and a fresh bucket `images`."""
    botocore = pytest.importorskip("botocore.session")
    environment(server)
    client = botocore.get_session().create_client("s3", endpoint_url=server)
    client.create_bucket(Bucket="images")
    yield client
    while found := client.list_objects_v2(Bucket="images").get("Contents"):
        for one in found:
            client.delete_object(Bucket="images", Key=one["Key"])
    client.delete_bucket(Bucket="images")
    client.close()


def test_shards_in_s3(s3, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "data").mkdir()
    with tarfile.open(tmp_path / "data/train-0.tar", "w") as tar:
        for name in ("a.jpg", "a.cls", "b.jpg"):
            header = tarfile.TarInfo(name)
            header.size = 900
            tar.addfile(header, io.BytesIO(name.encode() * 180))
    pq.write_table(pa.table({"image": [b"1", b"2", b"3"]}), tmp_path / "data/val-0.parquet", row_group_size=2)
    for file in (tmp_path / "data").iterdir():
        s3.put_object(Bucket="images", Key=f"data/{file.name}", Body=file.read_bytes())
    for kind, contents in (("webdataset", [b"a.jpg" * 180, b"b.jpg" * 180]), ("parquet", [b"1", b"2", b"3"])):
        local, far = read_catalog(tmp_path / "data", kind), read_catalog("s3://images/data", kind)
        assert (far.sha256, far.root) == (local.sha256, "s3://images/data")
        assert [read_image_bytes(resolve(far.root, path)) for path in far.table["path"].to_pylist()] == contents
    (kept,) = (file for file in (tmp_path / "cache/locloc/tars").iterdir() if b"s3://" in file.read_bytes())
    tar = read_catalog("s3://images/data/train-{0..0}.tar")
    s3.put_object(Bucket="images", Key="data/train-0.tar", Body=b"cut off" * 100)
    with pytest.raises(MissingImageError, match="the tar ends before|the tar was rewritten"):
        read_image_bytes(resolve(tar.root, tar.table["path"][0].as_py()))
    with pytest.raises(MissingImageError, match="^InvalidRange$"):
        read_image_bytes(resolve(tar.root, tar.table["path"][1].as_py()))
    with pytest.raises(CatalogError, match="train-0.tar is no tar, or is damaged"):
        read_catalog("s3://images/data", "webdataset")
    assert kept.exists()


def test_a_folder_and_its_copy_in_s3_are_one_catalog(s3, tmp_path):
    for name in NAMES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
        s3.put_object(Bucket="images", Key=f"my data/{name}", Body=name.encode())
    s3.put_object(Bucket="images", Key="my data/dog/folder.jpg/")  # what a web console makes of an empty folder
    s3.put_object(Bucket="images", Key="my data/")
    s3.put_object(Bucket="images", Key="my data too/x.jpg")
    local, far = read_catalog(tmp_path), read_catalog("s3://images/my data/")
    assert far.slice(0, 99) == local.slice(0, 99) and len(far) == 7
    assert far.sha256 == local.sha256 and far.classes == ("cat", "dog")
    paths = far.table["path"].to_pylist()
    with ThreadPoolExecutor(8) as threads:
        read = list(threads.map(lambda path: read_image_bytes(resolve(far.root, path)), paths * 10))
    assert read == [read_image_bytes(resolve(local.root, path)) for path in paths] * 10
    assert len(remote._filesystems) == 1
    assert SECRET.encode() not in pickle.dumps(far) and b"AKIDENTIFIER" not in pickle.dumps(far)


def test_lists_and_their_roots_in_s3(s3, tmp_path):
    text = "path,label\na.jpg,cat\nb/c.jpg,dog\n"
    (tmp_path / "list.csv").write_text(text)
    s3.put_object(Bucket="images", Key="lists/list.csv", Body=text.encode())
    s3.put_object(Bucket="images", Key="lists/a.jpg", Body=b"one")
    (tmp_path / "a.jpg").write_bytes(b"one")
    local = read_catalog(tmp_path / "list.csv")
    for far in (
        read_catalog("s3://images/lists/list.csv"),
        read_catalog(tmp_path / "list.csv", root="s3://images/lists"),
    ):
        assert far.root == "s3://images/lists" and far.sha256 == local.sha256
        assert read_image_bytes(resolve(far.root, "a.jpg")) == b"one"
        with pytest.raises(MissingImageError, match="^no such file$"):
            read_image_bytes(resolve(far.root, "b/c.jpg"))


def test_more_keys_than_one_answer_lists(s3):
    for number in range(30):
        s3.put_object(Bucket="images", Key=f"{number:02d}.jpg")
    assert len(s3.list_objects_v2(Bucket="images")["Contents"]) == LISTED_AT_ONCE
    assert read_catalog("s3://images").slice(0, 99)[0] == [f"{number:02d}.jpg" for number in range(30)]


def test_keys_that_no_catalog_can_hold(s3):
    s3.put_object(Bucket="images", Key="a//b.jpg")
    with pytest.raises(
        CatalogError,
        match=r"Cannot read images at s3://images: .*\"a//b.jpg\" contained empty path segment; rename it$",
    ):
        read_catalog("s3://images")


def test_a_bucket_that_is_not_there_is_no_status(s3):
    with pytest.raises(UnreachableError, match="^Images cannot be reached: s3://other/a.jpg: .*bucket does not exist"):
        read_image_bytes("s3://other/a.jpg")
    with pytest.raises(UnreachableError, match="bucket does not exist"):
        read_catalog("s3://other/data")


# --- endpoints that fail ---------------------------------------------------------------------------------------------


@pytest.fixture
def failing(environment):
    """`failing(answers)` makes an endpoint that gives these (status, S3 code) in turn, then images, and counts."""
    servers = []

    def start(answers):
        answers = iter(answers)

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                server.requests += 1
                status, code = next(answers, (200, None))
                error = f"<Error><Code>{code}</Code><Message>{code} said so</Message></Error>" if code else ""
                body = b"image" if status == 200 else error.encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.requests = 0
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        environment(f"http://127.0.0.1:{server.server_port}")
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_hiccup_is_tried_again(failing):
    server = failing([(503, "SlowDown"), (500, "InternalError")])
    assert read_image_bytes("s3://bucket/a.jpg") == b"image"
    assert server.requests == 3


def test_what_s3_says_of_one_image_is_its_status(failing):
    failing([(403, "AccessDenied"), (404, "NoSuchKey"), (403, "InvalidObjectState")])
    for reason in ("permission denied", "no such file", "InvalidObjectState"):
        with pytest.raises(MissingImageError, match=f"^{reason}$"):
            read_image_bytes("s3://bucket/a.jpg")
    assert read_image_bytes("s3://bucket/a.jpg") == b"image"


@pytest.mark.parametrize("answer", [(404, ""), (403, "")])
def test_a_proxy_that_knows_nothing_of_s3_is_no_status(failing, answer):
    failing([answer] * 1000)
    with pytest.raises(UnreachableError):
        read_image_bytes("s3://bucket/a.jpg")
    with pytest.raises(UnreachableError):
        read_catalog("s3://bucket/data")


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param((503, "SlowDown"), marks=pytest.mark.slow),
        (500, "InternalError"),
        pytest.param((502, ""), marks=pytest.mark.slow),
    ],
)
def test_an_outage_is_no_status(failing, monkeypatch, answer):
    monkeypatch.setattr(remote, "READ_DEADLINE_S", 6)  # the first client takes seconds on a busy machine
    server = failing([answer] * 1000)
    with pytest.raises(UnreachableError, match="^Images cannot be reached: s3://bucket/a.jpg: "):
        read_image_bytes("s3://bucket/a.jpg")
    assert server.requests > 1


@pytest.mark.parametrize(
    "code", ["ExpiredToken", "InvalidAccessKeyId", "SignatureDoesNotMatch", "RequestTimeTooSkewed"]
)
def test_credentials_that_fail_are_no_status(failing, monkeypatch, code):
    monkeypatch.setattr(remote, "ATTEMPTS", 1)
    failing([(403, code)] * 1000)
    with pytest.raises(UnreachableError, match=f"{code} said so") as error:
        read_image_bytes("s3://bucket/a.jpg")
    assert SECRET not in str(error.value) and "AKIDENTIFIER" not in str(error.value)


def test_nobody_listens(environment, monkeypatch):
    monkeypatch.setattr(remote, "ATTEMPTS", 2)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment(f"http://127.0.0.1:{port}")
    for read in (lambda: read_image_bytes("s3://bucket/a.jpg"), lambda: read_catalog("s3://bucket")):
        with pytest.raises(UnreachableError, match="^Images cannot be reached: s3://bucket.*endpoint"):
            read()


def test_no_answer_comes(environment, monkeypatch):
    monkeypatch.setattr(remote, "READ_DEADLINE_S", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, never says a word
        environment(f"http://127.0.0.1:{silent.getsockname()[1]}")
        begin = time.monotonic()
        with pytest.raises(UnreachableError, match="no answer"):
            read_image_bytes("s3://bucket/a.jpg")
    assert time.monotonic() - begin < 20
