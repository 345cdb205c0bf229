"""Three-way comparison of sequences: which regions of the base either side changed, and how."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from baton.merge.diff import Hunk


class Origin(Enum):
    """Where a region's merged content comes from."""

    OURS = "ours"
    THEIRS = "theirs"
    BOTH = "both"  # the same change twice
    CONFLICT = "conflict"


class Region(NamedTuple):
    """Half-open ranges that stand for each other, and whose content the merge takes."""

    base: slice
    ours: slice
    theirs: slice
    origin: Origin
    keeps_size: bool  # every change in it replaces elements by as many


def changed_regions(
    ours: Sequence[str], theirs: Sequence[str], by_ours: list[Hunk], by_theirs: list[Hunk]
) -> list[Region]:
    """The regions in which a side differs from the base, in order; between them all three agree.

    Changes of the two sides that overlap or touch share a region, as in `git merge-file`: at
    least one common element must stand between two changes that merge on their own.
    """
    pending_ours, pending_theirs = by_ours[::-1], by_theirs[::-1]
    regions = []
    ours_shift = theirs_shift = 0
    while pending_ours or pending_theirs:
        mine, others = _touching(pending_ours, pending_theirs)
        start = min(hunk.old_start for hunk in (*mine, *others))
        end = max(hunk.old_end for hunk in (*mine, *others))
        ours_start, theirs_start = start + ours_shift, start + theirs_shift
        ours_shift += sum(map(_growth, mine))
        theirs_shift += sum(map(_growth, others))
        in_ours = slice(ours_start, end + ours_shift)
        in_theirs = slice(theirs_start, end + theirs_shift)
        if not others:
            origin = Origin.OURS
        elif not mine:
            origin = Origin.THEIRS
        else:
            origin = Origin.BOTH if ours[in_ours] == theirs[in_theirs] else Origin.CONFLICT
        keeps_size = not any(map(_growth, (*mine, *others)))
        regions.append(Region(slice(start, end), in_ours, in_theirs, origin, keeps_size))
    return regions


def _touching(ours: list[Hunk], theirs: list[Hunk]) -> tuple[list[Hunk], list[Hunk]]:
    """Takes the first hunk of two reversed lists, and all that touch it directly or by others."""
    taken: tuple[list[Hunk], list[Hunk]] = ([], [])
    end = -1
    while True:
        side = 0 if _next_start(ours) <= _next_start(theirs) else 1
        pending = (ours, theirs)[side]
        if not pending or (end >= 0 and pending[-1].old_start > end):
            return taken
        hunk = pending.pop()
        taken[side].append(hunk)
        end = max(end, hunk.old_end)


def _next_start(pending: list[Hunk]) -> float:
    return pending[-1].old_start if pending else float("inf")


def _growth(hunk: Hunk) -> int:
    return (hunk.new_end - hunk.new_start) - (hunk.old_end - hunk.old_start)
