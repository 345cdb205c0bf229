"""What holds for any text, byte and position."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baton.content.blob import pack_blob, unpack_blob
from baton.content.chunking import (
    CHUNK_LIMIT_BYTES,
    average_chunk_bytes,
    character_start,
    cut_points,
)
from baton.content.chunks import StoredPiece, join, split
from baton.content.compression import CODECS, compress, decompress
from baton.content.digests import compute_version_hash, content_hash, stored_digest
from baton.content.text import decode_text, encode_text
from baton.content.wire_chunks import assemble_context, chunk_context
from baton.errors import ContextCorruptError, InvalidTextError

unhurried = settings(deadline=None)

MIB = 1_048_576

# Short texts, and long ones of few different lines in mixed scripts.
lines = st.lists(
    st.one_of(st.text(), st.sampled_from(["ok\n", "слово ", "👩‍👩‍👧", "漢字", "a", "\r\n"])),
    min_size=1,
    max_size=8,
)
texts = st.one_of(
    st.text(),
    st.builds(lambda parts, times: "".join(parts) * times, lines, st.integers(0, 2_000)),
)
averages = st.sampled_from([256, 1_024, 8_192])
codecs = st.sampled_from(CODECS)


def stored_pieces(pieces):
    first = {piece.digest: piece for piece in pieces if piece.stored is not None}
    return [
        StoredPiece(piece.size_bytes, first[piece.digest].stored, first[piece.digest].stored_digest)
        for piece in pieces
    ]


@unhurried
@given(st.text(alphabet=st.characters()))
def test_encoding_is_exact_or_refused(text):
    """Any str either comes back as it was or is refused at the index of a surrogate."""
    try:
        data = encode_text(text)
    except InvalidTextError as error:
        index = int(str(error).rstrip(">").rpartition(" ")[2])
        assert "\ud800" <= text[index] <= "\udfff"
    else:
        assert decode_text(data) == text


@unhurried
@given(texts, averages, codecs)
def test_split_then_join_is_the_identity(text, average_bytes, codec):
    """For any text, average and codec, with every byte checked."""
    data = text.encode()
    pieces = split(data, average_bytes=average_bytes, codec=codec)
    parts, digest = stored_pieces(pieces), content_hash(data)
    assert join(parts, codec=codec, size_bytes=len(data), content_hash=digest) == text


@unhurried
@given(texts, averages)
def test_cut_points_of_text_are_whole(text, average_bytes):
    """Ascending, ending at the end, never empty, too large or within a character."""
    data = text.encode()
    ends = cut_points(data, average_bytes)
    starts = [0, *ends][: len(ends)]
    assert ends[-1:] == ([len(data)] if data else [])
    for start, end in zip(starts, ends, strict=True):
        assert 0 < end - start <= min(CHUNK_LIMIT_BYTES, 4 * average_bytes)
        assert data[start:end].decode()


@unhurried
@given(texts, texts, averages, st.sampled_from([0, 7]))
def test_an_appendix_leaves_the_cuts_before_the_last_chunk(text, appendix, average_bytes, seed):
    """The cuts of a whole are the kept ones, then those of the last chunk with the appendix."""
    data, whole = text.encode(), (text + appendix).encode()
    kept = cut_points(data, average_bytes, seed)[:-1]
    start = kept[-1] if kept else 0
    behind = [start + end for end in cut_points(whole[start:], average_bytes, seed)]
    assert cut_points(whole, average_bytes, seed) == kept + behind


@unhurried
@given(st.binary(max_size=5_000), averages)
def test_cut_points_stand_any_bytes(data, average_bytes):
    """What is not text is cut all the same, without loss."""
    ends = cut_points(data, average_bytes)
    assert ends == sorted(set(ends))
    assert ends[-1:] == ([len(data)] if data else [])


@unhurried
@given(st.binary(max_size=50), st.integers(0, 60))
def test_character_start_moves_back_by_three_at_most(data, offset):
    """Also for bytes that are no text and offsets behind the end."""
    assert 0 <= offset - character_start(data, offset) <= 3


@unhurried
@given(st.integers(0, 1 << 40), st.one_of(st.none(), st.integers(-5, 1 << 20)))
def test_average_is_always_a_class(size_bytes, previous):
    """A power of two from 8 to 256 KiB, and stable once chosen."""
    average_bytes = average_chunk_bytes(size_bytes, previous)
    assert average_bytes in {8_192 << power for power in range(6)}
    if size_bytes >= 2 * MIB // 16:
        assert average_chunk_bytes(size_bytes, average_bytes) == average_bytes


@unhurried
@given(st.binary(max_size=3_000), codecs, st.data())
def test_a_flipped_stored_byte_is_found(plain, codec, data):
    """In a piece, whatever its codec makes of it."""
    stored = bytearray(compress(b"." + plain, codec))
    digest = stored_digest(bytes(stored))
    stored[data.draw(st.integers(0, len(stored) - 1))] ^= data.draw(st.integers(1, 255))
    piece = StoredPiece(len(plain) + 1, bytes(stored), digest)
    with pytest.raises(ContextCorruptError, match="piece 0: stored digest differs"):
        join([piece], codec=codec, size_bytes=len(plain) + 1, content_hash="")


@unhurried
@given(st.binary(max_size=3_000), codecs, st.data())
def test_a_flipped_blob_byte_is_found(plain, codec, data):
    """Anywhere in it; unharmed it comes back as it was."""
    stored = bytearray(pack_blob(plain, codec))
    assert unpack_blob(bytes(stored), limit_bytes=3_000) == plain
    stored[data.draw(st.integers(0, len(stored) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(ContextCorruptError):
        unpack_blob(bytes(stored), limit_bytes=3_000)


@unhurried
@given(st.binary(max_size=3_000), st.sampled_from(["gzip", "zstd"]), st.integers(0, 10_000))
def test_decompress_gives_the_declared_size_or_refuses(garbage, codec, size_bytes):
    """Garbage never gets through as anything else."""
    try:
        plain = decompress(garbage, codec, size_bytes)
    except ContextCorruptError:
        return
    assert len(plain) == size_bytes


@settings(deadline=None, max_examples=25)
@given(lines.filter(any), st.integers(-3, 3), st.integers(0, 1_000))
def test_chunk_then_assemble_is_the_identity(parts, beyond, overlap_tokens):
    """For any text about 1 or 2 MiB long, whose cuts fall anywhere in its characters."""
    unit = "".join(parts)
    text = unit * (MIB // len(unit.encode()) + beyond + 3)
    chunks = chunk_context(text, overlap_tokens=overlap_tokens)
    assert all(chunk["size_bytes"] <= MIB for chunk in chunks)
    assert assemble_context(chunks, content_hash=compute_version_hash(text)) == text


@pytest.mark.parametrize("unit", ["слово 👍 ", "ok\n"])
@pytest.mark.parametrize("size_bytes", [MIB - 1, MIB, MIB + 1, 10_000_000])
def test_chunk_then_assemble_is_the_identity_at_the_limits(unit, size_bytes):
    """Around 1 MiB and at 10 MB."""
    size = len(unit.encode())
    text = unit * (size_bytes // size) + "." * (size_bytes % size)
    assert len(text.encode()) == size_bytes
    assert assemble_context(chunk_context(text)) == text
