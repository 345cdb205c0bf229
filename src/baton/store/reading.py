"""The read path: from a session to one version opened and verified; nothing is written."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Final, TypeVar

from baton.clock import utc_from_ms, utc_from_seconds
from baton.errors import ContextCorruptError, UnsupportedFormatError, VersionNotFoundError
from baton.redis_client import read_at_once
from baton.store.heads import HEAD_FIELDS, OpenedVersion, decode_head
from baton.store.history_records import make_record, with_past
from baton.store.manifest import decode_manifest, pending_name
from baton.store.records import Context
from baton.store.refusals import MAX_RACES, VersionGoneError, busy, corrupt, not_found
from baton.store.stored_chunks import StoredChunks, in_batches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime

    from baton.binary_redis import BinaryPipeline, BinaryRedis
    from baton.content.sealing import Sealer
    from baton.store.cache import ContextCache
    from baton.store.data_keys import DataKeys
    from baton.store.heads import Head
    from baton.store.keys import SessionKeys
    from baton.store.manifest import ChunkRef, Manifest, StampedManifest
    from baton.store.manifests import Manifests
    from baton.store.records import VersionRecord

T = TypeVar("T")

MANIFESTS_AT_ONCE: Final = 100


class ContextReader:
    """Reads versions. See `ContextStore.get` for the contract."""

    def __init__(
        self,
        client: BinaryRedis,
        manifests: Manifests,
        data_keys: DataKeys,
        cache: ContextCache | None,
    ) -> None:
        self._redis = client
        self._manifests = manifests
        self._data_keys = data_keys
        self._cache = cache
        self._chunks = StoredChunks(client)

    def read(self, keys: SessionKeys, session_id: str, wanted: str | None) -> Context:
        """One version, the head if `wanted` is None."""

        def whole(opened: OpenedVersion) -> Context:
            return self._context(opened, self.content(opened))

        return self.with_version(keys, session_id, wanted, whole)

    def content(self, opened: OpenedVersion) -> str:
        """The whole text of an opened version.

        Raises:
            ContextCorruptError: it is not what was stored.
            VersionGoneError: it was collected meanwhile.
        """
        if self._cache is None:
            return self._chunks.text(opened)
        return self._cache.get_or_load(self.cache_key(opened), lambda: self._chunks.text(opened))

    def with_version(
        self,
        keys: SessionKeys,
        session_id: str,
        wanted: str | None,
        use: Callable[[OpenedVersion], T],
    ) -> T:
        """What `use` makes of one version, the head if `wanted` is None.

        What looks damaged or gone because the session was deleted, written, archived or restored
        meanwhile is read again.
        """
        for _ in range(MAX_RACES):
            head = self.find_head(keys, session_id)
            if head is None:
                raise not_found(session_id)
            try:
                opened = self._open(keys, session_id, wanted, head)
                if opened is not None:
                    return use(opened)
            except VersionGoneError:
                continue
            except (VersionNotFoundError, ContextCorruptError, UnsupportedFormatError):
                if self.find_head(keys, session_id) == head:
                    raise
        raise busy(session_id)

    def find_head(self, keys: SessionKeys, session_id: str) -> Head | None:
        """The session's head, or None if there is no such session.

        Raises:
            ContextArchivedError: its content is in the archive.
            ContextCorruptError: its container is not what was stored.
        """
        return decode_head(session_id, self._redis.hmget(keys.base, HEAD_FIELDS))

    def at_once(
        self, keys: SessionKeys, *asked: Callable[[BinaryPipeline], object]
    ) -> tuple[Head, list[Any]]:
        """The session's head, and the answers to what is asked: all of one instant.

        What is asked of a session between two looks at it may be answered by a tombstone.

        Raises: what `require_head` does.
        """
        found, *answers = read_at_once(
            self._redis, lambda pipeline: pipeline.hmget(keys.base, HEAD_FIELDS), *asked
        )
        head = decode_head(keys.session_id, found)
        if head is None:
            raise not_found(keys.session_id)
        return head, answers

    def require_head(self, keys: SessionKeys) -> Head:
        """The session's head.

        Raises:
            ContextNotFoundError: there is no such session.
            what `find_head` raises.
        """
        head = self.find_head(keys, keys.session_id)
        if head is None:
            raise not_found(keys.session_id)
        return head

    def sealer(self, keys: SessionKeys, session_id: str, data_key_id: str) -> Sealer | None:
        """What opens the session, or None if it is not sealed.

        Raises:
            SealedError: it is sealed, and this store has no key provider.
            what `KeyProvider.unwrap` raises.
        """
        if not data_key_id:
            return None
        kept = self._data_keys.find_kept(session_id, data_key_id)
        return kept or self._data_keys.unwrap(keys, session_id, data_key_id)

    def kept_sealer(self, session_id: str, data_key_id: str) -> Sealer | None:
        """What opens the session, if this process has it at hand."""
        return self._data_keys.find_kept(session_id, data_key_id) if data_key_id else None

    def find_damaged(self, opened: OpenedVersion) -> set[int]:
        """Chunks of a version that are missing or damaged; looked at once in each process.

        A writer must not refer to such a chunk: its new version would be born unreadable.
        """
        return self._chunks.find_damaged(opened)

    def history(self, keys: SessionKeys, session_id: str, last: int) -> list[VersionRecord]:
        """The versions from the newest, 0, to `last` (-1: the oldest).

        Also those of which an archive kept no more than this record.
        """
        for _ in range(MAX_RACES):
            head, (entries, past) = self.at_once(
                keys,
                lambda pipeline: pipeline.zrevrange(keys.history, 0, last, withscores=True),
                lambda pipeline: pipeline.hgetall(keys.past),
            )
            versions = [member.decode("utf-8", "replace") for member, _ in entries]
            try:
                manifests = self.manifests(
                    keys, session_id, head, (text.partition(":")[0] for text in versions)
                )
                found = [
                    make_record(session_id, member, score, stamped)
                    for member, (_, score), stamped in zip(
                        versions, entries, manifests, strict=True
                    )
                ]
                return with_past(session_id, found, past.values(), last)
            except ContextCorruptError:
                if self.find_head(keys, session_id) == head:
                    raise
        raise busy(session_id)

    def manifests(
        self, keys: SessionKeys, session_id: str, head: Head, versions: Iterable[str]
    ) -> list[StampedManifest]:
        """Manifests in the order asked for, a batch a round trip.

        Raises:
            ContextCorruptError: one is missing or not what was stored.
        """
        sealer = self.sealer(keys, session_id, head.data_key_id)
        wanted = list(versions)
        found = []
        for start in range(0, len(wanted), MANIFESTS_AT_ONCE):
            batch = wanted[start : start + MANIFESTS_AT_ONCE]
            for version, stored in zip(
                batch, self._redis.hmget(keys.manifests, batch), strict=True
            ):
                if stored is None:
                    raise corrupt(session_id, version, "its manifest is missing")
                found.append(decode_manifest(stored, session_id, version, sealer))
        return found

    def is_kept(self, opened: OpenedVersion) -> bool:
        """Whether the session still has that very version."""
        stored = self._redis.hget(opened.keys.manifests, opened.manifest.version)
        return stored == opened.stamped.stored

    def vouch_for(self, etag: str) -> None:
        """Note that this process has just written, or seen whole, every chunk of that manifest."""
        self._chunks.vouch_for(etag)

    def head_manifest(
        self, keys: SessionKeys, session_id: str, head: Head
    ) -> StampedManifest | None:
        """The manifest that `head` names, or None if the head is another by now.

        Raises:
            ContextCorruptError: it is missing or not what was stored.
        """
        sealer = self.sealer(keys, session_id, head.data_key_id)
        kept = self._manifests.find_kept(session_id, head.version)
        if kept is not None and kept.etag == head.etag:
            return kept
        fetched = self._manifests.fetch(keys, session_id, head.version, sealer)
        if fetched is not None and fetched.etag == head.etag:
            return fetched
        if self.find_head(keys, session_id) != head:
            return None
        problem = "is missing" if fetched is None else "is not the one its head names"
        raise corrupt(session_id, head.version, f"its manifest {problem}")

    def pieces(self, opened: OpenedVersion) -> Iterator[bytes]:
        """The version's plain bytes in order, each piece verified, a few megabytes at a time.

        That the whole is what was stored shows only in its hash, which is the caller's to check.
        """
        for batch in in_batches((ref, ref.size_bytes) for ref in opened.manifest.chunks):
            yield from self._open_again(opened, batch)

    def _open_again(self, opened: OpenedVersion, refs: list[ChunkRef]) -> list[bytes]:
        """Opens chunks, again where the session moved; it may have been gone, and be back."""
        seen = opened.head
        for _ in range(MAX_RACES):
            try:
                return self._chunks.open(opened, refs)
            except (VersionGoneError, ContextCorruptError, UnsupportedFormatError):
                head = self.require_head(opened.keys)
                if head == seen:
                    raise
                seen = head
        raise busy(opened.keys.session_id)

    def part(self, opened: OpenedVersion, start_byte: int, end_byte: int) -> tuple[bytes, int]:
        """Plain bytes that cover the range, verified, and where the first of them stands.

        Fetches only the chunks that the range touches.
        """
        return self._chunks.part(opened, start_byte, end_byte)

    def _open(
        self, keys: SessionKeys, session_id: str, wanted: str | None, head: Head
    ) -> OpenedVersion | None:
        """The version, or None if the head is another by now."""
        sealer = self.sealer(keys, session_id, head.data_key_id)
        if wanted is None or wanted == head.version:
            stamped = self.head_manifest(keys, session_id, head)
            return None if stamped is None else OpenedVersion(keys, head, stamped, sealer)
        stamped = self._manifests.fetch(keys, session_id, wanted, sealer)
        if stamped is None:
            raise VersionNotFoundError(
                f"session {session_id} has no version {wanted}; its head is {head.version}"
            )
        return OpenedVersion(keys, head, stamped, sealer)

    def cache_key(self, opened: OpenedVersion) -> str:
        """What the text is cached under: what a seal hides is shared within its provider only."""
        scope = "" if opened.sealer is None else f"{self._data_keys.cache_scope}:"
        return f"{scope}{opened.manifest.content_hash}"

    def find_revision(
        self, keys: SessionKeys, head: Head, conflict_id: str
    ) -> OpenedVersion | None:
        """A pending revision as a version that can be read, or None if it is gone.

        Raises:
            ContextCorruptError: it is not what was stored.
        """
        stored = self._redis.hget(keys.pending, conflict_id)
        if stored is None:
            return None
        sealer = self.sealer(keys, keys.session_id, head.data_key_id)
        stamped = decode_manifest(stored, keys.session_id, pending_name(conflict_id), sealer)
        return OpenedVersion(keys, head, stamped, sealer)

    def _context(self, opened: OpenedVersion, content: str) -> Context:
        manifest = opened.manifest
        return Context(
            content=content,
            session_id=manifest.session_id,
            version=manifest.version,
            content_hash=manifest.content_hash,
            etag=opened.stamped.etag,
            size_bytes=manifest.size_bytes,
            author=manifest.author,
            committed_at=self.committed_at(opened.keys, manifest, opened.head),
            content_type=manifest.content_type,
            metadata=copy.deepcopy(manifest.metadata),
        )

    def committed_at(self, keys: SessionKeys, manifest: Manifest, head: Head) -> datetime:
        """When a version was committed, by Redis' clock."""
        if manifest.version == head.version:
            return utc_from_ms(head.committed_at_us / 1000)
        score = self._redis.zscore(keys.history, f"{manifest.version}:{manifest.content_hash}")
        if score is None:
            raise corrupt(manifest.session_id, manifest.version, "it is not in the history")
        return utc_from_seconds(score)
