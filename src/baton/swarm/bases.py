"""Which version each agent's next text can rest on: the base of its next write. Pure."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from baton.versions import parse_version


@dataclass(frozen=True, slots=True)
class _Known:
    """`settled`: a write has closed what was read before; the next read counts alone."""

    version: str
    settled: bool = False


class Bases:
    """What agents of one coordinator wrote and were given, by the rule of decision 0005.

    Of several versions that a text can rest on, the oldest counts: a write that is merged without
    need costs little, a text that was overwritten is lost. Safe for threads.
    """

    def __init__(self) -> None:
        self._agents: dict[str, _Known] = {}
        self._sessions: dict[str, _Known] = {}
        self._lock = threading.Lock()

    def find(self, session_id: str, agent_id: str) -> str | None:
        """The base of the agent's next write; None if neither it nor its session was read."""
        with self._lock:
            known = self._agents.get(agent_id) or self._sessions.get(session_id)
        return None if known is None else known.version

    def given(self, agent_id: str, version: str) -> None:
        """The agent itself read `version`: that, whether older or newer, is its base."""
        with self._lock:
            self._agents[agent_id] = _Known(version)

    def returned(self, session_id: str, agent_id: str, version: str) -> None:
        """Somebody read `version` as the agent's: perhaps it, perhaps another of its session."""
        with self._lock:
            self._agents[agent_id] = _older(self._agents.get(agent_id), version)
            self._sessions[session_id] = _older(self._sessions.get(session_id), version)

    def accepted(self, session_id: str, agent_id: str, version: str) -> None:
        """The agent wrote `version`. For all others what they were given stays their base."""
        with self._lock:
            self._agents[agent_id] = _Known(version)
            if session_id in self._sessions:
                self._sessions[session_id] = _Known(
                    self._sessions[session_id].version, settled=True
                )

    def unseen(self, agent_id: str, base: str) -> None:
        """The agent's write on `base` met what it has not seen; so does the next, till it reads."""
        with self._lock:
            self._agents[agent_id] = _Known(base, settled=True)


def _older(known: _Known | None, version: str) -> _Known:
    if known is None or known.settled or parse_version(version) < parse_version(known.version):
        return _Known(version)
    return known
