"""The server answers its own page to its own host with its own token, and nothing else to anybody."""

import fcntl
import http.client
import json
import os
import socket
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from locloc.pipeline.errors import StoreError
from locloc.pipeline.inspect.report import decisions_file
from locloc.pipeline.inspect.report.decisions_csv import read_decisions_csv
from locloc.pipeline.inspect.report.live import LivePage
from locloc.pipeline.inspect.report.server import PageServer

IDS = [f"{n:03}.png" for n in range(70)]


@pytest.fixture
def server(with_images, tmp_path):
    page = LivePage(with_images(IDS), tmp_path / "decisions.csv")
    with PageServer(page) as server, served(server):
        yield server


@contextmanager
def served(server):
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()


def ask(server, path, method="GET", body=None, host="localhost", **headers):
    address = "::1" if server.address_family == socket.AF_INET6 else "127.0.0.1"
    connection = http.client.HTTPConnection(address, server.port, timeout=20)
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    if host is not None:
        connection.putheader("Host", host)
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    for name, value in (headers | ({"Content-Length": str(len(body))} if body is not None else {})).items():
        connection.putheader(name, value)
    connection.endheaders(body)
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response, content


def post(server, changes, **headers):
    body = changes if isinstance(changes, bytes) else json.dumps(changes).encode()
    return ask(server, f"/{server.token}/decisions", "POST", body, **({"Content_Type": "application/json"} | headers))


def test_it_serves_the_page(server):
    assert server.url == f"http://127.0.0.1:{server.port}/{server.token}/" and len(server.token) >= 32
    wanted = {"": "text/html", "data.js": "text/javascript", "assets/core.js": "text/javascript",
              "assets/report.css": "text/css", "tile/0.webp": "image/webp", "image/9.webp": "image/webp",
              "blocks/00001.js": "text/javascript"}  # fmt: skip
    for name, content_type in wanted.items():
        response, body = ask(server, f"/{server.token}/{name}")
        assert response.status == 200 and response.headers["Content-Type"].startswith(content_type), name
        assert body and response.headers["X-Content-Type-Options"] == "nosniff"
        assert "default-src 'none'" in response.headers["Content-Security-Policy"]
        assert "Access-Control-Allow-Origin" not in response.headers
    assert body.startswith(b"locloc.onBlock(1,[[{")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9999", "127.0.0.1:1", "[::1]:8000"])
def test_its_own_hosts(server, host):
    assert ask(server, f"/{server.token}/", host=host)[0].status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example:80", "127.0.0.1.nip.io", "", None, "[", "10.0.0.1"]
)
def test_other_hosts(server, host):
    response, body = ask(server, f"/{server.token}/data.js", host=host)
    assert response.status == 421 and b"png" not in body
    assert b"this page is at localhost, 127.0.0.1, ::1; `masks serve --host ADDRESS` listens elsewhere" in body


def test_all_addresses(server, monkeypatch):
    """Names can be pointed here by anybody, addresses cannot; routers and containers translate the latter."""
    for host in ("0.0.0.0", "::") if socket.has_dualstack_ipv6() else ("0.0.0.0",):
        with PageServer(server.page, host) as everywhere, served(everywhere):
            shown, name, page = urlsplit(everywhere.url), socket.gethostname(), f"/{everywhere.token}/"
            assert shown.hostname not in ("0.0.0.0", "::") and shown.port == everywhere.port
            for own in (shown.netloc, name.upper(), "localhost:1", "192.0.2.77", "[2001:db8::7]:80"):
                assert ask(everywhere, page, host=own)[0].status == 200, own
            for other in ("evil.example", "192.0.2.77.nip.io", "", None):
                response, body = ask(everywhere, page, host=other)
                assert response.status == 421, other
                assert name.lower() in body.decode() and "any IP address; `masks serve --host NAME`" in body.decode()
            from_elsewhere = {"Content_Type": "application/json", "Origin": "http://192.0.2.78"}
            refused, _ = ask(everywhere, f"{page}decisions", "POST", b"[]", "192.0.2.77", **from_elsewhere)
            assert refused.status == 403
    monkeypatch.setattr("locloc.pipeline.inspect.report.server._outward_address", lambda family: None)
    with PageServer(server.page, "0.0.0.0") as without_route:
        assert urlsplit(without_route.url).hostname == name.lower()


def test_all_methods_are_checked_and_answered_alike(server):
    page = f"/{server.token}/data.js"
    for method in ("HEAD", "PUT", "OPTIONS", "FOO"):
        there, not_there = (200, 404) if method == "HEAD" else (501, 501)
        wanted = {("localhost", page): there, ("localhost", f"{page}x"): not_there,
                  ("evil.example", page): 421, ("localhost", "/x/data.js"): 403}  # fmt: skip
        for (host, path), status in wanted.items():
            response, body = ask(server, path, method, host=host)
            assert response.status == status and response.headers["Content-Type"].startswith("text/"), method
            assert "default-src 'none'" in response.headers["Content-Security-Policy"]
            assert not body if method == "HEAD" else body.startswith(str(status).encode())
    head, get = (ask(server, f"/{server.token}/tile/0.webp", method) for method in ("HEAD", "GET"))
    assert int(head[0].headers["Content-Length"]) == len(get[1]) > 0 and not head[1]
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(b"GET / and more HTTP/1.1\r\n\r\n")
        answer = connection.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 400 ") and b"default-src 'none'" in answer


@pytest.mark.parametrize(
    "path", ["/", "/data.js", "/{wrong}/data.js", "/{short}/", "/{token}", "//data.js", "/%C3%A9/data.js"]
)
def test_wrong_tokens(server, path):
    path = path.format(wrong="x" * len(server.token), short=server.token[:-1], token=server.token)
    response, body = ask(server, path)
    assert response.status == 403 and server.token.encode() not in body


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd", "assets/../../server.py", "assets/%2e%2e/live.py", "assets//etc/passwd", "..%2f..%2fetc",
        "tile/../tile/0.webp", "tile/-1.webp", "tile/70.webp", "tile/٣.webp", "tile/0.png", "tile/1e3.webp",
        "blocks/00002.js", "blocks/999999999999999999999999.js", "image/6.webp", "decisions", "decisions.csv", "x",
    ],
)  # fmt: skip
def test_nothing_else_is_there(server, name):
    from urllib.parse import quote

    path = f"/{server.token}/{name if name.isascii() else quote(name)}"
    assert ask(server, path)[0].status == 404


def test_decisions_are_kept_in_a_file(server, tmp_path):
    assert post(server, [[0, "rejected", 'the "ear"\n'], [9, "accepted", ""]])[0].status == 200
    assert (
        post(server, [[9, None, ""], [10, "undecided", "?"]], Origin=f"http://localhost:{server.port}")[0].status == 200
    )
    kept = {one.id: (one.decision, one.note) for one in read_decisions_csv(tmp_path / "decisions.csv").values()}
    assert kept == {"000.png": ("rejected", 'the "ear"'), "010.png": ("undecided", "?")}
    _, data = ask(server, f"/{server.token}/data.js")
    assert b'"kept":[["000.png","rejected",' in data
    again = LivePage(server.page.version, tmp_path / "decisions.csv")
    assert again.decisions.as_json()[1] == ["010.png", "undecided", "?"]


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"[", b"[1]", b'[[0,"rejected"]]', b'[[99,"rejected",""]]', b'[[-1,"rejected",""]]',
     b'[[true,"rejected",""]]', b'[[4,"rejected",""]]', b'[[0,"maybe",""]]',
     b'[[0,"rejected",7]]', b"[" * 100_000, b"\xff"],
)  # fmt: skip
def test_wrong_decisions(server, tmp_path, body):
    assert post(server, body)[0].status == 400
    assert not (tmp_path / "decisions.csv").exists()


def test_others_cannot_decide(server, tmp_path):
    change = [[0, "rejected", ""]]
    assert post(server, change, Origin="http://evil.example")[0].status == 403
    assert post(server, change, Origin="null")[0].status == 403
    assert post(server, change, Content_Type="text/plain")[0].status == 415
    assert post(server, change, host="evil.example")[0].status == 421
    assert ask(server, "/x/decisions", "POST", b"[]", Content_Type="application/json")[0].status == 403
    assert ask(server, f"/{server.token}/data.js", "POST", b"[]")[0].status == 404
    length = {"Content_Type": "application/json", "Content_Length": "99999999999"}
    assert ask(server, f"/{server.token}/decisions", "POST", **length)[0].status == 413
    assert ask(server, f"/{server.token}/", "PUT", b"x")[0].status == 501
    assert not (tmp_path / "decisions.csv").exists()


def test_it_listens_on_this_machine_only(server):
    assert server.server_address[0] == "127.0.0.1"
    with pytest.raises(StoreError, match="cannot be listened on: address already in use; choose another --port"):
        PageServer(server.page, port=server.port)
    with pytest.raises(StoreError, match="cannot be listened on: .*; choose another --host"):
        PageServer(server.page, "192.0.2.1")


def test_a_browser_that_stops_reading_does_not_end_it(server):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.putrequest("GET", f"/{server.token}/data.js")
    connection.endheaders()
    connection.close()
    time.sleep(0.05)
    assert ask(server, f"/{server.token}/")[0].status == 200


def test_a_broken_file_of_decisions_is_told(with_images, tmp_path):
    (tmp_path / "decisions.csv").write_text("id,decision\na,perhaps\n")
    with pytest.raises(StoreError, match="no decision 'perhaps'"):
        LivePage(with_images(IDS), tmp_path / "decisions.csv")
    (tmp_path / "decisions.csv").write_text("id,decision,note\n")
    assert not len(LivePage(with_images(IDS), tmp_path / "decisions.csv").decisions)


def test_two_servers_of_one_file_keep_the_decisions_of_both(server, tmp_path):
    """And what was written to it by hand."""
    file = tmp_path / "decisions.csv"
    with PageServer(LivePage(server.page.version, file)) as other, served(other):
        assert post(server, [[0, "rejected", "a"]])[0].status == 200
        assert post(other, [[1, "accepted", "b"]])[0].status == 200
        file.write_text(file.read_text() + "002.png,rejected,by hand\r\n")
        assert post(server, [[9, "accepted", ""]])[0].status == 200
        _, data = ask(other, f"/{other.token}/data.js")
    assert [*read_decisions_csv(file)] == ["000.png", "001.png", "002.png", "009.png"]
    assert b'"kept":[["000.png","rejected","a"],["001.png","accepted","b"],["002.png","rejected","by hand"]' in data
    file.unlink()
    assert post(server, [[0, None, ""]])[0].status == 200
    assert [*read_decisions_csv(file)] == ["001.png", "002.png", "009.png"]


def test_many_changes_at_once_all_count(server, tmp_path):
    file = tmp_path / "decisions.csv"
    pages = [LivePage(server.page.version, file) for _ in range(3)]
    rows = [row for row in range(len(IDS)) if row not in range(4, 8)]

    def decide(page, own):
        for row in own:
            page.decide(json.dumps([[row, "accepted", ""]]).encode())

    threads = [threading.Thread(target=decide, args=(page, rows[n::3])) for n, page in enumerate(pages)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [*read_decisions_csv(file)] == [IDS[row] for row in rows]


def test_a_file_of_another_store_is_told(server, tmp_path):
    file = tmp_path / "decisions.csv"
    file.write_text("id,decision,note\nof/another.png,rejected,\n")
    told = "decisions.csv:2: .*@v1 holds no image 'of/another.png'; is the file of another store"
    with pytest.raises(StoreError, match=told):
        LivePage(server.page.version, file)
    before = file.read_text()
    response, content = post(server, [[0, "rejected", ""]])
    assert response.status == 409 and b"holds no image 'of/another.png'" in content
    assert file.read_text() == before
    file.write_text("id,decision,note\n000.png,rej")  # somebody is typing
    response, content = ask(server, f"/{server.token}/data.js")
    assert response.status == 200 and b'"kept":[]' in content, "the page shows what was last known"


def test_a_lock_of_others_is_waited_for_and_told(server, tmp_path, monkeypatch):
    monkeypatch.setattr(decisions_file, "LOCK_S", 0.05)
    folder = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    response, content = post(server, [[0, "rejected", ""]])
    assert response.status == 507 and content.endswith(b"decisions.csv: another process holds a lock on its folder")
    os.close(folder)
    assert post(server, [[0, "rejected", ""]])[0].status == 200


def test_decisions_may_go_to_a_device(with_images):
    page = LivePage(with_images(IDS), Path("/dev/null"))
    for row in (0, 1):
        page.decide(json.dumps([[row, "accepted", ""]]).encode())
    assert [one[0] for one in page.decisions.as_json()] == IDS[:2]
