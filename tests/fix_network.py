"""A network between two parties that a test can slow down, stall, cut or switch off.

Understands no protocol, except that `TlsFront` speaks PostgreSQL's way of starting TLS.
Tests get it from the `link` fixture, placed before or behind maitred.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from fix_wire import SSL_REQUEST

_LINGER_RESET = struct.pack("ii", 1, 0)


class Link:
    """A TCP relay of its own: everything it accepts it connects to `target`."""

    def __init__(self, target: tuple[str, int], host: str = "127.0.0.1") -> None:
        self.target = target
        self.delay_s = 0.0
        self.accepted = 0
        self._open = threading.Event()
        self._open.set()
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self.address = (host, 0)
        self.listen()

    @property
    def port(self) -> int:
        return self.address[1]

    @property
    def connections(self) -> int:
        with self._lock:
            return len(self._pairs)

    def listen(self) -> None:
        """Accept (again), at the same address as before."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(self.address)
        listener.listen(256)
        self.address = listener.getsockname()
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def refuse(self) -> None:
        """Accept no more: connecting is refused."""
        listener, self._listener = self._listener, None
        if listener:
            # Why: shutdown wakes the accepting thread, close alone would not.
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()

    def stall(self) -> None:
        """Carry nothing in either direction until `flow`, but keep every connection."""
        self._open.clear()

    def flow(self) -> None:
        self._open.set()

    def reset(self) -> None:
        """Cut every connection with a TCP reset on both sides."""
        with self._lock:
            pairs, self._pairs = self._pairs, set()
        for pair in pairs:
            for side in pair:
                with contextlib.suppress(OSError):
                    side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)
                    side.shutdown(socket.SHUT_RDWR)
                side.close()

    def close(self) -> None:
        self.refuse()
        self.flow()
        self.reset()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            self.accepted += 1
            threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        try:
            near = self._greet(near)
            far = socket.create_connection(self.target)
        except (OSError, ssl.SSLError):
            near.close()
            return
        for side in (near, far):
            side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        pair = (near, far)
        with self._lock:
            self._pairs.add(pair)
        self._exchange(near, far)
        with self._lock:
            self._pairs.discard(pair)
        near.close()
        far.close()

    def _greet(self, near: socket.socket) -> socket.socket:
        return near

    def _exchange(self, near: socket.socket, far: socket.socket) -> None:
        back = threading.Thread(target=self._carry, args=(far, near), daemon=True)
        back.start()
        self._carry(near, far)
        back.join()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(1 << 16):
                if self.delay_s:
                    time.sleep(self.delay_s)
                self._open.wait()
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except (OSError, ValueError):
            # Why: one side is gone, so the other one must notice.
            for side in (source, sink):
                with contextlib.suppress(OSError):
                    side.shutdown(socket.SHUT_RDWR)


class TlsFront(Link):
    """A database that speaks TLS: a `Link` which ends TLS before a database that does not.

    Why: the PostgreSQL that the tests bring along is built without TLS.
    """

    def __init__(
        self,
        target: tuple[str, int],
        context: ssl.SSLContext | None,
        host: str = "127.0.0.1",
    ) -> None:
        self.context = context
        self.asked = 0
        self.handshakes = 0
        self.plain = 0
        self.finished = 0
        self.client_certificates: list[object] = []
        self.alpn: list[str | None] = []
        super().__init__(target, host)

    def _greet(self, near: socket.socket) -> socket.socket:
        first = near.recv(8, socket.MSG_PEEK | socket.MSG_WAITALL)
        if first[:1] == b"\x16" and self.context:
            return self._handshake(near)
        if len(first) == 8 and struct.unpack("!II", first) == (8, SSL_REQUEST):
            near.recv(8)
            self.asked += 1
            if self.context is None:
                near.sendall(b"N")
                return near
            near.sendall(b"S")
            return self._handshake(near)
        if len(first) < 8:
            raise OSError("closed before it said anything")
        self.plain += 1
        return near

    def _exchange(self, near: socket.socket, far: socket.socket) -> None:
        # Why: one thread for both directions; a TLS socket is not safe in two threads.
        try:
            while True:
                waiting = isinstance(near, ssl.SSLSocket) and near.pending()
                ready = [near] if waiting else select.select([near, far], [], [])[0]
                for side in ready:
                    data = side.recv(1 << 16)
                    if not data:
                        return
                    self.finished += side is far
                    (far if side is near else near).sendall(data)
        except (OSError, ValueError):
            return

    def _handshake(self, near: socket.socket) -> socket.socket:
        assert self.context is not None
        near = self.context.wrap_socket(near, server_side=True)
        self.handshakes += 1
        self.client_certificates.append(near.getpeercert())
        self.alpn.append(near.selected_alpn_protocol())
        return near


@pytest.fixture
def link() -> Iterator[Callable[..., Link]]:
    """Make links to a port (or an address); all are closed when the test ends."""
    made: list[Link] = []

    def make(target: int | tuple[str, int]) -> Link:
        made.append(Link(("127.0.0.1", target) if isinstance(target, int) else target))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def tls_front() -> Iterator[Callable[..., TlsFront]]:
    """Make TLS-speaking databases out of plain ones."""
    made: list[TlsFront] = []

    def make(port: int, context: ssl.SSLContext | None, host: str = "127.0.0.1") -> TlsFront:
        made.append(TlsFront(("127.0.0.1", port), context, host))
        return made[-1]

    yield make
    for each in made:
        each.close()
