"""One pass over all sessions on demand: what beat's sweeps do, with progress, at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from baton.errors import (
    ArchiveNotInstalledError,
    ContextArchivedError,
    EmbedderUnavailableError,
    NotFoundError,
    PermanentError,
    SessionBusyError,
)
from baton.lifecycle.aging import Aging
from baton.lifecycle.configured import configured_durations
from baton.lifecycle.due_index import DueIndex
from baton.lifecycle.facts import SessionFactsReader
from baton.lifecycle.sweep_board import SweepRun
from baton.store.drain import AccessDrain

if TYPE_CHECKING:
    from baton.cli.archiving import Archives
    from baton.cli.bars import Bars

# Of each shard of the index; what is left is for the next call.
AT_ONCE: Final = 10_000


@dataclass(slots=True)
class Swept:
    """What a pass did.

    Attributes:
        sessions: how many there are.
        due: those that are to be archived, the longest due first.
        archived: of them, those that were.
        kept: of them, those in use, and how.
        failed: of them, those that cannot be archived, and why.
        settled: how many were put right in the archive.
        purged: how many were erased.
    """

    dry_run: bool
    sessions: int = 0
    due: list[str] = field(default_factory=list)
    archived: list[str] = field(default_factory=list)
    kept: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    settled: int = 0
    purged: int = 0


class Sweeping:
    """Sweeps once. Does nothing that cannot be done again, or beside the real sweeps.

    Args:
        archives: whom to ask.
        agent_id: who sweeps.
    """

    def __init__(self, archives: Archives, agent_id: str) -> None:
        client, store = archives.client, archives.store
        self._archives = archives
        self._agent_id = agent_id
        self._facts = SessionFactsReader(client, configured_durations(archives.settings))
        self._index = DueIndex(client)
        drain = AccessDrain(client, store)
        self._aging = Aging(client, store, drain, self._facts, self._index)

    def run(self, *, dry_run: bool) -> Swept:
        """The pass; dry, it tells what is due and changes no session.

        Raises:
            EmbedderUnavailableError, ArchiveNotInstalledError, TransientError: what stops it for
                all sessions; what was done stays done.
        """
        bars = self._archives.bars
        found = Swept(dry_run, sessions=self._aging.reconcile(_Shown("sessions", bars)))
        self._aging.age(_Shown("looked at", bars))
        found.due = self._still_due(self._index.to_archive(AT_ONCE))
        bars.clear()
        if dry_run:
            return found
        for done, session_id in enumerate(found.due):
            bars.show("sessions", done, len(found.due))
            self._archive(session_id, found)
        bars.clear()
        if self._archives.anywhere:
            found.settled = self._archives.ask("settle", self._agent_id)
            found.purged = self._archives.ask("purge_due", self._agent_id)
        return found

    def _still_due(self, session_ids: list[str]) -> list[str]:
        """Those that nobody has used since they were found."""
        now_ms = self._facts.now_ms()
        due = []
        for session_id in session_ids:
            (facts,) = self._facts.read([session_id])
            if facts.is_due(now_ms):
                due.append(session_id)
            else:
                self._index.drop_archive(session_id)
        return due

    def _archive(self, session_id: str, found: Swept) -> None:
        try:
            archived = self._archives.ask("archive", self._agent_id, session_id=session_id)
        except (SessionBusyError, NotFoundError, ContextArchivedError) as error:
            found.kept[session_id] = str(error)
        except (EmbedderUnavailableError, ArchiveNotInstalledError):
            raise
        except PermanentError as error:
            found.failed[session_id] = str(error)
        else:
            if archived["outcome"] == "archived":
                found.archived.append(session_id)
            else:
                found.kept[session_id] = "it was used meanwhile"
        self._index.drop_archive(session_id)


class _Shown(SweepRun):
    """A run that tells bars how far it is."""

    def __init__(self, name: str, bars: Bars) -> None:
        super().__init__(name, 1.0)
        self._bars = bars

    def progress(self, done: int, total: int | None = None) -> None:
        """See `SweepRun.progress`."""
        super().progress(done, total)
        self._bars.show(self.name, done, total)
