"""The read path: head, manifest, chunks; every hash verified; nothing written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from baton.clock import utc_from_ms, utc_from_seconds
from baton.content.chunks import StoredPiece, join
from baton.errors import (
    ContextArchivedError,
    ContextCorruptError,
    ContextNotFoundError,
    SessionBusyError,
    VersionNotFoundError,
)
from baton.settings import MIB
from baton.store.records import Context

if TYPE_CHECKING:
    from datetime import datetime

    from baton.binary_redis import BinaryRedis
    from baton.store.cache import ContextCache
    from baton.store.keys import SessionKeys
    from baton.store.manifest import Manifest, StampedManifest
    from baton.store.manifests import Manifests

MAX_RACES: Final = 32
FETCH_BYTES: Final = 8 * MIB


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

    def read(self, keys: SessionKeys, session_id: str, wanted: str | None) -> Context:
        """One version, the head if `wanted` is None; again if the version went meanwhile."""
        for _ in range(MAX_RACES):
            head = self.find_head(keys, session_id)
            if head is None:
                raise not_found(session_id)
            stamped = self._find_manifest(keys, session_id, wanted, head)
            content = None if stamped is None else self._content(keys, stamped.manifest)
            if stamped is not None and content is not None:
                return self._context(keys, stamped, content, head)
        raise SessionBusyError(f"session {session_id} changed during each of {MAX_RACES} reads")

    def find_head(self, keys: SessionKeys, session_id: str) -> Head | None:
        """The session's head, or None if there is no such session.

        Raises:
            ContextArchivedError: its content is in the archive.
        """
        state, archived, version, etag, at_us = self._redis.hmget(
            keys.base, ("state", "archived", "head", "head_etag", "head_at")
        )
        if state != b"live" or version is None or etag is None or at_us is None:
            return None
        if archived == b"1":
            raise archived_error(session_id)
        return Head(version.decode(), etag.decode(), int(at_us))

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

    def _content(self, keys: SessionKeys, manifest: Manifest) -> str | None:
        """The text, or None if the version was collected while its chunks were fetched."""
        try:
            if self._cache is None:
                return self._load(keys, manifest)
            return self._cache.get_or_load(
                manifest.content_hash, lambda: self._load(keys, manifest)
            )
        except _VersionGoneError:
            return None

    def _load(self, keys: SessionKeys, manifest: Manifest) -> str:
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
            return join(
                pieces,
                codec=manifest.compression,
                size_bytes=manifest.size_bytes,
                content_hash=manifest.content_hash,
            )
        except ContextCorruptError as error:
            raise corrupt(manifest.session_id, manifest.version, str(error)) from error

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
