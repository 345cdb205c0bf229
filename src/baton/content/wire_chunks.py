"""The protocol's public chunk dicts: exact byte ranges with a verified overlap, for export."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, Final, NamedTuple

from baton.content.chunking import CHUNK_LIMIT_BYTES, character_start
from baton.content.compression import compress, decompress
from baton.content.digests import hash_bytes
from baton.content.parallel import map_parallel
from baton.content.text import decode_text, encode_text
from baton.content.tokens import BYTES_PER_TOKEN, estimate_tokens
from baton.errors import ContextCorruptError, ContextTooLargeError, InvalidInputError

OVERLAP_TOKENS: Final = 500
OVERLAP_BYTES: Final = OVERLAP_TOKENS * BYTES_PER_TOKEN

_LIMIT_BYTES: Final = 256 * 1_048_576
_GZIP_MAGIC: Final = b"\x1f\x8b"


class WireChunk(NamedTuple):
    """A chunk dict whose fields have the right types; `content` is Base64."""

    chunk_id: int
    offset_bytes: int
    size_bytes: int
    content: str

    @property
    def end_bytes(self) -> int:
        """Where its range ends."""
        return self.offset_bytes + self.size_bytes


def chunk_context(
    context: str, chunk_size_mb: int = 1, overlap_tokens: int = OVERLAP_TOKENS
) -> list[dict[str, Any]]:
    """Cut `context` into the protocol's chunk dicts, for a reader that takes one at a time.

    Each holds at most `chunk_size_mb` MiB of UTF-8, its overlap included, and begins with the
    last `4 * overlap_tokens` bytes of the one before, or up to 3 fewer: no character is split.
    Its fields: `chunk_id` from 0; `offset_bytes` and `size_bytes`, exact, overlap included;
    `offset_tokens` and `size_tokens`, estimates; `compression_ratio`, compressed by plain size
    (1.0 if empty); `content`, the base64 of its gzip. An empty context is one empty chunk.

    Raises:
        InvalidInputError: `context` is not text, `chunk_size_mb` not an integer from 1,
            `overlap_tokens` not one from 0, or the overlap is more than half of the chunk:
            beyond that the chunks of a small context are many times its size.
        InvalidTextError: `context` holds a lone surrogate.
    """
    data = encode_text(context, "context")
    _check_integer(chunk_size_mb, "chunk_size_mb", minimum=1)
    _check_integer(overlap_tokens, "overlap_tokens", minimum=0)
    limit_bytes = chunk_size_mb * CHUNK_LIMIT_BYTES
    overlap_bytes = overlap_tokens * BYTES_PER_TOKEN
    if 2 * overlap_bytes > limit_bytes:
        most = limit_bytes // 2 // BYTES_PER_TOKEN
        raise InvalidInputError(
            "overlap_tokens", f"at most {most}, half of a chunk", overlap_tokens
        )
    ranges = list(enumerate(chunk_ranges(data, limit_bytes, overlap_bytes)))
    return map_parallel(partial(_as_dict, memoryview(data)), ranges, size_bytes=len(data))


def chunk_ranges(data: bytes, limit_bytes: int, overlap_bytes: int) -> list[tuple[int, int]]:
    """The `(start, end)` of each chunk of `data`, at most `limit_bytes` long, overlap included.

    Each begins `overlap_bytes` before the end of the one before, or up to 3 fewer, and none
    splits a character. Empty data is one empty range.
    """
    start, end = 0, _end(data, limit_bytes)
    ranges = [(start, end)]
    while end < len(data):
        # Forward to a whole character: the overlap is at most what was asked for.
        start = _next_character(data, end - overlap_bytes)
        end = _end(data, start + limit_bytes)
        ranges.append((start, end))
    return ranges


def cut_chunks(
    pieces: Iterable[bytes],
    *,
    limit_bytes: int = CHUNK_LIMIT_BYTES,
    overlap_bytes: int = OVERLAP_BYTES,
) -> Iterator[tuple[int, bytes]]:
    """Yield `(offset_bytes, plain bytes)` of each chunk that `chunk_context` makes of a text.

    `pieces` are the text's UTF-8, cut anywhere. Holds two chunks, whatever the text's size.
    """
    held, offset = bytearray(), 0
    for piece in pieces:
        view = memoryview(piece)
        for begin in range(0, len(view), limit_bytes):
            held += view[begin : begin + limit_bytes]
            while len(held) > limit_bytes:
                data = bytes(held)
                (_, end), (start, _) = chunk_ranges(data, limit_bytes, overlap_bytes)[:2]
                yield offset, data[:end]
                del held[:start]
                offset += start
    yield offset, bytes(held)


def assemble_context(
    chunks: Sequence[Mapping[str, Any]],
    *,
    content_hash: str | None = None,
    limit_bytes: int = _LIMIT_BYTES,
) -> str:
    """The text that `chunk_context` cut into `chunks`, which must be complete and in order.

    Every overlap is compared byte by byte. Chunks do not say how many they are: that the last
    ones are missing shows only against `content_hash`, as `compute_version_hash` made it.
    `compression_ratio` may be absent, and fields beyond the protocol's are ignored.

    Raises:
        InvalidInputError: a field is missing or of the wrong type; names its path, such as
            `chunks[3].offset_bytes`. Or `content_hash` names an unknown algorithm.
        ContextTooLargeError: the content would exceed `limit_bytes`, or its chunks declare more
            than twice the content and 1 MiB; nothing was decompressed.
        ContextCorruptError: a chunk is missing, repeated or out of order, its bytes are not what
            it declares, an overlap or the content's hash differs.
    """
    if isinstance(chunks, str | bytes) or not isinstance(chunks, Sequence):
        raise InvalidInputError("chunks", "a list of chunks", f"<{type(chunks).__name__}>")
    records = [_read(chunk, f"chunks[{index}]") for index, chunk in enumerate(chunks)]
    if not records:
        raise ContextCorruptError("chunks: none; an empty context has one")
    check_chunks(records, limit_bytes=limit_bytes)
    data = b"".join(open_chunks(records, codec="gzip"))
    if content_hash is not None:
        _check_hash(data, content_hash)
    return decode_text(data)


def check_chunks(chunks: Sequence[WireChunk], *, limit_bytes: int, path: str = "chunks") -> None:
    """Hold what chunks declare to each other and to a limit; `path` names them in errors.

    Raises:
        ContextCorruptError: ids do not count up from 0, or a range does not begin within the one
            before, or right behind it, and end after it.
        ContextTooLargeError: the content would exceed `limit_bytes`, or the chunks declare more
            than twice the content and 1 MiB: few bytes would decompress to many.
    """
    for index, chunk in enumerate(chunks):
        if chunk.chunk_id != index:
            raise ContextCorruptError(
                f"{path}[{index}].chunk_id: expected {index}, got {chunk.chunk_id}"
            )
    for before, chunk in pairwise((WireChunk(-1, -1, 1, ""), *chunks)):
        _check_range(before, chunk, f"{path}[{chunk.chunk_id}]")
    if chunks:
        _check_limit(chunks, limit_bytes, path)


def open_chunks(
    chunks: Iterable[WireChunk], *, codec: str | None, path: str = "chunks"
) -> Iterator[bytes]:
    """Yield what each chunk adds, in order; every overlap is compared byte by byte.

    Takes chunks that `check_chunks` has passed, and decompresses each within its declared size.
    Without a `codec` it is gzip or nothing: no UTF-8 has gzip's first two bytes anywhere.

    Raises:
        ContextCorruptError: a content is not Base64 of its bytes, or an overlap differs.
        UnsupportedFormatError: an unknown codec.
    """
    before, end_bytes = b"", 0
    for chunk in chunks:
        where = f"{path}[{chunk.chunk_id}].content"
        plain = _decode(chunk, codec, where)
        overlap_bytes = end_bytes - chunk.offset_bytes
        if before[len(before) - overlap_bytes :] != plain[:overlap_bytes]:
            raise ContextCorruptError(f"{where}: its overlap with the chunk before differs")
        yield plain[overlap_bytes:]
        before, end_bytes = plain, chunk.end_bytes


def _end(data: bytes, wanted: int) -> int:
    return len(data) if wanted >= len(data) else character_start(data, wanted)


def _next_character(data: bytes, offset: int) -> int:
    while character_start(data, offset) != offset:
        offset += 1
    return offset


def _as_dict(data: memoryview, numbered: tuple[int, tuple[int, int]]) -> dict[str, Any]:
    chunk_id, (start, end) = numbered
    compressed = compress(data[start:end], "gzip")
    return {
        "chunk_id": chunk_id,
        "offset_bytes": start,
        "offset_tokens": estimate_tokens(start),
        "size_bytes": end - start,
        "size_tokens": estimate_tokens(end - start),
        "compression_ratio": len(compressed) / (end - start) if end > start else 1.0,
        "content": base64.b64encode(compressed).decode(),
    }


def _read(chunk: object, path: str) -> WireChunk:
    if not isinstance(chunk, Mapping):
        raise InvalidInputError(path, "a chunk with its fields", f"<{type(chunk).__name__}>")
    numbers = {
        name: _check_integer(chunk.get(name), f"{path}.{name}", minimum=0)
        for name in ("chunk_id", "offset_bytes", "offset_tokens", "size_bytes", "size_tokens")
    }
    _check_ratio(chunk.get("compression_ratio", 1.0), f"{path}.compression_ratio")
    content = chunk.get("content")
    if not isinstance(content, str):
        raise InvalidInputError(f"{path}.content", "base64 text", f"<{type(content).__name__}>")
    return WireChunk(numbers["chunk_id"], numbers["offset_bytes"], numbers["size_bytes"], content)


def _check_integer(value: object, field: str, minimum: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
        raise InvalidInputError(field, f"an integer from {minimum}", value)
    return value


def _check_ratio(value: object, field: str) -> None:
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf:
        return
    raise InvalidInputError(field, "a number from 0", value)


def _check_range(before: WireChunk, chunk: WireChunk, path: str) -> None:
    if chunk.offset_bytes > before.end_bytes:
        gap = f"expected at most {before.end_bytes}, got {chunk.offset_bytes}"
        raise ContextCorruptError(f"{path}.offset_bytes: {gap}; bytes are missing before it")
    if chunk.offset_bytes <= before.offset_bytes:
        expected = f"expected above {before.offset_bytes}, got {chunk.offset_bytes}"
        raise ContextCorruptError(f"{path}.offset_bytes: {expected}")
    if chunk.chunk_id > 0 and chunk.end_bytes <= before.end_bytes:
        raise ContextCorruptError(f"{path}.size_bytes: it ends within the chunk before")


def _check_limit(chunks: Sequence[WireChunk], limit_bytes: int, path: str) -> None:
    """The last range ends last, so that it bounds each chunk and the whole."""
    content_bytes = chunks[-1].end_bytes
    if content_bytes > limit_bytes:
        expected = f"a content of at most {limit_bytes} bytes"
        raise ContextTooLargeError(f"{path}[{len(chunks) - 1}].size_bytes", expected, content_bytes)
    # An overlap of half a chunk, the most that `chunk_context` makes, doubles the whole.
    most_bytes = 2 * content_bytes + CHUNK_LIMIT_BYTES
    total_bytes = sum(chunk.size_bytes for chunk in chunks)
    if total_bytes > most_bytes:
        raise ContextTooLargeError(path, f"at most {most_bytes} bytes in all chunks", total_bytes)


def _decode(chunk: WireChunk, codec: str | None, path: str) -> bytes:
    try:
        stored = base64.b64decode(chunk.content, validate=True)
        if codec is None:
            codec = "gzip" if stored.startswith(_GZIP_MAGIC) else "none"
        return decompress(stored, codec, chunk.size_bytes)
    except ValueError as error:
        raise ContextCorruptError(f"{path}: not Base64") from error
    except ContextCorruptError as error:
        raise ContextCorruptError(f"{path}: {error}") from error


def _check_hash(data: bytes, content_hash: object) -> None:
    if not isinstance(content_hash, str):
        raise InvalidInputError("content_hash", "'sha256:...'", f"<{type(content_hash).__name__}>")
    algo = content_hash.partition(":")[0]
    if hash_bytes(data, algo, field="content_hash") != content_hash:
        raise ContextCorruptError("the content's hash differs, or its last chunks are missing")
