"""Three-way merge of text by lines, with the verdicts of `git merge-file`."""

from __future__ import annotations

import io
from dataclasses import dataclass

from baton.merge.conflicts import TextConflict, TextRange
from baton.merge.regions import Origin, Region, changed_regions


@dataclass(frozen=True, slots=True)
class TextMerge:
    """The merged text, or None and the conflicts, in order, that stand in its way."""

    text: str | None
    conflicts: tuple[TextConflict, ...] = ()


def merge_text(base: str, ours: str, theirs: str) -> TextMerge:
    r"""Combine what `ours` and `theirs` each changed in `base`.

    A line ends behind `\n` and nowhere else (`\r`, form feeds and U+2028 are part of a line); a
    last line without `\n` differs from the same line with it. Changes merge when an unchanged line
    stands between them or when they are the same; changes that overlap or touch conflict. The
    order of the sides decides nothing but the names in the conflicts: by Baton's convention
    `ours` is the head, committed already, and `theirs` the write that came later.

    Never raises; takes time linear in the size plus a fixed amount of work for the changes, past
    which changes may conflict in larger pieces.
    """
    if ours == theirs or theirs == base:
        return TextMerge(ours)
    if ours == base:
        return TextMerge(theirs)
    sides = _lines(base), _lines(ours), _lines(theirs)
    regions = changed_regions(*sides)
    clashes = [region for region in regions if region.origin is Origin.CONFLICT]
    if clashes:
        return TextMerge(None, _conflicts(*sides, clashes))
    return TextMerge(_merged(*sides, regions))


def merge_appends(base: str, head: str, incoming: str) -> str | None:
    r"""`base` with what `head` added behind it, then what `incoming` did; None for other edits.

    `head` is the version that was committed first. What counts is whole new lines behind the
    base's last one: `head` ending without `\n` gets a line end before the second addition, and
    where the base's last line has none, both sides must have begun by ending that line alike,
    else a side has changed the line. Equal additions are one edit, as in `merge_text`.
    """
    if not (head.startswith(base) and incoming.startswith(base)):
        return None
    if head == incoming or incoming == base:
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


def _lines(text: str) -> list[str]:
    return io.StringIO(text, newline="\n").readlines()


def _line_end(text: str) -> str:
    first = text.find("\n")
    return "\r\n" if first > 0 and text[first - 1] == "\r" else "\n"


def _merged(base: list[str], ours: list[str], theirs: list[str], regions: list[Region]) -> str:
    pieces: list[str] = []
    copied = 0
    for region in regions:
        pieces += base[copied : region.base.start]
        pieces += theirs[region.theirs] if region.origin is Origin.THEIRS else ours[region.ours]
        copied = region.base.stop
    pieces += base[copied:]
    return "".join(pieces)


def _conflicts(
    base: list[str], ours: list[str], theirs: list[str], clashes: list[Region]
) -> tuple[TextConflict, ...]:
    base_parts = _parts(base, [clash.base for clash in clashes])
    ours_parts = _parts(ours, [clash.ours for clash in clashes])
    theirs_parts = _parts(theirs, [clash.theirs for clash in clashes])
    return tuple(
        TextConflict(of_base[0], of_ours[0], of_theirs[0], of_base[1], of_ours[1], of_theirs[1])
        for of_base, of_ours, of_theirs in zip(base_parts, ours_parts, theirs_parts, strict=True)
    )


def _parts(lines: list[str], ranges: list[slice]) -> list[tuple[str, TextRange]]:
    """The text of each range, ascending, with its place."""
    parts = []
    line = byte = 0
    for lines_range in ranges:
        byte += _size_bytes("".join(lines[line : lines_range.start]))
        text = "".join(lines[lines_range])
        end_byte = byte + _size_bytes(text)
        parts.append((text, TextRange(lines_range.start, lines_range.stop, byte, end_byte)))
        line, byte = lines_range.stop, end_byte
    return parts


def _size_bytes(text: str) -> int:
    # A lone surrogate is refused where contexts are stored; here it only must not raise.
    return len(text) if text.isascii() else len(text.encode(errors="surrogatepass"))
