"""The scheduled passes: nodes, agents, notes, seals. Idempotent; a period runs once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from baton.lifecycle.periods import claim_period

if TYPE_CHECKING:
    import redis

    from baton.handoff.engine import HandoffEngine
    from baton.store.audit import AuditTrail
    from baton.store.drain import AccessDrain
    from baton.swarm.registry import AgentRegistry

AGENTS_AT_ONCE: Final = 1_000


@dataclass(frozen=True, slots=True)
class Periods:
    """How often each sweep runs, in seconds."""

    nodes_seconds: float
    agents_seconds: float
    access_seconds: float
    audit_seconds: float


class Sweeps:
    """Runs sweeps. Each method returns what it did, or None if its period had been taken.

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
        self._redis = redis_client
        self._engine = engine
        self._registry = registry
        self._drain = drain
        self._trail = trail
        self._periods = periods

    def nodes(self) -> int | None:
        """Re-enqueue lapsed nodes and due joins; messages published."""
        if not claim_period(self._redis, "nodes", self._periods.nodes_seconds):
            return None
        return self._engine.sweep()

    def agents(self) -> int | None:
        """Mark silent agents dead; how many."""
        if not claim_period(self._redis, "agents", self._periods.agents_seconds):
            return None
        return len(self._registry.sweep_dead(AGENTS_AT_ONCE))

    def access(self) -> int | None:
        """Drain notes of reads; how many."""
        if not claim_period(self._redis, "access", self._periods.access_seconds):
            return None
        return self._drain.drain_all()

    def seal_audit(self) -> int | None:
        """Seal and anchor the audit trails; how many entries were sealed.

        Raises:
            AnchorUnavailableError: what was sealed is anchored in the next period.
        """
        if not claim_period(self._redis, "audit", self._periods.audit_seconds):
            return None
        return self._trail.seal_all()
