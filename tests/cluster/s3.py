"""An S3 server on loopback, for tests: `from .s3 import bucket, s3_server`, and ask for `bucket`."""

import http.client
import http.server
import os
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress

import pytest

from locloc.pipeline.io import fsspec_io as remote
from locloc.pipeline.io.buckets import Bucket, Limits

KEY_ID, SECRET = "AKIDLOCLOCTEST", "wJalrXUtnFEMI-K7MDENG-bPxRfiCY"


@contextmanager
def serving_s3(**settings: str) -> Iterator[str]:
    """The address of a server that honours If-Match and If-None-Match; `settings` are moto's, by their variables."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    environment = os.environ | {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"} | settings
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    try:
        give_up = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < give_up, "the S3 server does not start"
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    pytest.importorskip("obstore")
    pytest.importorskip("moto.server")
    with serving_s3() as address:
        yield address


def forget_filesystems() -> None:
    """As in a new process: images will be read through fresh connections."""
    remote._reset_after_fork()


def bucket_of(url: str) -> Bucket:
    """The bucket of `s3://NAME/...`, to write into and to look at."""
    return Bucket("s3", url.removeprefix("s3://").partition("/")[0], Limits(20, 3, 60))


@pytest.fixture
def s3_environment(s3_server, monkeypatch) -> str:
    """What a user exports for the server, for this process and those that it starts; its address."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    return s3_server


@pytest.fixture
def bucket(s3_environment) -> str:
    """A fresh bucket, as `s3://NAME`."""
    name = f"bucket-{uuid.uuid4().hex[:12]}"
    put(s3_environment, f"/{name}")
    return f"s3://{name}"


def put(server: str, path: str, body: bytes = b"") -> None:
    connection = http.client.HTTPConnection(server.removeprefix("http://"), timeout=20)
    connection.request(
        "PUT", path, body, {"Authorization": f"AWS4-HMAC-SHA256 Credential={KEY_ID}/20260101/us-east-1/s3"}
    )
    assert connection.getresponse().status == 200
    connection.close()


def without_headers(server: str, *dropped: str) -> AbstractContextManager[str]:
    """The address of a proxy that forgets some headers of a request, as storage does that does not know them."""
    return behind_proxy(server, {name.lower() for name in dropped})


@contextmanager
def behind_proxy(
    server: str, dropped: Collection[str] = (), fault: Callable[[], str] = lambda: "", delay_s: float = 0.0
) -> Iterator[str]:
    """The address of a proxy that takes `delay_s` for each request and makes a fault of it, which `fault` chooses: a
    status, "reset" before the request reaches the server, "lost" for an answer that does not arrive, "" for none.
    """

    class Proxy(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def forward(self) -> None:
            body, happens = self.rfile.read(int(self.headers.get("Content-Length", 0))), fault()
            time.sleep(delay_s)
            if happens.isdecimal():
                code = {"500": "InternalError", "503": "SlowDown"}[happens]
                error = f"<Error><Code>{code}</Code><Message>{code}, said the test</Message></Error>".encode()
                self.send_response(int(happens))
                self.send_header("Content-Length", str(len(error)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(error)
                return
            if happens == "reset":
                self.reset()
                return
            headers = {name: value for name, value in self.headers.items() if name.lower() not in dropped}
            connection = http.client.HTTPConnection(server.removeprefix("http://"), timeout=20)
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            data = answer.read()
            if happens == "lost":
                connection.close()
                self.reset()
                return
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("transfer-encoding", "content-length", "connection", "date", "server"):
                    self.send_header(name, value)
            length = answer.getheader("Content-Length") if self.command == "HEAD" else len(data)
            self.send_header("Content-Length", str(length or 0))
            self.end_headers()
            self.wfile.write(data)
            connection.close()

        def reset(self) -> None:
            self.close_connection = True
            with suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = forward

        def log_message(self, *args) -> None:
            pass

    proxy = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    proxy.daemon_threads = True
    thread = threading.Thread(target=proxy.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{proxy.server_address[1]}"
    finally:
        proxy.shutdown()
        thread.join()
        proxy.server_close()
