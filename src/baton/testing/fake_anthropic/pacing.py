"""How slowly answers go out: held at a gate that the test opens, or for a time."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Final

_POLL_SECONDS: Final = 0.02


class Gate:
    """Where answers wait until the test lets them go. Shut at first; thread-safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._is_open = False
        self._permits = 0
        self._waiting = 0

    @property
    def waiting(self) -> int:
        """How many answers stand before it now."""
        with self._changed:
            return self._waiting

    def open(self) -> None:
        """Let all pass, from now on."""
        with self._changed:
            self._is_open = True
            self._changed.notify_all()

    def shut(self) -> None:
        """Let none pass any more."""
        with self._changed:
            self._is_open, self._permits = False, 0

    def let(self, count: int = 1) -> None:
        """Let `count` pass, now or when they come."""
        with self._changed:
            self._permits += count
            self._changed.notify_all()

    def wait(self, closing: threading.Event) -> None:
        """Return when let through, or when the server closes."""
        with self._changed:
            self._waiting += 1
            while not (self._passes() or closing.is_set()):
                self._changed.wait(_POLL_SECONDS)
            self._waiting -= 1

    def _passes(self) -> bool:
        if not self._is_open and self._permits:
            self._permits -= 1
            return True
        return self._is_open


@dataclass(frozen=True, slots=True)
class Pace:
    """When the parts of an answer go out; a wait is a gate or a number of seconds.

    Attributes:
        first_byte_after: before the response begins.
        each_event_after: before each event of a stream but the first.
    """

    first_byte_after: Gate | float = 0.0
    each_event_after: Gate | float = 0.0


AT_ONCE: Final = Pace()


def wait_at(wait: Gate | float, closing: threading.Event) -> bool:
    """Wait there; False: the server closes, so nothing is to be sent."""
    if isinstance(wait, Gate):
        wait.wait(closing)
    elif wait:
        closing.wait(wait)
    return not closing.is_set()
