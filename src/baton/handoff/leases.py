"""Keeps the leases of a process alive: one thread renews them all in one round trip."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from baton.errors import BatonError, TransientError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from baton.handoff.tree import HandoffTree

logger = logging.getLogger(__name__)

RENEWALS_PER_LEASE: Final = 3
LONGEST_TICK_SECONDS: Final = 10.0


@dataclass(slots=True, eq=False)
class Lease:
    """One lease held by this process. `stop` is called once if it is lost or cancelled."""

    handoff_id: str
    node_id: str
    fence: int
    lease_seconds: float
    deadline: float
    stop: Callable[[], None]
    overrun: Callable[[], object]
    overran: bool = False


class LeaseKeeper:
    """Renews leases every third of the shortest one, each up to its own deadline.

    A lease whose deadline passes is not renewed: its `overrun` is called, which records the node
    as timed out, and it counts as stuck until its runner returns. Python cannot stop a thread, so
    a process with `max_stuck` of them calls `on_stuck`, which should replace the process.

    Args:
        tree: where leases are renewed.
        max_stuck: how many hung runners a process bears.
        on_stuck: called once, from the keeper's thread.
    """

    def __init__(self, tree: HandoffTree, *, max_stuck: int, on_stuck: Callable[[], None]) -> None:
        self._tree = tree
        self._max_stuck = max_stuck
        self._on_stuck = on_stuck
        self._lock = threading.Lock()
        self._held: set[Lease] = set()
        self._changed = threading.Condition(self._lock)
        self._thread: threading.Thread | None = None
        self._closed = False

    def hold(self, lease: Lease) -> None:
        """Renew `lease` from now until `release`."""
        with self._changed:
            self._held.add(lease)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="baton-leases", daemon=True)
                self._thread.start()
            self._changed.notify()

    def release(self, lease: Lease) -> None:
        """Stop renewing `lease`; its runner has returned."""
        with self._changed:
            self._held.discard(lease)

    @property
    def running(self) -> int:
        """Leases whose runners are at work and within their time."""
        with self._lock:
            return sum(not lease.overran for lease in self._held)

    @property
    def stuck(self) -> int:
        """Runners that are past their deadline and have not returned."""
        with self._lock:
            return sum(lease.overran for lease in self._held)

    def close(self) -> None:
        """Stop the thread; leases that are still held lapse."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._closed:
                    self._changed.wait(self._tick_seconds() if self._held else None)
                if self._closed:
                    return
                leases = [lease for lease in self._held if not lease.overran]
            self._keep(leases)

    def _tick_seconds(self) -> float:
        """Until the next renewal is due, or the next deadline."""
        now = time.monotonic()
        live = [lease for lease in self._held if not lease.overran]
        shortest = min((lease.lease_seconds for lease in live), default=LONGEST_TICK_SECONDS)
        next_deadline = min((lease.deadline - now for lease in live), default=LONGEST_TICK_SECONDS)
        return max(0.01, min(shortest / RENEWALS_PER_LEASE, next_deadline, LONGEST_TICK_SECONDS))

    def _keep(self, leases: Sequence[Lease]) -> None:
        now = time.monotonic()
        overdue = [lease for lease in leases if lease.deadline <= now]
        for lease in overdue:
            self._overrun(lease)
        live = [lease for lease in leases if lease.deadline > now]
        try:
            for lease, state in self._renewed(live):
                if state != "held":
                    lease.stop()
        except TransientError as error:
            logger.warning("leases could not be renewed, trying again: %s", error)
        if overdue and self.stuck >= self._max_stuck:
            self._on_stuck()

    def _renewed(self, leases: Sequence[Lease]) -> Iterator[tuple[Lease, str]]:
        if leases:
            wanted = [(lease.handoff_id, lease.node_id, lease.fence) for lease in leases]
            yield from zip(leases, self._tree.renew(wanted), strict=True)

    def _overrun(self, lease: Lease) -> None:
        lease.overran = True
        lease.stop()
        try:
            lease.overrun()
        except BatonError as error:
            # The sweep finds the lapsed lease and records the same.
            logger.warning("node %s timed out; not recorded yet: %s", lease.node_id, error)
