"""Three-way merge of text by lines, with the verdicts of `git merge-file`."""

from __future__ import annotations

from dataclasses import dataclass

from baton.merge.conflicts import TextConflict, TextRange
from baton.merge.diff import Effort
from baton.merge.lines import diff_lines
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
    if theirs in (ours, base):
        return TextMerge(ours)
    if ours == base:
        return TextMerge(theirs)
    by_ours, by_theirs = diff_lines(base, ours, Effort()), diff_lines(base, theirs, Effort())
    regions = changed_regions(ours, theirs, by_ours, by_theirs)
    clashes = [region for region in regions if region.origin is Origin.CONFLICT]
    if clashes:
        return TextMerge(None, _conflicts(base, ours, theirs, clashes))
    return TextMerge(_merged(base, ours, theirs, regions))


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


def _merged(base: str, ours: str, theirs: str, regions: list[Region]) -> str:
    pieces = []
    copied = 0
    for region in regions:
        pieces.append(base[copied : region.base.start])
        from_theirs = region.origin is Origin.THEIRS
        pieces.append(theirs[region.theirs] if from_theirs else ours[region.ours])
        copied = region.base.stop
    pieces.append(base[copied:])
    return "".join(pieces)


def _conflicts(
    base: str, ours: str, theirs: str, clashes: list[Region]
) -> tuple[TextConflict, ...]:
    base_ranges = _ranges(base, [clash.base for clash in clashes])
    ours_ranges = _ranges(ours, [clash.ours for clash in clashes])
    theirs_ranges = _ranges(theirs, [clash.theirs for clash in clashes])
    ranges = zip(base_ranges, ours_ranges, theirs_ranges, strict=True)
    return tuple(
        TextConflict(base[clash.base], ours[clash.ours], theirs[clash.theirs], *places)
        for clash, places in zip(clashes, ranges, strict=True)
    )


def _ranges(text: str, pieces: list[slice]) -> list[TextRange]:
    """Lines and bytes of each piece, a range of characters; pieces ascend."""
    ranges = []
    done = start_line = start_byte = 0
    for piece in pieces:
        start_line += text.count("\n", done, piece.start)
        start_byte += _size_bytes(text[done : piece.start])
        content = text[piece]
        unfinished = bool(content) and not content.endswith("\n")
        end_line = start_line + content.count("\n") + unfinished
        end_byte = start_byte + _size_bytes(content)
        ranges.append(TextRange(start_line, end_line, start_byte, end_byte))
        done, start_line, start_byte = piece.stop, end_line, end_byte
    return ranges


def _size_bytes(text: str) -> int:
    # A lone surrogate is refused where contexts are stored; here it only must not raise.
    return len(text) if text.isascii() else len(text.encode(errors="surrogatepass"))
