"""A TCP proxy that cuts connections: all at once, or each after a number of bytes that a seed determines.

A cut is a reset at any point of the traffic, in either direction, as a failing network causes it. The proxy does
not interpret the traffic.
"""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading
from collections.abc import Iterator

from servers.process import LOOPBACK

# SO_LINGER with a time of zero: `close` resets the connection instead of ending it in order.
_RESET = struct.pack("ii", 1, 0)


class CuttingProxy:
    """Listens on loopback for one upstream address.

    Args:
        upstream: host and port.
        seed: for the numbers of bytes.
    """

    def __init__(self, upstream: tuple[str, int], seed: int = 0) -> None:
        self._upstream = upstream
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._budget: tuple[int, int] | None = None
        self.cuts = 0
        """Number of cut connections."""
        self._listener = socket.create_server((LOOPBACK, 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut_after(self, least: int, most: int) -> None:
        """From now on, cut each connection after a random number of bytes from `least` to `most`."""
        with self._lock:
            self._budget = (least, most)
        self.cut()

    def go_on(self) -> None:
        """Stop cutting connections."""
        with self._lock:
            self._budget = None

    def turn_to(self, upstream: tuple[str, int]) -> None:
        """From now on connect to another address; cuts the present connections."""
        self._upstream = upstream
        self.cut()

    def cut(self) -> None:
        """Cut all present connections."""
        with self._lock:
            open_now = list(self._open)
        for each in open_now:
            self._drop(each)

    def close(self) -> None:
        """Accept no connections any more, and cut the present ones."""
        # After `close` alone, a waiting `accept` would still accept one connection.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._upstream, timeout=5)
            except OSError:
                client.close()
                continue
            # The timeout of the connect would apply to each `recv`, too.
            server.settimeout(None)
            with self._lock:
                self._open |= {client, server}
                left = [self._random.randint(*self._budget)] if self._budget else None
            for source, target in ((client, server), (server, client)):
                threading.Thread(target=self._pump, args=(source, target, left), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, left: list[int] | None) -> None:
        """Forward bytes; `left` is the number of bytes that both directions of a connection may still transfer."""
        for data in _received(source):
            allowed = data if left is None else data[: max(left[0], 0)]
            with contextlib.suppress(OSError):
                target.sendall(allowed)
            if left is not None:
                left[0] -= len(data)
                if left[0] <= 0:
                    break
        self._drop(source)
        self._drop(target)

    def _drop(self, each: socket.socket) -> None:
        with self._lock:
            if each not in self._open:
                return
            self._open.discard(each)
            self.cuts += 1
        with contextlib.suppress(OSError):
            each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            # `close` alone does not wake the thread that waits in `recv`.
            each.shutdown(socket.SHUT_RDWR)
        each.close()


def _received(source: socket.socket) -> Iterator[bytes]:
    while True:
        try:
            data = source.recv(65_536)
        except OSError:
            return
        if not data:
            return
        yield data
