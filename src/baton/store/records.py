"""What the store answers with: contexts, commits, history records, session summaries."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from datetime import datetime

Action = Literal["accepted", "rejected"]


@dataclass(frozen=True, slots=True)
class Commit:
    """The outcome of a write.

    `accepted`: `version` is the version that now holds the content; it is the old head where the
    content was already there. `rejected`: another writer came first; `version`, `etag` and
    `content_hash` are those of the head that won, and nothing was stored.
    """

    version: str
    action: Action
    etag: str
    content_hash: str
    committed_at: datetime


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


@dataclass(frozen=True, slots=True)
class VersionRecord:
    """One entry of a session's history."""

    version: str
    content_hash: str
    committed_at: datetime
    author: str
    action: str
    parent: str | None
    size_bytes: int
    etag: str


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """What is known of a session without reading its content. Sizes in bytes; tokens estimated."""

    session_id: str
    owner: str
    version: str
    etag: str
    content_hash: str
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
