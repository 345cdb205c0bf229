"""The scheduled passes: nodes, agents, notes, seals. Idempotent; a period runs once."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Final

from baton.lifecycle.sweep_board import SweepBoard

if TYPE_CHECKING:
    from collections.abc import Callable

    import redis

    from baton.handoff.engine import HandoffEngine
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

    def __init__(
        self,
        redis_client: redis.Redis,
        *,
        engine: HandoffEngine,
        registry: AgentRegistry,
        drain: AccessDrain,
        trail: AuditTrail,
        periods: Periods,
    ) -> None:
        self._board = SweepBoard(redis_client)
        self._engine = engine
        self._registry = registry
        self._drain = drain
        self._trail = trail
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

    def _once(self, name: str, work: Callable[[SweepRun], int]) -> int | None:
        return self._board.run(name, self._periods.of(name), work)
