"""Brings archived sessions back to Redis."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from baton.archive.copies import with_wrapped_key
from baton.errors import ContextNotFoundError
from baton.failpoints import reach
from baton.store.keys import SessionKeys
from baton.store.moves import Copy

if TYPE_CHECKING:
    from baton.archive.ledger import ShelfRecord
    from baton.archive.shelves import Shelves
    from baton.store.moves import Restored


class Restorer:
    """Restores sessions. The copy stays: archiving again then costs only what changed."""

    def __init__(self, shelves: Shelves) -> None:
        self._shelves = shelves

    def restore(self, session_id: str, agent_id: str) -> Restored:
        """See `ArchiveService.restore`."""
        keys = SessionKeys.of(session_id)
        moves = self._shelves.store.moves
        standing = self._shelves.standing(session_id)
        if standing is not None and standing.is_archived:
            moves.finish_letting_go(keys, Copy(standing.shelf, standing.copy), agent_id)
        record = self._record(session_id, None if standing is None else standing.shelf)
        copy = self._shelves.open(record)
        reach("restore.read")
        # Before Redis has it: what is in Redis must not be purged as archived.
        self._shelves.ledger.change(record.shelf, state="copied")
        restored = moves.bring_back(
            with_wrapped_key(copy.dump, record.session_key),
            keys,
            Copy(record.shelf, record.copy),
            agent_id,
            _restore_id(record),
            copy.chunks,
            copy.sealer,
            hold=record.hold,
        )
        reach("restore.restored")
        return restored

    def _record(self, session_id: str, shelf: str | None) -> ShelfRecord:
        """Where the copy is: on the shelf that Redis names; else the newest."""
        for record in self._shelves.ledger.of_session(session_id):
            if record.is_whole and shelf in (None, record.shelf):
                return record
        raise no_copy_error(session_id)


def no_copy_error(session_id: str) -> ContextNotFoundError:
    """The error for a session that the archive has no copy of."""
    return ContextNotFoundError(
        f"the archive has no copy of session {session_id}; `baton archive list` shows what it has"
    )


def _restore_id(record: ShelfRecord) -> str:
    """Names the restore of one copy from one archiving: a repeat is known by it."""
    told = f"{record.shelf} {record.copy} {record.archived_at_ms}"
    return hashlib.blake2b(told.encode(), digest_size=16).hexdigest()
