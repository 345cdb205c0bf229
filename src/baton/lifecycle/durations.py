"""Durations of single sessions, and the refresh of their expiries."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from baton.ids import check_id
from baton.store.durations import milliseconds
from baton.store.keys import SessionKeys

if TYPE_CHECKING:
    from baton.lifecycle.states import Durations
    from baton.store.contexts import ContextStore


class SessionDurations:
    """Sets what becomes of one session as time passes.

    Args:
        store: the contexts.
        durations: of sessions that have none of their own.
    """

    def __init__(self, store: ContextStore, durations: Durations) -> None:
        self._store = store
        self._durations = durations

    def set(
        self,
        session_id: str,
        *,
        agent_id: str,
        active_seconds: float | None = None,
        archive_seconds: float | None = None,
        keep_seconds: float | None = None,
    ) -> Durations:
        """Give a session durations of its own, and its keys the expiry they need; all of them.

        Args:
            session_id: the session.
            agent_id: who does it.
            active_seconds: since the last access, while it is active; None: as for all.
            archive_seconds: since the last access, until it is archived; likewise.
            keep_seconds: since it was archived, until it is purged; likewise.

        Raises:
            InvalidInputError: one is not positive, or it would be archived before it is inactive.
            ContextNotFoundError, ContextArchivedError: it is not here.
        """
        given = {
            "active_ms": active_seconds,
            "archive_ms": archive_seconds,
            "keep_ms": keep_seconds,
        }
        own = {
            name: milliseconds(seconds, name.replace("_ms", "_seconds"))
            for name, seconds in given.items()
            if seconds is not None
        }
        found = replace(self._durations, **own)
        # What is archived later must live longer: the margin behind the deadline stays the same.
        margin_ms = max(0, self._store.backstop_ms - self._durations.archive_ms)
        backstop_ms = found.archive_ms + margin_ms
        keys = SessionKeys.of(session_id)
        fields: dict[str, int | Literal[""]] = {name: own.get(name, "") for name in given}
        fields["backstop_ms"] = backstop_ms
        self._store.set_durations(keys, fields, check_id(agent_id, "agent_id"))
        return found

    def clear(self, session_id: str, *, agent_id: str) -> None:
        """Take away what a session has of its own. Errors: as `set`."""
        keys = SessionKeys.of(session_id)
        names = ("active_ms", "archive_ms", "keep_ms", "backstop_ms")
        fields: dict[str, int | Literal[""]] = dict.fromkeys(names, "")
        self._store.set_durations(keys, fields, check_id(agent_id, "agent_id"))

    def apply_ttl(self, session_id: str) -> None:
        """Move the expiry of all keys of a session to its backstop from now.

        Names last: a refresh that stops half-way leaves the earlier deadline. Does nothing to a
        session under hold, or in the archive.
        """
        self._store.refresh_expiry(session_id)
