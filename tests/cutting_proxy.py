"""A proxy before a Redis that cuts its clients off at a command of one's choice."""

from __future__ import annotations

import secrets
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pathlib import Path

Cut = Literal["amid", "after"]


class CuttingProxy:
    """Passes commands on to the server at a unix socket, and cuts once where it is told to.

    `amid`: half of that command's bytes arrive, and the connection ends. `after`: the server
    executes it, and the connection ends before any of its answer, or of answers still under way,
    gets back. Both leave what was sent before in the same pipeline executed; a MULTI that was
    begun is discarded by the server.
    """

    def __init__(self, upstream: Path, folder: Path) -> None:
        self.path = folder / "proxy.sock"
        self._upstream = str(upstream)
        self._lock = threading.Lock()
        self._at, self._how, self._count = 0, "after", 0
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self, at: int, how: Cut) -> None:
        """Cut at the `at`-th command from now on, the first being 1; 0: nowhere."""
        with self._lock:
            self._at, self._how, self._count = at, how, 0

    @property
    def has_cut(self) -> bool:
        """Whether that command came."""
        with self._lock:
            return 0 < self._at <= self._count

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._upstream)
                threading.Thread(
                    target=_Link(self, client, server).pass_commands, daemon=True
                ).start()

    def next_cut(self) -> Cut | None:
        """How the command that has just come is to be cut, or None."""
        with self._lock:
            self._count += 1
            return self._how if self._count == self._at else None


class _Link:
    """One client's connection and its twin to the server."""

    def __init__(self, proxy: CuttingProxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._in_multi = False
        # Appended behind the command to cut after: its echo tells that it has been executed.
        self._token = secrets.token_hex(16).encode()
        self._swallows = False
        self._executed = threading.Event()
        threading.Thread(target=self._pass_answers, daemon=True).start()

    def pass_commands(self) -> None:
        """Until the client leaves, or is cut off."""
        with self._client, suppress(OSError):
            self._pass_until_cut()
        self._end()

    def _pass_until_cut(self) -> None:
        buffer = b""
        while received := self._client.recv(1 << 16):
            buffer += received
            while command := _first_command(buffer):
                buffer = buffer[len(command) :]
                if not self._pass_or_cut(command):
                    return

    def _pass_or_cut(self, command: bytes) -> bool:
        how = self._proxy.next_cut()
        name = command.split(b"\r\n", 3)[2].upper()
        self._in_multi = (self._in_multi or name == b"MULTI") and name != b"EXEC"
        if how is None:
            self._server.sendall(command)
            return True
        self._swallows = True
        if how == "amid":
            self._server.sendall(command[: len(command) // 2])
        else:
            self._server.sendall(command)
            if not self._in_multi:
                self._server.sendall(b"*2\r\n$4\r\nECHO\r\n$32\r\n%s\r\n" % self._token)
                self._executed.wait(20)
        return False

    def _pass_answers(self) -> None:
        tail = b""
        with self._server, suppress(OSError):
            while received := self._server.recv(1 << 16):
                tail = (tail + received)[-1 << 17 :]
                if self._token in tail:
                    self._executed.set()
                if not self._swallows:
                    self._client.sendall(received)
            self._end()

    def _end(self) -> None:
        for each in (self._client, self._server):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


def _first_command(buffer: bytes) -> bytes:
    """The first whole command, an array of bulk strings, or nothing."""
    head, found, _ = buffer.partition(b"\r\n")
    if not found:
        return b""
    end = len(head) + 2
    for _ in range(int(head[1:])):
        size_ends = buffer.find(b"\r\n", end)
        if size_ends < 0:
            return b""
        end = size_ends + 2 + int(buffer[end + 1 : size_ends]) + 2
    return buffer[:end] if end <= len(buffer) else b""
