"""The shelves of an archive: what lies on each, opened and verified, and what Redis says of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from baton.archive.copies import (
    copy_from,
    put_document,
    put_segment,
    read_document,
    read_segments,
)
from baton.archive.passage_map import FORMAT, PassageMap
from baton.archive.word_index import WordIndex
from baton.errors import ContextNotFoundError
from baton.redis_client import require_binary
from baton.store.keys import SessionKeys

if TYPE_CHECKING:
    import redis

    from baton.archive.copies import SessionCopy
    from baton.archive.ledger import Ledger, ShelfRecord
    from baton.archive.segments import Segments
    from baton.archive.shelf_keys import ShelfKeys
    from baton.archive.shelf_seal import ShelfSeal
    from baton.content.sealing import Sealer
    from baton.store.contexts import ContextStore

_FIELDS: Final = (
    "state", "archived", "shelf", "copy", "created_at", "archived_at", "purge_at", "hold",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Standing:
    """What a session's container says; times in ms, 0 where it is not archived."""

    state: str
    is_archived: bool
    shelf: str
    copy: str
    created_at_ms: int
    archived_at_ms: int
    purge_at_ms: int
    hold: str

    @property
    def is_here(self) -> bool:
        """Whether Redis has it whole."""
        return self.state == "live" and not self.is_archived


class Shelves:
    """Opens shelves, and looks at the sessions they are of.

    Args:
        redis_client: a binary client.
        store: the contexts.
        ledger: which session lies where.
        segments: what lies there.
        keys: the shelves' data keys.
    """

    def __init__(
        self,
        redis_client: redis.Redis,
        store: ContextStore,
        ledger: Ledger,
        segments: Segments,
        keys: ShelfKeys,
    ) -> None:
        self._redis = require_binary(redis_client)
        self.store = store
        self.ledger = ledger
        self.segments = segments
        self.keys = keys

    def open(self, record: ShelfRecord) -> SessionCopy:
        """The copy on a shelf, to read from.

        Raises:
            ContextNotFoundError: there is no whole copy.
            ColdStoreCorruptError: it is damaged.
        """
        if not record.is_whole:
            raise ContextNotFoundError(f"{record.shelf} holds no whole copy")
        return self.open_catalogue(
            self.keys.seal(record), record.catalogue, self.keys.sealer(record)
        )

    def open_catalogue(
        self, seal: ShelfSeal, catalogue: bytes, sealer: Sealer | None
    ) -> SessionCopy:
        """The copy that a catalogue tells of. Errors: as `open`."""
        document = read_document(self.segments, seal, catalogue)
        return copy_from(document, self.segments, seal, sealer)

    def passages(self, record: ShelfRecord) -> PassageMap:
        """Where the passages of an indexed copy are.

        Raises:
            ColdStoreCorruptError: that is damaged.
            UnsupportedFormatError: another Baton stored it.
        """
        document = read_document(self.segments, self.keys.seal(record), record.passages, FORMAT)
        return PassageMap.from_document(document)

    def words(self, record: ShelfRecord, passages: PassageMap) -> WordIndex:
        """Which of its passages hold a word. Errors: as `passages`."""
        names = [passages.words]
        ((_, stored),) = read_segments(self.segments, self.keys.seal(record), names)
        return WordIndex.from_bytes(stored)

    def put_words(self, seal: ShelfSeal, words: bytes) -> bytes:
        """Keep the words of passages; the name of their segment."""
        return put_segment(self.segments, seal, words)

    def put_passages(self, seal: ShelfSeal, passages: PassageMap) -> bytes:
        """Keep a passage map; the name of its segment."""
        return put_document(self.segments, seal, passages.as_document())

    def standing(self, session_id: str) -> Standing | None:
        """What Redis says of a session; None where it knows of none."""
        found = self._redis.hmget(SessionKeys.of(session_id).base, _FIELDS)
        state, archived, shelf, copy, created_at, archived_at, purge_at, hold = (
            "" if value is None else value.decode() for value in found
        )
        if not state:
            return None
        return Standing(
            state=state,
            is_archived=archived == "1",
            shelf=shelf,
            copy=copy,
            created_at_ms=int(created_at or 0),
            archived_at_ms=int(archived_at or 0) if archived == "1" else 0,
            purge_at_ms=int(purge_at or 0) if archived == "1" else 0,
            hold=hold,
        )

    def was_deleted(self, session_id: str) -> bool:
        """Whether the session was deleted on purpose, within the last day."""
        return self._redis.get(SessionKeys.of(session_id).deleted) is not None

    def now_ms(self) -> int:
        """Redis' clock."""
        seconds, microseconds = self._redis.time()
        return seconds * 1000 + microseconds // 1000
