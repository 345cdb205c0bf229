"""Parts of a version: byte ranges, and the overlapping chunks a model reads a long context by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from baton.content.chunking import character_start
from baton.content.text import decode_text
from baton.errors import InvalidInputError
from baton.store.read_chunks import ReadChunks
from baton.store.records import Extract

if TYPE_CHECKING:
    from baton.store.heads import OpenedVersion
    from baton.store.keys import SessionKeys
    from baton.store.reading import ContextReader
    from baton.store.records import ReadChunk


class Extracts:
    """Reads parts of versions; fetches no more than it needs."""

    def __init__(self, reader: ContextReader) -> None:
        self._reader = reader
        self._chunks = ReadChunks(reader)

    def range(
        self, keys: SessionKeys, version: str | None, start_byte: int, end_byte: int | None
    ) -> Extract:
        """The characters that begin in the range; see `ContextStore.read_range`."""
        return self._reader.with_version(
            keys,
            keys.session_id,
            version,
            lambda opened: self._range(opened, start_byte, end_byte),
        )

    def chunk(
        self, keys: SessionKeys, version: str | None, index: int, overlap_tokens: int
    ) -> ReadChunk:
        """One of the chunks that the protocol cuts a context into."""
        return self._reader.with_version(
            keys,
            keys.session_id,
            version,
            lambda opened: self._chunks.get(opened, index, overlap_tokens),
        )

    def position(
        self, keys: SessionKeys, version: str | None, byte_position: int, *, exact: bool
    ) -> tuple[str, int]:
        """The version, and the byte position: as given, or moved back to its character's start.

        Raises:
            InvalidInputError: it is past the end; or within a character, and `exact`.
        """

        def check(opened: OpenedVersion) -> tuple[str, int]:
            size_bytes = opened.manifest.size_bytes
            if byte_position > size_bytes:
                raise InvalidInputError("byte_position", f"0 to {size_bytes}", byte_position)
            found = self._snapped(opened, byte_position)
            if exact and found != byte_position:
                expected = f"the first byte of a character, such as {found}"
                raise InvalidInputError("byte_position", expected, byte_position)
            return opened.manifest.version, found

        return self._reader.with_version(keys, keys.session_id, version, check)

    def _range(self, opened: OpenedVersion, start_byte: int, end_byte: int | None) -> Extract:
        size_bytes = opened.manifest.size_bytes
        end = size_bytes if end_byte is None else min(end_byte, size_bytes)
        start = min(start_byte, end)
        # One byte more tells whether the end is within a character.
        data, first_byte = self._reader.part(opened, start, min(end + 1, size_bytes))
        start = first_byte + character_start(data, start - first_byte)
        end = first_byte + character_start(data, end - first_byte)
        return Extract(
            content=decode_text(data[start - first_byte : end - first_byte]),
            session_id=opened.manifest.session_id,
            version=opened.manifest.version,
            start_byte=start,
            end_byte=end,
            size_bytes=size_bytes,
        )

    def _snapped(self, opened: OpenedVersion, byte_position: int) -> int:
        if byte_position >= opened.manifest.size_bytes:
            return byte_position
        data, first_byte = self._reader.part(opened, byte_position, byte_position + 1)
        return first_byte + character_start(data, byte_position - first_byte)
