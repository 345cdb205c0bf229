"""An archive whose work is counted: sessions, bytes, passages, and what it could not do."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from baton.archive.archivist import ARCHIVE_AGENT
from baton.archive.service import ArchiveService
from baton.errors import (
    ContextNotFoundError,
    InvalidInputError,
    SessionBusyError,
    SessionExistsError,
    SessionHeldError,
)
from baton.metrics import catalog

if TYPE_CHECKING:
    from collections.abc import Iterator

    from baton.archive.archivist import Archived, Progress
    from baton.archive.ledger import Erasure
    from baton.archive.searching import ArchiveHit, Filters
    from baton.metrics.meter import Meter
    from baton.store.moves import Restored

# Answers to what was asked, not failures of the archive.
_ANSWERS: Final = (
    ContextNotFoundError,
    InvalidInputError,
    SessionBusyError,
    SessionExistsError,
    SessionHeldError,
)


class MeteredArchive(ArchiveService):
    """`ArchiveService`, with what it does told to a meter."""

    def __init__(self, *parts: Any, meter: Meter, **named_parts: Any) -> None:
        super().__init__(*parts, **named_parts)
        self._meter = meter

    def archive(
        self, session_id: str, *, agent_id: str = ARCHIVE_AGENT, progress: Progress | None = None
    ) -> Archived:
        """See `ArchiveService.archive`."""
        with self._counting_failures("archive"):
            done = super().archive(session_id, agent_id=agent_id, progress=progress)
        if done.outcome == "archived":
            self._meter.count(catalog.ARCHIVED)
        self._meter.count(catalog.ARCHIVE_BYTES, done.stored_bytes)
        self._meter.count(catalog.ARCHIVE_PASSAGES, done.embedded)
        return done

    def restore(self, session_id: str, *, agent_id: str = ARCHIVE_AGENT) -> Restored:
        """See `ArchiveService.restore`."""
        with self._counting_failures("restore"):
            restored = super().restore(session_id, agent_id=agent_id)
        self._meter.count(catalog.RESTORED)
        return restored

    def search(
        self, question: str, *, limit: int = 10, filters: Filters | None = None
    ) -> list[ArchiveHit]:
        """See `ArchiveService.search`."""
        with self._counting_failures("search"):
            return super().search(question, limit=limit, filters=filters)

    def purge(self, session_id: str, *, agent_id: str = ARCHIVE_AGENT) -> list[Erasure]:
        """See `ArchiveService.purge`."""
        with self._counting_failures("purge"):
            receipts = super().purge(session_id, agent_id=agent_id)
        self._meter.count(catalog.PURGED)
        return receipts

    def purge_due(self, limit: int, *, agent_id: str = ARCHIVE_AGENT) -> int:
        """See `ArchiveService.purge_due`."""
        with self._counting_failures("purge"):
            count = super().purge_due(limit, agent_id=agent_id)
        self._meter.count(catalog.PURGED, count)
        return count

    @contextmanager
    def _counting_failures(self, operation: str) -> Iterator[None]:
        try:
            yield
        except _ANSWERS:
            raise
        except Exception:
            self._meter.count(catalog.ARCHIVE_FAILURES, operation=operation)
            raise
