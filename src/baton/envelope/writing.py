"""A context written as an envelope, a few chunks at a time."""

from __future__ import annotations

import base64
import hashlib
import json
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, get_args

from baton.content.compression import compress
from baton.content.parallel import map_parallel
from baton.content.text import decode_text
from baton.content.wire_chunks import cut_chunks
from baton.envelope.json_stream import MAX_VALUE_CHARACTERS, MAX_VALUES, count_values
from baton.envelope.model import ROOT, EnvelopeHeader, WireCodec
from baton.envelope.places import CheckpointPlaces, tokens_at
from baton.errors import ContextCorruptError, ContextTooLargeError, InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# Compressed at once, on all cores.
_CHUNKS_AT_ONCE: Final = 4
# The header's share of the values that a reader takes: chunks have up to 14 each.
_MAX_HEADER_VALUES: Final = MAX_VALUES // 2


def write_envelope(
    header: EnvelopeHeader,
    pieces: bytes | Iterable[bytes],
    *,
    compression: WireCodec = "gzip",
) -> Iterator[bytes]:
    """Yield the parts of the JSON document that holds the text whose UTF-8 `pieces` add up to.

    Chunks are cut and overlap as by `chunk_context`; an empty context is one empty chunk. Besides
    what the caller holds, a few chunks are in memory. The content is checked against the header
    as it passes: where it does not fit, an error is raised before the document is whole.

    Raises:
        InvalidInputError: `compression` is none of `gzip`, `brotli`, `none`.
        ContextTooLargeError: the header has more values or characters than a reader takes.
        ContextCorruptError: the content has not the header's size or hash, is not UTF-8, or a
            checkpoint is inside one of its characters.
    """
    if compression not in get_args(WireCodec):
        raise InvalidInputError(
            "compression", f"one of {', '.join(get_args(WireCodec))}", compression
        )
    return _write(header, [pieces] if isinstance(pieces, bytes) else pieces, compression)


def _write(
    header: EnvelopeHeader, pieces: Iterable[bytes], compression: WireCodec
) -> Iterator[bytes]:
    # The header comes first: a reader refuses what it will not take before it reads a chunk.
    yield f'{{"{ROOT}":{_head(header, compression)[:-1]},"chunks":['.encode()
    chunks = cut_chunks(_checked(pieces, header))
    checkpoints = CheckpointPlaces(header.checkpoints, "checkpoints")
    count = 0
    while batch := list(islice(chunks, _CHUNKS_AT_ONCE)):
        for offset_bytes, data in batch:
            decode_text(data)
            checkpoints.check(data, offset_bytes)
        contents = map_parallel(
            partial(_encode, compression=compression),
            [data for _, data in batch],
            size_bytes=sum(len(data) for _, data in batch),
        )
        for (offset_bytes, data), content in zip(batch, contents, strict=True):
            yield _chunk_head(header, count, offset_bytes, len(data))
            yield content
            yield b'"}'
            count += 1
    yield f'],"chunk_count":{count}}}}}\n'.encode()


def _head(header: EnvelopeHeader, compression: WireCodec) -> str:
    """The object of all fields but the chunks and their number."""
    fields = {
        **header.model_dump(mode="json", exclude_none=True),
        # As it was set: in what is carried along, null is a value.
        "metadata": header.metadata.model_dump(mode="json", exclude_unset=True),
        "content_compression": compression,
    }
    for name, value in fields.items():
        if (size := len(_json(value))) > MAX_VALUE_CHARACTERS:
            limit = f"at most {MAX_VALUE_CHARACTERS} characters as JSON"
            raise ContextTooLargeError(name, limit, f"<{size}>")
    text = _json(fields)
    if (count := count_values(text)) > _MAX_HEADER_VALUES:
        raise ContextTooLargeError("header", f"at most {_MAX_HEADER_VALUES} values", f"<{count}>")
    return text


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _checked(pieces: Iterable[bytes], header: EnvelopeHeader) -> Iterator[bytes]:
    """`pieces`; their end is reached only if they are what the header says."""
    hasher, size_bytes = hashlib.sha256(), 0
    for piece in pieces:
        hasher.update(piece)
        size_bytes += len(piece)
        yield piece
    if size_bytes != header.content_size_bytes:
        sizes = f"expected {header.content_size_bytes}, got {size_bytes}"
        raise ContextCorruptError(f"content_size_bytes: {sizes}")
    if f"sha256:{hasher.hexdigest()}" != header.content_hash:
        raise ContextCorruptError("content_hash: the content has another")


def _chunk_head(header: EnvelopeHeader, index: int, offset_bytes: int, size_bytes: int) -> bytes:
    """A chunk's object up to the quote that opens its content."""
    offset_tokens = tokens_at(header, offset_bytes)
    fields = {
        "chunk_id": index,
        "offset_bytes": offset_bytes,
        "offset_tokens": offset_tokens,
        "size_bytes": size_bytes,
        "size_tokens": tokens_at(header, offset_bytes + size_bytes) - offset_tokens,
    }
    return f'{"," if index else ""}{_json(fields)[:-1]},"content":"'.encode()


def _encode(data: bytes, compression: WireCodec) -> bytes:
    return base64.b64encode(compress(data, compression))
