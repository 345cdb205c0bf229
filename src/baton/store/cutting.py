"""From a draft's content to chunks: those that are there already, and those to send."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from baton.content.chunking import average_chunk_bytes
from baton.content.chunks import prepare, split
from baton.content.parallel import run_both
from baton.content.recutting import common_prefix_bytes, recut
from baton.content.sealing import SessionSeal, content_mac_of
from baton.store.manifest import ChunkRef
from baton.store.recent import RecentText, hash_from

if TYPE_CHECKING:
    from collections.abc import Mapping

    from baton.content.chunks import Piece
    from baton.content.compression import Codec
    from baton.content.sealing import Sealer
    from baton.store.heads import OpenedVersion


@dataclass(frozen=True, slots=True)
class Placed:
    """Where each piece of a content is to be, and the stored bytes of the new chunks."""

    content_hash: str
    average_bytes: int
    next_chunk: int
    chunks: tuple[ChunkRef, ...]
    staged: list[bytes]


@dataclass(frozen=True, slots=True)
class Ground:
    """What a content is placed upon.

    Attributes:
        session_id: whose content it is.
        parent: the version it follows; None for a session's first.
        like: another version of the session whose chunks it may share.
        sealer: seals it; None: nothing is sealed.
        codec: of new chunks.
        lost: chunks that must not be referred to.
        before: the parent's content, if it is at hand: then only changes are cut.
    """

    session_id: str
    parent: OpenedVersion | None
    like: OpenedVersion | None
    sealer: Sealer | None
    codec: Codec
    lost: set[int]
    before: RecentText | None


class Cuts:
    """What has been worked out of one draft's content, under one key; a second try goes on."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._begin(None)

    def _begin(self, sealer: Sealer | None) -> None:
        self._sealer = sealer
        self._packed: dict[str, tuple[bytes, str]] = {}
        self._content_hash = ""
        self.text: RecentText | None = None

    def place(self, ground: Ground) -> Placed:
        """Cut, hash, compress and seal what no chunk holds yet."""
        self._use(ground.sealer)
        known = _known_chunks(ground)
        average = self._average_bytes(ground)
        if _is_reusable(ground, average):
            cut = partial(self._cut_changes, ground, average, known)
        else:
            cut = partial(self._cut_whole, ground, average, known)
        (hash_, text), (head, pieces, tail) = run_both(
            partial(self._hash, ground.before), cut, size_bytes=len(self._data)
        )
        self._content_hash, self.text = hash_, text
        for piece in pieces:
            if piece.stored is not None:
                self._packed[piece.digest] = (piece.stored, piece.stored_digest)
        next_chunk, middle, staged = self._place_pieces(ground.parent, pieces, known)
        return Placed(hash_, average, next_chunk, (*head, *middle, *tail), staged)

    def content_hash(self, sealer: Sealer | None, before: RecentText | None) -> str:
        """The content's hash, keyed where `sealer` is given; `before` may share its beginning."""
        self._use(sealer)
        self._content_hash, self.text = self._hash(before)
        return self._content_hash

    def _use(self, sealer: Sealer | None) -> None:
        if sealer is not self._sealer:
            self._begin(sealer)

    def _hash(self, before: RecentText | None) -> tuple[str, RecentText]:
        if self.text is not None:
            return self._content_hash, self.text
        common = 0 if before is None else common_prefix_bytes(before.data, self._data)
        new_hasher = hashlib.sha256 if self._sealer is None else self._sealer.content_hasher
        hasher, marks = hash_from(self._data, new_hasher, before, common)
        hash_ = f"sha256:{hasher.hexdigest()}" if self._sealer is None else content_mac_of(hasher)
        return hash_, RecentText(self._data, marks)

    def _cut_whole(
        self, ground: Ground, average: int, known: Mapping[str, ChunkRef]
    ) -> tuple[tuple[ChunkRef, ...], list[Piece], tuple[ChunkRef, ...]]:
        pieces = split(
            self._data,
            average_bytes=average,
            codec=ground.codec,
            known=known.keys() | self._packed.keys(),
            seal=_seal(ground),
        )
        return (), pieces, ()

    def _cut_changes(
        self, ground: Ground, average: int, known: Mapping[str, ChunkRef]
    ) -> tuple[tuple[ChunkRef, ...], list[Piece], tuple[ChunkRef, ...]]:
        chunks = () if ground.parent is None else ground.parent.manifest.chunks
        before = b"" if ground.before is None else ground.before.data
        seed = 0 if ground.sealer is None else ground.sealer.cut_seed
        found = recut(before, [ref.size_bytes for ref in chunks], self._data, average, seed)
        pieces = prepare(
            self._data,
            [found.start_byte, *found.ends],
            codec=ground.codec,
            known=known.keys() | self._packed.keys(),
            seal=_seal(ground),
        )
        return chunks[: found.kept_head], pieces, chunks[len(chunks) - found.kept_tail :]

    def _average_bytes(self, ground: Ground) -> int:
        like = ground.like or ground.parent
        previous = None if like is None else like.manifest.average_chunk_bytes
        return average_chunk_bytes(len(self._data), previous)

    def _place_pieces(
        self, parent: OpenedVersion | None, pieces: list[Piece], known: Mapping[str, ChunkRef]
    ) -> tuple[int, list[ChunkRef], list[bytes]]:
        next_chunk = 0 if parent is None else parent.head.next_chunk
        refs, chunks, staged = dict(known), [], []
        for piece in pieces:
            if piece.digest not in refs:
                stored, stored_digest = self._packed[piece.digest]
                refs[piece.digest] = ChunkRef(
                    next_chunk, piece.size_bytes, len(stored), piece.digest, stored_digest
                )
                staged.append(stored)
                next_chunk += 1
            chunks.append(refs[piece.digest])
        return next_chunk, chunks, staged


def _seal(ground: Ground) -> SessionSeal | None:
    return None if ground.sealer is None else SessionSeal(ground.sealer, ground.session_id)


def _known_chunks(ground: Ground) -> dict[str, ChunkRef]:
    """Stored chunks by the digest of their plain bytes: these need not be sent again."""
    return {
        ref.digest: ref
        for opened in (ground.like, ground.parent)
        if opened is not None and opened.manifest.compression == ground.codec
        for ref in opened.manifest.chunks
        if ref.chunk_id not in ground.lost
    }


def _is_reusable(ground: Ground, average: int) -> bool:
    """Whether the parent's chunks can stay where its content does."""
    if ground.parent is None or ground.before is None or ground.lost:
        return False
    manifest = ground.parent.manifest
    return (
        ground.parent.sealer is ground.sealer
        and manifest.compression == ground.codec
        and manifest.average_chunk_bytes == average
    )
