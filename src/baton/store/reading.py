"""The read path: head, manifest, chunks; every hash verified; nothing written."""

from __future__ import annotations

import copy
import json
import threading
from collections import OrderedDict
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, TypeVar

from baton.clock import utc_from_ms, utc_from_seconds
from baton.content.chunks import StoredPiece, find_damaged, join, open_pieces
from baton.content.sealing import SessionSeal
from baton.errors import (
    ContextArchivedError,
    ContextCorruptError,
    ContextNotFoundError,
    SealBrokenError,
    SessionBusyError,
    UnsupportedFormatError,
    VersionNotFoundError,
)
from baton.settings import MIB
from baton.store.manifest import decode_manifest, pending_name
from baton.store.records import Context, VersionRecord
from baton.versions import parse_version

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator
    from datetime import datetime

    from baton.binary_redis import BinaryPipeline, BinaryRedis
    from baton.content.sealing import Sealer
    from baton.store.cache import ContextCache
    from baton.store.data_keys import DataKeys
    from baton.store.keys import SessionKeys
    from baton.store.manifest import ChunkRef, Manifest, StampedManifest
    from baton.store.manifests import Manifests

T = TypeVar("T")

MAX_RACES: Final = 32
FETCH_BYTES: Final = 4 * MIB
MANIFESTS_AT_ONCE: Final = 100
MAX_ETAGS: Final = 10_000
_HEAD_FIELDS: Final = (
    "state", "archived", "head", "head_etag", "head_hash", "head_at", "data_key", "next_chunk",
    "epoch",
)  # fmt: skip
# Every read looks at the head's version, and mostly finds the one it found before.
_check_version: Final = lru_cache(maxsize=10_000)(parse_version)


@dataclass(frozen=True, slots=True)
class Head:
    """A session's head as its container tells it. `data_key_id` is empty where it is not sealed."""

    version: str
    etag: str
    content_hash: str
    committed_at_us: int
    data_key_id: str
    next_chunk: int
    epoch: str


@dataclass(frozen=True, slots=True)
class OpenedVersion:
    """One version, its manifest verified, its content not read yet."""

    keys: SessionKeys
    head: Head
    stamped: StampedManifest
    sealer: Sealer | None

    @property
    def manifest(self) -> Manifest:
        """What makes it up."""
        return self.stamped.manifest


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
        self._verified = _Etags()

    def read(self, keys: SessionKeys, session_id: str, wanted: str | None) -> Context:
        """One version, the head if `wanted` is None."""

        def whole(opened: OpenedVersion) -> Context:
            return self._context(opened, self._content(opened))

        return self.with_version(keys, session_id, wanted, whole)

    def content(self, opened: OpenedVersion) -> str:
        """The whole text of an opened version.

        Raises:
            ContextCorruptError: it is not what was stored.
            VersionGoneError: it was collected meanwhile.
        """
        return self._content(opened)

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
        return self._head(session_id, self._redis.hmget(keys.base, _HEAD_FIELDS))

    def at_once(
        self, keys: SessionKeys, *asked: Callable[[BinaryPipeline], object]
    ) -> tuple[Head, list[Any]]:
        """The session's head, and the answers to what is asked: all of one instant.

        What is asked of a session between two looks at it may be answered by a tombstone.

        Raises: what `require_head` does.
        """
        pipeline = self._redis.pipeline(transaction=True)
        pipeline.hmget(keys.base, _HEAD_FIELDS)
        for ask in asked:
            ask(pipeline)
        found, *answers = pipeline.execute()
        head = self._head(keys.session_id, found)
        if head is None:
            raise not_found(keys.session_id)
        return head, answers

    def _head(self, session_id: str, found: list[bytes | None]) -> Head | None:
        state, archived = found[:2]
        if state is None or state == b"deleting":
            return None
        if archived == b"1":
            raise archived_error(session_id)
        damaged = corrupt(session_id, "?", "its container is not what was stored")
        if state != b"live" or None in found[2:6]:
            raise damaged
        try:
            version, etag, hash_, at_us, data_key, next_chunk, epoch = (
                "" if value is None else value.decode() for value in found[2:]
            )
            _check_version(version)
            return Head(version, etag, hash_, int(at_us), data_key, int(next_chunk), epoch or "0")
        except ValueError as error:
            raise damaged from error

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
        if self._verified.has(opened.stamped.etag):
            return set()
        refs = list({ref.chunk_id: ref for ref in opened.manifest.chunks}.values())
        stored = self._fetch(opened.keys, opened.manifest.stored_sizes)
        pieces = [_piece(ref, stored) for ref in refs]
        seal, codec = _seal(opened), opened.manifest.compression
        damaged = {refs[index].chunk_id for index in find_damaged(pieces, codec=codec, seal=seal)}
        if not damaged:
            self._verified.add(opened.stamped.etag)
        return damaged

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
                    _record(session_id, member, score, stamped)
                    for member, (_, score), stamped in zip(
                        versions, entries, manifests, strict=True
                    )
                ]
                return _with_past(session_id, found, past.values(), last)
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
        self._verified.add(etag)

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
        batch: list[ChunkRef] = []
        batch_bytes = 0
        for ref in opened.manifest.chunks:
            batch.append(ref)
            batch_bytes += ref.size_bytes
            if batch_bytes >= FETCH_BYTES:
                yield from self._open_again(opened, batch)
                batch, batch_bytes = [], 0
        if batch:
            yield from self._open_again(opened, batch)

    def _open_again(self, opened: OpenedVersion, refs: list[ChunkRef]) -> list[bytes]:
        """As `_open_refs`, again where the session moved; it may have been gone, and be back."""
        seen = opened.head
        for _ in range(MAX_RACES):
            try:
                return self._open_refs(opened, refs)
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
        refs: list[ChunkRef] = []
        first_byte = position = 0
        for ref in opened.manifest.chunks:
            if position < end_byte and position + ref.size_bytes > start_byte:
                first_byte = first_byte if refs else position
                refs.append(ref)
            position += ref.size_bytes
        return b"".join(self._open_refs(opened, refs)), first_byte

    def _open_refs(self, opened: OpenedVersion, refs: list[ChunkRef]) -> list[bytes]:
        stored = self._fetch_all(opened, {ref.chunk_id: ref.stored_bytes for ref in refs})
        pieces = [_piece(ref, stored) for ref in refs]
        return _checked(
            opened,
            lambda: open_pieces(pieces, codec=opened.manifest.compression, seal=_seal(opened)),
        )

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

    def _content(self, opened: OpenedVersion) -> str:
        if self._cache is None:
            return self._load(opened)
        return self._cache.get_or_load(self.cache_key(opened), lambda: self._load(opened))

    def cache_key(self, opened: OpenedVersion) -> str:
        """What the text is cached under: what a seal hides is shared within its provider only."""
        scope = "" if opened.sealer is None else f"{self._data_keys.cache_scope}:"
        return f"{scope}{opened.manifest.content_hash}"

    def _load(self, opened: OpenedVersion) -> str:
        manifest = opened.manifest
        stored = self._fetch_all(opened, manifest.stored_sizes)
        pieces = [_piece(ref, stored) for ref in manifest.chunks]
        text = _checked(
            opened,
            lambda: join(
                pieces,
                codec=manifest.compression,
                size_bytes=manifest.size_bytes,
                content_hash=manifest.content_hash,
                seal=_seal(opened),
            ),
        )
        self.vouch_for(opened.stamped.etag)
        return text

    def _fetch_all(self, opened: OpenedVersion, sizes: dict[int, int]) -> dict[int, bytes | None]:
        stored = self._fetch(opened.keys, sizes)
        missing = next((chunk_id for chunk_id, value in stored.items() if value is None), None)
        if missing is not None:
            manifest = opened.manifest
            if not self._redis.hexists(opened.keys.manifests, manifest.version):
                raise VersionGoneError
            raise corrupt(manifest.session_id, manifest.version, f"chunk {missing} is missing")
        return stored

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


def _seal(opened: OpenedVersion) -> SessionSeal | None:
    if opened.sealer is None:
        return None
    return SessionSeal(opened.sealer, opened.manifest.session_id)


def _piece(ref: ChunkRef, stored: dict[int, bytes | None]) -> StoredPiece:
    return StoredPiece(ref.size_bytes, stored[ref.chunk_id] or b"", ref.stored_digest, ref.digest)


def _checked(opened: OpenedVersion, load: Callable[[], T]) -> T:
    """What `load` gives; what it finds damaged, named with session and version."""
    manifest = opened.manifest
    try:
        return load()
    except SealBrokenError as error:
        raise SealBrokenError(
            f"session {manifest.session_id} version {manifest.version}: {error}"
        ) from error
    except ContextCorruptError as error:
        raise corrupt(manifest.session_id, manifest.version, str(error)) from error


def _record(session_id: str, member: str, score: float, stamped: StampedManifest) -> VersionRecord:
    version, _, hash_ = member.partition(":")
    manifest = stamped.manifest
    if manifest.content_hash != hash_:
        raise corrupt(session_id, version, "history and manifest name different contents")
    return VersionRecord(
        version=version,
        content_hash=hash_,
        committed_at=utc_from_seconds(score),
        author=manifest.author,
        action=manifest.action,
        operation=manifest.operation,
        parent=manifest.parent,
        base=manifest.base,
        source=manifest.source,
        size_bytes=manifest.size_bytes,
        etag=stamped.etag,
    )


def _with_past(
    session_id: str, found: list[VersionRecord], past: Collection[bytes], last: int
) -> list[VersionRecord]:
    if not past:
        return found
    found += [_past_record(session_id, raw) for raw in past]
    found.sort(key=lambda each: parse_version(each.version), reverse=True)
    return found if last < 0 else found[: last + 1]


def _past_record(session_id: str, raw: bytes) -> VersionRecord:
    try:
        fields = json.loads(raw)
        fields["committed_at"] = utc_from_seconds(float(fields["committed_at"]))
        return VersionRecord(**fields)
    except (ValueError, KeyError, TypeError) as error:
        raise corrupt(session_id, "?", f"a record of its history is damaged ({error!r})") from error


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


class VersionGoneError(Exception):
    """The version was collected between the reading of its manifest and of its chunks."""


def not_found(session_id: str) -> ContextNotFoundError:
    """The error for a session that does not exist."""
    return ContextNotFoundError(f"session {session_id} holds no context")


def busy(session_id: str) -> SessionBusyError:
    """The error for a session that moved whenever it was looked at."""
    return SessionBusyError(f"session {session_id} changed during each of {MAX_RACES} reads")


def archived_error(session_id: str) -> ContextArchivedError:
    """The error for a session whose content left Redis."""
    return ContextArchivedError(
        f"session {session_id} is archived; `baton archive restore {session_id}` brings it back"
    )


def corrupt(session_id: str, version: str, what: str) -> ContextCorruptError:
    """The error for stored bytes that are not what was stored."""
    return ContextCorruptError(f"session {session_id} version {version}: {what}")
