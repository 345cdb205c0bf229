"""The context store: versions of a session's text in Redis, written at once, read verified."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from baton.clock import utc_from_ms
from baton.content.text import encode_text
from baton.errors import ContextTooLargeError, InvalidInputError, VersionNotFoundError
from baton.ids import check_id, new_operation_id
from baton.redis_client import redis_errors, require_binary
from baton.settings import DAY_SECONDS, MIB
from baton.store.access import AccessNotes
from baton.store.keys import VERSION_PATTERN, SessionKeys, session_id_of
from baton.store.manifest import decode_manifest
from baton.store.manifests import Manifests
from baton.store.reading import ContextReader, corrupt, not_found
from baton.store.records import Commit, Context, SessionInfo, VersionRecord
from baton.store.writing import ContextWriter, Draft
from baton.versions import Bump, parse_version

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import redis

    from baton.content.compression import Codec
    from baton.store.cache import ContextCache
    from baton.store.manifest import Manifest

MAX_BACKSTOP_SECONDS: Final = 3650 * DAY_SECONDS + 1
_FLAGS: Final = ("immutable", "sensitive", "encrypted", "archived")


class ContextStore:
    """Versioned, verified contexts of sessions in Redis.

    A write is atomic: readers see the old version or the new one. Versions are immutable. Reads
    write nothing but a note (see `AccessNotes`) and verify every hash. Safe for threads; after a
    fork each process goes on with its own connections.

    Args:
        redis_client: a binary client (`decode_responses=False`). It is not closed here.
        cache: shared by the stores of a process; None: no caching of texts.
        compression: codec of newly stored chunks; chunks of any codec are read.
        max_context_bytes: larger contexts are refused.
        backstop_seconds: expiry of a session that nobody touches and no sweep archives.
    """

    def __init__(
        self,
        redis_client: redis.Redis,
        *,
        cache: ContextCache | None = None,
        compression: Codec = "gzip",
        max_context_bytes: int = 256 * MIB,
        backstop_seconds: float = 38 * DAY_SECONDS,
    ) -> None:
        self._redis = require_binary(redis_client)
        self._max_context_bytes = max_context_bytes
        if not 0 < backstop_seconds < MAX_BACKSTOP_SECONDS:
            raise InvalidInputError(
                "backstop_seconds", f"above 0, below {MAX_BACKSTOP_SECONDS}", backstop_seconds
            )
        self.backstop_ms = max(1, round(backstop_seconds * 1000))
        self._notes = AccessNotes(self._redis)
        manifests = Manifests(self._redis)
        self._reader = ContextReader(self._redis, manifests, cache)
        self._writer = ContextWriter(
            self._redis,
            manifests,
            self._reader,
            compression=compression,
            backstop_ms=self.backstop_ms,
        )

    def put(
        self,
        session_id: str,
        content: str,
        *,
        agent_id: str,
        base_version: str | None = None,
        version: str | None = None,
        bump: Bump = "patch",
        operation_id: str | None = None,
    ) -> Commit:
        """Store `content` as the session's next version.

        Args:
            session_id: a new or an existing session.
            content: text that UTF-8 can encode.
            agent_id: who writes.
            base_version: the version the writer saw; the write is `rejected` if the head is
                another by now. None replaces the head whatever it is, and is audited as blind.
            version: the new version; None: the head's next by `bump`, `1.0.0` at first.
            bump: which part of the version goes up.
            operation_id: a name for this write; asked again under the same name, it answers what
                it answered first, for as long as the session lives. None: only a repeat of this
                very call is recognised.

        Returns:
            The outcome; see `Commit`. Content equal to the head's is `accepted` as the head,
            unless `version` asks for a new one.

        Raises:
            InvalidIdError, InvalidTextError, InvalidVersionError, ContextTooLargeError: nothing
                was written.
            VersionNotFoundError: `base_version` is above the head.
            ContextNotFoundError: `base_version` was given, but there is no such session.
            ContextImmutableError, ContextArchivedError: the session takes no writes.
            ContextCorruptError: the version to build on is damaged; nothing was written.
            SessionBusyError: other writers won every one of many races.
            StoreUnavailableError: Redis did not answer; the write may or may not have happened,
                and repeating it under one `operation_id` is safe.
        """
        draft = Draft(
            keys=SessionKeys.of(session_id),
            session_id=session_id,
            agent_id=check_id(agent_id, "agent_id"),
            data=self._encoded(content),
            base="" if base_version is None else str(parse_version(base_version, "base_version")),
            explicit=None if version is None else parse_version(version),
            bump=bump,
            operation_id=(
                new_operation_id()
                if operation_id is None
                else check_id(operation_id, "operation_id")
            ),
            once=operation_id is not None,
        )
        with redis_errors(self._redis):
            return self._writer.commit(draft)

    def get(
        self, session_id: str, version: str | None = None, *, agent_id: str | None = None
    ) -> Context:
        """Read one version, the head by default, and verify it.

        Args:
            session_id: the session.
            version: a version; None: the head.
            agent_id: who reads, for the note of this read; None is noted as anonymous.

        Raises:
            ContextNotFoundError: no such session.
            VersionNotFoundError: the session has no such version.
            ContextArchivedError: the session's content is in the archive.
            ContextCorruptError: what is stored is not what was stored; nothing is served.
            StoreUnavailableError: Redis did not answer.
        """
        keys = SessionKeys.of(session_id)
        reader = "" if agent_id is None else check_id(agent_id, "agent_id")
        wanted = None if version is None else str(parse_version(version))
        with redis_errors(self._redis):
            context = self._reader.read(keys, session_id, wanted)
        self._notes.add(keys, context.version, reader)
        return context

    def history(self, session_id: str, limit: int | None = None) -> list[VersionRecord]:
        """The session's versions, newest first, at most `limit` (1 or more).

        Raises:
            ContextNotFoundError: no such session.
            ContextCorruptError: a manifest is missing or damaged.
        """
        keys = SessionKeys.of(session_id)
        if limit is not None and limit < 1:
            raise InvalidInputError("limit", "1 or more, or None", limit)
        with redis_errors(self._redis):
            return self._reader.history(keys, session_id, -1 if limit is None else limit - 1)

    def show(self, session_id: str) -> SessionInfo:
        """What is known of the session, without its content.

        Raises:
            ContextNotFoundError: no such session.
            ContextCorruptError: the head's manifest is missing or damaged.
        """
        keys = SessionKeys.of(session_id)
        with redis_errors(self._redis):
            head = self._reader.find_head(keys, session_id)
            if head is None:
                raise not_found(session_id)
            pipeline = self._redis.pipeline(transaction=True)
            pipeline.hgetall(keys.base)
            pipeline.hgetall(keys.metadata)
            pipeline.hget(keys.manifests, head.version)
            pipeline.hlen(keys.manifests)
            pipeline.pttl(keys.base)
            container, metadata, stored, version_count, expires_in_ms = pipeline.execute()
        if stored is None:
            raise corrupt(session_id, head.version, "its manifest is missing")
        manifest = decode_manifest(stored, session_id, head.version).manifest
        try:
            return _session_info(manifest, container, metadata, version_count, expires_in_ms)
        except (KeyError, ValueError) as error:
            raise corrupt(session_id, head.version, f"its metadata is damaged ({error})") from error

    def list(self) -> Iterator[str]:
        """The ids of all sessions, in no order; found by SCAN, so a long list takes a while."""
        with redis_errors(self._redis):
            for key in self._redis.scan_iter(match=VERSION_PATTERN, count=1000):
                session_id = session_id_of(key)
                if session_id is not None:
                    yield session_id

    def exists(self, session_id: str) -> bool:
        """Whether the session holds a context, here or in the archive."""
        keys = SessionKeys.of(session_id)
        with redis_errors(self._redis):
            return self._redis.hget(keys.base, "state") == b"live"

    def resolve_version(self, session_id: str, version: str | None = None) -> str:
        """`version` if the session has it; the head if `version` is None. Reads no content.

        Raises:
            ContextNotFoundError, VersionNotFoundError, ContextArchivedError: there is no such.
        """
        keys = SessionKeys.of(session_id)
        wanted = None if version is None else str(parse_version(version))
        with redis_errors(self._redis):
            head = self._reader.find_head(keys, session_id)
            if head is None:
                raise not_found(session_id)
            if wanted is None or wanted == head.version:
                return head.version
            if not self._redis.hexists(keys.manifests, wanted):
                raise VersionNotFoundError(
                    f"session {session_id} has no version {wanted}; its head is {head.version}"
                )
        return wanted

    def find_version_by(self, session_id: str, agent_id: str) -> str | None:
        """The newest version of the session that `agent_id` wrote, or None if it wrote none.

        Raises:
            ContextNotFoundError: no such session.
        """
        keys = SessionKeys.of(session_id)
        check_id(agent_id, "agent_id")
        with redis_errors(self._redis):
            pipeline = self._redis.pipeline(transaction=False)
            pipeline.hget(keys.base, "state")
            pipeline.hget(keys.authors, agent_id)
            state, version = pipeline.execute()
        if state != b"live":
            raise not_found(session_id)
        return None if version is None else version.decode()

    def delete(self, session_id: str, *, agent_id: str) -> None:
        """Delete every version of the session for good; its audit entries stay.

        Raises:
            ContextNotFoundError: no such session.
        """
        keys = SessionKeys.of(session_id)
        check_id(agent_id, "agent_id")
        with redis_errors(self._redis):
            if not self._writer.delete(keys, agent_id):
                raise not_found(session_id)

    def refresh_expiry(self, session_id: str) -> None:
        """Move the expiry of all keys of the session to the backstop from now."""
        keys = SessionKeys.of(session_id)
        with redis_errors(self._redis):
            self._writer.refresh_expiry(keys)

    def flush_notes(self) -> None:
        """Send the notes of reads that wait in this process.

        Raises:
            StoreUnavailableError, StoreRefusedError: the notes are kept for the next try.
        """
        self._notes.flush()

    def _encoded(self, content: str) -> bytes:
        data = encode_text(content)
        if len(data) > self._max_context_bytes:
            raise ContextTooLargeError(
                "content", f"at most {self._max_context_bytes} bytes", f"<{len(data)} bytes>"
            )
        return data

    def close(self) -> None:
        """Send waiting notes, or drop them with a warning; the client stays open.

        The store may still be used afterwards.
        """
        self._notes.close()


def _session_info(
    manifest: Manifest,
    container: Mapping[bytes, bytes],
    metadata: Mapping[bytes, bytes],
    version_count: int,
    expires_in_ms: int,
) -> SessionInfo:
    return SessionInfo(
        session_id=manifest.session_id,
        owner=container[b"owner"].decode(),
        version=manifest.version,
        etag=container[b"head_etag"].decode(),
        content_hash=manifest.content_hash,
        size_bytes=manifest.size_bytes,
        size_tokens=manifest.size_tokens,
        chunk_count=len(manifest.chunks),
        stored_bytes=sum(manifest.stored_sizes.values()),
        compression=manifest.compression,
        version_count=version_count,
        created_at=utc_from_ms(int(container[b"created_at"])),
        updated_at=utc_from_ms(int(metadata[b"updated_at"])),
        last_accessed_at=utc_from_ms(int(metadata[b"last_accessed_at"])),
        last_accessed_by=metadata[b"last_accessed_by"].decode(),
        expires_in_seconds=None if expires_in_ms < 0 else expires_in_ms / 1000,
        flags=tuple(flag for flag in _FLAGS if container.get(flag.encode()) == b"1"),
    )
