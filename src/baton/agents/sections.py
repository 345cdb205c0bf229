"""A long text cut into sections that read well on their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from baton.agents.byte_ranges import ByteRange
from baton.content.chunking import character_start

if TYPE_CHECKING:
    from collections.abc import Iterator

# From the best to the worst: before a heading, after a paragraph, a line, a sentence, a word.
_BOUNDARIES: Final = (
    (b"\n#", 1),
    (b"\n\n", 2),
    (b"\r\n\r\n", 4),
    (b"\n", 1),
    (b". ", 2),
    ("。".encode(), 3),
    (b" ", 1),
)


def cut_sections(data: bytes, whole: ByteRange, target_bytes: int) -> Iterator[ByteRange]:
    """`whole`, a range of the UTF-8 `data`, in sections of 1 to 1.5 times `target_bytes`.

    Each ends at the best boundary there, and never within a character. The last one may be
    shorter. `target_bytes` is 8 or more.
    """
    start = whole.start_byte
    while whole.end_byte - start > target_bytes + target_bytes // 2:
        end = _cut(data, start + target_bytes, start + target_bytes + target_bytes // 2)
        yield ByteRange(start, end)
        start = end
    if start < whole.end_byte:
        yield ByteRange(start, whole.end_byte)


def _cut(data: bytes, lowest: int, highest: int) -> int:
    for mark, width in _BOUNDARIES:
        found = data.rfind(mark, lowest, highest)
        if found >= 0:
            return found + width
    return character_start(data, highest)
