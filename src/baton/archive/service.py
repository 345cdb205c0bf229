"""The archive as its callers see it: archive, restore, search, hold, purge, put right."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from baton.archive.archivist import ARCHIVE_AGENT, Archived
from baton.archive.jump_watch import JumpWatch
from baton.archive.report import PERIOD_MS, examine, find_report, put_report
from baton.archive.restorer import no_copy_error
from baton.archive.searching import Filters
from baton.clock import iso_utc, utc_from_ms
from baton.errors import PermanentError
from baton.ids import check_id
from baton.redis_client import redis_errors
from baton.store.moves import check_reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import redis

    from baton.archive.archivist import Archivist, Progress
    from baton.archive.eraser import Eraser
    from baton.archive.folder_lock import FolderLock
    from baton.archive.ledger import Erasure, Ledger, ShelfRecord, Totals
    from baton.archive.report import ArchiveReport
    from baton.archive.restorer import Restorer
    from baton.archive.searching import ArchiveHit, ArchiveSearch
    from baton.archive.settling import Reindexer, Settler
    from baton.archive.shelf_keys import ShelfRewrap
    from baton.archive.shelves import Shelves
    from baton.archive.vector_index import IndexHealth, VectorIndex
    from baton.store.moves import Restored

# Where nobody looked after the archive for longer than this, a clock may have jumped: purging waits
# a while, for somebody to see it.
CLOCK_JUMP_MS: Final = 3_600_000
PURGE_PAUSE_MS: Final = 24 * 3_600_000
MEANWHILE_SECONDS: Final = 0.2
RECEIPTS_KEPT_MS: Final = 366 * 24 * 3_600_000


class ArchiveService:
    """One archive. One process has it at a time; in it, threads take turns.

    Every method raises StoreUnavailableError where Redis does not answer, ColdStoreUnavailableError
    or IndexUnavailableError where the archive's own files do not, ColdStoreCorruptError where they
    are damaged, and what the key provider raises. What was asked can be asked again; nothing is
    deleted from Redis before it can be restored from here.
    """

    def __init__(  # noqa: PLR0913, PLR0917  # its parts
        self,
        redis_client: redis.Redis,
        shelves: Shelves,
        archivist: Archivist,
        restorer: Restorer,
        eraser: Eraser,
        settler: Settler,
        reindexer: Reindexer,
        search: ArchiveSearch,
        index: VectorIndex,
        lock: FolderLock,
    ) -> None:
        self._redis = redis_client
        self._shelves = shelves
        self._archivist = archivist
        self._restorer = restorer
        self._eraser = eraser
        self._settler = settler
        self._reindexer = reindexer
        self._search = search
        self._index = index
        self._lock = lock
        self._turn = threading.RLock()
        self._meanwhile: Callable[[], None] | None = None
        self._busy_with: str | None = None
        self._looked_at = 0.0

    @property
    def busy_with(self) -> str | None:
        """The session that is being copied or embedded by a call that lets others in meanwhile."""
        return self._busy_with

    def serve_meanwhile(self, serve: Callable[[], None]) -> None:
        """Call `serve` now and then while passages are embedded, which takes minutes for 10 MB.

        It is called by the thread that embeds, and may search and list, and restore sessions other
        than `busy_with`.
        """
        self._meanwhile = serve

    @property
    def ledger(self) -> Ledger:
        """Which session lies where; to be read."""
        return self._shelves.ledger

    def archive(
        self, session_id: str, *, agent_id: str = ARCHIVE_AGENT, progress: Progress | None = None
    ) -> Archived:
        """Copy a session to the archive, make it searchable, and let go of it in Redis. Idempotent.

        A session that is used meanwhile stays in Redis, whole: `kept`.

        Args:
            session_id: the session.
            agent_id: who archives.
            progress: told `chunks` or `passages`, how many are done, and of how many.

        Raises:
            ContextNotFoundError: there is no such session.
            SessionBusyError: an open handoff or a pending write needs it.
            ContextCorruptError: it is not what was stored.
            EmbedderUnavailableError: it cannot be embedded, and may not be archived without.
            RedactionError: it cannot be made searchable.
        """
        with self._taking_turns(agent_id), self._letting_in(session_id, progress) as tell:
            return self._archivist.archive(session_id, agent_id, tell)

    def restore(self, session_id: str, *, agent_id: str = ARCHIVE_AGENT) -> Restored:
        """Bring a session back to Redis: a new head version of the same content, and its history.

        Idempotent until the session is archived again. Its copy stays.

        Raises:
            ContextNotFoundError: the archive has no copy of it.
            SessionExistsError: it is in Redis.
        """
        with self._taking_turns(agent_id):
            return self._restorer.restore(session_id, agent_id)

    def search(
        self, question: str, *, limit: int = 10, filters: Filters | None = None
    ) -> list[ArchiveHit]:
        """Passages of archived sessions that answer a question, best first.

        Args:
            question: in any words, 1 to 10,000 characters.
            limit: 1 to 100.
            filters: which sessions; None: all.

        Raises:
            InvalidInputError: the question or the limit is none.
            EmbedderUnavailableError: the question cannot be embedded.
        """
        with self._turn:
            return self._search.search(question, limit, filters or Filters())

    def purge(self, session_id: str, *, agent_id: str = ARCHIVE_AGENT) -> list[Erasure]:
        """Erase every copy of a session for good; the receipts. Idempotent.

        Of a session that is in Redis only the archive's copy is erased.

        Raises:
            SessionHeldError: it is under hold.
            ContextNotFoundError: the archive has no copy of it, and has erased none.
        """
        with self._taking_turns(agent_id):
            receipts = self._eraser.purge(session_id, agent_id)
        for each in receipts:
            self._search.forget(each.shelf)
        return receipts

    def purge_due(self, limit: int, *, agent_id: str = ARCHIVE_AGENT) -> int:
        """Erase archived sessions past their time, the longest due first; how many.

        None for a while after a time in which nobody asked, as Redis' clock may have jumped.
        """
        count = 0
        if self.purge_paused_until_ms():
            return 0
        for record in list(self._eraser.due(limit)):
            with self._taking_turns(agent_id):
                self._eraser.erase(record)
                self._eraser.clear_away(agent_id, record.session)
            self._search.forget(record.shelf)
            count += 1
        with self._taking_turns(agent_id):
            self.ledger.forget_erasures(self._shelves.now_ms() - RECEIPTS_KEPT_MS)
        return count

    def purge_paused_until_ms(self) -> int:
        """Until when nothing is purged, by Redis' clock; 0 if it may be now. Notes the time."""
        with self._turn, redis_errors(self._redis):
            watch = JumpWatch(self.ledger, "purge", jump_ms=CLOCK_JUMP_MS, pause_ms=PURGE_PAUSE_MS)
            return watch.paused_until_ms(self._shelves.now_ms())

    def hold(self, session_id: str, reason: str, *, agent_id: str) -> bool:
        """Put a session under hold, in Redis and here; False if it was, for that reason.

        Raises:
            ContextNotFoundError: there is no such session.
            InvalidInputError: the reason is no line of 1 to 200 printable characters.
        """
        check_reason(reason)  # before the ledger notes it
        with self._taking_turns(agent_id):
            return self._eraser.set_hold(session_id, reason, agent_id)

    def release(self, session_id: str, *, agent_id: str) -> bool:
        """Let go of a hold; False if there was none. Errors: as `hold`."""
        with self._taking_turns(agent_id):
            return self._eraser.set_hold(session_id, "", agent_id)

    def settle(self, *, agent_id: str = ARCHIVE_AGENT) -> int:
        """Put right what crashes left, between Redis, ledger and index; how many sessions."""
        with self._taking_turns(agent_id):
            changed = self._eraser.clear_away(agent_id)
        for record in list(self._settler.unsettled()):
            with self._taking_turns(agent_id):
                changed += self._settler.settle(record, agent_id)
        return changed

    def index_waiting(self, limit: int, progress: Progress | None = None) -> int:
        """Make searchable what was archived without an index; how many sessions."""
        records = self._reindexer.waiting(limit)
        for record in records:
            with self._turn, self._letting_in(record.session, progress) as tell:
                self._reindexer.index(record, tell)
        return len(records)

    def rebuild_index(self, progress: Progress | None = None) -> int:
        """Make the whole index anew from the cold store; how many sessions are in it.

        While it goes on, a search finds what is in already.
        """
        with self._turn:
            self._index.clear()
        count = 0
        for record in self._reindexer.all():
            with self._turn, self._letting_in(record.session, progress) as tell:
                self._reindexer.index(record, tell)
            count += 1
        return count

    def rewrap_keys(self) -> ShelfRewrap:
        """Bring all data keys under the current master key."""
        with self._turn:
            return self._shelves.keys.rewrap_all(self.ledger)

    def verify(
        self, session_id: str | None = None, progress: Progress | None = None
    ) -> dict[str, str]:
        """Read copies whole, every hash checked; session -> what is wrong, of those that are not.

        Args:
            session_id: one session; None: all.
            progress: told `copies`, how many are read, and of about how many.

        Raises:
            ContextNotFoundError: the archive has no copy of that session.
        """
        records, total = self.ledger.all(), sum(self.totals().states.values())
        if session_id is not None:
            found = self.ledger.of_session(session_id)
            if not any(record.is_whole for record in found):
                raise no_copy_error(session_id)
            records, total = iter(found), len(found)
        wrong: dict[str, str] = {}
        for done, record in enumerate(records):
            if progress is not None:
                progress("copies", done, total)
            if not record.is_whole:
                continue
            try:
                with self._turn:
                    self._reindexer.verify(record)
            except PermanentError as error:
                wrong[record.session] = str(error)
        return wrong

    def archived(self) -> Iterator[ShelfRecord]:
        """What is archived, by shelf."""
        return self.ledger.all("archived")

    def listing(self) -> list[dict[str, Any]]:
        """What is archived, as JSON takes it: no keys, no names of segments."""
        return [
            {
                "session_id": record.session,
                "version": record.version,
                "owner": record.owner,
                "size_bytes": record.size_bytes,
                "passages": record.passage_count,
                "index_state": record.index_state,
                "archived_at": iso_utc(utc_from_ms(record.archived_at_ms)),
                "purge_at": None if record.hold else iso_utc(utc_from_ms(record.purge_at_ms)),
                "hold": record.hold or None,
            }
            for record in self.archived()
        ]

    def totals(self) -> Totals:
        """What there is."""
        return self.ledger.totals()

    def check_index(self) -> IndexHealth:
        """Whether passages are found by their vectors. Raises nothing."""
        with self._turn:
            return self._index.check()

    def report(self, period_ms: int | None = None) -> ArchiveReport:
        """Look at the archive, and tell in Redis how it fares, for health and metrics.

        Args:
            period_ms: when the next report is to be expected; None: as the last one had it.
        """
        if period_ms is None:
            last = find_report(self._redis)
            period_ms = PERIOD_MS if last is None else last.period_ms
        with redis_errors(self._redis):
            now_ms = self._shelves.now_ms()
        found = examine(self, self._lock.folder, now_ms, period_ms)
        put_report(self._redis, found)
        return found

    def missing_rows(
        self, limit: int, progress: Progress | None = None
    ) -> dict[str, tuple[int, int]]:
        """Searchable sessions of which the index lacks rows: how many it has, and of how many.

        Args:
            limit: of sessions.
            progress: told `sessions`, how many were looked at, and of how many.
        """
        missing: dict[str, tuple[int, int]] = {}
        total = sum(self.totals().states.values())
        for done, record in enumerate(self.ledger.all()):
            if progress is not None:
                progress("sessions", done, total)
            if record.index_state != "indexed":
                continue
            with self._turn:
                rows = len(self._index.ids(record.shelf))
            if rows < record.passage_count:
                missing[record.session] = (rows, record.passage_count)
            if len(missing) >= limit:
                break
        return missing

    def index_session(self, session_id: str, progress: Progress | None = None) -> int:
        """Embed what the index lacks of a searchable session; how many copies it has here."""
        records = [
            each for each in self.ledger.of_session(session_id) if each.index_state == "indexed"
        ]
        for record in records:
            with self._turn, self._letting_in(record.session, progress) as tell:
                self._reindexer.index(record, tell)
        return len(records)

    def without_copy(self, tombstones: Sequence[tuple[str, str, str]]) -> list[str]:
        """Those sessions of which the copy that their tombstone names is not here.

        One that was erased is not missed: its tombstone goes with the next `settle`.

        Args:
            tombstones: session, shelf and copy of each.
        """
        with self._turn:
            return [
                session
                for session, shelf, copy in tombstones
                if not self._has(shelf, copy) and self.ledger.erasure(shelf) is None
            ]

    def _has(self, shelf: str, copy: str) -> bool:
        record = self.ledger.find(shelf)
        return record is not None and record.copy == copy

    def close(self) -> None:
        """Let go of files, connections and the folder, for good. Once."""
        with self._turn:
            self._index.close()
            self._shelves.ledger.close()
            self._shelves.segments.close()
            self._lock.release()

    @contextmanager
    def _letting_in(self, session_id: str, progress: Progress | None) -> Iterator[Progress]:
        """Progress of a call that is busy with a session, and lets others in between batches."""

        def tell(what: str, done: int, total: int) -> None:
            if progress is not None:
                progress(what, done, total)
            if what == "passages":
                self._let_in()

        self._busy_with = session_id
        try:
            yield tell
        finally:
            self._busy_with = None

    def _let_in(self) -> None:
        serve, self._meanwhile = self._meanwhile, None  # never from within itself
        try:
            if serve is not None and time.monotonic() - self._looked_at >= MEANWHILE_SECONDS:
                serve()
                self._looked_at = time.monotonic()
        finally:
            self._meanwhile = serve

    @contextmanager
    def _taking_turns(self, agent_id: str) -> Iterator[None]:
        check_id(agent_id, "agent_id")
        with self._turn, redis_errors(self._redis):
            yield
