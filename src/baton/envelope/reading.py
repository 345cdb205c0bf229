"""An envelope read whole or not at all: every field, byte and place in it verified."""

from __future__ import annotations

import codecs
import hashlib
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from baton.content.wire_chunks import WireChunk, check_chunks, open_chunks
from baton.envelope.json_stream import JsonStream
from baton.envelope.model import (
    ROOT,
    Chunk,
    Envelope,
    EnvelopeHeader,
    check_protocol_version,
    shown,
    step,
    validated,
)
from baton.envelope.places import CheckpointPlaces, check_tokens
from baton.errors import ContextCorruptError, ContextTooLargeError, InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_DOCUMENT: Final = "envelope"
_CHUNKS: Final = f"{ROOT}.chunks"
# Beside the content: what a header may take, and what little Base64 and gzip add to a small one.
_MARGIN_CHARACTERS: Final = 16 * 1_048_576


@dataclass(frozen=True, slots=True)
class EnvelopeContent:
    """What an envelope holds, verified."""

    header: EnvelopeHeader
    text: str = field(repr=False)


def read_envelope(
    source: bytes | str | BinaryIO | Mapping[str, Any], *, limit_bytes: int
) -> EnvelopeContent:
    """The context in an envelope, which is JSON text, a file of it, or its parsed document.

    A file is read as a stream: of its text, a chunk is in memory at once. Nothing is decompressed
    before all that the envelope declares is found consistent and within `limit_bytes`.

    Raises:
        InvalidInputError: it is not strict JSON in UTF-8, or a field by itself is wrong: missing,
            unknown, of the wrong type or form, a checkpoint outside of the content. Names its
            path, such as `context_envelope.chunks[3].offset_bytes`.
        ContextTooLargeError: the content declares more than `limit_bytes`, or the document is
            larger, or has more values, than any envelope of such a content.
        ContextCorruptError: fields are well formed, but do not fit each other or the bytes: a
            chunk is missing, repeated or out of order, a content is not what was compressed, an
            overlap, size or hash differs, a checkpoint is inside a character. Names the path.
        UnsupportedFormatError: an envelope of another version of the protocol than 1.0.x.
    """
    if isinstance(source, Mapping):
        members = _of_mapping(source)
    else:
        # Base64 adds a third to at most twice the content, in chunks that overlap by half.
        limit_characters = 3 * limit_bytes + _MARGIN_CHARACTERS
        stream = JsonStream(source, _DOCUMENT, limit_characters=limit_characters)
        members = _of_stream(stream, limit_characters)
    envelope, chunks = _declared(members, limit_bytes)
    text = _content(envelope, chunks, limit_bytes)
    header = {name: getattr(envelope, name) for name in EnvelopeHeader.model_fields}
    return EnvelopeContent(EnvelopeHeader.model_construct(**header), text)


def _of_mapping(document: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The envelope's members in a parsed document, the chunks as an iterator."""
    _check_names(document)
    envelope = document.get(ROOT)
    if not isinstance(envelope, Mapping):
        raise InvalidInputError(ROOT, "an object", f"<{type(envelope).__name__}>")
    for name, value in envelope.items():
        yield name, iter(value) if name == "chunks" and isinstance(value, list) else value


def _of_stream(stream: JsonStream, limit_characters: int) -> Iterator[tuple[str, Any]]:
    """The envelope's members in JSON text, as they come, the chunks as an iterator."""
    found = False
    for key in stream.members():
        _check_names([key])
        found = True
        if stream.peek() != "{":
            raise InvalidInputError(ROOT, "an object", f"<{type(stream.value()).__name__}>")
        for name in stream.members():
            if name == "chunks" and stream.peek() == "[":
                yield name, stream.items(limit_characters)
            else:
                yield name, stream.value()
    if not found:
        raise InvalidInputError(ROOT, "an object", "<nothing>")
    stream.end()


def _check_names(names: Iterable[object]) -> None:
    for name in names:
        if name != ROOT:
            got = f"<a member {name[:40]!r}>" if isinstance(name, str) else "<another key>"
            raise InvalidInputError(_DOCUMENT, f"an object of {ROOT!r} only", got)


def _declared(members: Iterable[tuple[str, Any]], limit_bytes: int) -> tuple[Envelope, list[Chunk]]:
    """The envelope without its chunks, and these, each field of them well formed."""
    fields: dict[str, Any] = {}
    chunks: list[Chunk] = []
    for name, value in members:
        if name == "chunks":
            chunks = _chunks(value)
            continue
        fields[name] = value
        # These at once: a large or a foreign envelope is not read to its end.
        if name not in Envelope.model_fields:
            raise InvalidInputError(f"{ROOT}{step(str(name))}", "no such field", shown(value))
        if name == "content_size_bytes":
            _check_size(value, limit_bytes)
        elif name == "version" and isinstance(value, str):
            check_protocol_version(value, f"{ROOT}.version")
    return validated(Envelope, fields, ROOT), chunks


def _chunks(values: object) -> list[Chunk]:
    if not isinstance(values, Iterator):
        raise InvalidInputError(_CHUNKS, "a list of chunks", f"<{type(values).__name__}>")
    return [validated(Chunk, value, f"{_CHUNKS}[{index}]") for index, value in enumerate(values)]


def _check_size(value: object, limit_bytes: int) -> None:
    if isinstance(value, int) and value > limit_bytes:
        expected = f"at most {limit_bytes} bytes"
        raise ContextTooLargeError(f"{ROOT}.content_size_bytes", expected, shown(value))


def _content(envelope: Envelope, chunks: list[Chunk], limit_bytes: int) -> str:
    """The text that the chunks make up; empties `chunks`, so that each is held until it is read."""
    wire = deque(WireChunk(c.chunk_id, c.offset_bytes, c.size_bytes, c.content) for c in chunks)
    _check_declared(envelope, wire, limit_bytes)
    check_tokens(chunks, envelope.content_size_tokens, _CHUNKS)
    chunks.clear()
    hasher = hashlib.sha256()
    decoder = codecs.getincrementaldecoder("utf-8")()
    checkpoints = CheckpointPlaces(envelope.checkpoints, f"{ROOT}.checkpoints")
    texts: list[str] = []
    offset_bytes = 0
    for data in open_chunks(_drained(wire), codec=envelope.content_compression, path=_CHUNKS):
        hasher.update(data)
        texts.append(_text(decoder, data, offset_bytes))
        checkpoints.check(data, offset_bytes)
        offset_bytes += len(data)
    texts.append(_text(decoder, b"", offset_bytes, final=True))
    if f"sha256:{hasher.hexdigest()}" != envelope.content_hash:
        raise ContextCorruptError(f"{ROOT}.content_hash: the content has another")
    return "".join(texts)


def _check_declared(envelope: Envelope, chunks: Sequence[WireChunk], limit_bytes: int) -> None:
    if len(chunks) != envelope.chunk_count:
        counts = f"expected {len(chunks)}, as many as there are, got {envelope.chunk_count}"
        raise ContextCorruptError(f"{ROOT}.chunk_count: {counts}")
    check_chunks(chunks, limit_bytes=limit_bytes, path=_CHUNKS)
    end_bytes = chunks[-1].end_bytes if chunks else 0
    if end_bytes != envelope.content_size_bytes:
        sizes = f"expected {end_bytes}, where the chunks end, got {envelope.content_size_bytes}"
        raise ContextCorruptError(f"{ROOT}.content_size_bytes: {sizes}")


def _drained(chunks: deque[WireChunk]) -> Iterator[WireChunk]:
    while chunks:
        yield chunks.popleft()


def _text(
    decoder: codecs.IncrementalDecoder, data: bytes, offset_bytes: int, *, final: bool = False
) -> str:
    """The characters that `data` completes; a chunk of another writer's may end inside one."""
    begun_bytes = len(decoder.getstate()[0])
    try:
        return decoder.decode(data, final)
    except UnicodeDecodeError as error:
        place = offset_bytes - begun_bytes + error.start
    raise ContextCorruptError(f"{_CHUNKS}: not UTF-8 at byte {place}")
