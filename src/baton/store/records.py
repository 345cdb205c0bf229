"""What the store answers with: contexts, commits, history records, session summaries."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from baton.merge.conflicts import JsonConflict, TextConflict
    from baton.store.manifest import ContentType

    Conflict: TypeAlias = TextConflict | JsonConflict

Action = Literal["accepted", "merged", "accepted_with_divergence", "rejected", "merge_required"]
Policy = Literal["merge", "last_write_wins", "reject"]
"""What becomes of concurrent writes.

`merge`: their changes are combined, and what cannot be is kept as a pending revision
(`merge_required`). `last_write_wins`: the later one replaces the other, which stays in the history.
`reject`: nothing is stored.
"""


@dataclass(frozen=True, slots=True)
class Commit:
    """The outcome of a write.

    Attributes:
        session_id: the session.
        version: the version that now holds the content; for `rejected` and `merge_required`, the
            head that stayed.
        action: `accepted`: written, or already there. `merged`: another writer came between, and
            both changes are in `version`. `accepted_with_divergence`: another writer came
            between, and `version` replaces what it wrote, which stays in the history (`replaced`).
            `rejected`: another writer came between, and nothing was stored. `merge_required`: both
            changed the same places; the head stays, and what was written is kept as the pending
            revision `conflict_id` until somebody resolves it.
        etag: that version's; empty, as the hash is, where the repeat of a named write finds its
            version collected.
        content_hash: that version's.
        conflicts: what `merge_required` could not decide; `ours` is the head, `theirs` this write.
        unplaced_checkpoints: ids of an imported envelope's checkpoints that were not put, as
            `version` does not hold the text that they are places of.
    """

    session_id: str
    version: str
    action: Action
    etag: str
    content_hash: str
    committed_at: datetime
    conflicts: tuple[Conflict, ...] = field(default=(), repr=False)
    conflict_id: str | None = None
    replaced: str | None = None
    unplaced_checkpoints: tuple[str, ...] = ()

    def summary(self) -> dict[str, str | int | None]:
        """What a message may carry of it: no content."""
        return {
            "session_id": self.session_id,
            "version": self.version,
            "action": self.action,
            "etag": self.etag,
            "content_hash": self.content_hash,
            "conflict_id": self.conflict_id,
            "conflict_count": len(self.conflicts),
            "replaced": self.replaced,
            "unplaced_checkpoints": len(self.unplaced_checkpoints),
        }


@dataclass(frozen=True, slots=True)
class Context:
    """One version of a session's context, verified against its hashes."""

    content: str = field(repr=False)
    session_id: str
    version: str
    content_hash: str
    etag: str
    size_bytes: int
    author: str
    committed_at: datetime
    content_type: ContentType = "text/plain"
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Extract:
    """A part of one version: the bytes from `start_byte` up to `end_byte` of its UTF-8."""

    content: str = field(repr=False)
    session_id: str
    version: str
    start_byte: int
    end_byte: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class ReadChunk:
    """Chunk `index` of `count`, as a model reads a long context: 1 MiB, and some of the one before.

    The first `overlap_bytes` of its content end the chunk before it.
    """

    content: str = field(repr=False)
    session_id: str
    version: str
    index: int
    count: int
    start_byte: int
    end_byte: int
    overlap_bytes: int


@dataclass(frozen=True, slots=True)
class VersionRecord:
    """One entry of a session's history."""

    version: str
    content_hash: str
    committed_at: datetime
    author: str
    action: str
    operation: str
    parent: str | None
    base: str | None
    source: str | None
    size_bytes: int
    etag: str


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A named place in a version, to resume from."""

    checkpoint_id: str
    label: str
    version: str
    byte_position: int
    token_position: int
    agent_id: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class PendingConflict:
    """A write that waits for somebody to resolve what it and the head both changed.

    Attributes:
        base_version: what its writer had seen; it may have been collected.
        head_version: the head it was written against; the head may have moved on since.
        expires_at: when the pending revision is dropped.
    """

    conflict_id: str
    base_version: str
    head_version: str
    agent_id: str
    content_hash: str
    size_bytes: int
    created_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Collection:
    """What a collection dropped, or would drop: versions, pending revisions, chunks."""

    versions: tuple[str, ...]
    conflicts: tuple[str, ...]
    chunk_count: int
    stored_bytes: int
    kept_versions: int
    dry_run: bool


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """What is known of a session without reading its content. Sizes in bytes; tokens estimated."""

    session_id: str
    owner: str
    version: str
    etag: str
    content_hash: str
    content_type: str
    metadata: Mapping[str, Any]
    size_bytes: int
    size_tokens: int
    chunk_count: int
    stored_bytes: int
    compression: str
    version_count: int
    created_at: datetime
    updated_at: datetime
    last_accessed_at: datetime
    last_accessed_by: str
    expires_in_seconds: float | None
    flags: tuple[str, ...]
