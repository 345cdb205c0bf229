"""Threads of a process that wait for one thing take turns to look for it, and share what is found.

However many they are, the server that is asked sees one of them every so often.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")


class SharedLooks(Generic[T]):
    """Rooms of waiting threads, by what they wait for.

    Args:
        every_seconds: how often one of a room looks, give or take a half, so that processes do
            not look in step.
    """

    def __init__(self, every_seconds: float) -> None:
        self._every_seconds = every_seconds
        self._lock = threading.Lock()
        self._rooms: dict[str, Room[T]] = {}

    @contextlib.contextmanager
    def room(self, key: str) -> Iterator[Room[T]]:
        """The room of those who wait for `key`, for as long as the caller waits."""
        with self._lock:
            room = self._rooms.setdefault(key, Room(self._lock, self._every_seconds))
            room.inside += 1
        try:
            yield room
        finally:
            with self._lock:
                room.inside -= 1
                if not room.inside and self._rooms.get(key) is room:
                    del self._rooms[key]

    def tell(self, key: str, found: T) -> None:
        """Let all who wait for `key` go with `found`."""
        with self._lock:
            room = self._rooms.pop(key, None)
            if room is not None:
                room.close(found)

    def hurry(self, key: str) -> None:
        """Have one of those who wait for `key` look at once."""
        with self._lock:
            room = self._rooms.get(key)
            if room is not None:
                room.hurry()


class Room(Generic[T]):
    """Threads that wait for one thing. Made by `SharedLooks`, whose lock guards it."""

    def __init__(self, lock: threading.Lock, every_seconds: float) -> None:
        self.inside = 0
        self._every_seconds = every_seconds
        self._changed = threading.Condition(lock)
        self._found: T | None = None
        self._next_look_at = self._after_a_while()

    def close(self, found: T) -> None:
        """All go with `found`. The caller holds the lock."""
        self._found = found
        self._changed.notify_all()

    def hurry(self) -> None:
        """The next look is due. The caller holds the lock."""
        self._next_look_at = 0.0
        self._changed.notify()

    def wait(self, look: Callable[[], T | None], deadline: float) -> T | None:
        """What the others were told, or what `look` gives if it is this thread's turn, or None.

        Returns after two of the room's spaces of time at most, and by `deadline`
        (`time.monotonic()`), look aside.
        """
        with self._changed:
            now = time.monotonic()
            if self._found is None and now < self._next_look_at:
                self._changed.wait(max(0.0, min(self._next_look_at, deadline) - now))
                now = time.monotonic()
            if self._found is not None:
                return self._found
            if now < self._next_look_at:
                return None
            self._next_look_at = self._after_a_while()
        return look()

    def _after_a_while(self) -> float:
        return time.monotonic() + self._every_seconds * random.uniform(0.5, 1.5)  # noqa: S311
