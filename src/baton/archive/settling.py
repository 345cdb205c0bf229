"""Puts right what crashes left between Redis, the ledger and the index."""

from __future__ import annotations

from typing import TYPE_CHECKING

from baton.archive.archivist import drop_other_segments, of_passages, with_index
from baton.archive.copies import read_segments
from baton.errors import IndexCorruptError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from baton.archive.archivist import ArchivePolicy, Archivist, Progress
    from baton.archive.eraser import Eraser
    from baton.archive.indexer import PassageIndexer
    from baton.archive.ledger import ShelfRecord
    from baton.archive.shelves import Shelves
    from baton.archive.vector_index import VectorIndex


class Settler:
    """Brings the ledger up to what Redis says."""

    def __init__(
        self, shelves: Shelves, archivist: Archivist, eraser: Eraser, policy: ArchivePolicy
    ) -> None:
        self._shelves = shelves
        self._archivist = archivist
        self._eraser = eraser
        self._policy = policy

    def unsettled(self) -> Iterator[ShelfRecord]:
        """Copies of sessions that are in Redis too, or were when they were made."""
        for state in ("copied", "writing"):
            yield from self._shelves.ledger.all(state)

    def settle(self, record: ShelfRecord, agent_id: str) -> bool:
        """Put one record right; whether it had to be."""
        standing = self._shelves.standing(record.session)
        is_this = standing is not None and standing.copy == record.copy != ""
        if standing is not None and standing.is_archived and is_this:
            self._archivist.finish(record.session, agent_id)
            return True
        if standing is not None and standing.created_at_ms == record.created_at_ms:
            return False
        if not record.is_whole or self._shelves.was_deleted(record.session):
            self._eraser.erase(record)
            self._eraser.clear_away(agent_id, record.session)
            return True
        self._adopt(record)
        return True

    def _adopt(self, record: ShelfRecord) -> None:
        """Redis has lost the session, or it expired there: the copy is all there is."""
        now_ms = self._shelves.now_ms()
        self._shelves.ledger.change(
            record.shelf,
            state="archived",
            archived_at_ms=now_ms,
            purge_at_ms=max(record.purge_at_ms, now_ms + self._policy.keep_ms),
        )


class Reindexer:
    """Makes copies searchable that are not, and the whole index anew.

    Args:
        shelves: where the copies are.
        indexer: embeds them.
        index: where their vectors go.
    """

    def __init__(self, shelves: Shelves, indexer: PassageIndexer, index: VectorIndex) -> None:
        self._shelves = shelves
        self._indexer = indexer
        self._index = index

    def waiting(self, limit: int) -> list[ShelfRecord]:
        """Copies that were archived without an index."""
        return self._shelves.ledger.waiting_for_index(limit)

    def all(self) -> Iterator[ShelfRecord]:
        """Every copy that may be searchable."""
        for record in self._shelves.ledger.all():
            if record.is_whole and record.index_state != "withheld":
                yield record

    def index(self, record: ShelfRecord, progress: Progress | None) -> None:
        """Put one copy's passages into the index."""
        copy = self._shelves.open(record)
        indexed = self._indexer.index_copy(record, copy, progress=of_passages(progress))
        fresh = with_index(record, indexed, self._indexer.model_id)
        self._shelves.ledger.change(
            record.shelf,
            passages=fresh.passages,
            index_state=fresh.index_state,
            model_id=fresh.model_id,
            passage_count=fresh.passage_count,
        )
        drop_other_segments(self._shelves.segments, copy, fresh, indexed)
        self._indexer.drop_others(copy.seal, indexed.passages)

    def verify(self, record: ShelfRecord) -> None:
        """Read a copy whole, every hash checked, and look for its passages' rows.

        Raises:
            ColdStoreCorruptError: the copy is not what was stored.
            IndexCorruptError: rows of it are missing; `index` puts them back.
        """
        copy = self._shelves.open(record)
        for each in copy.dump.versions:
            copy.text(each.version)
        names = {place.name for place in copy.places.values()}
        for _ in read_segments(self._shelves.segments, copy.seal, names):
            pass
        if record.index_state == "indexed":
            self._shelves.words(record, self._shelves.passages(record))
            rows = len(self._index.ids(record.shelf))
            if rows != record.passage_count:
                raise IndexCorruptError(
                    f"session {record.session}: the index has {rows} of {record.passage_count} "
                    "passages; `baton archive reindex` puts them back"
                )
