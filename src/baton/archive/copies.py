"""A copy of a session on its shelf: written as segments and a catalogue, read back and verified."""

from __future__ import annotations

import base64
import binascii
import json
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final, TypeVar

from baton.content.blob import pack_blob, unpack_blob
from baton.content.chunks import StoredPiece, join, open_pieces
from baton.content.sealing import SessionSeal
from baton.errors import (
    ColdStoreCorruptError,
    ContextCorruptError,
    UnsupportedFormatError,
    VersionNotFoundError,
)
from baton.settings import MIB
from baton.store.dumps import DumpedVersion, SessionDump
from baton.store.manifest import decode_manifest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from baton.archive.segments import Segments
    from baton.archive.shelf_seal import ShelfSeal
    from baton.content.sealing import Sealer
    from baton.store.manifest import Manifest

T = TypeVar("T")

FORMAT: Final = 1
MAX_CATALOGUE_BYTES: Final = 1024 * MIB


@dataclass(frozen=True, slots=True)
class Place:
    """Where one chunk lies: its segment, and how many bytes it has as it was stored."""

    name: bytes
    stored_bytes: int


@dataclass(frozen=True, slots=True)
class SessionCopy:
    """What lies on a shelf: a dump, and where its chunks are. Every reading of it is verified.

    Args:
        dump: without the session's wrapped key, which the ledger keeps.
        places: chunk id -> segment.
        segments: where the sealed bytes are.
        seal: the shelf's.
        sealer: of a sealed session.
    """

    dump: SessionDump
    places: Mapping[int, Place]
    segments: Segments = field(repr=False)
    seal: ShelfSeal
    sealer: Sealer | None

    def chunks(self) -> Iterator[tuple[int, bytes]]:
        """Every chunk as Redis had it, by id.

        Raises:
            ColdStoreCorruptError: one is missing, or not what was stored.
        """
        ids: dict[bytes, list[int]] = {}
        for chunk_id, place in self.places.items():
            ids.setdefault(place.name, []).append(chunk_id)
        for name, stored in read_segments(self.segments, self.seal, ids):
            for chunk_id in ids[name]:
                yield chunk_id, stored

    def text(self, version: str) -> str:
        """One version's text, verified against its content hash.

        Raises:
            VersionNotFoundError: it is not kept.
            ColdStoreCorruptError: it is not what was stored.
        """
        manifest = self.manifest(version)
        stored = self._stored(manifest, range(len(manifest.chunks)))
        return self._checked(
            manifest,
            lambda: join(
                [_piece(manifest, index, stored) for index in range(len(manifest.chunks))],
                codec=manifest.compression,
                size_bytes=manifest.size_bytes,
                content_hash=manifest.content_hash,
                seal=self._session_seal(),
            ),
        )

    def parts(self, version: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """The bytes of ranges of one version; each chunk is opened once. Errors: as `text`."""
        manifest = self.manifest(version)
        starts = [0, *accumulate(ref.size_bytes for ref in manifest.chunks)]
        wanted = sorted(
            {
                index
                for start, end in ranges
                for index in range(bisect_right(starts, start) - 1, bisect_left(starts, end))
            }
        )
        stored = self._stored(manifest, wanted)
        opened = self._checked(
            manifest,
            lambda: open_pieces(
                [_piece(manifest, index, stored) for index in wanted],
                codec=manifest.compression,
                seal=self._session_seal(),
            ),
        )
        plain = dict(zip(wanted, opened, strict=True))
        return [_slice(plain, starts, start, end) for start, end in ranges]

    def manifest(self, version: str) -> Manifest:
        """One version's manifest.

        Raises:
            VersionNotFoundError: it is not kept.
        """
        for each in self.dump.versions:
            if each.version == version:
                return each.stamped.manifest
        raise VersionNotFoundError(
            f"session {self.dump.session_id}: the archive has no version {version}"
        )

    def _stored(self, manifest: Manifest, indexes: Iterable[int]) -> dict[int, bytes]:
        ids = {manifest.chunks[index].chunk_id for index in indexes}
        wanted = {self.places[each].name: each for each in ids}
        found = dict(read_segments(self.segments, self.seal, wanted))
        return {each: found[self.places[each].name] for each in ids}

    def _session_seal(self) -> SessionSeal | None:
        return None if self.sealer is None else SessionSeal(self.sealer, self.dump.session_id)

    def _checked(self, manifest: Manifest, load: Callable[[], T]) -> T:
        try:
            return load()
        except ContextCorruptError as error:
            raise ColdStoreCorruptError(
                f"session {manifest.session_id} version {manifest.version}: its copy on "
                f"{self.seal.shelf} is damaged ({error}); put the archive's backup back"
            ) from error


def read_segments(
    segments: Segments, seal: ShelfSeal, names: Iterable[bytes]
) -> Iterator[tuple[bytes, bytes]]:
    """Segments of a shelf, opened.

    Raises:
        ColdStoreCorruptError: one is missing, or not what was stored.
    """
    for name, sealed in segments.get(seal.shelf, names):
        if sealed is None:
            raise ColdStoreCorruptError(f"{seal.shelf}: segment {name.hex()} is missing")
        try:
            stored = seal.open(sealed, name)
        except (ContextCorruptError, UnsupportedFormatError) as error:
            raise ColdStoreCorruptError(f"{seal.shelf}: {error}") from error
        if seal.segment_name(stored) != name:
            raise ColdStoreCorruptError(f"{seal.shelf}: segment {name.hex()} holds other bytes")
        yield name, stored


def put_segment(segments: Segments, seal: ShelfSeal, stored: bytes) -> bytes:
    """Store bytes as one segment; its name."""
    name = seal.segment_name(stored)
    segments.put(seal.shelf, [(name, seal.seal(stored, name))])
    return name


def put_document(segments: Segments, seal: ShelfSeal, document: Mapping[str, Any]) -> bytes:
    """Store a JSON document as one segment; its name."""
    plain = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    return put_segment(segments, seal, pack_blob(plain, "zstd"))


def read_document(
    segments: Segments, seal: ShelfSeal, name: bytes, known_format: int = FORMAT
) -> dict[str, Any]:
    """What `put_document` stored.

    Raises:
        ColdStoreCorruptError: it is missing, or not what was stored.
        UnsupportedFormatError: another Baton stored it, in a format that is not the known one.
    """
    ((_, packed),) = read_segments(segments, seal, [name])
    document: dict[str, Any] = json.loads(unpack_blob(packed, limit_bytes=MAX_CATALOGUE_BYTES))
    found = document.get("format")
    if found != known_format:
        is_older = isinstance(found, int) and found < known_format
        raise UnsupportedFormatError(
            f"{seal.shelf}: a document of it has format {found!r}; this Baton reads "
            f"{known_format}. "
            + ("`baton archive reindex` makes it anew." if is_older else "Upgrade it.")
        )
    return document


def catalogue_of(dump: SessionDump, places: Mapping[int, Place]) -> dict[str, Any]:
    """The document that a copy is read back from."""
    return {
        "format": FORMAT,
        "session": dump.session_id,
        "container": dict(dump.container),
        "metadata": dict(dump.metadata),
        "versions": [
            [each.version, each.committed_at, base64.b64encode(each.stamped.stored).decode()]
            for each in dump.versions
        ],
        "past": dict(dump.past),
        "tags": dict(dump.tags),
        "authors": dict(dump.authors),
        "checkpoints": list(dump.checkpoints),
        "chunks": [
            [chunk_id, place.name.hex(), place.stored_bytes] for chunk_id, place in places.items()
        ],
    }


def copy_from(
    document: Mapping[str, Any], segments: Segments, seal: ShelfSeal, sealer: Sealer | None
) -> SessionCopy:
    """The copy that a catalogue describes; its manifests are verified.

    Raises:
        ColdStoreCorruptError: it does not hold together.
    """
    try:
        dump = _dump_from(document, sealer)
        places = {
            int(chunk_id): Place(bytes.fromhex(name), int(stored_bytes))
            for chunk_id, name, stored_bytes in document["chunks"]
        }
        _check_chunks(dump, places)
    except (ContextCorruptError, KeyError, ValueError, TypeError, binascii.Error) as error:
        raise ColdStoreCorruptError(
            f"{seal.shelf}: its catalogue does not hold together ({error})"
        ) from error
    return SessionCopy(dump, places, segments, seal, sealer)


def with_wrapped_key(dump: SessionDump, wrapped_key: str) -> SessionDump:
    """The dump of a sealed session with its data key, as the ledger has it now."""
    return replace(dump, wrapped_key=wrapped_key)


def _dump_from(document: Mapping[str, Any], sealer: Sealer | None) -> SessionDump:
    session_id = document["session"]
    versions = [
        DumpedVersion(
            decode_manifest(base64.b64decode(stored, validate=True), session_id, version, sealer),
            committed_at,
        )
        for version, committed_at, stored in document["versions"]
    ]
    return SessionDump(
        session_id=session_id,
        container=document["container"],
        metadata=document["metadata"],
        versions=tuple(versions),
        past=document["past"],
        tags=document["tags"],
        authors=document["authors"],
        checkpoints=tuple(document["checkpoints"]),
        wrapped_key="",
    )


def _check_chunks(dump: SessionDump, places: Mapping[int, Place]) -> None:
    for chunk_id, stored_bytes in dump.chunk_sizes.items():
        if chunk_id not in places or places[chunk_id].stored_bytes != stored_bytes:
            raise ContextCorruptError(f"chunk {chunk_id} has no place of its size")
    if dump.head.stamped.etag != dump.container["head_etag"]:
        raise ContextCorruptError("the last version is not the head")


def _slice(plain: Mapping[int, bytes], starts: Sequence[int], start: int, end: int) -> bytes:
    """Bytes `start` to `end` of a version, from its chunks by index."""
    first, last = bisect_right(starts, start) - 1, bisect_left(starts, end)
    joined = b"".join(plain[index] for index in range(first, last))
    return joined[start - starts[first] : end - starts[first]]


def _piece(manifest: Manifest, index: int, stored: Mapping[int, bytes]) -> StoredPiece:
    ref = manifest.chunks[index]
    return StoredPiece(ref.size_bytes, stored[ref.chunk_id], ref.stored_digest, ref.digest)
