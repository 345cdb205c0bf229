"""The chunks that a model reads a version by, found and fetched without the rest of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from baton.content.chunking import CHUNK_LIMIT_BYTES, character_start
from baton.content.text import decode_text
from baton.content.tokens import BYTES_PER_TOKEN
from baton.errors import InvalidInputError
from baton.store.records import ReadChunk
from baton.whole_numbers import check_whole_number

if TYPE_CHECKING:
    from baton.store.heads import OpenedVersion
    from baton.store.reading import ContextReader

MAX_VERSIONS: Final = 100
_OVERLAP_LIMIT_TOKENS: Final = CHUNK_LIMIT_BYTES // (2 * BYTES_PER_TOKEN)
# A cut moves by at most so many bytes, as it splits no character.
_SHIFT_BYTES: Final = 3


class _Cut(NamedTuple):
    """Where a chunk ends, and where the next begins: before that, by the overlap."""

    end_byte: int
    next_byte: int


class ReadChunks:
    """Reads the chunks of `chunk_context` one at a time.

    Where a chunk begins hangs on the characters that stand on the cuts before it. So those places
    are looked at, one after another, and remembered: a reader that goes through a version fetches
    it about once. Safe for threads: cuts once found do not change.
    """

    def __init__(self, reader: ContextReader) -> None:
        self._reader = reader
        self._found: dict[tuple[str, int], list[_Cut]] = {}

    def get(self, opened: OpenedVersion, index: int, overlap_tokens: int) -> ReadChunk:
        """Chunk `index`; see `ContextStore.read_chunk`.

        Raises:
            InvalidInputError: there is no such chunk, or the overlap is half of one, or more.
        """
        overlap_bytes = _checked_overlap(overlap_tokens) * BYTES_PER_TOKEN
        cuts = list(self._found.get((opened.stamped.etag, overlap_bytes), ()))
        count = self._find_cuts(opened, cuts, index, overlap_bytes)
        manifest = opened.manifest
        start = cuts[index - 1].next_byte if index else 0
        limit = min(start + CHUNK_LIMIT_BYTES + 1, manifest.size_bytes)
        data, first_byte = self._reader.part(opened, start, limit)
        if len(cuts) == index < count - 1:
            cuts.append(_cut(data, first_byte, start + CHUNK_LIMIT_BYTES, overlap_bytes))
        self._remember((opened.stamped.etag, overlap_bytes), cuts)
        end = cuts[index].end_byte if index < len(cuts) else manifest.size_bytes
        return ReadChunk(
            content=decode_text(data[start - first_byte : end - first_byte]),
            session_id=manifest.session_id,
            version=manifest.version,
            index=index,
            count=count,
            start_byte=start,
            end_byte=end,
            overlap_bytes=cuts[index - 1].end_byte - start if index else 0,
        )

    def _find_cuts(
        self, opened: OpenedVersion, cuts: list[_Cut], index: int, overlap_bytes: int
    ) -> int:
        """Add to `cuts` those before chunk `index`; how many chunks the version has.

        Raises:
            InvalidInputError: it has fewer.
        """
        while (count := _find_count(cuts, opened.manifest.size_bytes, overlap_bytes)) is None:
            cuts.append(self._next_cut(opened, cuts, overlap_bytes))
        if check_whole_number(index, "index") >= count:
            raise InvalidInputError("index", f"0 to {count - 1}", index)
        while len(cuts) < index:
            cuts.append(self._next_cut(opened, cuts, overlap_bytes))
        return count

    def _next_cut(self, opened: OpenedVersion, cuts: list[_Cut], overlap_bytes: int) -> _Cut:
        wanted = _last_start(cuts) + CHUNK_LIMIT_BYTES
        data, first_byte = self._reader.part(
            opened, wanted - _SHIFT_BYTES - overlap_bytes, wanted + 1
        )
        return _cut(data, first_byte, wanted, overlap_bytes)

    def _remember(self, key: tuple[str, int], cuts: list[_Cut]) -> None:
        if len(self._found) >= MAX_VERSIONS and key not in self._found:
            self._found.clear()
        self._found[key] = cuts


def _checked_overlap(overlap_tokens: int) -> int:
    if check_whole_number(overlap_tokens, "overlap_tokens") < _OVERLAP_LIMIT_TOKENS:
        return overlap_tokens
    expected = f"0 or more, below {_OVERLAP_LIMIT_TOKENS}"
    raise InvalidInputError("overlap_tokens", expected, overlap_tokens)


def _cut(data: bytes, first_byte: int, wanted: int, overlap_bytes: int) -> _Cut:
    """The cut at byte `wanted` of a version, by its bytes around there, from `first_byte` on."""
    end = character_start(data, wanted - first_byte)
    start = end - overlap_bytes
    # Forward to a whole character: the overlap is at most what was asked for.
    while character_start(data, start) != start:
        start += 1
    return _Cut(first_byte + end, first_byte + start)


def _last_start(cuts: list[_Cut]) -> int:
    return cuts[-1].next_byte if cuts else 0


def _find_count(cuts: list[_Cut], size_bytes: int, overlap_bytes: int) -> int | None:
    """How many chunks there are, or None where it hangs on cuts that are not known yet."""
    rest = max(0, size_bytes - CHUNK_LIMIT_BYTES - _last_start(cuts))
    step = CHUNK_LIMIT_BYTES - overlap_bytes
    least = -(-rest // (step + _SHIFT_BYTES))
    most = -(-rest // (step - _SHIFT_BYTES))
    return len(cuts) + 1 + least if least == most else None
