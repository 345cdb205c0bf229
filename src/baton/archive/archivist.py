"""The archivist: copies sessions to the cold store, and lets go of them in Redis.

Each step may be the last before a crash; the next attempt goes on from what is there:

```
its shelf and wrapped data key are in the ledger          (state `writing`)
its chunks and its catalogue are sealed segments, read back and verified
its passages are in the vector index
the ledger names the copy                                 (state `copied`)
Redis lets go of it, if nothing happened to it since      (a tombstone stays)
the ledger says so                                        (state `archived`)
```

Redis decides where a session is: what has no tombstone is served from there, whatever the ledger
says. `baton.archive.settling` brings the ledger up to that after a crash between the last two.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

from baton.archive.copies import Place, catalogue_of, put_document
from baton.archive.ledger import AGENT, METADATA, ShelfRecord
from baton.clock import utc_from_ms
from baton.errors import ContextArchivedError, ContextNotFoundError, EmbedderUnavailableError
from baton.failpoints import reach
from baton.store.keys import SessionKeys
from baton.store.moves import Copy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from baton.archive.copies import SessionCopy
    from baton.archive.indexer import Indexed, PassageIndexer
    from baton.archive.ledger import IndexState
    from baton.archive.segments import Segments
    from baton.archive.shelf_seal import ShelfSeal
    from baton.archive.shelves import Shelves
    from baton.store.drain import AccessDrain
    from baton.store.dumps import SessionDump, Which

    Progress = Callable[[str, int, int], None]

logger = logging.getLogger(__name__)

ARCHIVE_AGENT: Final = "archive_agent"


@dataclass(frozen=True, slots=True)
class ArchivePolicy:
    """What the archive keeps, and for how long.

    Attributes:
        which: the versions whose content is kept.
        keep_ms: how long an archived session is kept before it is purged.
        index_sensitive: whether sealed and sensitive sessions are searchable too.
        index_later: whether content may be archived before it can be embedded.
    """

    which: Which
    keep_ms: int
    index_sensitive: bool = False
    index_later: bool = False


@dataclass(frozen=True, slots=True)
class Archived:
    """What became of an attempt to archive a session.

    Attributes:
        outcome: `archived`: the archive has it. `kept`: something happened to it meanwhile; it is
            in Redis, whole.
        purge_at: when the archive is to erase it; None where it was kept.
        stored_bytes: that were new to the archive.
        passages: that are searchable.
        embedded: of them, those that were new to the index.
    """

    session_id: str
    outcome: Literal["archived", "kept"]
    version: str
    shelf: str
    purge_at: datetime | None
    stored_bytes: int
    passages: int
    embedded: int
    index_state: IndexState


class Archivist:
    """Archives sessions, one at a time.

    Args:
        shelves: where they go.
        drain: takes notes of reads off a session, before it is decided that nobody read it.
        indexer: makes copies searchable.
        policy: what is kept.
    """

    def __init__(
        self, shelves: Shelves, drain: AccessDrain, indexer: PassageIndexer, policy: ArchivePolicy
    ) -> None:
        self._shelves = shelves
        self._ledger = shelves.ledger
        self._segments = shelves.segments
        self._moves = shelves.store.moves
        self._drain = drain
        self._indexer = indexer
        self._policy = policy

    def archive(self, session_id: str, agent_id: str, progress: Progress | None) -> Archived:
        """See `ArchiveService.archive`."""
        keys = SessionKeys.of(session_id)
        try:
            dump = self._dump(keys)
        except ContextArchivedError:
            return self.finish(session_id, agent_id)
        reach("archive.dumped")
        record, seal = self._shelf_for(dump)
        reach("archive.keyed")
        stored_bytes, places = self._store_chunks(keys, dump, seal, progress)
        catalogue = put_document(self._segments, seal, catalogue_of(dump, places))
        reach("archive.stored")
        copy = self._read_back(keys, dump, seal, catalogue)
        reach("archive.verified")
        record, indexed = self._indexed(record, copy, progress)
        record = self._recorded(record, dump, copy, catalogue)
        reach("archive.recorded")
        self._drop_others(seal, copy, record, indexed)
        record, purge_at = self._let_go(keys, dump, record, agent_id)
        return _archived(record, purge_at, stored_bytes, 0 if indexed is None else indexed.embedded)

    def finish(self, session_id: str, agent_id: str) -> Archived:
        """The session is archived: finish what a crash left undone of that.

        Raises:
            ContextNotFoundError: this archive does not have it.
        """
        standing = self._shelves.standing(session_id)
        record = None if standing is None else self._ledger.find(standing.shelf)
        if standing is None or record is None or record.copy != standing.copy:
            raise ContextNotFoundError(
                f"session {session_id}: this archive does not have the copy that its tombstone "
                "names; is it another machine's, or was its backup not put back?"
            )
        place = Copy(record.shelf, record.copy)
        purge_at = self._moves.finish_letting_go(SessionKeys.of(session_id), place, agent_id)
        if record.state != "archived":
            record = self._note_archived(record, standing.archived_at_ms, standing.purge_at_ms)
        return _archived(record, purge_at, 0, 0)

    def _dump(self, keys: SessionKeys) -> SessionDump:
        """The session with no note of a use left to drain: one that comes later is a use."""
        self._drain.drain(keys.session_id)
        dump = self._moves.dump(keys, self._policy.which)
        if dump.wrapped_key:
            # To open it was a use of its key: our own note must not look like somebody's.
            self._shelves.store.flush_notes()
            self._drain.drain(keys.session_id)
            dump = self._moves.dump(keys, self._policy.which)
        return dump

    def _shelf_for(self, dump: SessionDump) -> tuple[ShelfRecord, ShelfSeal]:
        """The session's shelf, from an earlier attempt or an earlier archiving, or a new one."""
        created_at_ms = int(dump.container["created_at"])
        for record in self._ledger.of_session(dump.session_id):
            if record.created_at_ms == created_at_ms:
                return record, self._shelves.keys.seal(record)
        seal, wrapped = self._shelves.keys.new()
        record = ShelfRecord(
            seal.shelf, dump.session_id, "writing", wrapped, created_at_ms=created_at_ms
        )
        self._ledger.put(record)
        return record, seal

    def _store_chunks(
        self, keys: SessionKeys, dump: SessionDump, seal: ShelfSeal, progress: Progress | None
    ) -> tuple[int, dict[int, Place]]:
        """Seal what the shelf lacks; the bytes stored, and where each chunk lies."""
        there = self._segments.names(seal.shelf)
        sizes = dump.chunk_sizes
        places: dict[int, Place] = {}

        def new() -> Iterator[tuple[bytes, bytes]]:
            for chunk_id, stored in self._moves.chunks(keys, sizes):
                name = seal.segment_name(stored)
                places[chunk_id] = Place(name, len(stored))
                if name not in there:
                    there.add(name)
                    yield name, seal.seal(stored, name)
                if progress is not None:
                    progress("chunks", len(places), len(sizes))

        return self._segments.put(seal.shelf, new()), places

    def _read_back(
        self, keys: SessionKeys, dump: SessionDump, seal: ShelfSeal, catalogue: bytes
    ) -> SessionCopy:
        """The copy as the archive has it, every byte of every version verified."""
        sealer = self._moves.sealer(keys, dump)
        copy = self._shelves.open_catalogue(seal, catalogue, sealer)
        for each in copy.dump.versions:
            copy.text(each.version)
        return copy

    def _indexed(
        self, record: ShelfRecord, copy: SessionCopy, progress: Progress | None
    ) -> tuple[ShelfRecord, Indexed | None]:
        """Make it searchable, unless it must not be, or cannot now and may be later."""
        container = copy.dump.container
        is_sensitive = "1" in (container.get("sensitive"), container.get("encrypted"))
        if is_sensitive and not self._policy.index_sensitive:
            if record.index_state != "none":
                self._indexer.drop_all(record.shelf)
            return _without_index(record, "withheld"), None
        try:
            indexed = self._indexer.index_copy(record, copy, progress=of_passages(progress))
        except EmbedderUnavailableError as error:
            if not self._policy.index_later:
                raise
            logger.warning("session %s is archived without index: %s", record.session, error)
            return _without_index(record, "waiting"), None
        return with_index(record, indexed, self._indexer.model_id), indexed

    def _recorded(
        self, record: ShelfRecord, dump: SessionDump, copy: SessionCopy, catalogue: bytes
    ) -> ShelfRecord:
        """Name the copy in the ledger: from here on the session can be restored from it."""
        head = copy.dump.head.stamped.manifest
        record = replace(
            record,
            state="copied",
            session_key=dump.wrapped_key,
            copy=catalogue.hex(),
            catalogue=catalogue,
            version=head.version,
            owner=dump.container.get("owner", ""),
            size_bytes=head.size_bytes,
            updated_at_ms=int(float(copy.dump.head.committed_at) * 1000),
            accessed_at_ms=int(dump.accessed_at_ms or 0),
            hold=dump.container.get("hold", ""),
        )
        self._ledger.put(record, _facets(dump))
        return record

    def _let_go(
        self, keys: SessionKeys, dump: SessionDump, record: ShelfRecord, agent_id: str
    ) -> tuple[ShelfRecord, datetime | None]:
        keep_ms = int(dump.container.get("keep_ms", self._policy.keep_ms))
        place = Copy(record.shelf, record.copy)
        purge_at = self._moves.let_go(keys, dump, place, agent_id, keep_ms)
        reach("archive.cleared")
        if purge_at is None:
            return record, None
        purge_at_ms = round(purge_at.timestamp() * 1000)
        return self._note_archived(record, purge_at_ms - keep_ms, purge_at_ms), purge_at

    def _note_archived(
        self, record: ShelfRecord, archived_at_ms: int, purge_at_ms: int
    ) -> ShelfRecord:
        changed = self._ledger.change(
            record.shelf, state="archived", archived_at_ms=archived_at_ms, purge_at_ms=purge_at_ms
        )
        return changed or record

    def _drop_others(
        self, seal: ShelfSeal, copy: SessionCopy, record: ShelfRecord, indexed: Indexed | None
    ) -> None:
        """Drop what an earlier copy had and this one has not."""
        drop_other_segments(self._segments, copy, record, indexed)
        if indexed is not None:
            self._indexer.drop_others(seal, indexed.passages)


def drop_other_segments(
    segments: Segments, copy: SessionCopy, record: ShelfRecord, indexed: Indexed | None
) -> None:
    """Delete segments of a shelf that neither its copy nor its index needs."""
    kept = {place.name for place in copy.places.values()} | {record.catalogue}
    if indexed is not None:
        kept |= {indexed.name, indexed.passages.words}
    gone = segments.names(record.shelf) - kept
    if gone:
        segments.delete(record.shelf, gone)


def with_index(record: ShelfRecord, indexed: Indexed, model_id: str) -> ShelfRecord:
    """The record of a copy that is searchable."""
    return replace(
        record,
        passages=indexed.name,
        index_state="indexed",
        model_id=model_id,
        passage_count=len(indexed.passages.names),
    )


def of_passages(progress: Progress | None) -> Callable[[int, int], None] | None:
    """What tells of passages alone."""
    if progress is None:
        return None
    return lambda done, total: progress("passages", done, total)


def facet_text(value: str | float) -> str:
    """A metadata value as it is compared: `true`, `3`, `text`."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _without_index(record: ShelfRecord, state: IndexState) -> ShelfRecord:
    return replace(record, index_state=state, passages=b"", passage_count=0, model_id="")


def _facets(dump: SessionDump) -> dict[str, list[str]]:
    """What a search can be narrowed to: who wrote the session, and its metadata if not sealed."""
    facets = {AGENT: sorted({*dump.authors, dump.container.get("owner", "")} - {""})}
    if dump.container.get("encrypted") != "1":
        for name, value in dump.head.stamped.manifest.metadata.items():
            if isinstance(value, str | int | float | bool):
                facets[f"{METADATA}{name}"] = [facet_text(value)]
    return facets


def _archived(
    record: ShelfRecord, purge_at: datetime | None, stored_bytes: int, embedded: int
) -> Archived:
    return Archived(
        session_id=record.session,
        outcome="kept" if purge_at is None else "archived",
        version=record.version,
        shelf=record.shelf,
        purge_at=purge_at,
        stored_bytes=stored_bytes,
        passages=record.passage_count,
        embedded=embedded,
        index_state=record.index_state,
    )


def archived_at(record: ShelfRecord) -> datetime:
    """When a session was archived."""
    return utc_from_ms(record.archived_at_ms)
