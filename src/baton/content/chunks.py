"""A content to pieces and back: cut, named and compressed; checked, opened and joined."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

from baton.content import digests
from baton.content.chunking import CHUNK_LIMIT_BYTES, cut_points
from baton.content.compression import compress, decompress
from baton.content.digests import chunk_digest
from baton.content.parallel import iterate_parallel, map_parallel, run_both
from baton.content.text import decode_text
from baton.errors import ContextCorruptError

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from baton.content.compression import Codec


@dataclass(frozen=True, slots=True)
class Piece:
    """One chunk of a content being written.

    `digest` names its plain bytes. `stored` is their compressed form and `stored_digest` its
    check; None and "" where the chunk is known already or occurs earlier in the same content.
    """

    offset_bytes: int
    size_bytes: int
    digest: str
    stored: bytes | None
    stored_digest: str


@dataclass(frozen=True, slots=True)
class StoredPiece:
    """One chunk as it was stored: its plain size, its stored bytes, their `chunk_digest`."""

    size_bytes: int
    stored: bytes
    stored_digest: str


def split(
    data: bytes, *, average_bytes: int, codec: Codec, known: Container[str] = frozenset()
) -> list[Piece]:
    """Cut `data` and prepare for storage each piece whose digest is not in `known`, on all cores.

    Raises:
        InvalidInputError: `average_bytes` is out of bounds or `codec` unknown.
    """
    ends = cut_points(data, average_bytes)
    view = memoryview(data)
    spans = [view[start:end] for start, end in pairwise([0, *ends])]
    names = map_parallel(chunk_digest, spans, size_bytes=len(data))
    new = {name: span for name, span in zip(names, spans, strict=True) if name not in known}
    packed = map_parallel(
        partial(_pack, codec=codec), list(new.values()), size_bytes=sum(map(len, new.values()))
    )
    stored = dict(zip(new, packed, strict=True))
    return [
        # `pop`: the first piece of a name carries the bytes, later ones refer to it.
        Piece(start, len(span), name, *stored.pop(name, (None, "")))
        for start, span, name in zip([0, *ends], spans, names, strict=False)
    ]


def hash_and_split(
    data: bytes, *, average_bytes: int, codec: Codec, known: Container[str] = frozenset()
) -> tuple[str, list[Piece]]:
    """`(content_hash(data), split(data, ...))`, the hash on another core beside the split.

    Raises:
        InvalidInputError: as `split`.
    """
    return run_both(
        partial(digests.content_hash, data),
        partial(split, data, average_bytes=average_bytes, codec=codec, known=known),
        size_bytes=len(data),
    )


def join(pieces: Sequence[StoredPiece], *, codec: str, size_bytes: int, content_hash: str) -> str:
    """The text whose pieces these are, in order, every byte of it checked.

    Raises:
        ContextCorruptError: a piece differs from its digest or its size, the whole from
            `size_bytes` or `content_hash`, or it is not UTF-8. Says which piece, and what.
        UnsupportedFormatError: an unknown codec.
    """
    _check_sizes(pieces, size_bytes)
    plain = []
    hasher = hashlib.sha256()
    unpack = partial(_unpack, codec=codec)
    # This thread hashes what the others have unpacked.
    for span in iterate_parallel(unpack, list(enumerate(pieces)), size_bytes=size_bytes):
        hasher.update(span)
        plain.append(span)
    if f"sha256:{hasher.hexdigest()}" != content_hash:
        raise ContextCorruptError("the content's hash differs")
    return decode_text(b"".join(plain))


def _pack(span: memoryview, codec: Codec) -> tuple[bytes, str]:
    stored = compress(span, codec)
    return stored, chunk_digest(stored)


def _check_sizes(pieces: Sequence[StoredPiece], size_bytes: int) -> None:
    for number, piece in enumerate(pieces):
        if not 0 < piece.size_bytes <= CHUNK_LIMIT_BYTES:
            raise ContextCorruptError(f"piece {number}: declared size is {piece.size_bytes} bytes")
    total_bytes = sum(piece.size_bytes for piece in pieces)
    if total_bytes != size_bytes:
        raise ContextCorruptError(f"pieces make up {total_bytes} of {size_bytes} bytes")


def _unpack(numbered: tuple[int, StoredPiece], codec: str) -> bytes:
    number, piece = numbered
    if chunk_digest(piece.stored) != piece.stored_digest:
        raise ContextCorruptError(f"piece {number}: stored digest differs")
    try:
        return decompress(piece.stored, codec, piece.size_bytes)
    except ContextCorruptError as error:
        raise ContextCorruptError(f"piece {number}: {error}") from error
