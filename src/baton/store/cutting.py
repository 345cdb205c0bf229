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
    from baton.store.reading import OpenedVersion
    from baton.store.writing import Plan


@dataclass(frozen=True, slots=True)
class Placed:
    """Where each piece of a content is to be, and the stored bytes of the new chunks."""

    content_hash: str
    average_bytes: int
    next_chunk: int
    chunks: tuple[ChunkRef, ...]
    staged: list[bytes]


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

    def place(
        self,
        plan: Plan,
        sealer: Sealer | None,
        codec: Codec,
        lost: set[int],
        before: RecentText | None,
    ) -> Placed:
        """Cut, hash, compress and seal what no chunk holds yet.

        Args:
            plan: what is written, and on what.
            sealer: seals it; None: nothing is sealed.
            codec: of new chunks.
            lost: chunks that must not be referred to.
            before: the parent's content, if it is at hand: then only changes are cut.
        """
        self._use(sealer)
        known = _known_chunks(plan, codec, lost)
        average = _average_bytes(plan)
        reusable = _reusable(plan, sealer, codec, average, lost)
        if before is None or not reusable:
            cut = partial(self._cut_whole, plan, average, codec, known)
        else:
            cut = partial(self._cut_changes, plan, average, codec, known, before.data)
        (hash_, text), (head, pieces, tail) = run_both(
            partial(self._hash, before), cut, size_bytes=len(self._data)
        )
        self._content_hash, self.text = hash_, text
        for piece in pieces:
            if piece.stored is not None:
                self._packed[piece.digest] = (piece.stored, piece.stored_digest)
        next_chunk, middle, staged = self._place_pieces(plan, pieces, known)
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
        self, plan: Plan, average: int, codec: Codec, known: Mapping[str, ChunkRef]
    ) -> tuple[tuple[ChunkRef, ...], list[Piece], tuple[ChunkRef, ...]]:
        pieces = split(
            self._data,
            average_bytes=average,
            codec=codec,
            known=known.keys() | self._packed.keys(),
            seal=self._seal(plan),
        )
        return (), pieces, ()

    def _cut_changes(
        self, plan: Plan, average: int, codec: Codec, known: Mapping[str, ChunkRef], before: bytes
    ) -> tuple[tuple[ChunkRef, ...], list[Piece], tuple[ChunkRef, ...]]:
        chunks = () if plan.parent is None else plan.parent.manifest.chunks
        seed = 0 if self._sealer is None else self._sealer.cut_seed
        found = recut(before, [ref.size_bytes for ref in chunks], self._data, average, seed)
        pieces = prepare(
            self._data,
            [found.start_byte, *found.ends],
            codec=codec,
            known=known.keys() | self._packed.keys(),
            seal=self._seal(plan),
        )
        return chunks[: found.kept_head], pieces, chunks[len(chunks) - found.kept_tail :]

    def _seal(self, plan: Plan) -> SessionSeal | None:
        return None if self._sealer is None else SessionSeal(self._sealer, plan.draft.session_id)

    def _place_pieces(
        self, plan: Plan, pieces: list[Piece], known: Mapping[str, ChunkRef]
    ) -> tuple[int, list[ChunkRef], list[bytes]]:
        next_chunk = 0 if plan.parent is None else plan.parent.head.next_chunk
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


def shared_versions(plan: Plan) -> list[OpenedVersion]:
    """Versions whose chunks the new one may refer to."""
    return [opened for opened in (plan.draft.like, plan.parent) if opened is not None]


def _known_chunks(plan: Plan, codec: Codec, lost: set[int]) -> dict[str, ChunkRef]:
    """Stored chunks by the digest of their plain bytes: these need not be sent again."""
    return {
        ref.digest: ref
        for opened in shared_versions(plan)
        if opened.manifest.compression == codec
        for ref in opened.manifest.chunks
        if ref.chunk_id not in lost
    }


def _average_bytes(plan: Plan) -> int:
    like = plan.draft.like or plan.parent
    previous = None if like is None else like.manifest.average_chunk_bytes
    return average_chunk_bytes(len(plan.draft.data), previous)


def _reusable(
    plan: Plan, sealer: Sealer | None, codec: Codec, average: int, lost: set[int]
) -> bool:
    """Whether the parent's chunks can stay where its content does."""
    if plan.parent is None or lost or plan.parent.sealer is not sealer:
        return False
    manifest = plan.parent.manifest
    return manifest.compression == codec and manifest.average_chunk_bytes == average
