"""The states of a session, and when it passes from one to the next. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from baton.errors import InvalidInputError

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS


class SessionState(StrEnum):
    """Where a session is, and what holds for it.

    `active` and `inactive`: in Redis, whole. `archived`: in the archive; Redis has a tombstone.
    `purged`: erased; what is left is its audit.
    """

    ACTIVE = "active"
    INACTIVE = "inactive"
    ARCHIVED = "archived"
    PURGED = "purged"


@dataclass(frozen=True, slots=True)
class Durations:
    """How long a session stays in each state, in milliseconds.

    Attributes:
        active_ms: since the last access, while it is active.
        archive_ms: since the last access, until it is to be archived.
        keep_ms: since it was archived, until it is to be purged.
    """

    active_ms: int = DAY_MS
    archive_ms: int = 7 * DAY_MS
    keep_ms: int = 90 * DAY_MS

    def __post_init__(self) -> None:
        if not 0 < self.active_ms <= self.archive_ms:
            raise InvalidInputError(
                "active_seconds",
                f"above 0, and at most archive_seconds ({self.archive_ms / 1000:g})",
                self.active_ms / 1000,
            )
        if self.keep_ms <= 0:
            raise InvalidInputError("keep_seconds", "above 0", self.keep_ms / 1000)


@dataclass(frozen=True, slots=True)
class SessionFacts:
    """What decides a session's state; times in milliseconds by Redis' clock.

    Attributes:
        exists: whether Redis has its container, or its tombstone.
        accessed_at_ms: the last access that is drained.
        has_notes: whether notes of reads wait: somebody read it since, nobody knows when.
        archived_at_ms: None while it is in Redis.
        purge_at_ms: likewise.
        hold: why it may not be purged; empty where it may.
        durations: those of this session.
        version: the head's.
        expires_in_ms: until Redis drops it; None: never.
    """

    session_id: str
    exists: bool
    accessed_at_ms: int = 0
    has_notes: bool = False
    archived_at_ms: int | None = None
    purge_at_ms: int | None = None
    hold: str = ""
    durations: Durations = Durations()
    version: str = ""
    expires_in_ms: int | None = None

    def state(self, now_ms: int) -> SessionState:
        """Its state at an instant. One that is due for archival is still inactive."""
        if not self.exists:
            return SessionState.PURGED
        if self.archived_at_ms is not None:
            return SessionState.ARCHIVED
        is_active = now_ms - self.accessed_at_ms < self.durations.active_ms
        return SessionState.ACTIVE if is_active else SessionState.INACTIVE

    def is_due(self, now_ms: int) -> bool:
        """Whether it is to be archived: nobody has used it for so long, and no note waits."""
        return (
            self.exists
            and self.archived_at_ms is None
            and not self.has_notes
            and now_ms - self.accessed_at_ms >= self.durations.archive_ms
        )

    def next_change_ms(self, now_ms: int) -> int | None:
        """When its state changes next if nobody uses it; None: never by itself."""
        if self.state(now_ms) is SessionState.ACTIVE:
            return self.accessed_at_ms + self.durations.active_ms
        if self.state(now_ms) is SessionState.INACTIVE:
            return self.accessed_at_ms + self.durations.archive_ms
        return None if self.hold else self.purge_at_ms
