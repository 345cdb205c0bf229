"""Where a soak runs: a Redis with AOF, a TCP proxy before it, and supervised worker processes."""

from __future__ import annotations

import contextlib
import socket
import struct
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Final

import redis

from baton.server_binary import SERVER_ENVIRONMENT, find_server_binary

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_START_SECONDS: Final = 30.0
# Closing sends a reset: what is under way in either direction is lost.
_RESET: Final = struct.pack("ii", 1, 0)


class SoakRedis:
    """A server on a unix socket whose data outlives its death."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.socket = folder / "redis.sock"
        self._command = [
            str(find_server_binary().path), "--port", "0", "--unixsocket", str(self.socket),
            "--dir", str(folder), "--save", "", "--appendonly", "yes", "--daemonize", "no",
            "--maxmemory-policy", "noeviction",
        ]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait for its answer."""
        self._process = subprocess.Popen(
            self._command,
            env=SERVER_ENVIRONMENT,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        give_up_at = time.monotonic() + _START_SECONDS
        while not self._answers():
            if time.monotonic() > give_up_at:
                raise RuntimeError(f"redis-server did not start: {self._command}")
            time.sleep(0.02)

    def kill(self) -> None:
        """SIGKILL, and wait for its end."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def client(self) -> redis.Redis:
        """A binary client that does not go through the proxy."""
        return redis.Redis(unix_socket_path=str(self.socket), socket_timeout=10)

    def _answers(self) -> bool:
        with self.client() as client, contextlib.suppress(redis.RedisError):
            return bool(client.ping())
        return False


class CutProxy:
    """A TCP port of 127.0.0.1 that leads to a unix socket, until it is cut."""

    def __init__(self, upstream: Path) -> None:
        self._upstream = str(upstream)
        self._lock = threading.Lock()
        self._links: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()

    def cut(self) -> int:
        """End every connection, wherever it is; how many there were."""
        with self._lock:
            links, self._links = self._links, set()
        for link in links:
            _end(link)
        return len(links) // 2

    def close(self) -> None:
        """Take no more, and end all."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                server = socket.socket(socket.AF_UNIX)
                try:
                    server.connect(self._upstream)
                except OSError:  # the server is down: so is this connection
                    _end(client)
                    server.close()
                    continue
                with self._lock:
                    self._links |= {client, server}
                for source, target in ((client, server), (server, client)):
                    threading.Thread(target=self._pass, args=(source, target), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while received := source.recv(1 << 16):
                target.sendall(received)
        with self._lock:
            self._links -= {source, target}
        # Not closed by one thread under the other, which could then read another's socket.
        for each in (source, target):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


def _end(link: socket.socket) -> None:
    with contextlib.suppress(OSError):
        link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    with contextlib.suppress(OSError):
        link.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def redis_behind_proxy(folder: Path) -> Iterator[tuple[SoakRedis, CutProxy]]:
    """Both, started; gone afterwards."""
    server = SoakRedis(folder / "redis")
    server.start()
    proxy = CutProxy(server.socket)
    try:
        yield server, proxy
    finally:
        proxy.close()
        server.kill()
