"""A relay between client and server that counts what is asked for."""

from __future__ import annotations

import re
import socket
import threading
from collections import Counter
from types import TracebackType
from typing import Self

from scripts.world import Endpoint

_ASKED = re.compile(rb"(?m)^(BODY <[^>]+>|POST)\r\n")


class CountingRelay:
    """A context manager; ``endpoint`` is what the client is told."""

    def __init__(self, server: Endpoint) -> None:
        self._server = server
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = Endpoint(*self._listener.getsockname()[:2])
        self.bodies: Counter[bytes] = Counter()
        """Requests for each article."""
        self.posts = 0
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []

    def __repr__(self) -> str:
        return f"<CountingRelay bodies={self.bodies.total()} posts={self.posts}>"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for connection in self._open:
                connection.close()

    def reset(self) -> None:
        """Count from zero."""
        with self._lock:
            self.bodies.clear()
            self.posts = 0

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection((self._server.host, self._server.port))
            except OSError:
                return
            with self._lock:
                self._open += [client, server]
            threading.Thread(target=self._pass, args=(client, server, True), daemon=True).start()
            threading.Thread(target=self._pass, args=(server, client, False), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, counted: bool) -> None:
        rest = b""
        try:
            while data := source.recv(1 << 18):
                if counted:
                    rest = self._count(rest + data)
                target.sendall(data)
        except OSError:
            pass
        finally:
            for end in (source, target):
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue

    def _count(self, data: bytes) -> bytes:
        """Count what is asked for in whole lines; returns the last line's beginning."""
        end = data.rfind(b"\n") + 1
        with self._lock:
            for asked in _ASKED.findall(data[:end]):
                if asked == b"POST":
                    self.posts += 1
                else:
                    self.bodies[asked] += 1
        return data[end:][-600:]
