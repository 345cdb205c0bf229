"""Three-way merge of text by lines, with the verdicts of `git merge-file`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from baton.merge.conflicts import TextConflict, check_favour
from baton.merge.diff import Effort
from baton.merge.lines import diff_lines
from baton.merge.ranges import ranges_of
from baton.merge.regions import Origin, Region, changed_regions

if TYPE_CHECKING:
    from baton.merge.conflicts import Favour


@dataclass(frozen=True, slots=True)
class TextMerge:
    """The merged text, or None and the conflicts, in order, that stand in its way.

    `favoured` counts the regions that would have been conflicts and went to the favoured side.
    """

    text: str | None
    conflicts: tuple[TextConflict, ...] = ()
    favoured: int = 0


def merge_text(base: str, ours: str, theirs: str, *, favour: Favour | None = None) -> TextMerge:
    r"""Combine what `ours` and `theirs` each changed in `base`.

    A line ends behind `\n` and nowhere else (`\r`, form feeds and U+2028 are part of a line); a
    last line without `\n` differs from the same line with it. Changes merge when an unchanged line
    stands between them or when they are the same; changes that overlap or touch conflict. The
    order of the sides decides nothing but the names in the conflicts: by Baton's convention
    `ours` is the head, committed already, and `theirs` the write that came later.

    With `favour`, what conflicts becomes that side's and all else is merged as ever: nothing is
    left open, and the other side's lines there are lost.

    Takes time linear in the size plus a fixed amount of work for the changes, past which changes
    may conflict in larger pieces.

    Raises:
        InvalidInputError: `favour` names no side. No text is ever refused.
    """
    check_favour(favour)
    if theirs in (ours, base):
        return TextMerge(ours)
    if ours == base:
        return TextMerge(theirs)
    by_ours, by_theirs = diff_lines(base, ours, Effort()), diff_lines(base, theirs, Effort())
    regions = changed_regions(ours, theirs, by_ours, by_theirs)
    clashes = [region for region in regions if region.origin is Origin.CONFLICT]
    if clashes and favour is None:
        return TextMerge(None, _conflicts(base, ours, theirs, clashes))
    taken = {Origin.THEIRS, Origin.CONFLICT} if favour == "theirs" else {Origin.THEIRS}
    return TextMerge(_merged(base, ours, theirs, regions, taken), favoured=len(clashes))


def merge_appends(base: str, head: str, incoming: str) -> str | None:
    r"""`base` with what `head` added behind it, then what `incoming` did; None for other edits.

    `head` is the version that was committed first. What counts is whole new lines behind the
    base's last one: `head` ending without `\n` gets a line end before the second addition, and
    where the base's last line has none, both sides must have begun by ending that line alike,
    else a side has changed the line. Equal additions are one edit, as in `merge_text`.
    """
    if not (head.startswith(base) and incoming.startswith(base)):
        return None
    if incoming in (head, base):
        return head
    if head == base:
        return incoming
    start = len(base)
    if base and not base.endswith("\n"):
        line_end = "\r\n" if head.startswith("\r\n", start) else "\n"
        if not (head.startswith(line_end, start) and incoming.startswith(line_end, start)):
            return None
        start += len(line_end)
    between = "" if head.endswith("\n") else _line_end(incoming)
    return head + between + incoming[start:]


def _line_end(text: str) -> str:
    first = text.find("\n")
    return "\r\n" if first > 0 and text[first - 1] == "\r" else "\n"


def _merged(
    base: str, ours: str, theirs: str, regions: list[Region], from_theirs: set[Origin]
) -> str:
    """Regions of an origin in `from_theirs` come from there, the others from `ours`."""
    pieces = []
    copied = 0
    for region in regions:
        pieces.append(base[copied : region.base.start])
        taken = region.origin in from_theirs
        pieces.append(theirs[region.theirs] if taken else ours[region.ours])
        copied = region.base.stop
    pieces.append(base[copied:])
    return "".join(pieces)


def _conflicts(
    base: str, ours: str, theirs: str, clashes: list[Region]
) -> tuple[TextConflict, ...]:
    base_ranges = ranges_of(base, [clash.base for clash in clashes])
    ours_ranges = ranges_of(ours, [clash.ours for clash in clashes])
    theirs_ranges = ranges_of(theirs, [clash.theirs for clash in clashes])
    ranges = zip(base_ranges, ours_ranges, theirs_ranges, strict=True)
    return tuple(
        TextConflict(base[clash.base], ours[clash.ours], theirs[clash.theirs], *places)
        for clash, places in zip(clashes, ranges, strict=True)
    )
