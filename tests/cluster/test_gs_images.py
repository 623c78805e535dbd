"""Images in Google Cloud Storage, from a stand-in on loopback that speaks as much of it as an image needs."""

import http.server
import json
import threading
import urllib.parse

import fsspec
import pytest

pytest.importorskip("gcsfs")

from locloc.pipeline.catalogs import read_catalog, resolve
from locloc.pipeline.errors import UnreachableError
from locloc.pipeline.io import fsspec_io as remote
from locloc.pipeline.io.images import MissingImageError, read_image_bytes

from .s3 import forget_filesystems

OBJECTS = {"data/cat/a.jpg": b"1", "data/dog/ä #?%20.png": b"2", "data/.x.jpg": b"3", "data2/y.jpg": b"4"}


@pytest.fixture
def answers(monkeypatch):
    """What the server says before it begins to serve OBJECTS: a list of (status, message)."""
    first = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            address = urllib.parse.urlsplit(self.path)
            query = urllib.parse.parse_qs(address.query)
            key = urllib.parse.unquote(address.path.rpartition("/o/")[2])
            if first:
                status, message = first.pop(0)
                body = json.dumps({"error": {"code": status, "message": message}}).encode()
            elif address.path.endswith("/o"):
                begin = query.get("prefix", [""])[0]
                names = [name for name in OBJECTS if name.startswith(begin)]
                status, body = 200, json.dumps({"items": [{"name": name, "size": "1"} for name in names]}).encode()
            else:
                status, body = (200, OBJECTS[key]) if key in OBJECTS else (404, b"")
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setitem(fsspec.config.conf, "gs", {"token": "anon"})  # FSSPEC_GS_TOKEN=anon, before fsspec starts
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
    answers += [(403, "does not have storage.objects.get access")]
    with pytest.raises(MissingImageError, match="^permission denied$"):
        read_image_bytes("gs://bucket/data/cat/a.jpg")


def test_a_hiccup_is_tried_again(answers):
    answers += [(503, "Backend Error")]
    assert read_image_bytes("gs://bucket/data/cat/a.jpg") == b"1"


def test_an_outage_is_no_status(answers, monkeypatch):
    monkeypatch.setattr(remote, "READ_DEADLINE_S", 2)
    answers += [(503, "Backend Error")] * 100
    with pytest.raises(UnreachableError, match="^Images cannot be reached: gs://bucket/data/cat/a.jpg"):
        read_image_bytes("gs://bucket/data/cat/a.jpg")


def test_credentials_that_fail_are_no_status(answers):
    answers += [(401, "Anonymous caller")] * 100
    with pytest.raises(UnreachableError, match="Anonymous caller"):
        read_image_bytes("gs://bucket/data/cat/a.jpg")
