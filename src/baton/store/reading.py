"""The read path: head, manifest, chunks; every hash verified; nothing written."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from baton.clock import utc_from_ms, utc_from_seconds
from baton.content.chunks import StoredPiece, join
from baton.content.digests import chunk_digest
from baton.content.parallel import map_parallel
from baton.errors import (
    ContextArchivedError,
    ContextCorruptError,
    ContextNotFoundError,
    SessionBusyError,
    VersionNotFoundError,
)
from baton.settings import MIB
from baton.store.manifest import decode_manifest
from baton.store.records import Context, VersionRecord
from baton.versions import parse_version

if TYPE_CHECKING:
    from datetime import datetime

    from baton.binary_redis import BinaryRedis
    from baton.store.cache import ContextCache
    from baton.store.keys import SessionKeys
    from baton.store.manifest import Manifest, StampedManifest
    from baton.store.manifests import Manifests

MAX_RACES: Final = 32
FETCH_BYTES: Final = 8 * MIB
MAX_ETAGS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Head:
    """A session's head as its container tells it."""

    version: str
    etag: str
    committed_at_us: int


class ContextReader:
    """Reads versions. See `ContextStore.get` for the contract."""

    def __init__(
        self, client: BinaryRedis, manifests: Manifests, cache: ContextCache | None
    ) -> None:
        self._redis = client
        self._manifests = manifests
        self._cache = cache
        self._verified = _Etags()

    def read(self, keys: SessionKeys, session_id: str, wanted: str | None) -> Context:
        """One version, the head if `wanted` is None.

        What looks damaged because the session was deleted or written meanwhile is read again.
        """
        for _ in range(MAX_RACES):
            head = self.find_head(keys, session_id)
            if head is None:
                raise not_found(session_id)
            try:
                context = self._read_once(keys, session_id, wanted, head)
            except ContextCorruptError:
                if self.find_head(keys, session_id) == head:
                    raise
                continue
            if context is not None:
                return context
        raise SessionBusyError(f"session {session_id} changed during each of {MAX_RACES} reads")

    def find_head(self, keys: SessionKeys, session_id: str) -> Head | None:
        """The session's head, or None if there is no such session.

        Raises:
            ContextArchivedError: its content is in the archive.
            ContextCorruptError: its container is not what was stored.
        """
        state, archived, version, etag, at_us = self._redis.hmget(
            keys.base, ("state", "archived", "head", "head_etag", "head_at")
        )
        if state is None or state == b"deleting":
            return None
        if archived == b"1":
            raise archived_error(session_id)
        damaged = corrupt(session_id, "?", "its container is not what was stored")
        if state != b"live" or version is None or etag is None or at_us is None:
            raise damaged
        try:
            return Head(str(parse_version(version.decode())), etag.decode(), int(at_us))
        except ValueError as error:
            raise damaged from error

    def find_damaged(self, keys: SessionKeys, stamped: StampedManifest) -> set[int]:
        """Chunks of a version that are missing or damaged; looked at once in each process.

        A writer must not refer to such a chunk: its new version would be born unreadable.
        """
        if self._verified.has(stamped.etag):
            return set()
        manifest = stamped.manifest
        stored = self._fetch(keys, manifest.stored_sizes)
        wanted = {ref.chunk_id: ref.stored_digest for ref in manifest.chunks}
        digests = map_parallel(
            lambda chunk_id: chunk_digest(stored[chunk_id] or b""),
            list(wanted),
            size_bytes=sum(manifest.stored_sizes.values()),
        )
        damaged = {
            chunk_id
            for chunk_id, digest in zip(wanted, digests, strict=True)
            if digest != wanted[chunk_id]
        }
        if not damaged:
            self._verified.add(stamped.etag)
        return damaged

    def history(self, keys: SessionKeys, session_id: str, last: int) -> list[VersionRecord]:
        """The versions from the newest, 0, to `last` (-1: the oldest)."""
        for _ in range(MAX_RACES):
            head = self.find_head(keys, session_id)
            if head is None:
                raise not_found(session_id)
            entries = self._redis.zrevrange(keys.history, 0, last, withscores=True)
            members = [member.decode("utf-8", "replace") for member, _ in entries]
            versions = [member.partition(":")[0] for member in members]
            stored = self._redis.hmget(keys.manifests, versions) if versions else []
            try:
                return [
                    _record(session_id, member, score, value)
                    for member, (_, score), value in zip(members, entries, stored, strict=True)
                ]
            except ContextCorruptError:
                if self.find_head(keys, session_id) == head:
                    raise
        raise SessionBusyError(f"session {session_id} changed during each of {MAX_RACES} reads")

    def vouch_for(self, etag: str) -> None:
        """Note that this process has just written, or seen whole, every chunk of that manifest."""
        self._verified.add(etag)

    def head_manifest(
        self, keys: SessionKeys, session_id: str, head: Head
    ) -> StampedManifest | None:
        """The manifest that `head` names, or None if the head is another by now.

        Raises:
            ContextCorruptError: it is missing or not what was stored.
        """
        kept = self._manifests.find_kept(session_id, head.version)
        if kept is not None and kept.etag == head.etag:
            return kept
        fetched = self._manifests.fetch(keys, session_id, head.version)
        if fetched is not None and fetched.etag == head.etag:
            return fetched
        if self.find_head(keys, session_id) != head:
            return None
        problem = "is missing" if fetched is None else "is not the one its head names"
        raise corrupt(session_id, head.version, f"its manifest {problem}")

    def _read_once(
        self, keys: SessionKeys, session_id: str, wanted: str | None, head: Head
    ) -> Context | None:
        """The context, or None if the version went meanwhile."""
        stamped = self._find_manifest(keys, session_id, wanted, head)
        if stamped is None:
            return None
        content = self._content(keys, stamped)
        return None if content is None else self._context(keys, stamped, content, head)

    def _find_manifest(
        self, keys: SessionKeys, session_id: str, wanted: str | None, head: Head
    ) -> StampedManifest | None:
        if wanted is None or wanted == head.version:
            return self.head_manifest(keys, session_id, head)
        stamped = self._manifests.fetch(keys, session_id, wanted)
        if stamped is None:
            raise VersionNotFoundError(
                f"session {session_id} has no version {wanted}; its head is {head.version}"
            )
        return stamped

    def _content(self, keys: SessionKeys, stamped: StampedManifest) -> str | None:
        """The text, or None if the version was collected while its chunks were fetched."""
        try:
            if self._cache is None:
                return self._load(keys, stamped)
            return self._cache.get_or_load(
                stamped.manifest.content_hash, lambda: self._load(keys, stamped)
            )
        except _VersionGoneError:
            return None

    def _load(self, keys: SessionKeys, stamped: StampedManifest) -> str:
        manifest = stamped.manifest
        stored = self._fetch(keys, manifest.stored_sizes)
        missing = next((chunk_id for chunk_id, value in stored.items() if value is None), None)
        if missing is not None:
            if not self._redis.hexists(keys.manifests, manifest.version):
                raise _VersionGoneError
            raise corrupt(manifest.session_id, manifest.version, f"chunk {missing} is missing")
        pieces = [
            StoredPiece(ref.size_bytes, stored[ref.chunk_id] or b"", ref.stored_digest)
            for ref in manifest.chunks
        ]
        try:
            text = join(
                pieces,
                codec=manifest.compression,
                size_bytes=manifest.size_bytes,
                content_hash=manifest.content_hash,
            )
        except ContextCorruptError as error:
            raise corrupt(manifest.session_id, manifest.version, str(error)) from error
        self.vouch_for(stamped.etag)
        return text

    def _fetch(self, keys: SessionKeys, sizes: dict[int, int]) -> dict[int, bytes | None]:
        """Stored bytes by chunk id, in batches: no single reply holds up the server for long."""
        fetched: dict[int, bytes | None] = {}
        batch: list[int] = []
        batch_bytes = 0
        for chunk_id, size_bytes in sizes.items():
            batch.append(chunk_id)
            batch_bytes += size_bytes
            if batch_bytes >= FETCH_BYTES:
                fetched.update(self._fetch_batch(keys, batch))
                batch, batch_bytes = [], 0
        if batch:
            fetched.update(self._fetch_batch(keys, batch))
        return fetched

    def _fetch_batch(self, keys: SessionKeys, ids: list[int]) -> dict[int, bytes | None]:
        values = self._redis.mget([keys.chunk(chunk_id) for chunk_id in ids])
        return dict(zip(ids, values, strict=True))

    def _context(
        self, keys: SessionKeys, stamped: StampedManifest, content: str, head: Head
    ) -> Context:
        manifest = stamped.manifest
        return Context(
            content=content,
            session_id=manifest.session_id,
            version=manifest.version,
            content_hash=manifest.content_hash,
            etag=stamped.etag,
            size_bytes=manifest.size_bytes,
            author=manifest.author,
            committed_at=self._committed_at(keys, manifest, head),
        )

    def _committed_at(self, keys: SessionKeys, manifest: Manifest, head: Head) -> datetime:
        if manifest.version == head.version:
            return utc_from_ms(head.committed_at_us / 1000)
        score = self._redis.zscore(keys.history, f"{manifest.version}:{manifest.content_hash}")
        if score is None:
            raise corrupt(manifest.session_id, manifest.version, "it is not in the history")
        return utc_from_seconds(score)


def _record(session_id: str, member: str, score: float, stored: bytes | None) -> VersionRecord:
    version, _, hash_ = member.partition(":")
    if stored is None:
        raise corrupt(session_id, version, "its manifest is missing")
    etag, manifest, _ = decode_manifest(stored, session_id, version)
    if manifest.content_hash != hash_:
        raise corrupt(session_id, version, "history and manifest name different contents")
    return VersionRecord(
        version=version,
        content_hash=hash_,
        committed_at=utc_from_seconds(score),
        author=manifest.author,
        action=manifest.action,
        parent=manifest.parent,
        size_bytes=manifest.size_bytes,
        etag=etag,
    )


class _Etags:
    """The latest etags added, a bounded number of them. Safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._etags: OrderedDict[str, None] = OrderedDict()

    def has(self, etag: str) -> bool:
        with self._lock:
            return etag in self._etags

    def add(self, etag: str) -> None:
        with self._lock:
            self._etags[etag] = None
            self._etags.move_to_end(etag)
            if len(self._etags) > MAX_ETAGS:
                self._etags.popitem(last=False)


class _VersionGoneError(Exception):
    """The version was collected between the reading of its manifest and of its chunks."""


def not_found(session_id: str) -> ContextNotFoundError:
    """The error for a session that does not exist."""
    return ContextNotFoundError(f"session {session_id} holds no context")


def archived_error(session_id: str) -> ContextArchivedError:
    """The error for a session whose content left Redis."""
    return ContextArchivedError(
        f"session {session_id} is archived; `baton archive restore {session_id}` brings it back"
    )


def corrupt(session_id: str, version: str, what: str) -> ContextCorruptError:
    """The error for stored bytes that are not what was stored."""
    return ContextCorruptError(f"session {session_id} version {version}: {what}")
