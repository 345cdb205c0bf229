"""Erases archived sessions for good, and holds those that must not be.

The data key goes first: from then on nothing of the copy can be read, wherever its sealed bytes
are, in backups too. What is left is cleared away after it, and again after a crash.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from baton.archive.restorer import no_copy_error
from baton.errors import ContextNotFoundError
from baton.failpoints import reach
from baton.store.keys import SessionKeys
from baton.store.moves import Copy, held_error

if TYPE_CHECKING:
    from collections.abc import Iterator

    from baton.archive.ledger import Erasure, ShelfRecord
    from baton.archive.shelves import Shelves
    from baton.archive.vector_index import VectorIndex


class Eraser:
    """Erases copies.

    Args:
        shelves: where they are.
        index: their passages' rows.
    """

    def __init__(self, shelves: Shelves, index: VectorIndex) -> None:
        self._shelves = shelves
        self._ledger = shelves.ledger
        self._index = index

    def purge(self, session_id: str, agent_id: str) -> list[Erasure]:
        """See `ArchiveService.purge`."""
        standing = self._shelves.standing(session_id)
        if standing is not None and standing.is_archived:
            place = Copy(standing.shelf, standing.copy)
            keys = SessionKeys.of(session_id)
            self._shelves.store.moves.finish_letting_go(keys, place, agent_id)
        records = self._ledger.of_session(session_id)
        holds = [each.hold for each in records]
        if standing is not None:
            holds.append(standing.hold)
        if any(holds):
            raise held_error(session_id, next(filter(None, holds)))
        for record in records:
            self.erase(record)
        self.clear_away(agent_id, session_id)
        receipts = self._ledger.erasures(session_id=session_id)
        if not receipts:
            raise no_copy_error(session_id)
        return receipts

    def due(self, limit: int) -> Iterator[ShelfRecord]:
        """Copies that are to be erased now, the longest due first.

        A hold that only Redis knows of, as the ledger was put back from a backup, is noted.
        """
        for record in self._ledger.due_for_purge(self._shelves.now_ms(), limit):
            standing = self._shelves.standing(record.session)
            if standing is not None and standing.hold:
                self._ledger.change(record.shelf, hold=standing.hold)
            else:
                yield record

    def erase(self, record: ShelfRecord) -> None:
        """Destroy the data key of a copy; what it left behind is for `clear_away`."""
        receipt = {
            "shelf": record.shelf,
            "version": record.version,
            "size_bytes": record.size_bytes,
            "passages": record.passage_count,
            "key": "destroyed",
        }
        self._ledger.erase(record.shelf, self._shelves.now_ms(), receipt)
        reach("purge.key_destroyed")

    def clear_away(self, agent_id: str, session_id: str | None = None) -> int:
        """Clear away what erased copies left: rows, segments, tombstones; how many of them.

        Raises:
            IndexUnavailableError, ColdStoreUnavailableError: the rest is for the next call.
        """
        erasures = self._ledger.erasures(session_id=session_id, unburied=True)
        for each in erasures:
            self._index.delete_shelf(each.shelf)
            self._shelves.segments.delete_shelf(each.shelf)
            reach("purge.rows_deleted")
            keys = SessionKeys.of(each.session)
            self._shelves.store.moves.bury(keys, each.shelf, agent_id, each.receipt)
            reach("purge.buried")
            self._ledger.mark_buried(each.shelf)
        return len(erasures)

    def set_hold(self, session_id: str, reason: str, agent_id: str) -> bool:
        """See `ArchiveService.hold` and `release`; an empty reason releases."""
        records = self._ledger.of_session(session_id)
        is_here = self._shelves.standing(session_id) is not None
        if not is_here and not records:
            raise ContextNotFoundError(f"there is no session {session_id}")
        changed = any(each.hold != reason for each in records)
        # The ledger first when holding, last when releasing: a crash in between leaves a hold.
        if reason:
            self._note_hold(records, reason)
        if is_here:
            moves, keys = self._shelves.store.moves, SessionKeys.of(session_id)
            changed |= (
                moves.hold(keys, reason, agent_id) if reason else moves.release(keys, agent_id)
            )
        if not reason:
            self._note_hold(records, "")
        return changed

    def _note_hold(self, records: list[ShelfRecord], reason: str) -> None:
        for record in records:
            self._ledger.change(record.shelf, hold=reason)
