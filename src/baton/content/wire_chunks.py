"""The protocol's public chunk dicts: exact byte ranges with a verified overlap, for export."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, Final

from baton.content.chunking import CHUNK_LIMIT_BYTES, character_start
from baton.content.compression import compress, decompress
from baton.content.digests import hash_bytes
from baton.content.parallel import map_parallel
from baton.content.text import decode_text, encode_text
from baton.content.tokens import BYTES_PER_TOKEN, estimate_tokens
from baton.errors import ContextCorruptError, ContextTooLargeError, InvalidInputError

_LIMIT_BYTES: Final = 256 * 1_048_576


@dataclass(frozen=True, slots=True)
class _Record:
    """A chunk dict whose fields have the right types."""

    chunk_id: int
    offset_bytes: int
    size_bytes: int
    content: str

    @property
    def end_bytes(self) -> int:
        return self.offset_bytes + self.size_bytes


def chunk_context(
    context: str, chunk_size_mb: int = 1, overlap_tokens: int = 500
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
    ranges = list(enumerate(_ranges(data, limit_bytes, overlap_bytes)))
    return map_parallel(partial(_as_dict, memoryview(data)), ranges, size_bytes=len(data))


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
        ContextTooLargeError: the content would exceed `limit_bytes`; nothing was decompressed.
        ContextCorruptError: a chunk is missing, repeated or out of order, its bytes are not what
            it declares, an overlap or the content's hash differs.
    """
    if isinstance(chunks, str | bytes) or not isinstance(chunks, Sequence):
        raise InvalidInputError("chunks", "a list of chunks", f"<{type(chunks).__name__}>")
    records = [_read(chunk, f"chunks[{index}]") for index, chunk in enumerate(chunks)]
    _check_order(records)
    _check_limit(records, limit_bytes)
    data = bytearray()
    for record in records:
        _append(data, record)
    if content_hash is not None:
        _check_hash(data, content_hash)
    return decode_text(data)


def _ranges(data: bytes, limit_bytes: int, overlap_bytes: int) -> list[tuple[int, int]]:
    start, end = 0, _end(data, limit_bytes)
    ranges = [(start, end)]
    while end < len(data):
        # Forward to a whole character: the overlap is at most what was asked for.
        start = _next_character(data, end - overlap_bytes)
        end = _end(data, start + limit_bytes)
        ranges.append((start, end))
    return ranges


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


def _read(chunk: object, path: str) -> _Record:
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
    return _Record(numbers["chunk_id"], numbers["offset_bytes"], numbers["size_bytes"], content)


def _check_integer(value: object, field: str, minimum: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
        raise InvalidInputError(field, f"an integer from {minimum}", value)
    return value


def _check_ratio(value: object, field: str) -> None:
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf:
        return
    raise InvalidInputError(field, "a number from 0", value)


def _check_order(records: Sequence[_Record]) -> None:
    """Ids count up from 0, and each range begins within the one before and ends after it."""
    if not records:
        raise ContextCorruptError("no chunks; an empty context has one")
    for index, record in enumerate(records):
        if record.chunk_id != index:
            raise ContextCorruptError(f"chunk {index}: its chunk_id is {record.chunk_id}")
    if records[0].offset_bytes != 0:
        raise ContextCorruptError(f"chunk 0: begins at byte {records[0].offset_bytes}")
    for before, record in pairwise(records):
        if record.offset_bytes > before.end_bytes:
            raise ContextCorruptError(f"chunk {record.chunk_id}: bytes are missing before it")
        if record.offset_bytes <= before.offset_bytes or record.end_bytes <= before.end_bytes:
            raise ContextCorruptError(f"chunk {record.chunk_id}: lies within the one before")


def _check_limit(records: Sequence[_Record], limit_bytes: int) -> None:
    """The last range ends last, so that it bounds each chunk and the whole."""
    if records[-1].end_bytes > limit_bytes:
        path = f"chunks[{len(records) - 1}].size_bytes"
        expected = f"a content of at most {limit_bytes} bytes"
        raise ContextTooLargeError(path, expected, records[-1].end_bytes)


def _append(data: bytearray, record: _Record) -> None:
    plain = _decode(record)
    overlap_bytes = len(data) - record.offset_bytes
    if data[record.offset_bytes :] != plain[:overlap_bytes]:
        raise ContextCorruptError(f"chunk {record.chunk_id}: overlap differs")
    data += plain[overlap_bytes:]


def _decode(record: _Record) -> bytes:
    try:
        stored = base64.b64decode(record.content, validate=True)
        return decompress(stored, "gzip", record.size_bytes)
    except ValueError as error:
        raise ContextCorruptError(f"chunk {record.chunk_id}: not base64") from error
    except ContextCorruptError as error:
        raise ContextCorruptError(f"chunk {record.chunk_id}: {error}") from error


def _check_hash(data: bytearray, content_hash: object) -> None:
    if not isinstance(content_hash, str):
        raise InvalidInputError("content_hash", "'sha256:...'", f"<{type(content_hash).__name__}>")
    algo = content_hash.partition(":")[0]
    if hash_bytes(data, algo, field="content_hash") != content_hash:
        raise ContextCorruptError("the content's hash differs, or its last chunks are missing")
