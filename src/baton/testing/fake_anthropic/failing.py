"""Failures that the test has ordered, each for a number of calls or until it takes it back."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from baton.testing.fake_anthropic.calls import Endpoint
    from baton.testing.fake_anthropic.failures import Failure


class OrderedFailures:
    """One queue for each endpoint. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queues: dict[Endpoint, list[tuple[Failure, int | None]]] = {}

    def order(self, endpoint: Endpoint, failure: Failure, times: int | None) -> None:
        """Have the next `times` calls fail, behind those ordered before; None: all."""
        with self._lock:
            self._queues.setdefault(endpoint, []).append((failure, times))

    def take_back(self) -> None:
        """Have no more calls fail."""
        with self._lock:
            self._queues.clear()

    def next(self, endpoint: Endpoint) -> Failure | None:
        """What this call fails with, or None."""
        with self._lock:
            queue = self._queues.get(endpoint)
            if not queue:
                return None
            failure, times = queue[0]
            if times is not None:
                queue[:1] = [(failure, times - 1)] if times > 1 else []
            return failure
