"""Where things stand in a content: checkpoints at characters, chunks in tokens."""

from __future__ import annotations

from bisect import bisect_left
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Final

from baton.errors import ContextCorruptError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from baton.envelope.model import Checkpoint, Chunk, EnvelopeHeader

# A count made chunk by chunk rounds, and takes a token cut at an edge for several.
_SLACK_TOKENS: Final = 4


def tokens_at(header: EnvelopeHeader, position_bytes: int) -> int:
    """About how many of the content's tokens stand before a byte position."""
    if not header.content_size_bytes:
        return 0
    return position_bytes * header.content_size_tokens // header.content_size_bytes


def check_tokens(chunks: Sequence[Chunk], size_tokens: int, path: str) -> None:
    """Hold the token ranges of chunks, in order, to each other and to the whole.

    Tokenizers differ, and all of this is estimated. So the first must begin at 0, none before the
    one before or behind its end, and the last must end at `size_tokens`; beyond the first chunk,
    up to 4 tokens a chunk are let pass. `path` names the chunks in errors.

    Raises:
        ContextCorruptError: they do not fit.
    """
    if chunks and chunks[0].offset_tokens != 0:
        got = chunks[0].offset_tokens
        raise ContextCorruptError(f"{path}[0].offset_tokens: expected 0, got {got}")
    slack = _SLACK_TOKENS * (len(chunks) - 1)
    for index, (before, chunk) in enumerate(pairwise(chunks), 1):
        least, most = before.offset_tokens, before.offset_tokens + before.size_tokens + slack
        if not least <= chunk.offset_tokens <= most:
            expected = f"expected {least} to {most}, got {chunk.offset_tokens}"
            raise ContextCorruptError(f"{path}[{index}].offset_tokens: {expected}")
    for index, chunk in enumerate(chunks):
        end, last = chunk.offset_tokens + chunk.size_tokens, index == len(chunks) - 1
        if end > size_tokens + slack or (last and end < size_tokens - slack):
            expected = f"ends at {end} of {size_tokens} tokens"
            raise ContextCorruptError(f"{path}[{index}].size_tokens: {expected}")


class CheckpointPlaces:
    """The places of checkpoints, held to the characters of a content that passes in parts.

    `path` names the checkpoints in errors.
    """

    def __init__(self, checkpoints: Sequence[Checkpoint], path: str) -> None:
        self._path = path
        self._places = sorted(
            (checkpoint.byte_position, index) for index, checkpoint in enumerate(checkpoints)
        )

    def check(self, data: bytes, offset_bytes: int) -> None:
        """Check those within `data`, UTF-8 that begins at `offset_bytes` of the content.

        Raises:
            ContextCorruptError: one is inside a character.
        """
        first = bisect_left(self._places, (offset_bytes, 0))
        for place, index in islice(self._places, first, None):
            if place >= offset_bytes + len(data):
                return
            if data[place - offset_bytes] & 0b1100_0000 == 0b1000_0000:
                where = f"{self._path}[{index}].byte_position"
                raise ContextCorruptError(f"{where}: {place} is inside a character")
