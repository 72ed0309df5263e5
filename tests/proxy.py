"""A TCP proxy in front of a server, that loses what it is told to lose.

    with Proxy(server.port) as proxy:
        store = RedisStore(proxy.url)
        proxy.lose_reply(b"EVALSHA")   # the next such command is carried out, its answer never comes
        proxy.lose_request(b"EVALSHA") # the next such command never arrives
        proxy.cut()                    # all connections end now
        proxy.refuse = True            # and no new one is taken

It runs in threads of its own, so it serves tests with and without an event loop.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from types import TracebackType


class Proxy:
    """Listens on a free loopback port and forwards to *port*, until it is closed."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.refuse = False
        self.lost = 0  #: how many requests or replies were lost so far
        self._lock = threading.Lock()
        self._pairs: set[_Pair] = set()
        self._lose: list[tuple[bytes, bool]] = []
        self._acceptor = threading.Thread(target=self._accept, daemon=True)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def lose_reply(self, word: bytes) -> None:
        """The next request that contains *word* arrives; then the connection ends."""
        with self._lock:
            self._lose.append((word, True))

    def lose_request(self, word: bytes) -> None:
        """The next request that contains *word* does not arrive; the connection ends."""
        with self._lock:
            self._lose.append((word, False))

    def cut(self) -> None:
        """End all connections."""
        with self._lock:
            pairs = list(self._pairs)
        for pair in pairs:
            pair.close()

    def fate(self, request: bytes) -> bool | None:
        """What happens to a request: None it passes, True its reply is lost, False it is lost itself."""
        with self._lock:
            for i, (word, reply) in enumerate(self._lose):
                if word in request:
                    del self._lose[i]
                    self.lost += 1
                    return reply
        return None

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = None if self.refuse else socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                server = None
            if server is None:
                client.close()
                continue
            pair = _Pair(self, client, server)
            with self._lock:
                self._pairs.add(pair)
                pair.start()

    def forget(self, pair: _Pair) -> None:
        with self._lock:
            self._pairs.discard(pair)

    def __enter__(self) -> Proxy:
        self._acceptor.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.refuse = True
        # A blocked accept does not notice that its socket was closed; it does notice a shutdown.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._acceptor.join()
        self.cut()


class _Pair:
    """One connection through the proxy, in a thread of its own, which closes both sockets."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy, self._client, self._server = proxy, client, server
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """End both sides and wait for the thread."""
        for side in (self._client, self._server):
            with contextlib.suppress(OSError):  # it has ended by itself
                side.shutdown(socket.SHUT_RDWR)
        self._thread.join()

    def _run(self) -> None:
        with self._client, self._server, contextlib.suppress(OSError):
            self._forward()
        self._proxy.forget(self)

    def _forward(self) -> None:
        deaf = False
        while True:
            ready, _, _ = select.select([self._client, self._server], [], [])
            if self._client in ready:
                request = self._client.recv(65536)
                fate = self._proxy.fate(request)
                if not request or fate is False:
                    return
                deaf = deaf or fate is True
                self._server.sendall(request)
            if self._server in ready:
                reply = self._server.recv(65536)
                if not reply or deaf:
                    return
                self._client.sendall(reply)
