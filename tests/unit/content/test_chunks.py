import dataclasses
import random

import pytest

from baton.content.chunking import CHUNK_LIMIT_BYTES, average_chunk_bytes
from baton.content.chunks import StoredPiece, join, split
from baton.content.compression import CODECS, compress
from baton.content.digests import chunk_digest, content_hash, stored_digest
from baton.errors import ContextCorruptError, InvalidInputError, UnsupportedFormatError

MIB = 1_048_576
AVERAGE = 8_192


def words(size_bytes, seed=0):
    """ASCII text that repeats little."""
    rng = random.Random(seed)
    lines = [f"{rng.getrandbits(64):x} line {number}\n" for number in range(size_bytes // 20)]
    return "".join(lines).encode()[:size_bytes]


def stored_pieces(pieces):
    """What a store would hand back: every piece with the bytes that its digest was stored with."""
    first = {piece.digest: piece for piece in pieces if piece.stored is not None}
    return [
        StoredPiece(piece.size_bytes, first[piece.digest].stored, first[piece.digest].stored_digest)
        for piece in pieces
    ]


@pytest.fixture(scope="module")
def data():
    return words(100_000)


@pytest.fixture(scope="module")
def parts(data):
    return stored_pieces(split(data, average_bytes=AVERAGE, codec="gzip"))


def refused(parts, data, **changes):
    """The detail with which `join` refuses."""
    expected = {"codec": "gzip", "size_bytes": len(data), "content_hash": content_hash(data)}
    with pytest.raises(ContextCorruptError) as caught:
        join(parts, **{**expected, **changes})
    return str(caught.value)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize(
    ("unit", "size_bytes"),
    [
        ("", 0),
        ("x", 1),
        ("👍", 4),
        ("ok\n", MIB - 1),
        ("ok\n", MIB),
        ("ok\n", MIB + 1),
        ("слово и слово ", 10_000_000),
        ("👩‍👩‍👧 and 漢字 ", 10_000_000),
    ],
)
def test_split_then_join_is_the_identity(codec, unit, size_bytes):
    """For empty, tiny, repetitive and multi-byte contents, up to 10 MB, with each codec."""
    text = (unit * (size_bytes // max(1, len(unit.encode())))) + "." * (size_bytes % 3)
    data = text.encode()
    pieces = split(data, average_bytes=average_chunk_bytes(len(data)), codec=codec)
    digest = content_hash(data)
    parts = stored_pieces(pieces)
    assert join(parts, codec=codec, size_bytes=len(data), content_hash=digest) == text


def test_split_tiles_the_content(data):
    """Offsets and sizes are exact, digests those of the plain bytes."""
    end = 0
    for piece in split(data, average_bytes=AVERAGE, codec="gzip"):
        assert piece.offset_bytes == end
        end += piece.size_bytes
        assert piece.digest == chunk_digest(data[piece.offset_bytes : end])
        assert piece.stored_digest == stored_digest(piece.stored)
    assert end == len(data)


def test_split_stores_nothing_known(data):
    """Known pieces keep their place and digest, without stored bytes."""
    fresh = split(data, average_bytes=AVERAGE, codec="gzip")
    known = {piece.digest for piece in fresh[::2]}
    for before, piece in zip(
        fresh, split(data, average_bytes=AVERAGE, codec="gzip", known=known), strict=True
    ):
        if piece.digest in known:
            assert piece == dataclasses.replace(before, stored=None, stored_digest="")
        else:
            assert piece == before


def test_split_stores_repeated_pieces_once():
    """The first of equal pieces carries the bytes."""
    pieces = split(b"a" * 10 * MIB, average_bytes=256 * 1024, codec="gzip")
    carriers = [piece for piece in pieces if piece.stored is not None]
    assert len(pieces) > len(carriers) == len({piece.digest for piece in pieces})
    assert pieces[0].stored is not None


def test_an_insertion_leaves_most_digests():
    """An edit in the middle stores what changed, not what follows."""
    data = words(2_000_000)
    changed = data[:1_000_000] + "вставка".encode() + data[1_000_000:]
    before = {piece.digest for piece in split(data, average_bytes=AVERAGE, codec="none")}
    after = split(changed, average_bytes=AVERAGE, codec="gzip", known=before)
    assert len(after) > 150
    assert sum(piece.stored is not None for piece in after) <= 3


def test_split_refuses_an_unknown_codec(data):
    """As invalid input, whatever the content."""
    with pytest.raises(InvalidInputError, match="compression"):
        split(data, average_bytes=AVERAGE, codec="lzma")


def test_join_names_the_damaged_piece(parts, data):
    """A flipped stored byte fails the digest of its piece, the first one if several are."""
    damaged = list(parts)
    for number in (5, 3):
        stored = bytearray(parts[number].stored)
        stored[len(stored) // 2] ^= 1
        damaged[number] = dataclasses.replace(parts[number], stored=bytes(stored))
    assert refused(damaged, data) == "piece 3: stored digest differs"


def test_join_refuses_a_missing_piece(parts, data):
    """Sizes no longer add up."""
    assert refused(parts[:-1], data).startswith("pieces make up ")


def test_join_refuses_swapped_pieces(parts, data):
    """Whole pieces in the wrong order fail the content's hash."""
    swapped = [parts[1], parts[0], *parts[2:]]
    assert refused(swapped, data) == "the content's hash differs"


def test_join_refuses_a_foreign_piece(parts, data):
    """A well-formed piece of another content, of the same size, fails the content's hash."""
    size_bytes = parts[0].size_bytes
    foreign = compress(words(size_bytes, seed=9), "gzip")
    parts = [StoredPiece(size_bytes, foreign, stored_digest(foreign)), *parts[1:]]
    assert refused(parts, data) == "the content's hash differs"


def test_join_refuses_a_wrong_piece_size(parts, data):
    """A piece that declares one byte of its neighbour's is caught when it is opened."""
    first = dataclasses.replace(parts[0], size_bytes=parts[0].size_bytes + 1)
    second = dataclasses.replace(parts[1], size_bytes=parts[1].size_bytes - 1)
    assert refused([first, second, *parts[2:]], data).startswith("piece 0: gzip: not the declared")


@pytest.mark.parametrize("size_bytes", [0, -1, CHUNK_LIMIT_BYTES + 1])
def test_join_refuses_piece_sizes_out_of_bounds(parts, data, size_bytes):
    """No piece is empty or above the limit, so a declared size never allocates more."""
    wrong = [*parts[:2], dataclasses.replace(parts[2], size_bytes=size_bytes), *parts[3:]]
    assert refused(wrong, data) == f"piece 2: declared size is {size_bytes} bytes"


def test_join_refuses_a_wrong_content_hash(parts, data):
    """The hash is compared whole, its algorithm's name included."""
    assert refused(parts, data, content_hash=content_hash(data)[7:]) == "the content's hash differs"


def test_join_refuses_what_is_not_text():
    """Bytes that fit every digest and are not UTF-8 are corrupt, too."""
    data = b"\xff" * 9
    parts = [StoredPiece(9, data, stored_digest(data))]
    assert refused(parts, data, codec="none") == "not UTF-8 at byte 0"


def test_join_refuses_an_unknown_codec(parts, data):
    """As a format of another Baton."""
    with pytest.raises(UnsupportedFormatError):
        join(parts, codec="br", size_bytes=len(data), content_hash=content_hash(data))
