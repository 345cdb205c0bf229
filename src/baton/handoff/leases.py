"""Keeps the leases of a process alive: one thread renews them all in one round trip."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from baton.errors import BatonError, TransientError
from baton.failpoints import reach

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from baton.handoff.tree import HandoffTree

logger = logging.getLogger(__name__)

RENEWALS_PER_LEASE: Final = 3
LONGEST_TICK_SECONDS: Final = 10.0
CANCEL_CHECK_SECONDS: Final = 0.5
JOIN: Final = "join"


@dataclass(slots=True, eq=False)
class Lease:
    """One lease held by this process. `stop` is called when it is lost, cancelled or overrun."""

    handoff_id: str
    node_id: str
    fence: int
    lease_seconds: float
    deadline: float
    stop: Callable[[], None]
    overrun: Callable[[], object]
    overran: bool = False
    renew_at: float = 0.0


class LeaseKeeper:
    """Renews each lease every third of its length, up to its own deadline.

    Between renewals it asks twice a second which of their nodes were cancelled: a person at
    Ctrl-C should not wait for a lease.

    A lease whose deadline passes is not renewed: its `overrun` is called, which records the node
    as timed out, and it counts as stuck until its runner returns. Python cannot stop a thread, so
    a process with `max_stuck` of them calls `on_stuck`, which should replace the process.

    Args:
        tree: where leases are renewed.
        max_stuck: how many hung runners a process bears.
        on_stuck: called once, from the keeper's thread, which goes on renewing.
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
        self._check_at = 0.0
        self._told_stuck = False

    def hold(self, lease: Lease) -> None:
        """Renew `lease` from now until `release`."""
        lease.renew_at = _next_renewal(lease)
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

    def held(self) -> list[Lease]:
        """The leases of nodes that are at work and within their time; joins are not among them."""
        with self._lock:
            return [each for each in self._held if not each.overran and each.node_id != JOIN]

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
                # A new lease only moves the tick: renewing at each would cost them all each time.
                while not self._closed and (pause_seconds := self._pause_seconds()) > 0:
                    self._changed.wait(pause_seconds)
                if self._closed:
                    return
                leases = [lease for lease in self._held if not lease.overran]
            try:
                self._keep(leases)
                self._stop_cancelled(leases)
            except Exception:  # were this thread to die, every lease of the process would lapse
                logger.exception("leases were not renewed, trying again")

    def _pause_seconds(self) -> float:
        """Until the next renewal is due, or the next deadline."""
        live = [lease for lease in self._held if not lease.overran]
        due_at = min((min(lease.renew_at, lease.deadline) for lease in live), default=float("inf"))
        if live:
            due_at = min(due_at, self._check_at)
        return min(due_at - time.monotonic(), LONGEST_TICK_SECONDS)

    def _stop_cancelled(self, leases: Sequence[Lease]) -> None:
        self._check_at = time.monotonic() + CANCEL_CHECK_SECONDS
        nodes = [(lease.handoff_id, lease.node_id) for lease in leases]
        try:
            stopped = self._tree.find_stopped(nodes)
        except TransientError:
            return  # the next renewal tells, too
        for lease, node in zip(leases, nodes, strict=True):
            if node in stopped:
                lease.stop()

    def _keep(self, leases: Sequence[Lease]) -> None:
        now = time.monotonic()
        overdue = [lease for lease in leases if lease.deadline <= now]
        for lease in overdue:
            self._overrun(lease)
        # Those due before the next tick go along: one round trip for many.
        due = now + CANCEL_CHECK_SECONDS
        live = [lease for lease in leases if lease.deadline > now and lease.renew_at <= due]
        for lease in live:
            lease.renew_at = _next_renewal(lease)
        try:
            for lease, state in self._renewed(live):
                if state != "held":
                    lease.stop()
        except TransientError as error:
            logger.warning("leases could not be renewed, trying again: %s", error)
        if not self._told_stuck and self.stuck >= self._max_stuck:
            self._told_stuck = True
            self._on_stuck()

    def _renewed(self, leases: Sequence[Lease]) -> Iterator[tuple[Lease, str]]:
        if leases:
            wanted = [(lease.handoff_id, lease.node_id, lease.fence) for lease in leases]
            reach("lease.renewing")
            renewals = self._tree.renew(wanted)
            reach("lease.renewed")
            yield from zip(leases, renewals, strict=True)

    def _overrun(self, lease: Lease) -> None:
        lease.overran = True
        lease.stop()
        # In a thread of its own: it waits out an outage, and the other leases cannot wait.
        threading.Thread(
            target=_record_overrun, args=(lease,), name="baton-overrun", daemon=True
        ).start()


def _next_renewal(lease: Lease) -> float:
    return time.monotonic() + lease.lease_seconds / RENEWALS_PER_LEASE


def _record_overrun(lease: Lease) -> None:
    try:
        lease.overrun()
    except BatonError as error:
        # The sweep finds the lapsed lease and records the same.
        logger.warning("node %s timed out; not recorded yet: %s", lease.node_id, error)
