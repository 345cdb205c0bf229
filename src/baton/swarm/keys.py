"""The swarm's keys: a hash for each agent, one index of them all, a hash of locks for each session.

On a Redis Cluster they lie in different slots, so no script may touch two of them.
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


def locks_key(session_id: object) -> str:
    """Hash: name -> JSON of a lock of the session; in the session's own slot.

    Raises:
        InvalidIdError: the id could leave its place in a key.
    """
    return f"locks:{{{check_id(session_id, 'session_id')}}}"
