"""Where a content is cut: by what stands there, so that an edit moves no cut but its neighbours."""

from __future__ import annotations

from typing import Final

from pyfastcdc import FastCDC

from baton.errors import InvalidInputError

CHUNK_LIMIT_BYTES: Final = 1_048_576

_KIB: Final = 1024
_CLASSES_BYTES: Final = tuple(size * _KIB for size in (8, 16, 32, 64, 128, 256))
_CHUNKS_AIMED_AT: Final = 64
_SMALLEST_AVERAGE_BYTES: Final = 256
_CHARACTER_LIMIT_BYTES: Final = 4

# The cut points' definition, with FastCDC's 2020 gear table. Contents cut otherwise still read
# well, but share no chunks with those stored before: change none of these lightly.
_NORMALIZATION: Final = 1
_MIN_DIVISOR: Final = 4
_MAX_FACTOR: Final = 4

# The extension doubles it within 64 bits.
_SEED_LIMIT: Final = 1 << 63


def average_chunk_bytes(size_bytes: int, previous: int | None = None) -> int:
    """The average chunk size for a content: a power of two from 8 KiB to 256 KiB.

    It is a 64th of the content, rounded down. `previous`, the average of the version before, is
    kept while a 64th stays within a factor of four of it: another average shares no chunks.
    """
    if previous in _CLASSES_BYTES:
        aimed_at = _CHUNKS_AIMED_AT * previous
        if aimed_at <= 4 * size_bytes and size_bytes <= 4 * aimed_at:
            return previous
    share = max(1, size_bytes // _CHUNKS_AIMED_AT)
    power = 1 << (share.bit_length() - 1)
    return min(max(power, _CLASSES_BYTES[0]), _CLASSES_BYTES[-1])


def cut_points(data: bytes, average_bytes: int, seed: int = 0) -> list[int]:
    """The ascending end offsets of the chunks of `data`; the last is its length.

    Empty data has none. No chunk is empty or above `CHUNK_LIMIT_BYTES`, and where `data` is
    UTF-8 none splits a character. Equal arguments give equal cuts on every platform; another
    `seed` gives others.

    A cut follows from what stands between the one before and itself, and from the beginning of
    the next character. So the cuts before the last chunk hold whatever is appended to a text, and
    those behind them are the cuts of the last chunk with the appendix.

    Raises:
        InvalidInputError: `average_bytes` is not from 256 bytes to 256 KiB, or `seed` not from 0
            to 2**63 - 1; the error does not show it.
    """
    if not _SMALLEST_AVERAGE_BYTES <= average_bytes <= _CLASSES_BYTES[-1]:
        raise InvalidInputError("average_bytes", "256 to 262144", average_bytes)
    if not 0 <= seed < _SEED_LIMIT:
        raise InvalidInputError("seed", "0 to 2**63 - 1", "<hidden>")
    cutter = FastCDC(
        average_bytes,
        min_size=average_bytes // _MIN_DIVISOR,
        max_size=average_bytes * _MAX_FACTOR,
        normalized_chunking=_NORMALIZATION,
        seed=seed,
    )
    view = memoryview(data)
    ends: list[int] = []
    start = 0
    while start < len(data):
        for chunk in cutter.cut_buf(view[start:]):
            cut = start + chunk.offset + chunk.length
            ends.append(character_start(data, cut))
            if ends[-1] != cut:
                break  # the next chunk begins here, so its cut counts from here
        start = ends[-1]
    return ends


def character_start(data: bytes, offset: int) -> int:
    """`offset`, or the start of the UTF-8 character that it would split, at most 3 bytes before.

    Where `data` is not UTF-8 there, `offset` as it is.
    """
    for start in range(offset, max(offset - _CHARACTER_LIMIT_BYTES, -1), -1):
        if start >= len(data) or not _continues(data[start]):
            return start
    return offset


def _continues(byte: int) -> bool:
    return byte & 0b1100_0000 == 0b1000_0000
