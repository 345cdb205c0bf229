"""A link to a Redis at a unix socket that can be slow, silent, or cut amid an answer."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_PIECE_BYTES = 4096


class LinkProxy:
    """Passes bytes on between clients of `path` and the server, as its faults allow.

    Args:
        upstream: the server's socket.
        folder: where its own is made.
        bytes_per_second: of all connections together, either way; None: no bound.
    """

    def __init__(
        self, upstream: Path, folder: Path, *, bytes_per_second: float | None = None
    ) -> None:
        self.path = folder / "link.sock"
        self._upstream = str(upstream)
        self._bytes_per_second = bytes_per_second
        self._lock = threading.Lock()
        self._free_at = 0.0
        self._cut_at = b""
        self._open = threading.Event()
        self._open.set()
        self._links: list[_Link] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen(256)
        threading.Thread(target=self._accept, daemon=True).start()

    def part(self) -> None:
        """From now on nothing passes, and nobody is told; connections can still be made."""
        self._open.clear()

    def heal(self) -> None:
        """What was held back is passed on."""
        self._open.set()

    def go_deaf(self) -> int:
        """Forget all that passes on connections made so far, without closing one; how many."""
        with self._lock:
            links = [link for link in self._links if link.alive]
        for link in links:
            link.deaf = True
        return len(links)

    def cut_at(self, marker: bytes) -> None:
        """Close, once, the connection whose answer holds `marker`, which does not get through."""
        with self._lock:
            self._cut_at = marker

    @property
    def has_cut(self) -> bool:
        """Whether that answer came."""
        with self._lock:
            return not self._cut_at

    def close(self) -> None:
        self._open.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for link in self._links:
            link.end()

    def cuts(self, data: bytes) -> bool:
        """Whether this answer is the one to cut at."""
        with self._lock:
            hit = bool(self._cut_at) and self._cut_at in data
            if hit:
                self._cut_at = b""
            return hit

    def let_through(self, size_bytes: int) -> None:
        """Wait while the link is parted, and as long as so many bytes take."""
        self._open.wait()
        if self._bytes_per_second is None:
            return
        with self._lock:
            begin = max(time.monotonic(), self._free_at)
            self._free_at = begin + size_bytes / self._bytes_per_second
        time.sleep(max(0.0, self._free_at - time.monotonic()))

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._upstream)
                with self._lock:
                    self._links.append(_Link(self, client, server))


class _Link:
    """One client's connection and its twin to the server."""

    def __init__(self, proxy: LinkProxy, client: socket.socket, server: socket.socket) -> None:
        self.deaf = False
        self.alive = True
        self._proxy = proxy
        self._ends = (client, server)
        for source, target in ((client, server), (server, client)):
            threading.Thread(target=self._pass, args=(source, target), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(_PIECE_BYTES):
                self._proxy.let_through(len(data))
                if source is self._ends[1] and self._proxy.cuts(data):
                    break
                if not self.deaf:
                    target.sendall(data)
        self.end()

    def end(self) -> None:
        self.alive = False
        for each in self._ends:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
