import gzip
import struct
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import pytest
import zstandard

from baton.content.compression import CODECS, compress, decompress
from baton.errors import ContextCorruptError, InvalidInputError, UnsupportedFormatError

PLAIN = b"some plain bytes, " * 500
SIZE = len(PLAIN)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("data", [b"", b"x", PLAIN, bytes(range(256))])
def test_compression_round_trip_is_exact(codec, data):
    """Each codec gives back what it was given, from bytes and from a view."""
    assert decompress(compress(data, codec), codec, len(data)) == data
    assert decompress(compress(memoryview(data), codec), codec, len(data)) == data


def test_gzip_is_gzip_and_has_no_time():
    """Any gzip reads it, and the header's time is 0."""
    stored = compress(PLAIN, "gzip")
    assert gzip.decompress(stored) == PLAIN
    assert stored[4:8] == bytes(4)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("size_bytes", [-1, 0, SIZE - 1, SIZE + 1])
def test_decompress_wants_the_exact_size(codec, size_bytes):
    """One byte more or fewer than declared is corrupt."""
    with pytest.raises(ContextCorruptError, match="declared"):
        decompress(compress(PLAIN, codec), codec, size_bytes)


@pytest.mark.parametrize("codec", ["gzip", "zstd", "brotli"])
@pytest.mark.parametrize("data", [b"", b"x", PLAIN])
@pytest.mark.parametrize("tail", [b"\0", b"junk", "again"])
def test_decompress_refuses_bytes_after_the_end(codec, data, tail):
    """Neither trailing bytes nor a second member or frame pass, after an empty one either."""
    stored = compress(data, codec)
    with pytest.raises(ContextCorruptError):
        decompress(stored + (stored if tail == "again" else tail), codec, len(data))


@pytest.mark.parametrize("codec", ["gzip", "zstd", "brotli"])
def test_decompress_refuses_every_truncation(codec):
    """No proper prefix passes, the empty one included."""
    stored = compress(PLAIN, codec)
    for length in range(len(stored)):
        with pytest.raises(ContextCorruptError):
            decompress(stored[:length], codec, SIZE)


def test_gzip_checks_its_own_sum():
    """A wrong CRC or length in the trailer is corrupt."""
    stored = compress(PLAIN, "gzip")
    for position in range(len(stored) - 8, len(stored)):
        damaged = bytearray(stored)
        damaged[position] ^= 1
        with pytest.raises(ContextCorruptError, match="gzip"):
            decompress(bytes(damaged), "gzip", SIZE)


@pytest.mark.parametrize("codec", ["gzip", "zstd", "brotli"])
def test_bombs_are_refused_without_allocation(codec):
    """100 MB behind a declared 1 KB costs kilobytes."""
    bomb = compress(bytes(100_000_000), codec)
    tracemalloc.start()
    try:
        with pytest.raises(ContextCorruptError, match="declared 1000 bytes"):
            decompress(bomb, codec, 1_000)
        assert tracemalloc.get_traced_memory()[1] < 200_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("size_bytes", [0, 1, 32_751, 32_752, 32_753, 98_272, 1_048_576])
def test_brotli_ends_exactly_at_any_size(size_bytes):
    """Its decoder returns blocks of 32,752 bytes; one byte more or fewer than declared shows."""
    stored = compress(bytes(size_bytes), "brotli")
    assert decompress(stored, "brotli", size_bytes) == bytes(size_bytes)
    for wrong in (size_bytes - 1, size_bytes + 1):
        with pytest.raises(ContextCorruptError, match="declared"):
            decompress(stored, "brotli", wrong)
    with pytest.raises(ContextCorruptError, match="bytes follow the end"):
        decompress(stored + b"\0", "brotli", size_bytes)


def test_brotli_allocates_little_more_than_it_returns():
    """Its own limit alone would allow up to twice the size."""
    stored = compress(bytes(20_000_000), "brotli")
    tracemalloc.start()
    try:
        with pytest.raises(ContextCorruptError, match="above the declared"):
            decompress(stored, "brotli", 2_100_000)
        assert tracemalloc.get_traced_memory()[1] < 2_300_000
    finally:
        tracemalloc.stop()


def test_zstd_wants_the_content_size_in_the_frame():
    """A frame without its size, or one to be skipped, is corrupt."""
    sizeless = zstandard.ZstdCompressor(write_content_size=False).compress(PLAIN)
    skippable = struct.pack("<II", 0x184D2A50, SIZE) + PLAIN
    empty_skippable = struct.pack("<II", 0x184D2A50, 0)
    for stored, size_bytes in ((sizeless, SIZE), (skippable, SIZE), (empty_skippable, 0)):
        with pytest.raises(ContextCorruptError, match="zstd"):
            decompress(stored, "zstd", size_bytes)


def test_zstd_works_from_many_threads():
    """Threads share no compressor."""
    blocks = [bytes([number]) * 50_000 for number in range(64)]
    with ThreadPoolExecutor(8) as pool:
        stored = list(pool.map(lambda block: compress(block, "zstd"), blocks))
    assert [decompress(item, "zstd", 50_000) for item in stored] == blocks


def test_unknown_codecs_are_named():
    """Writing with one is invalid input; reading one is a format of another Baton."""
    with pytest.raises(
        InvalidInputError, match="compression: expected one of gzip, zstd, brotli, none"
    ):
        compress(b"x", "lzma")
    with pytest.raises(UnsupportedFormatError, match=r"'br'; .*reads gzip, zstd, brotli, none"):
        decompress(b"x", "br", 1)
