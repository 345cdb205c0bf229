"""How many tokens shared prompts are, as far as this process knows."""

from __future__ import annotations

import threading
from collections import OrderedDict
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from baton.agents.runner import Assignment

MOST_KEPT: Final = 1_000
_LOCKS: Final = 64
_STEP_SECONDS: Final = 0.2


@dataclass(frozen=True, slots=True)
class PrefixSize:
    """Bounds of a shared prompt's length in tokens; equal where a call's usage told it."""

    least: int
    most: int

    @property
    def middle(self) -> int:
        """The likeliest."""
        return (self.least + self.most) // 2


class PrefixSizes:
    """Sizes by digest, the least recently used dropped first. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[str, PrefixSize] = OrderedDict()
        self._measuring = [threading.Lock() for _ in range(_LOCKS)]

    def find(self, digest: str) -> PrefixSize | None:
        """What is known."""
        with self._lock:
            if digest in self._known:
                self._known.move_to_end(digest)
            return self._known.get(digest)

    def put(self, digest: str, size: PrefixSize) -> None:
        """Know it from now on."""
        with self._lock:
            self._known[digest] = size
            self._known.move_to_end(digest)
            if len(self._known) > MOST_KEPT:
                self._known.popitem(last=False)

    @contextmanager
    def measuring(self, digest: str, assignment: Assignment) -> Iterator[None]:
        """Hold off other threads that would measure the same.

        Raises:
            NodeCancelledError: the node was cancelled while it waited.
        """
        lock = self._measuring[hash(digest) % _LOCKS]
        while not lock.acquire(timeout=_STEP_SECONDS):
            assignment.raise_if_cancelled()
        try:
            yield
        finally:
            lock.release()
