"""One pass of every sweep on demand: what beat's sweeps do, with progress, at once."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from baton.archive.audit_carry import AuditCarry
from baton.archive.audit_file import AuditFile
from baton.archive.opening import audit_path
from baton.cli.connection import configured_url, registry_of
from baton.dispatch import client_dispatcher
from baton.errors import (
    ArchiveNotInstalledError,
    BatonError,
    ContextArchivedError,
    EmbedderUnavailableError,
    NotFoundError,
    PermanentError,
    SessionBusyError,
    StoreUnavailableError,
)
from baton.handoff.metered import MeteredTree
from baton.handoff.sweeping import TreeSweep
from baton.lifecycle.aging import Aging
from baton.lifecycle.collecting import Collecting
from baton.lifecycle.configured import configured_durations
from baton.lifecycle.due_index import DueIndex
from baton.lifecycle.facts import SessionFactsReader
from baton.lifecycle.sweep_board import SweepRun
from baton.lifecycle.sweeps import AGENTS_AT_ONCE
from baton.store.drain import AccessDrain
from baton.store.mending import KeyMending

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from baton.cli.archiving import Archives
    from baton.cli.bars import Bars
    from baton.dispatch import CeleryDispatcher

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
        done: sweep -> what it did, of those that look at more than sessions that are due.
        skipped: sweep -> why it did not run.
        left_to_pool: sweeps that the archive's pool was told to do; it does each once a period.
    """

    dry_run: bool
    sessions: int = 0
    due: list[str] = field(default_factory=list)
    archived: list[str] = field(default_factory=list)
    kept: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    settled: int = 0
    purged: int = 0
    done: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    left_to_pool: list[str] = field(default_factory=list)


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
        self._drain = AccessDrain(client, store)
        self._aging = Aging(client, store, self._drain, self._facts, self._index)
        self._collecting = Collecting(client, store, KeyMending(client, store.backstop_ms))

    def run(self, *, dry_run: bool) -> Swept:
        """All sweeps; dry, it tells what is due for archival and changes no session.

        A sweep that this user may not do, or whose broker or anchor does not answer, is skipped.

        Raises:
            EmbedderUnavailableError, ArchiveNotInstalledError, TransientError: what stops it for
                all sessions; what was done stays done.
        """
        found = Swept(dry_run)
        if not dry_run:
            self._look_after_swarm(found)
        self._age(found)
        if dry_run:
            return found
        self._try("collect", found, lambda: self._collecting.collect(self._shown("searched")))
        self._archive_all(found)
        if self._archives.anywhere:
            found.settled = self._archives.ask("settle", self._agent_id)
            found.purged = self._archives.ask("purge_due", self._agent_id)
            self._carry_audit(found)
        return found

    def _look_after_swarm(self, found: Swept) -> None:
        """Those that need no archive: nodes, agents, notes of reads, seals."""
        archives = self._archives
        client, store = archives.client, archives.store
        registry = registry_of(client, archives.settings)
        with self._dispatcher() as dispatcher:
            tree = TreeSweep(MeteredTree(client, store.meter), dispatcher)
            self._try("nodes", found, tree.sweep)
        self._try("agents", found, lambda: len(registry.sweep_dead(AGENTS_AT_ONCE)))
        self._try("access", found, self._drain.drain_all)
        self._try("audit", found, store.audit.seal_all)

    def _try(self, name: str, found: Swept, sweep: Callable[[], int]) -> None:
        try:
            found.done[name] = sweep()
        except StoreUnavailableError:
            raise
        except BatonError as error:
            found.skipped[name] = str(error)
        self._archives.bars.clear()

    def _age(self, found: Swept) -> None:
        found.sessions = self._aging.reconcile(self._shown("sessions"))
        self._aging.age(self._shown("looked at"))
        found.due = self._still_due(self._index.to_archive(AT_ONCE))
        self._archives.bars.clear()

    def _archive_all(self, found: Swept) -> None:
        bars = self._archives.bars
        for done, session_id in enumerate(found.due):
            bars.show("sessions", done, len(found.due))
            self._archive(session_id, found)
        bars.clear()

    def _carry_audit(self, found: Swept) -> None:
        """Here, or by the archive's pool, which has the file: it is told to as by beat."""
        if not self._archives.pool_runs():
            self._try("audit_carry", found, self._carry_audit_here)
            return
        try:
            with self._dispatcher() as dispatcher:
                dispatcher.carry_audit()
        except BatonError as error:
            found.skipped["audit_carry"] = str(error)
        else:
            found.left_to_pool.append("audit_carry")

    def _carry_audit_here(self) -> int:
        archives = self._archives
        run = self._shown("segments")
        with contextlib.closing(AuditFile(audit_path(archives.settings))) as file:
            carry = AuditCarry(
                archives.client,
                file,
                archives.store.audit,
                keep_seconds=archives.settings.audit_keep_seconds,
            )
            return carry.run(progress=run.progress, stop=lambda: run.lost)

    @contextlib.contextmanager
    def _dispatcher(self) -> Iterator[CeleryDispatcher]:
        """Takes messages of the deployment; connects at the first."""
        settings = self._archives.settings
        made = client_dispatcher(configured_url(settings) or "", settings)
        with contextlib.closing(made) as dispatcher:
            yield dispatcher

    def _shown(self, name: str) -> SweepRun:
        return _Shown(name, self._archives.bars)

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
