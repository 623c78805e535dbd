"""`locloc masks serve`: an HTTP server for one page, for its user alone.

Every address begins with a random token. Requests are answered only for the host names of the server, so that a web
page elsewhere which points its own name at this machine gets nothing. An IP address is looked up nowhere, so nobody can
point it elsewhere: beyond loopback any is taken, for containers and routers translate addresses. There is no path of a
file in a request, and nothing can be written but decisions.
"""

import errno
import hmac
import ipaddress
import secrets
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from ...errors import StoreError, UnreachableError, os_error_reason
from .live import Answer, LivePage, NotThereError

LOCAL = ("localhost", "127.0.0.1", "::1")
LONGEST_BODY = 4 << 20
READ_TIMEOUT_S = 30.0

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class PageServer(ThreadingHTTPServer):
    """Serves a page until `shutdown`, at `url`."""

    daemon_threads = True

    def __init__(self, page: LivePage, host: str = "127.0.0.1", port: int = 0):
        """port: 0 for a free one. Raises StoreError where it cannot be listened on."""
        self.page = page
        self.token = secrets.token_urlsafe(24)
        if ":" in host:
            self.address_family = socket.AF_INET6
        try:
            super().__init__((host, port), _Handler)
        except (OSError, OverflowError) as error:
            reason = os_error_reason(error) if isinstance(error, OSError) else str(error)
            of_host = isinstance(error, socket.gaierror) or getattr(error, "errno", None) == errno.EADDRNOTAVAIL
            option = "--host" if of_host else "--port"
            raise StoreError(f"{host}:{port} cannot be listened on: {reason}; choose another {option}") from None
        self.address = ipaddress.ip_address(str(self.server_address[0]).partition("%")[0])
        named = () if self.address.is_unspecified else (host.lower(),)
        own = () if host in LOCAL else (socket.gethostname().lower(), socket.getfqdn().lower())
        self.hosts = tuple(dict.fromkeys((*LOCAL, *named, *own)))

    def is_own_host(self, name: str) -> bool:
        """Whether requests for a host of this name are answered."""
        return name.lower() in self.hosts or (not self.address.is_loopback and _is_ip_address(name))

    @property
    def hosts_text(self) -> str:
        names = ", ".join(self.hosts)
        if self.address.is_loopback:
            return f"{names}; `masks serve --host ADDRESS` listens elsewhere"
        return f"{names}, and any IP address; `masks serve --host NAME` takes another name of this machine"

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    @property
    def url(self) -> str:
        """With the token: whoever knows it sees the page. Of a server on all addresses: one that others can reach."""
        host = str(self.server_address[0])
        if self.address.is_unspecified:
            host = _outward_address(self.address_family) or socket.gethostname()
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}/{self.token}/"

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that has gone is no error; anything else is a bug, and is printed."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


def _is_ip_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _outward_address(family: int) -> str | None:
    """The address of this machine on its way to others; IPv4 too for IPv6 without a route. Sends nothing."""
    # Addresses of documentation: RFC 5737 and RFC 3849.
    elsewhere: dict[int, str] = {socket.AF_INET6: "2001:db8::1", socket.AF_INET: "192.0.2.1"}
    for one in (family, socket.AF_INET):
        with suppress(OSError), socket.socket(one, socket.SOCK_DGRAM) as probe:
            probe.connect((elsewhere[one], 9))
            return str(probe.getsockname()[0])
    return None


class _RefusedError(Exception):
    def __init__(self, status: HTTPStatus, reason: str = ""):
        self.status, self.reason = status, reason

    def answer(self, name: str) -> Answer:
        """Refuses whatever is asked for."""
        raise self


class _Handler(BaseHTTPRequestHandler):
    server: PageServer
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "locloc", ""
    timeout = READ_TIMEOUT_S

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_HEAD(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What http.server refuses itself: other methods, after the checks of every request, and broken requests."""
        refused = _RefusedError(HTTPStatus(code))
        if code == HTTPStatus.NOT_IMPLEMENTED:
            self._answer(refused.answer)
        else:
            self._refuse(refused)

    def _answer(self, work: Callable[[str], Answer]) -> None:
        try:
            answer = work(self._allowed_name())
        except _RefusedError as refused:
            self._refuse(refused)
        else:
            self._send(HTTPStatus.OK, answer)

    def _refuse(self, refused: _RefusedError) -> None:
        self.close_connection = True  # the body, if any, was not read
        status = refused.status
        text = f"{status.value} {status.phrase}" + (f": {refused.reason}" if refused.reason else "")
        self._send(status, Answer(text.encode("utf-8", "backslashreplace"), "text/plain; charset=utf-8"))

    def _get(self, name: str) -> Answer:
        try:
            return self.server.page.get(name)
        except NotThereError:
            raise _RefusedError(HTTPStatus.NOT_FOUND) from None
        except (StoreError, UnreachableError) as error:
            raise _RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, str(error)) from None

    def _post(self, name: str) -> Answer:
        if name != "decisions":
            raise _RefusedError(HTTPStatus.NOT_FOUND)
        origin = self.headers.get("Origin")
        if origin is not None and _host_name(origin) != self._host:
            raise _RefusedError(HTTPStatus.FORBIDDEN)
        if self.headers.get_content_type() != "application/json":
            raise _RefusedError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdecimal()) or int(length) > LONGEST_BODY:
            raise _RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        try:
            self.server.page.decide(self.rfile.read(int(length)))
        except (ValueError, RecursionError) as error:  # json's errors are ValueErrors
            raise _RefusedError(HTTPStatus.BAD_REQUEST, str(error)) from None
        except StoreError as error:
            raise _RefusedError(HTTPStatus.CONFLICT, str(error)) from None
        except OSError as error:
            file = self.server.page.decisions.file
            raise _RefusedError(HTTPStatus.INSUFFICIENT_STORAGE, f"{file}: {os_error_reason(error)}") from None
        return Answer(b"{}", "application/json")

    def _allowed_name(self) -> str:
        """What is asked for, without the token."""
        if self._host is None or not self.server.is_own_host(self._host):
            raise _RefusedError(HTTPStatus.MISDIRECTED_REQUEST, f"this page is at {self.server.hosts_text}")
        token, slash, name = self.path.partition("?")[0].removeprefix("/").partition("/")
        if not slash or not hmac.compare_digest(token.encode("utf-8", "replace"), self.server.token.encode()):
            raise _RefusedError(HTTPStatus.FORBIDDEN)
        return name

    @property
    def _host(self) -> str | None:
        """The host that was asked, whatever the port: it may be forwarded by ssh."""
        return _host_name(f"//{self.headers.get('Host', '')}")

    def _send(self, status: HTTPStatus, answer: Answer) -> None:
        self.send_response(status)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Cache-Control", "private, max-age=3600" if answer.cacheable else "no-store")
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def log_message(self, *_: object) -> None:
        """Requests are not logged: their addresses hold the token."""


def _host_name(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None
