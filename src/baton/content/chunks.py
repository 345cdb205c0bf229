"""A content to pieces and back: cut, named, compressed and sealed; checked, opened and joined."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

from baton.content.chunking import CHUNK_LIMIT_BYTES, cut_points
from baton.content.compression import compress, decompress
from baton.content.digests import chunk_digest, stored_digest
from baton.content.parallel import iterate_parallel, map_parallel
from baton.content.sealing import content_mac_of
from baton.content.text import decode_text
from baton.errors import ContextCorruptError, SealBrokenError, UnsupportedFormatError

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Sequence

    from baton.content.compression import Codec
    from baton.content.sealing import SessionSeal


@dataclass(frozen=True, slots=True)
class Piece:
    """One chunk of a content being written.

    `digest` names its plain bytes: their `chunk_digest`, or in a sealed session their keyed
    `Sealer.chunk_identity`. `stored` is what to store and `stored_digest` its check, which is
    empty where a seal checks; None and "" where the chunk is known already or occurs earlier in
    the same content.
    """

    offset_bytes: int
    size_bytes: int
    digest: str
    stored: bytes | None
    stored_digest: str


@dataclass(frozen=True, slots=True)
class StoredPiece:
    """One chunk as it was stored: its plain size, its stored bytes and the rest of its `Piece`.

    `digest` is looked at only in a sealed session, `stored_digest` only in one that is not.
    """

    size_bytes: int
    stored: bytes
    stored_digest: str
    digest: str = ""


def split(
    data: bytes,
    *,
    average_bytes: int,
    codec: Codec,
    known: Container[str] = frozenset(),
    seal: SessionSeal | None = None,
) -> list[Piece]:
    """Cut `data` and prepare for storage each piece whose digest is not in `known`, on all cores.

    With `seal`, cuts and digests depend on its key, and what is stored is sealed. What was
    appended to a text is split together with the chunk that was the last one: the pieces before
    it stay as they are (`cut_points` says why).

    Raises:
        InvalidInputError: `average_bytes` is out of bounds or `codec` unknown.
    """
    ends = cut_points(data, average_bytes, 0 if seal is None else seal.sealer.cut_seed)
    return prepare(data, [0, *ends], codec=codec, known=known, seal=seal)


def prepare(
    data: bytes,
    bounds: Sequence[int],
    *,
    codec: Codec,
    known: Container[str] = frozenset(),
    seal: SessionSeal | None = None,
) -> list[Piece]:
    """As `split`, for pieces of `data` that begin and end at ascending `bounds`.

    Raises:
        InvalidInputError: `codec` is unknown.
    """
    view = memoryview(data)
    spans = [view[start:end] for start, end in pairwise(bounds)]
    name = chunk_digest if seal is None else seal.sealer.chunk_identity
    names = map_parallel(name, spans, size_bytes=sum(map(len, spans)))
    new = {name: span for name, span in zip(names, spans, strict=True) if name not in known}
    packed = map_parallel(
        partial(_pack, codec=codec, seal=seal),
        list(new.items()),
        size_bytes=sum(map(len, new.values())),
    )
    stored = dict(zip(new, packed, strict=True))
    return [
        # `pop`: the first piece of a name carries the bytes, later ones refer to it.
        Piece(start, len(span), name, *stored.pop(name, (None, "")))
        for start, span, name in zip(bounds, spans, names, strict=False)
    ]


def join(
    pieces: Sequence[StoredPiece],
    *,
    codec: str,
    size_bytes: int,
    content_hash: str,
    seal: SessionSeal | None = None,
) -> str:
    """The text whose pieces these are, in order, every byte of it checked.

    Raises:
        ContextCorruptError: a piece differs from its digest or its size, the whole from
            `size_bytes` or `content_hash`, or it is not UTF-8. Says which piece, and what.
        SealBrokenError: a piece does not open with `seal` as the one it is said to be.
        UnsupportedFormatError: an unknown codec, or a seal of a newer Baton.
    """
    _check_sizes(pieces)
    total_bytes = sum(piece.size_bytes for piece in pieces)
    if total_bytes != size_bytes:
        raise ContextCorruptError(f"pieces make up {total_bytes} of {size_bytes} bytes")
    plain = []
    feed, told = _hashing(seal)
    unpack = partial(_unpack, codec=codec, seal=seal)
    # This thread hashes what the others have unpacked.
    for span in iterate_parallel(unpack, list(enumerate(pieces)), size_bytes=size_bytes):
        feed(span)
        plain.append(span)
    if told() != content_hash:
        raise ContextCorruptError("the content's hash differs")
    return decode_text(b"".join(plain))


def open_pieces(
    pieces: Sequence[StoredPiece], *, codec: str, seal: SessionSeal | None = None
) -> list[bytes]:
    """The plain bytes of each piece, checked by itself: for a part of a content.

    Raises:
        ContextCorruptError, SealBrokenError, UnsupportedFormatError: as `join`.
    """
    _check_sizes(pieces)
    return map_parallel(
        partial(_unpack, codec=codec, seal=seal),
        list(enumerate(pieces)),
        size_bytes=sum(piece.size_bytes for piece in pieces),
    )


def find_damaged(
    pieces: Sequence[StoredPiece], *, codec: str, seal: SessionSeal | None = None
) -> list[int]:
    """The indexes of pieces whose stored bytes are not what was stored; decompresses nothing."""
    whole = map_parallel(
        partial(_is_whole, codec=codec, seal=seal),
        pieces,
        size_bytes=sum(len(piece.stored) for piece in pieces),
    )
    return [index for index, is_whole in enumerate(whole) if not is_whole]


def _pack(
    named: tuple[str, memoryview], codec: Codec, seal: SessionSeal | None
) -> tuple[bytes, str]:
    name, span = named
    packed = compress(span, codec)
    if seal is None:
        return packed, stored_digest(packed)
    return seal.seal_chunk(packed, identity=name, codec=codec, size_bytes=len(span)), ""


def _check_sizes(pieces: Sequence[StoredPiece]) -> None:
    for number, piece in enumerate(pieces):
        if not 0 < piece.size_bytes <= CHUNK_LIMIT_BYTES:
            raise ContextCorruptError(f"piece {number}: declared size is {piece.size_bytes} bytes")


def _hashing(seal: SessionSeal | None) -> tuple[Callable[[bytes], None], Callable[[], str]]:
    """What to feed a content to in pieces, and what then tells its hash."""
    if seal is None:
        hasher = hashlib.sha256()
        return hasher.update, lambda: f"sha256:{hasher.hexdigest()}"
    keyed = seal.sealer.content_hasher()
    return keyed.update, partial(content_mac_of, keyed)


def _unpack(numbered: tuple[int, StoredPiece], codec: str, seal: SessionSeal | None) -> bytes:
    number, piece = numbered
    if seal is not None:
        packed = _opened(piece, codec, seal)
    elif stored_digest(piece.stored) == piece.stored_digest:
        packed = piece.stored
    else:
        raise ContextCorruptError(f"piece {number}: stored digest differs")
    try:
        return decompress(packed, codec, piece.size_bytes)
    except ContextCorruptError as error:
        raise ContextCorruptError(f"piece {number}: {error}") from error


def _is_whole(piece: StoredPiece, codec: str, seal: SessionSeal | None) -> bool:
    if seal is None:
        return stored_digest(piece.stored) == piece.stored_digest
    try:
        _opened(piece, codec, seal)
    except (SealBrokenError, UnsupportedFormatError):
        return False
    return True


def _opened(piece: StoredPiece, codec: str, seal: SessionSeal) -> bytes:
    return seal.open_chunk(
        piece.stored, identity=piece.digest, codec=codec, size_bytes=piece.size_bytes
    )
