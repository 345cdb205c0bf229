"""Why a session or a version cannot be read: each error worded in one place."""

from __future__ import annotations

from typing import Final

from baton.errors import (
    ContextArchivedError,
    ContextCorruptError,
    ContextNotFoundError,
    SessionBusyError,
)

MAX_RACES: Final = 32


class VersionGoneError(Exception):
    """The version was collected between the reading of its manifest and of its chunks."""


def not_found(session_id: str) -> ContextNotFoundError:
    """The error for a session that does not exist."""
    return ContextNotFoundError(f"session {session_id} holds no context")


def busy(session_id: str) -> SessionBusyError:
    """The error for a session that moved whenever it was looked at."""
    return SessionBusyError(f"session {session_id} changed during each of {MAX_RACES} reads")


def archived_error(session_id: str) -> ContextArchivedError:
    """The error for a session whose content left Redis."""
    return ContextArchivedError(
        f"session {session_id} is archived; `baton archive restore {session_id}` brings it back"
    )


def corrupt(session_id: str, version: str, what: str) -> ContextCorruptError:
    """The error for stored bytes that are not what was stored."""
    return ContextCorruptError(f"session {session_id} version {version}: {what}")
