"""Half-open ranges of a text's UTF-8 bytes: what several cover together, and what they leave."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable


class ByteRange(NamedTuple):
    """Bytes from `start_byte` up to, not including, `end_byte`."""

    start_byte: int
    end_byte: int


def union(ranges: Iterable[tuple[int, int]]) -> list[ByteRange]:
    """What `ranges` cover, ascending; those that overlap or touch become one."""
    joined: list[ByteRange] = []
    for start, end in sorted(ranges):
        if joined and start <= joined[-1].end_byte:
            joined[-1] = ByteRange(joined[-1].start_byte, max(end, joined[-1].end_byte))
        else:
            joined.append(ByteRange(start, end))
    return joined


def gaps(size_bytes: int, ranges: Iterable[ByteRange]) -> list[ByteRange]:
    """What of 0 to `size_bytes` the `ranges`, ascending and apart, leave uncovered."""
    bounds = [0, *itertools.chain.from_iterable(ranges), size_bytes]
    return [
        ByteRange(start, end)
        for start, end in zip(bounds[::2], bounds[1::2], strict=True)
        if start < end
    ]
