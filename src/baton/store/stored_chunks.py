"""The stored chunks of opened versions: fetched in batches, verified, opened and joined."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Final, TypeVar

from baton.content.chunks import StoredPiece, find_damaged, join, open_pieces
from baton.content.sealing import SessionSeal
from baton.errors import ContextCorruptError, SealBrokenError
from baton.settings import MIB
from baton.store.refusals import VersionGoneError, corrupt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from baton.binary_redis import BinaryRedis
    from baton.store.heads import OpenedVersion
    from baton.store.keys import SessionKeys
    from baton.store.manifest import ChunkRef

T = TypeVar("T")

FETCH_BYTES: Final = 4 * MIB
MAX_ETAGS: Final = 10_000


class StoredChunks:
    """Reads chunks, and remembers which versions it has seen whole. Safe for threads."""

    def __init__(self, client: BinaryRedis) -> None:
        self._redis = client
        self._verified = _Etags()

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

    def vouch_for(self, etag: str) -> None:
        """Note that this process has just written, or seen whole, every chunk of that manifest."""
        self._verified.add(etag)

    def text(self, opened: OpenedVersion) -> str:
        """The whole text of a version.

        Raises:
            ContextCorruptError: it is not what was stored.
            VersionGoneError: it was collected meanwhile.
        """
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
        return b"".join(self.open(opened, refs)), first_byte

    def open(self, opened: OpenedVersion, refs: list[ChunkRef]) -> list[bytes]:
        """The plain bytes of some chunks of a version, verified.

        Raises: as `text`.
        """
        stored = self._fetch_all(opened, {ref.chunk_id: ref.stored_bytes for ref in refs})
        pieces = [_piece(ref, stored) for ref in refs]
        return _checked(
            opened,
            lambda: open_pieces(pieces, codec=opened.manifest.compression, seal=_seal(opened)),
        )

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
        """Stored bytes by chunk id."""
        fetched: dict[int, bytes | None] = {}
        for batch in in_batches(sizes.items()):
            values = self._redis.mget([keys.chunk(chunk_id) for chunk_id in batch])
            fetched.update(zip(batch, values, strict=True))
        return fetched


def in_batches(sized: Iterable[tuple[T, int]]) -> Iterator[list[T]]:
    """What comes with its size in bytes, so much at once that no reply holds up the server."""
    batch: list[T] = []
    batch_bytes = 0
    for each, size_bytes in sized:
        batch.append(each)
        batch_bytes += size_bytes
        if batch_bytes >= FETCH_BYTES:
            yield batch
            batch, batch_bytes = [], 0
    if batch:
        yield batch


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
