"""The context store: versions of a session's text in Redis, written at once, read verified."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from baton.ids import check_id
from baton.metrics.meter import NO_METER
from baton.redis_client import redis_errors, require_binary
from baton.settings import BACKSTOP_DAYS, DAY_SECONDS, MIB
from baton.store.assembly import StoreOptions, assemble
from baton.store.audit import AuditTrail
from baton.store.audit_entries import Caller
from baton.store.durations import milliseconds
from baton.store.keys import VERSION_PATTERN, SessionKeys
from baton.store.moves import SessionMoves
from baton.store.reads import ContextReads
from baton.store.refusals import not_found
from baton.store.scanning import scan_sessions
from baton.store.session_marks import SessionMarks
from baton.store.writes import ContextWrites

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import redis

    from baton.content.compression import Codec
    from baton.key_providers.provider import KeyProvider
    from baton.merge.resolvers import Resolver
    from baton.metrics.meter import Meter
    from baton.store.audit_anchors import AuditAnchor
    from baton.store.audit_verification import AuditVerification
    from baton.store.audit_view import AuditView, ShownEntries
    from baton.store.cache import ContextCache
    from baton.store.records import Collection
    from baton.store.retention import LiveAgents


class ContextStore(ContextWrites, ContextReads, SessionMarks):
    """Versioned, verified contexts of sessions in Redis.

    A write is atomic: readers see the old version or the new one. Versions are immutable. Reads
    write nothing but a note (see `AccessNotes`) and verify every hash. Safe for threads; after a
    fork each process goes on with its own connections.

    Every method raises InvalidIdError for an id that is none, StoreUnavailableError where Redis
    does not answer, ContextArchivedError for a session whose content is in the archive,
    ContextCorruptError where what is stored is not what was stored, and SealedError (or what its
    `KeyProvider` raises) for a sealed session that this store cannot open.

    Args:
        redis_client: a binary client (`decode_responses=False`). It is not closed here.
        cache: shared by the stores of a process; None: no caching of texts.
        compression: codec of newly stored chunks; chunks of any codec are read.
        max_context_bytes: larger contexts are refused.
        backstop_seconds: expiry of a session that nobody touches and no sweep archives.
        keep_versions: so many of the newest versions stay, besides those that are needed (see
            `collect`).
        conflict_seconds: how long a write that needs merging by hand is kept.
        key_provider: wraps the data keys of sealed sessions; None: they cannot be read or written.
        resolvers: how concurrent changes of JSON documents combine: JSON pointer pattern to
            resolver (`baton.merge.resolvers`). The same in every process that writes.
        live_agents: tells which of some agents live; their newest versions stay. None: those who
            wrote within a day.
        client_name: this client in the audit; None: Baton's version and the program's name.
        audit_anchor: where the audit's heads are kept outside Redis; None: nowhere.
        audit_view: shows and verifies the audit; None: what Redis has of it. One that reads what
            was carried to an archive, too, is `baton.archive.opening.open_trail`.
        meter: is told of writes; closed with the store. Unset: nobody is.
    """

    def __init__(  # noqa: PLR0913  # settings of a store, all by name
        self,
        redis_client: redis.Redis,
        *,
        cache: ContextCache | None = None,
        compression: Codec = "gzip",
        max_context_bytes: int = 256 * MIB,
        backstop_seconds: float = BACKSTOP_DAYS * DAY_SECONDS,
        keep_versions: int = 50,
        conflict_seconds: float = 7 * DAY_SECONDS,
        key_provider: KeyProvider | None = None,
        resolvers: Mapping[str, Resolver] | None = None,
        live_agents: LiveAgents | None = None,
        client_name: str | None = None,
        audit_anchor: AuditAnchor | None = None,
        audit_view: AuditView | None = None,
        meter: Meter = NO_METER,
    ) -> None:
        redis, caller = require_binary(redis_client), Caller.here(client_name)
        options = StoreOptions(
            cache=cache,
            compression=compression,
            max_context_bytes=max_context_bytes,
            backstop_ms=milliseconds(backstop_seconds, "backstop_seconds"),
            keep_versions=keep_versions,
            conflict_ms=milliseconds(conflict_seconds, "conflict_seconds"),
            key_provider=key_provider,
            resolvers=resolvers or {},
            live_agents=live_agents,
            meter=meter,
        )
        self._parts = assemble(redis, caller, options)
        self.backstop_ms = options.backstop_ms
        self.meter = meter
        self.audit = AuditTrail(redis_client, audit_anchor)
        self._audit_view: AuditView = audit_view or self.audit
        self.moves = SessionMoves(redis, self._parts.reader, caller, self.backstop_ms)

    def list(self) -> Iterator[str]:
        """The ids of all sessions, in no order; found by SCAN, so a long list takes a while."""
        with redis_errors(self._parts.redis):
            for batch in scan_sessions(self._parts.redis, VERSION_PATTERN):
                yield from batch

    def exists(self, session_id: str) -> bool:
        """Whether the session holds a context, here or in the archive."""
        keys = SessionKeys.of(session_id)
        with redis_errors(self._parts.redis):
            return self._parts.redis.hget(keys.base, "state") == b"live"

    def collect(
        self,
        session_id: str,
        *,
        agent_id: str,
        young_seconds: float = 0.0,
        dry_run: bool = False,
    ) -> Collection:
        """Drop versions that nothing needs, and chunks that no version needs any more.

        A version is needed while it is among the newest `keep_versions`, or a tag, a checkpoint,
        an open handoff, a pending write or a live agent's newest write names it. Pending writes
        go when they expire. `put` and its like do this by themselves from time to time, but keep
        versions of the last ten minutes, up to 20 times `keep_versions`, as agents may be writing
        on top of them.

        Args:
            session_id: the session.
            agent_id: who collects.
            young_seconds: versions younger than this stay as well, up to 20 times `keep_versions`.
            dry_run: drop nothing.

        Returns:
            What was dropped, or would be. Not all there is where writers kept changing the session;
            the next collection does it then.
        """
        with self._parts.session(session_id, agent_id) as keys:
            return self._parts.retention.collect(
                keys,
                check_id(agent_id, "agent_id"),
                young_seconds=young_seconds,
                dry_run=dry_run,
            )

    def is_collection_due(self, version_count: int) -> bool:
        """Whether a session of so many versions has enough for a collection to pay."""
        return self._parts.retention.is_due(version_count)

    def seal_audit(self, session_id: str) -> int:
        """Chain the audit entries not sealed yet, and anchor the chain; how many they were."""
        return self.audit.seal(session_id)

    def verify_audit(self, session_id: str) -> AuditVerification:
        """Whether the session's audit is what was recorded: `.ok`, and if not, where not."""
        return self._audit_view.verify(session_id)

    def show_audit(self, session_id: str, limit: int | None = None) -> ShownEntries:
        """The session's audit entries, newest first, at most `limit`.

        Entries older than 30 days are in the archive's file. Where this store does not read that,
        `.missing` of the answer says how many are not shown, and their end is logged.
        """
        return self._audit_view.show(session_id, limit)

    def delete(self, session_id: str, *, agent_id: str) -> None:
        """Delete every version of the session for good; its audit entries stay.

        Raises:
            ContextNotFoundError: no such session.
            SessionHeldError: it is under hold.
            ContextArchivedError: the archive has it, and alone can erase it.
        """
        keys = SessionKeys.of(session_id)
        check_id(agent_id, "agent_id")
        with redis_errors(self._parts.redis):
            if not self._parts.writer.delete(keys, agent_id):
                raise not_found(session_id)

    def refresh_expiry(self, session_id: str) -> None:
        """Move the expiry of all keys of the session to the backstop from now."""
        keys = SessionKeys.of(session_id)
        with redis_errors(self._parts.redis):
            self._parts.writer.refresh_expiry(keys)

    def set_durations(
        self, keys: SessionKeys, fields: Mapping[str, int | Literal[""]], agent_id: str
    ) -> None:
        """Note durations of a session's own, in ms, and give its keys the expiry these need.

        See `baton.lifecycle.durations`, whose part it is.

        Raises:
            ContextNotFoundError, ContextArchivedError: it is not here.
        """
        with redis_errors(self._parts.redis):
            self.moves.set_durations(keys, fields, agent_id)
            self._parts.writer.refresh_expiry(keys)

    def flush_notes(self) -> None:
        """Send the notes of reads that wait in this process.

        Raises:
            StoreUnavailableError, StoreRefusedError: the notes are kept for the next try.
        """
        self._parts.notes.flush()

    def close(self) -> None:
        """Send waiting notes, or drop them with a warning; the client stays open.

        The store may still be used afterwards.
        """
        self._parts.notes.close()
        self.meter.close()
