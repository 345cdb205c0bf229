"""What a changed content has in common with the one before, so that only the rest is cut again.

Cuts have no memory (`baton.content.chunking.cut_points`): a chunk of the old content that stands
unchanged in the new one, behind a cut that both have, is a chunk of the new one too.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Final

from baton.content.chunking import cut_points

if TYPE_CHECKING:
    from collections.abc import Sequence

_BLOCK_BYTES: Final = 1 << 16
_FIRST_WINDOW_AVERAGES: Final = 8


@dataclass(frozen=True, slots=True)
class Recut:
    """How to get from the old chunks to the new ones.

    The first `kept_head` old chunks begin the new content and the last `kept_tail` end it; between
    them, from `start_byte` on, chunks end at `ends`.
    """

    kept_head: int
    kept_tail: int
    start_byte: int
    ends: list[int]
    common_prefix_bytes: int


def recut(
    old: bytes, old_sizes: Sequence[int], new: bytes, average_bytes: int, seed: int = 0
) -> Recut:
    """The cuts of `new`, the same as `cut_points` gives, from those of `old` where they hold.

    Args:
        old: the content before.
        old_sizes: the sizes of its chunks, cut with the same `average_bytes` and `seed`.
        new: the content now.
        average_bytes: as in `cut_points`.
        seed: as in `cut_points`.
    """
    prefix_bytes = common_prefix_bytes(old, new)
    suffix_bytes = _common_suffix_bytes(old, new, min(len(old), len(new)) - prefix_bytes)
    old_ends = list(accumulate(old_sizes))
    # A cut looks at the character behind it, and the last one is there because the content ends.
    kept_head = min(bisect_right(old_ends, prefix_bytes - 1), max(0, len(old_ends) - 1))
    start = old_ends[kept_head - 1] if kept_head else 0
    shift = len(new) - len(old)
    # Old cuts in the common suffix, where the new content has them.
    shared = [end + shift for end in old_ends if end >= len(old) - suffix_bytes]
    ends, met = _cut_until(new, start, shared, average_bytes, seed)
    tail = 0 if met is None else len(shared) - 1 - met
    return Recut(kept_head, tail, start, ends, prefix_bytes)


def common_prefix_bytes(one: bytes, other: bytes) -> int:
    """How many bytes both begin with."""
    limit = min(len(one), len(other))
    start = 0
    while start < limit:
        end = min(start + _BLOCK_BYTES, limit)
        if one[start:end] != other[start:end]:
            return start + _first_difference(one[start:end], other[start:end])
        start = end
    return limit


def _common_suffix_bytes(one: bytes, other: bytes, limit: int) -> int:
    size = 0
    while size < limit:
        block = min(_BLOCK_BYTES, limit - size)
        ours = one[len(one) - size - block : len(one) - size]
        theirs = other[len(other) - size - block : len(other) - size]
        if ours != theirs:
            return size + _first_difference(ours[::-1], theirs[::-1])
        size += block
    return limit


def _first_difference(one: bytes, other: bytes) -> int:
    """Of two texts of one length that differ: where."""
    sizes = range(len(one) + 1)
    return bisect_left(sizes, True, key=lambda size: one[:size] != other[:size]) - 1


def _cut_until(
    data: bytes, start: int, shared: list[int], average_bytes: int, seed: int
) -> tuple[list[int], int | None]:
    """Cuts from `start` on, up to one of `shared`, and which that is; None: up to the end."""
    window = _FIRST_WINDOW_AVERAGES * average_bytes
    while True:
        reach = bisect_left(shared, start)
        limit = len(data) if reach == len(shared) else min(shared[reach] + window, len(data))
        ends = [start + end for end in cut_points(data[start:limit], average_bytes, seed)]
        if limit < len(data):
            ends.pop()  # it is there because the window ends
        for count, end in enumerate(ends, start=1):
            index = bisect_left(shared, end)
            if index < len(shared) and shared[index] == end:
                return ends[:count], index
        if limit == len(data):
            return ends, None
        window *= 4
