"""A network between workers and their scheduler that can be cut: a proxy in a thread of the test's own."""

import selectors
import socket
import threading
import time
from contextlib import suppress
from urllib.parse import urlsplit


class Proxy:
    """Forwards connections to `target`, `tcp://HOST:PORT`, which may change for later ones."""

    def __init__(self):
        self.target = ""
        self._held, self._ended = threading.Event(), threading.Event()
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._server = socket.create_server(("127.0.0.1", 0))
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._server, selectors.EVENT_READ)
        self.address = f"tcp://127.0.0.1:{self._server.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def hold(self) -> None:
        """Nothing arrives any more, in either direction, and nobody is told."""
        self._held.set()

    def release(self) -> None:
        """What was held arrives."""
        self._held.clear()

    def reset(self) -> None:
        """Ends all connections at once."""
        for one in list(self._pairs):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def end(self) -> None:
        self._ended.set()
        self._thread.join(10)
        for one in [*self._pairs, self._server]:
            one.close()

    def _serve(self) -> None:
        while not self._ended.is_set():
            if self._held.is_set():
                time.sleep(0.02)
                continue
            for key, _ in self._selector.select(0.05):
                with suppress(OSError):
                    self._accept() if key.fileobj is self._server else self._forward(key.fileobj)

    def _accept(self) -> None:
        near, _ = self._server.accept()
        try:
            there = urlsplit(self.target)
            far = socket.create_connection((there.hostname, there.port), 5)
        except OSError:
            near.close()
            return
        self._pairs |= {near: far, far: near}
        for one in (near, far):
            one.setblocking(True)
            self._selector.register(one, selectors.EVENT_READ)

    def _forward(self, one: socket.socket) -> None:
        if (other := self._pairs.get(one)) is None:
            return  # closed with its other end, whose turn came before its own
        try:
            data = one.recv(1 << 16)
            if data:
                other.sendall(data)
                return
        except OSError:
            pass
        for end in (one, other):
            self._selector.unregister(end)
            self._pairs.pop(end)
            end.close()
