"""Sealed contents to pieces and back: nothing readable, nothing movable, the same text."""

import dataclasses
import random

import pytest

from baton.content.chunks import (
    StoredPiece,
    find_damaged,
    join,
    open_pieces,
    split,
)
from baton.content.compression import CODECS, compress
from baton.content.digests import chunk_digest, content_hash
from baton.content.sealing import Sealer, SessionSeal, new_data_key
from baton.errors import ContextCorruptError, SealBrokenError, UnsupportedFormatError

KEY = new_data_key()
SEAL = SessionSeal(Sealer(KEY, "dk_1"), "session_1")
AVERAGE = 8_192
UNSEALED_DIGEST = chunk_digest(b"")


def words(size_bytes):
    rng = random.Random(1)
    lines = (f"{rng.getrandbits(64):x} слово {number}\n" for number in range(size_bytes // 20))
    return "".join(lines).encode()[:size_bytes].decode(errors="ignore").encode()


def stored_pieces(pieces):
    """What a store would hand back: every piece with the bytes that its digest was stored with."""
    first = {piece.digest: piece for piece in pieces if piece.stored is not None}
    return [
        StoredPiece(
            piece.size_bytes,
            first[piece.digest].stored,
            first[piece.digest].stored_digest,
            piece.digest,
        )
        for piece in pieces
    ]


def flipped(stored):
    return stored[:-1] + bytes([stored[-1] ^ 1])


@pytest.fixture(scope="module")
def data():
    return words(100_000)


@pytest.fixture(scope="module")
def parts(data):
    return stored_pieces(split(data, average_bytes=AVERAGE, codec="gzip", seal=SEAL))


def join_sealed(parts, data, seal=SEAL, **changes):
    expected = {
        "codec": "gzip",
        "size_bytes": len(data),
        "content_hash": SEAL.sealer.content_mac(data),
    }
    return join(parts, **{**expected, **changes}, seal=seal)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("size_bytes", [0, 1, 100_000, 3_000_000])
def test_sealed_content_comes_back_exactly(codec, size_bytes):
    """With each codec, on one core and on several."""
    data = words(size_bytes)
    pieces = split(data, average_bytes=AVERAGE, codec=codec, seal=SEAL)
    assert join_sealed(stored_pieces(pieces), data, codec=codec) == data.decode()


def test_sealed_pieces_hold_no_plain_bytes_and_no_unkeyed_digest(data):
    """Not compressed, not as a digest that who knows the text could compute."""
    pieces = split(data, average_bytes=AVERAGE, codec="none", seal=SEAL)
    plain = [data[piece.offset_bytes :][: piece.size_bytes] for piece in pieces]
    names = {chunk_digest(part) for part in plain}
    for piece, part in zip(pieces, plain, strict=True):
        assert part[:16] not in piece.stored
        assert piece.stored_digest == ""
        assert piece.digest == SEAL.sealer.chunk_identity(part)
        assert piece.digest not in names


def test_sealed_content_is_cut_by_its_key(data):
    """Another session's key cuts the same text elsewhere, so do unsealed contents."""
    other = SessionSeal(Sealer(new_data_key(), "dk_2"), "session_1")
    cuts = [
        {
            piece.offset_bytes
            for piece in split(data, average_bytes=AVERAGE, codec="none", seal=seal)
        }
        for seal in (None, SEAL, other)
    ]
    assert all(len(one & another) < 5 for one, another in ((cuts[0], cuts[1]), (cuts[1], cuts[2])))


def test_sealed_pieces_that_are_known_are_not_sealed_again(data):
    """Equal text has one name in its session, and is stored once."""
    fresh = split(data, average_bytes=AVERAGE, codec="gzip", seal=SEAL)
    known = {piece.digest for piece in fresh}
    again = split(data, average_bytes=AVERAGE, codec="gzip", known=known, seal=SEAL)
    assert [piece.digest for piece in again] == [piece.digest for piece in fresh]
    assert not any(piece.stored for piece in again)


@pytest.mark.parametrize(
    "seal",
    [
        SessionSeal(Sealer(new_data_key(), "dk_1"), "session_1"),
        SessionSeal(Sealer(KEY, "dk_2"), "session_1"),
        SessionSeal(Sealer(KEY, "dk_1"), "session_2"),
    ],
    ids=["another key", "another key id", "another session"],
)
def test_join_refuses_another_seal(parts, data, seal):
    """As a broken seal, whose type stays."""
    with pytest.raises(SealBrokenError, match="does not open under data key"):
        join_sealed(parts, data, seal=seal)
    with pytest.raises(SealBrokenError):
        open_pieces(parts, codec="gzip", seal=seal)


@pytest.mark.parametrize("field", ["stored", "digest", "size_bytes"])
def test_join_refuses_a_piece_in_anothers_place(parts, data, field):
    """Stored bytes, name and size of two pieces belong together."""
    one, other = parts[1], parts[2]
    assert one.size_bytes != other.size_bytes
    swapped = [
        dataclasses.replace(one, **{field: getattr(other, field)}),
        dataclasses.replace(other, **{field: getattr(one, field)}),
    ]
    with pytest.raises(SealBrokenError):
        join_sealed([parts[0], *swapped, *parts[3:]], data)


def test_join_refuses_another_codec_than_was_sealed(parts, data):
    """The codec is under the seal too."""
    with pytest.raises(SealBrokenError):
        join_sealed(parts, data, codec="zstd")


def test_join_refuses_whole_pieces_in_another_order(parts, data):
    """Each opens; the keyed hash of the whole differs."""
    with pytest.raises(ContextCorruptError, match=r"^the content's hash differs$") as caught:
        join_sealed([parts[1], parts[0], *parts[2:]], data)
    assert not isinstance(caught.value, SealBrokenError)


def test_join_refuses_an_unkeyed_hash(parts, data):
    """What anyone can compute vouches for nothing."""
    with pytest.raises(ContextCorruptError, match="hash differs"):
        join_sealed(parts, data, content_hash=content_hash(data))


def test_join_wants_the_seal(parts, data):
    """Without it sealed pieces are damage, and unsealed ones do not pass for sealed."""
    with pytest.raises(ContextCorruptError, match="piece 0: stored digest differs"):
        join_sealed(parts, data, seal=None)
    plain = stored_pieces(split(data, average_bytes=AVERAGE, codec="gzip"))
    with pytest.raises((SealBrokenError, UnsupportedFormatError)):
        join_sealed(plain, data)


@pytest.mark.parametrize("seal", [None, SEAL], ids=["unsealed", "sealed"])
def test_open_pieces_gives_a_part_of_a_content(data, seal):
    """Any run of pieces, each checked by itself."""
    pieces = split(data, average_bytes=AVERAGE, codec="gzip", seal=seal)
    parts = stored_pieces(pieces)
    start, end = pieces[2].offset_bytes, pieces[5].offset_bytes
    assert b"".join(open_pieces(parts[2:5], codec="gzip", seal=seal)) == data[start:end]
    damaged = dataclasses.replace(parts[3], stored=flipped(parts[3].stored))
    with pytest.raises(ContextCorruptError):
        open_pieces([parts[2], damaged], codec="gzip", seal=seal)
    too_large = dataclasses.replace(parts[3], size_bytes=1 << 30)
    with pytest.raises(ContextCorruptError, match="declared size"):
        open_pieces([too_large], codec="gzip", seal=seal)


@pytest.mark.parametrize("seal", [None, SEAL], ids=["unsealed", "sealed"])
def test_find_damaged_tells_which_pieces(data, seal):
    """Flipped, cut short, missing, of another format: by index; none in a whole content."""
    parts = stored_pieces(split(data, average_bytes=AVERAGE, codec="gzip", seal=seal))
    assert find_damaged(parts, codec="gzip", seal=seal) == []
    stored = parts[0].stored
    for index, damage in enumerate([flipped(stored), stored[:9], b"", b"\x07" + stored[1:]]):
        parts[index] = dataclasses.replace(parts[0], stored=damage)
    assert find_damaged(parts, codec="gzip", seal=seal) == [0, 1, 2, 3]


def test_compressed_damage_under_a_whole_seal_is_told_by_piece():
    """A writer's fault, which no seal can find."""
    packed = compress(b"text", "gzip")[:-1]
    sealed = SEAL.seal_chunk(packed, identity=UNSEALED_DIGEST, codec="gzip", size_bytes=4)
    with pytest.raises(ContextCorruptError, match="piece 0: gzip: cut short"):
        open_pieces([StoredPiece(4, sealed, "", UNSEALED_DIGEST)], codec="gzip", seal=SEAL)
