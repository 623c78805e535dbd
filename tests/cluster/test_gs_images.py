"""Images in Google Cloud Storage, from a stand-in on loopback that speaks as much of it as an image needs."""

import http.server
import threading
import urllib.parse
from xml.sax.saxutils import escape

import pytest

pytest.importorskip("obstore")

from locloc.pipeline.catalogs.paths import resolve
from locloc.pipeline.catalogs.registry import read_catalog
from locloc.pipeline.errors import UnreachableError
from locloc.pipeline.io import fsspec_io as remote
from locloc.pipeline.io.images import MissingImageError, read_image_bytes

from .s3 import forget_filesystems

OBJECTS = {"data/cat/a.jpg": b"1", "data/dog/ä #?%20.png": b"2", "data/.x.jpg": b"3", "data2/y.jpg": b"4"}


def listed(name: str) -> str:
    return (
        f"<Contents><Key>{escape(name)}</Key><Size>1</Size><ETag>1</ETag>"
        "<LastModified>2015-10-21T07:28:00.000Z</LastModified></Contents>"
    )


@pytest.fixture
def answers(monkeypatch):
    """What the server says before it begins to serve OBJECTS: a list of (status, code, message)."""
    first = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            address = urllib.parse.urlsplit(self.path)
            query = urllib.parse.parse_qs(address.query)
            key = urllib.parse.unquote(address.path).removeprefix("/bucket").removeprefix("/")
            if first:
                status, code, message = first.pop(0)
                body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
            elif not key:
                begin = query.get("prefix", [""])[0]
                names = [name for name in OBJECTS if name.startswith(begin)]
                status, body = 200, f"<ListBucketResult>{''.join(map(listed, names))}</ListBucketResult>".encode()
            elif key in OBJECTS:
                status, body = 200, OBJECTS[key]
            else:
                status, body = 404, b"<Error><Code>NoSuchKey</Code><Message>No such object</Message></Error>"
            self.send_response(status)
            self.send_header("Last-Modified", "Wed, 21 Oct 2015 07:28:00 GMT")
            self.send_header("ETag", '"1"')
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{server.server_port}")
    forget_filesystems()
    yield first
    forget_filesystems()
    server.shutdown()
    server.server_close()


def test_a_folder_in_gs(answers):
    catalog = read_catalog("gs://bucket/data")
    assert catalog.slice(0, 9)[0] == ["cat/a.jpg", "dog/ä #?%20.png"]
    assert catalog.classes == ("cat", "dog")
    assert [read_image_bytes(resolve(catalog.root, path)) for path in catalog.slice(0, 9)[1]] == [b"1", b"2"]


def test_what_is_true_of_one_image(answers):
    with pytest.raises(MissingImageError, match="^no such file$"):
        read_image_bytes("gs://bucket/none.jpg")
    answers += [(403, "AccessDenied", "does not have storage.objects.get access")]
    with pytest.raises(MissingImageError, match="^permission denied$"):
        read_image_bytes("gs://bucket/data/cat/a.jpg")


def test_a_hiccup_is_tried_again(answers):
    answers += [(503, "ServiceUnavailable", "Backend Error")]
    assert read_image_bytes("gs://bucket/data/cat/a.jpg") == b"1"


def test_an_outage_is_no_status(answers, monkeypatch):
    monkeypatch.setattr(remote, "READ_DEADLINE_S", 2)
    answers += [(503, "ServiceUnavailable", "Backend Error")] * 100
    with pytest.raises(UnreachableError, match="^Images cannot be reached: gs://bucket/data/cat/a.jpg"):
        read_image_bytes("gs://bucket/data/cat/a.jpg")


def test_credentials_that_fail_are_no_status(answers):
    answers += [(401, "AuthenticationRequired", "Anonymous caller")] * 100
    with pytest.raises(UnreachableError, match="Anonymous caller"):
        read_image_bytes("gs://bucket/data/cat/a.jpg")
