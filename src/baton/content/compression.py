"""Codecs of stored bytes; decompression is bounded by the declared size before it allocates."""

from __future__ import annotations

import threading
from typing import Final, Literal, cast, get_args

import brotli
import zstandard
from isal import igzip, isal_zlib

from baton.errors import ContextCorruptError, InvalidInputError, UnsupportedFormatError

Codec = Literal["gzip", "zstd", "brotli", "none"]
CODECS: Final[tuple[Codec, ...]] = get_args(Codec)

_GZIP_LEVEL: Final = 1
_GZIP_WBITS: Final = 31
# On 128 KiB chunks of text, level 3 takes 1.6 of igzip's time and is a tenth smaller; level 1
# takes 1.3 and is a twentieth smaller.
_ZSTD_LEVEL: Final = 3
_ZSTD_EMPTY_FRAME: Final = bytes.fromhex("28b52ffd2000010000")
# On 1 MiB of source text, 5 gives two fifths of igzip's size in seven times its time; from there
# each level takes longer for a hundredth less, until 10 takes twenty times as long for a tenth.
_BROTLI_QUALITY: Final = 5
# What one call may return. A larger limit would be exceeded by up to as much again:
# https://github.com/google/brotli/issues/1396
_BROTLI_STEP_BYTES: Final = 32_752


class _Compressors(threading.local):
    """One zstd compressor a thread: they are not thread-safe, and a new one costs 0.2 ms."""

    def __init__(self) -> None:
        self.zstd = zstandard.ZstdCompressor(level=_ZSTD_LEVEL)


_compressors = _Compressors()


def compress(data: bytes | memoryview, codec: Codec) -> bytes:
    """`data` in one gzip member, zstd frame with its content size or brotli stream, or as it is.

    On one machine the same data gives the same bytes; igzip's may differ between CPUs.

    Raises:
        InvalidInputError: an unknown codec.
    """
    if codec == "gzip":
        return igzip.compress(data, _GZIP_LEVEL, mtime=0)
    if codec == "zstd":
        return _compressors.zstd.compress(data)
    if codec == "brotli":
        return cast("bytes", brotli.compress(data, quality=_BROTLI_QUALITY))
    if codec == "none":
        return bytes(data)
    raise InvalidInputError("compression", f"one of {', '.join(CODECS)}", codec)


def decompress(stored: bytes, codec: str, size_bytes: int) -> bytes:
    """The `size_bytes` plain bytes that `stored` holds; never allocates more than about that.

    brotli adds a window of at most 16 MiB. Of all codecs it alone carries no sum of its content.

    Raises:
        ContextCorruptError: `stored` is not one whole member, frame or stream of exactly that size.
        UnsupportedFormatError: an unknown codec.
    """
    if size_bytes < 0:
        raise ContextCorruptError(f"declared size is {size_bytes} bytes")
    if codec == "gzip":
        plain = _gunzip(stored, size_bytes)
    elif codec == "zstd":
        plain = _unzstd(stored, size_bytes)
    elif codec == "brotli":
        plain = _unbrotli(stored, size_bytes)
    elif codec == "none":
        plain = stored
    else:
        raise UnsupportedFormatError(
            f"compression has format {codec[:40]!r}; this Baton reads {', '.join(CODECS)}. "
            "Upgrade Baton to read it."
        )
    if len(plain) != size_bytes:
        raise ContextCorruptError(f"{codec}: not the declared {size_bytes} bytes")
    return plain


def _gunzip(stored: bytes, size_bytes: int) -> bytes:
    decoder = isal_zlib.decompressobj(_GZIP_WBITS)
    try:
        # One byte more, so that the end of the member is seen; and 0 would mean without bound.
        plain = decoder.decompress(stored, size_bytes + 1)
    except isal_zlib.error as error:  # type: ignore[misc]  # its stub takes it for an instance
        raise ContextCorruptError(f"gzip: {error}") from error
    if not decoder.eof:
        raise ContextCorruptError(f"gzip: cut short, or above the declared {size_bytes} bytes")
    if decoder.unused_data:
        raise ContextCorruptError("gzip: bytes follow the end")
    return plain


def _unzstd(stored: bytes, size_bytes: int) -> bytes:
    try:
        declared_bytes = zstandard.get_frame_parameters(stored).content_size
        if declared_bytes != size_bytes:
            raise ContextCorruptError(f"zstd: not the declared {size_bytes} bytes")
        # python-zstandard returns at a size of 0 and looks no further.
        if size_bytes == 0 and stored != _ZSTD_EMPTY_FRAME:
            raise ContextCorruptError("zstd: bytes follow the end")
        return zstandard.ZstdDecompressor().decompress(stored, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise ContextCorruptError(f"zstd: {error}") from error


def _unbrotli(stored: bytes, size_bytes: int) -> bytes:
    decoder = brotli.Decompressor()
    parts: list[bytes] = []
    plain_bytes, left = 0, stored
    try:
        # All of `stored` goes in at once: only so does the decoder see what follows the end.
        while plain_bytes <= size_bytes and not decoder.is_finished():
            part = decoder.process(left, output_buffer_limit=_BROTLI_STEP_BYTES)
            if not part and not decoder.is_finished():
                raise ContextCorruptError("brotli: cut short")
            parts.append(part)
            plain_bytes, left = plain_bytes + len(part), b""
    except brotli.error as error:
        raise ContextCorruptError("brotli: damaged, or bytes follow the end") from error
    if not decoder.is_finished():
        raise ContextCorruptError(f"brotli: above the declared {size_bytes} bytes")
    return b"".join(parts)
