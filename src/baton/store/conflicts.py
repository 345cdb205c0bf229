"""Pending revisions: writes that wait for somebody to resolve what the head changed too."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from baton.clock import utc_from_ms, utc_from_seconds
from baton.errors import ContextCorruptError
from baton.store.commits import conflict_gone
from baton.store.records import PendingConflict
from baton.store.refusals import not_found
from baton.store.writing import Plan, with_text

if TYPE_CHECKING:
    from baton.binary_redis import BinaryRedis
    from baton.store.commits import Commits
    from baton.store.heads import OpenedVersion
    from baton.store.keys import SessionKeys
    from baton.store.reading import ContextReader
    from baton.store.records import Commit, Conflict
    from baton.store.writing import Draft

Side = Literal["ours", "theirs"]


class PendingConflicts:
    """Lists pending revisions and resolves them. See `ContextStore.conflicts` and `resolve`."""

    def __init__(self, client: BinaryRedis, reader: ContextReader, commits: Commits) -> None:
        self._redis = client
        self._reader = reader
        self._commits = commits

    def list(self, keys: SessionKeys) -> list[PendingConflict]:
        """What waits, the oldest first; what has expired is left out."""
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.hgetall(keys.conflicts)
        pipeline.time()
        found, (seconds, microseconds) = pipeline.execute()
        now = utc_from_seconds(seconds + microseconds / 1e6)
        conflicts = [decode_conflict(name.decode(), raw, keys) for name, raw in found.items()]
        return sorted(
            (each for each in conflicts if each.expires_at > now), key=lambda each: each.created_at
        )

    def get(self, keys: SessionKeys, conflict_id: str) -> PendingConflict:
        """One of them.

        Raises:
            ConflictNotFoundError: it was resolved, or it expired.
        """
        for found in self.list(keys):
            if found.conflict_id == conflict_id:
                return found
        raise conflict_gone(keys.session_id, conflict_id)

    def explain(self, keys: SessionKeys, conflict_id: str) -> tuple[Conflict, ...]:
        """The places that conflict with the head as it is now; none, if it merges by now."""
        conflict = self.get(keys, conflict_id)

        def on(head: OpenedVersion) -> tuple[Conflict, ...]:
            return self._commits.merge_revision(head, self._revision(head, conflict)).conflicts

        return self._reader.with_version(keys, keys.session_id, None, on)

    def theirs(self, keys: SessionKeys, conflict_id: str) -> str:
        """The text of a pending revision."""
        conflict = self.get(keys, conflict_id)
        return self._reader.with_version(
            keys,
            keys.session_id,
            None,
            lambda head: self._reader.content(self._revision(head, conflict)),
        )

    def resolve(self, draft: Draft, take: Side) -> tuple[Commit, int]:
        """Commit the merge in which that side has every place that conflicts."""
        conflict = self.get(draft.keys, draft.resolves)

        def plan(head: OpenedVersion | None) -> Plan:
            if head is None:
                raise not_found(draft.session_id)
            revision = self._revision(head, conflict)
            merged = self._commits.merge_revision(head, revision, take)
            of = revision if take == "theirs" else head
            typed = replace(draft, content_type=of.manifest.content_type)
            return Plan(with_text(typed, merged.text or ""), head, "accepted")

        return self._commits.commit_planned(draft, plan)

    def _revision(self, head: OpenedVersion, conflict: PendingConflict) -> OpenedVersion:
        revision = self._reader.find_revision(head.keys, head.head, conflict.conflict_id)
        if revision is None:
            raise conflict_gone(head.keys.session_id, conflict.conflict_id)
        return revision


def decode_conflict(conflict_id: str, raw: bytes, keys: SessionKeys) -> PendingConflict:
    """What is known of a pending revision.

    Raises:
        ContextCorruptError: it is not what was stored.
    """
    try:
        fields: Any = json.loads(raw)
        return PendingConflict(
            conflict_id=conflict_id,
            base_version=str(fields["base"]),
            head_version=str(fields["head"]),
            agent_id=str(fields["agent"]),
            content_hash=str(fields["content_hash"]),
            size_bytes=int(fields["size_bytes"]),
            created_at=utc_from_ms(int(fields["at"])),
            expires_at=utc_from_ms(int(fields["expires_at"])),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ContextCorruptError(
            f"session {keys.session_id}: a pending conflict is not what was stored ({error!r})"
        ) from error
