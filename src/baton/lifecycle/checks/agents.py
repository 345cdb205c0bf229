"""Whether the index of agents and their records agree."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from baton.lifecycle.findings import Finding
from baton.swarm.drift import AgentDrift

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis


class AgentCheck:
    """Compares them.

    Args:
        redis_client: a binary client.
    """

    kinds: Final = {
        "agent_without_record": "Agents in the index whose record is gone.",
        "agent_record_alone": "Records of agents that the index does not know: nobody sees them.",
    }

    def __init__(self, redis_client: redis.Redis) -> None:
        self._drift = AgentDrift(redis_client)

    def find(self) -> Iterator[Finding]:
        """See `Check.find`."""
        for agent_id in self._drift.without_record():
            yield Finding(
                "agent_without_record", agent_id, "is in the index, and its record is gone",
                "takes it out of the index", partial(self._drift.leave, agent_id),
            )  # fmt: skip
        for agent_id in self._drift.unknown_records():
            yield Finding(
                "agent_record_alone", agent_id, "has a record, and is not in the index",
                "deletes the record, which nobody can see", partial(self._drift.delete, agent_id),
            )  # fmt: skip
