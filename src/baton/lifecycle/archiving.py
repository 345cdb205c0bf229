"""The passes of the archive's pool: archive what is due, put right, purge, carry the audit."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final

from baton.errors import (
    BatonError,
    ContextArchivedError,
    EmbedderUnavailableError,
    NotFoundError,
    PermanentError,
    SessionBusyError,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from baton.archive.audit_carry import AuditCarry
    from baton.archive.service import ArchiveService
    from baton.lifecycle.due_index import DueIndex
    from baton.lifecycle.facts import SessionFactsReader
    from baton.lifecycle.sweep_board import SweepRun

logger = logging.getLogger(__name__)

# A run ends about so long after it began: what else waits for the pool gets its turn.
RUN_SECONDS: Final = 300.0
AT_ONCE: Final = 50
PURGED_AT_ONCE: Final = 100


class ArchivePasses:
    """What the archive's pool does by itself.

    Args:
        open_archive: gives the process's archive; called when there is something to do.
        ledger_path: where that archive's ledger is; while it is missing, there is nothing archived.
        facts: tells whether a session is still due.
        index: knows which are to be archived.
        carry: carries the audit; it needs none of the archive's packages.
    """

    def __init__(
        self,
        open_archive: Callable[[], ArchiveService],
        ledger_path: Path,
        facts: SessionFactsReader,
        index: DueIndex,
        carry: AuditCarry,
    ) -> None:
        self._open_archive = open_archive
        self._ledger_path = ledger_path
        self._facts = facts
        self._index = index
        self._carry = carry

    def archive_due(self, run: SweepRun) -> int:
        """Archive sessions that are due, the longest due first; how many.

        One that cannot be archived is left as it is, and named in the log; an hour later it is
        tried again. What stops them all, such as a missing model, ends the run.

        Raises:
            EmbedderUnavailableError, IndexUnavailableError, ColdStoreUnavailableError,
            StoreUnavailableError: and the like; what is due stays due.
        """
        ends_at = time.monotonic() + RUN_SECONDS
        count = 0
        while due := self._index.to_archive(AT_ONCE):
            archive = self._open_archive()
            for session_id in due:
                count += self._archive_if_due(archive, session_id)
                run.progress(count)
                if run.lost or time.monotonic() >= ends_at:
                    return count
        return count

    def settle(self, run: SweepRun) -> int:
        """Put right what crashes left, and make searchable what waits for it; how many sessions.

        However that goes, the archive's report for health and metrics is written anew. An index
        that has to be made anew is reported, not made: that may take hours, in which nothing else
        would be archived, restored or found.
        """
        if not self._ledger_path.exists():
            return 0
        archive = self._open_archive()
        try:
            changed = archive.settle()
            run.progress(changed)
            return changed + archive.index_waiting(AT_ONCE)
        finally:
            self._report(archive, run)

    def purge(self, run: SweepRun) -> int:
        """Erase what is past its time; how many sessions."""
        if not self._ledger_path.exists():
            return 0
        archive = self._open_archive()
        count = 0
        while not run.lost:
            purged = archive.purge_due(PURGED_AT_ONCE)
            count += purged
            run.progress(count)
            if purged < PURGED_AT_ONCE:
                break
        return count

    def carry_audit(self, run: SweepRun) -> int:
        """Carry sealed audit segments to the archive's file, and trim old ones; how many.

        Errors: as of `AuditCarry.run`.
        """
        ends_at = time.monotonic() + RUN_SECONDS
        return self._carry.run(
            progress=run.progress, stop=lambda: run.lost or time.monotonic() >= ends_at
        )

    def _report(self, archive: ArchiveService, run: SweepRun) -> None:
        try:
            archive.report(round(run.period_seconds * 1000))
        except BatonError as error:
            logger.warning("the archive's report stays as it was: %s", error)

    def _archive_if_due(self, archive: ArchiveService, session_id: str) -> bool:
        archived = False
        try:
            (facts,) = self._facts.read([session_id])
            if facts.is_due(self._facts.now_ms()):
                archived = archive.archive(session_id).outcome == "archived"
        except (SessionBusyError, NotFoundError, ContextArchivedError) as error:
            logger.info("session %s is not archived now: %s", session_id, error)
        except EmbedderUnavailableError:
            raise
        except PermanentError as error:
            logger.warning("session %s cannot be archived: %s", session_id, error)
        except BatonError as error:
            logger.warning("the archive stops for now, at session %s: %s", session_id, error)
            raise
        # Not due any more, or tried: it is looked at again in its time.
        self._index.drop_archive(session_id)
        return archived
