"""The registry's keys: one hash per agent, and one index of them all.

On a Redis Cluster the two lie in different slots, so no script may touch both.
"""

from __future__ import annotations

from typing import Final

from baton.ids import check_id

INDEX: Final = "agents:index"
"""Sorted set: agent id, score = last heartbeat in ms, negative once the agent is marked dead."""


def agent_key(agent_id: object) -> str:
    """Hash: the record of one agent, as `registry.Agent` reads it.

    Raises:
        InvalidIdError: the id could leave its place in a key.
    """
    return f"agents:{{{check_id(agent_id, 'agent_id')}}}"
