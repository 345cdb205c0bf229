"""Clients that fail on command: they die, lose a reply, or wait, at any of their round trips."""

from __future__ import annotations

import socket
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import redis
from redis.backoff import NoBackoff
from redis.connection import UnixDomainSocketConnection
from redis.retry import Retry

if TYPE_CHECKING:
    from collections.abc import Callable

FaultKind = Literal["die before", "die amid", "die after", "lose", "hold"]


class Died(BaseException):
    """The client's process ended here: no handler of its own ran, so nothing may catch it."""


@dataclass
class Faults:
    """What is to happen to one client, at its `at`-th round trip from now (from 1).

    `die before`: nothing is sent. `die amid`: half of the bytes arrive. `die after`: all is done,
    no answer is read. `lose`: the same, but the client lives, and redis-py sends all again.
    `hold`: `then` runs before anything is sent.
    """

    kind: FaultKind | None = None
    at: int = 0
    then: Callable[[], None] | None = None
    trips: int = 0
    fired: bool = False
    thread: int = 0

    def arm(self, kind: FaultKind, at: int, then: Callable[[], None] | None = None) -> None:
        """Trips of this thread count; notes of reads have another."""
        self.kind, self.at, self.then, self.trips, self.fired = kind, at, then, 0, False
        self.thread = threading.get_ident()

    def disarm(self) -> None:
        self.kind = None

    def due(self) -> bool:
        if self.kind is None or self.fired or self.thread != threading.get_ident():
            return False
        self.trips += 1
        self.fired = self.trips == self.at
        return self.fired


class FaultyConnection(UnixDomainSocketConnection):
    """A connection that asks `faults` before each packet, be it a command or a whole pipeline."""

    def __init__(self, *, faults: Faults, **options) -> None:
        self._faults = faults
        self._greeting = False
        super().__init__(**options)

    def connect_check_health(self, *args, **options):
        self._greeting = True
        try:
            super().connect_check_health(*args, **options)
        finally:
            self._greeting = False

    def send_packed_command(self, command, check_health=True):
        if self._sock is None:
            self.connect_check_health(check_health=False)
        if self._greeting or not self._faults.due():
            super().send_packed_command(command, check_health)
            return
        packet = command if isinstance(command, bytes) else b"".join(command)
        match self._faults.kind:
            case "hold":
                self._faults.then()
                super().send_packed_command([packet], check_health)
            case "die before":
                self._end(b"", Died())
            case "die amid":
                self._end(packet[: len(packet) // 2], Died())
            case "die after":
                self._end(packet, Died())
            case "lose":
                self._end(packet, redis.ConnectionError("the reply was lost"))

    def _end(self, packet: bytes, error: BaseException) -> None:
        """Send that much, wait until the server has done what it got, hang up, and raise."""
        self._sock.sendall(packet)
        self._sock.shutdown(socket.SHUT_WR)
        while self._sock.recv(1 << 16):
            pass
        self.disconnect()
        raise error


def faulty_client(path: str, faults: Faults) -> redis.Redis:
    """A binary client of the server at the unix socket `path`; it repeats what fails, as ours."""
    pool = redis.ConnectionPool(
        connection_class=FaultyConnection,
        path=path,
        faults=faults,
        retry=Retry(NoBackoff(), retries=3),
    )
    return redis.Redis.from_pool(pool)
