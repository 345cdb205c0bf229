"""The scheduled passes. Idempotent; a period runs once."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Final

from baton.lifecycle.sweep_board import SweepBoard

if TYPE_CHECKING:
    from collections.abc import Callable

    import redis

    from baton.handoff.engine import HandoffEngine
    from baton.lifecycle.aging import Aging
    from baton.lifecycle.archiving import ArchivePasses
    from baton.lifecycle.collecting import Collecting
    from baton.lifecycle.sweep_board import SweepRun
    from baton.store.audit import AuditTrail
    from baton.store.drain import AccessDrain
    from baton.swarm.registry import AgentRegistry

AGENTS_AT_ONCE: Final = 1_000


@dataclass(frozen=True, slots=True)
class Periods:
    """How often each sweep runs, in seconds. A field is `{sweep}_seconds`."""

    nodes_seconds: float
    agents_seconds: float
    access_seconds: float
    audit_seconds: float
    age_seconds: float
    reconcile_seconds: float
    collect_seconds: float
    archive_seconds: float
    settle_seconds: float
    purge_seconds: float
    audit_carry_seconds: float

    def of(self, name: str) -> float:
        """The period of one sweep."""
        seconds: float = getattr(self, f"{name}_seconds")
        return seconds

    def names(self) -> list[str]:
        """All sweeps."""
        return [field.name.removesuffix("_seconds") for field in fields(self)]


class Sweeps:
    """Runs sweeps. Each method returns what it did, or None: its period is taken, or it goes on.

    Every method raises StoreUnavailableError where Redis does not answer; the next period then
    does what this one did not.
    """

    def __init__(  # noqa: PLR0913  # what each sweep works with, by name
        self,
        redis_client: redis.Redis,
        *,
        engine: HandoffEngine,
        registry: AgentRegistry,
        drain: AccessDrain,
        trail: AuditTrail,
        aging: Aging,
        collecting: Collecting,
        archiving: ArchivePasses,
        periods: Periods,
    ) -> None:
        self._board = SweepBoard(redis_client)
        self._engine = engine
        self._registry = registry
        self._drain = drain
        self._trail = trail
        self._aging = aging
        self._collecting = collecting
        self._archiving = archiving
        self._periods = periods

    def nodes(self) -> int | None:
        """Re-enqueue lapsed nodes and due joins; messages published."""
        return self._once("nodes", lambda _run: self._engine.sweep())

    def agents(self) -> int | None:
        """Mark silent agents dead; how many."""
        return self._once("agents", lambda _run: len(self._registry.sweep_dead(AGENTS_AT_ONCE)))

    def access(self) -> int | None:
        """Drain notes of reads; how many."""
        return self._once("access", lambda _run: self._drain.drain_all())

    def seal_audit(self) -> int | None:
        """Seal and anchor the audit trails; how many entries were sealed.

        Raises:
            AnchorUnavailableError: what was sealed is anchored in the next period.
        """
        return self._once("audit", lambda _run: self._trail.seal_all())

    def age(self) -> int | None:
        """Look at sessions whose time has come; how many are to be archived from now on."""
        return self._once("age", self._aging.age)

    def reconcile(self) -> int | None:
        """Find sessions that the due index does not know; how many sessions there are."""
        return self._once("reconcile", self._aging.reconcile)

    def collect(self) -> int | None:
        """Collect what no session needs; how many versions, waiting writes and keys."""
        return self._once("collect", self._collecting.collect)

    def archive(self) -> int | None:
        """Archive what is due; how many sessions.

        Raises:
            EmbedderUnavailableError, IndexUnavailableError, ColdStoreUnavailableError: and the
                like; what is due stays due.
        """
        return self._once("archive", self._archiving.archive_due)

    def settle(self) -> int | None:
        """Put the archive right after crashes; how many sessions."""
        return self._once("settle", self._archiving.settle)

    def purge(self) -> int | None:
        """Erase archived sessions past their time; how many."""
        return self._once("purge", self._archiving.purge)

    def carry_audit(self) -> int | None:
        """Carry sealed audit segments to the archive's file, and trim old ones; how many.

        Raises:
            ColdStoreUnavailableError, ColdStoreCorruptError, AnchorUnavailableError: and nothing
                was trimmed that is not in the file.
        """
        return self._once("audit_carry", self._archiving.carry_audit)

    def _once(self, name: str, work: Callable[[SweepRun], int]) -> int | None:
        return self._board.run(name, self._periods.of(name), work)
