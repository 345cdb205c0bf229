import hashlib
import tracemalloc

import pytest

from baton.content.blob import pack_blob, unpack_blob
from baton.content.compression import CODECS
from baton.errors import ContextCorruptError, ContextTooLargeError, UnsupportedFormatError

DATA = "результат узла 👍\n".encode() * 20


def sealed(first, body):
    """A value whose digest fits, whatever it says."""
    return first + hashlib.blake2b(first + body, digest_size=32).digest() + body


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("data", [b"", b"x", DATA, bytes(range(256))])
def test_blob_round_trip_is_exact(codec, data):
    """With each codec, at exactly the limit."""
    assert unpack_blob(pack_blob(data, codec), limit_bytes=len(data)) == data


@pytest.mark.parametrize(
    ("codec", "number"), [("none", 0), ("gzip", 1), ("zstd", 2), ("brotli", 3)]
)
def test_blob_names_its_codec_by_number(codec, number):
    """The numbers are part of the format."""
    assert pack_blob(DATA, codec)[33] == number


def test_blob_never_grows_by_compression():
    """What does not compress is kept plain, at 42 bytes more."""
    assert len(pack_blob(b"abc")) == 45
    assert len(pack_blob(DATA)) < len(DATA)


@pytest.mark.parametrize("codec", CODECS)
def test_blob_shows_every_flipped_bit(codec):
    """The format byte, the header and the digest itself are covered too."""
    stored = pack_blob(DATA, codec)
    for position in range(len(stored)):
        for bit in range(8):
            damaged = bytearray(stored)
            damaged[position] ^= 1 << bit
            with pytest.raises(ContextCorruptError):
                unpack_blob(bytes(damaged), limit_bytes=1_000_000)


def test_blob_shows_every_truncation_and_a_tail():
    """No prefix passes, and nothing may follow."""
    stored = pack_blob(DATA)
    for damaged in (*(stored[:length] for length in range(len(stored))), stored + b"\0"):
        with pytest.raises(ContextCorruptError):
            unpack_blob(damaged, limit_bytes=1_000_000)


def test_blob_of_a_later_format_is_named():
    """A whole value of format 2 is not corrupt; this Baton does not know it."""
    with pytest.raises(UnsupportedFormatError, match="blob has format 2; this Baton reads 1"):
        unpack_blob(sealed(b"\x02", b"anything"), limit_bytes=100)


def test_blob_of_an_unknown_codec_is_named():
    """Likewise."""
    with pytest.raises(UnsupportedFormatError, match="blob compression has format 9"):
        unpack_blob(sealed(b"\x01", b"\x09" + bytes(8)), limit_bytes=100)


def test_blob_with_a_short_header_is_corrupt():
    """Even where its digest fits."""
    with pytest.raises(ContextCorruptError, match="cut short"):
        unpack_blob(sealed(b"\x01", b"\x01"), limit_bytes=100)


def test_blob_above_the_limit_is_refused_without_allocation():
    """By its declared size, before anything is decompressed; and a lie about it is corrupt."""
    stored = pack_blob(bytes(50_000_000))
    lying = sealed(b"\x01", b"\x01" + (1_000).to_bytes(8, "big") + stored[42:])
    tracemalloc.start()
    try:
        with pytest.raises(ContextTooLargeError, match="at most 1000 bytes, got 50000000"):
            unpack_blob(stored, limit_bytes=1_000)
        with pytest.raises(ContextCorruptError):
            unpack_blob(lying, limit_bytes=1_000)
        assert tracemalloc.get_traced_memory()[1] < 500_000
    finally:
        tracemalloc.stop()
