"""The resolving part of the context store: writes that wait for somebody to merge them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from baton.errors import InvalidInputError
from baton.ids import check_id

if TYPE_CHECKING:
    from baton.store.conflicts import Side
    from baton.store.parts import StoreParts
    from baton.store.records import Commit, Conflict, PendingConflict


class ConflictResolution:
    """What lists and resolves conflicts. See `ContextStore` for what every method raises."""

    _parts: StoreParts

    def conflicts(self, session_id: str) -> list[PendingConflict]:
        """Writes that wait for somebody to resolve them, the oldest first."""
        with self._parts.reading(session_id) as keys:
            self._parts.reader.require_head(keys)
            return self._parts.pending.list(keys)

    def explain_conflict(
        self, session_id: str, conflict_id: str, *, agent_id: str | None = None
    ) -> tuple[Conflict, ...]:
        """The places where a pending write and the head as it is now both changed.

        Noted as a read of the pending write by `agent_id`.

        Raises:
            ConflictNotFoundError: it was resolved, or it expired.
        """
        with self._parts.reading(session_id, agent_id) as keys:
            found = self._parts.pending.explain(keys, check_id(conflict_id, "conflict_id"))
        self._parts.note_pending(keys, conflict_id, agent_id)
        return found

    def pending_content(
        self, session_id: str, conflict_id: str, *, agent_id: str | None = None
    ) -> str:
        """What the writer of a pending write had written.

        Raises:
            ConflictNotFoundError: it was resolved, or it expired.
        """
        with self._parts.reading(session_id, agent_id) as keys:
            found = self._parts.pending.theirs(keys, check_id(conflict_id, "conflict_id"))
        self._parts.note_pending(keys, conflict_id, agent_id)
        return found

    def resolve_conflict(
        self,
        session_id: str,
        conflict_id: str,
        *,
        agent_id: str,
        take: Side | None = None,
        content: str | None = None,
        operation_id: str | None = None,
    ) -> Commit:
        """Resolve a pending write and commit the result.

        Args:
            session_id: the session.
            conflict_id: which one, as `conflicts` names it.
            agent_id: who resolves it.
            take: the side that every place in conflict is taken from, `ours` being the head; all
                that does not conflict is merged from both.
            content: or the merged text itself, made by hand from the pending write and the head
                it was written against. Where the head has moved on since, the two are merged.
            operation_id: as in `put`.

        Raises:
            ConflictNotFoundError: it was resolved, or it expired.
            InvalidInputError: both or none of `take` and `content` are given.
            what `put` raises.
        """
        if (take is None) == (content is None):
            raise InvalidInputError("take", "either it or content", "<both or none>")
        if take not in (None, "ours", "theirs"):
            raise InvalidInputError("take", "'ours' or 'theirs'", take)
        draft = self._parts.draft(
            session_id, content or "", agent_id, operation_id, operation="resolve"
        )
        draft = replace(draft, resolves=check_id(conflict_id, "conflict_id"))
        with self._parts.session(session_id, agent_id) as keys:
            done = self._parts.find_done(keys, operation_id)
            if done is not None:
                return done
            found = self._parts.pending.get(keys, conflict_id)
            if take is None:
                draft = replace(draft, base=found.head_version)
                commit, version_count = self._parts.commits.commit(draft)
            else:
                commit, version_count = self._parts.pending.resolve(draft, take)
        self._parts.collect_if_due(keys, agent_id, version_count)
        return commit
