"""The lines that differ between two texts, without cutting all of the texts into lines.

Most of two versions of a long text is equal, and comparing slices finds that out at the speed of
memory. Only around a difference are lines cut and aligned: in a window of both texts that grows
until most of its lines have found their counterpart.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Final

from baton.merge.diff import Hunk, diff

if TYPE_CHECKING:
    from collections.abc import Sequence

    from baton.merge.diff import Effort

# Shorter texts are aligned as a whole, which takes milliseconds and decides exactly as git does.
_WHOLE_CHARACTERS: Final = 262_144
_FIRST_WINDOW_CHARACTERS: Final = 16_384
_WINDOW_GROWTH: Final = 4
_LONGEST_COMPARED_CHARACTERS: Final = 1 << 20

# A window's alignment is believed when it pairs three lines in four, up to its last run of at
# least eight equal lines: what follows the window cannot turn that around.
_BELIEVED_SHARE: Final = 0.75
_BELIEVED_RUN_LINES: Final = 8


def diff_lines(old: str, new: str, effort: Effort) -> list[Hunk]:
    r"""The changes from `old` to `new` as hunks of whole lines, whose positions are characters.

    A line ends behind `\n` only. Between two hunks stands at least one common line.
    """
    hunks: list[Hunk] = []
    i = j = 0
    while True:
        same = _common_line_characters(old, i, new, j)
        i, j = i + same, j + same
        if i == len(old) and j == len(new):
            return hunks
        if i == len(old) or j == len(new):
            return [*hunks, Hunk(i, len(old), j, len(new))]
        hunks += (
            Hunk(i + hunk.old_start, i + hunk.old_end, j + hunk.new_start, j + hunk.new_end)
            for hunk in _window_hunks(old, i, new, j, effort)
        )
        i, j = hunks[-1].old_end, hunks[-1].new_end


def _common_line_characters(old: str, i: int, new: str, j: int) -> int:
    """Length of the whole lines that `old` from `i` and `new` from `j` begin with alike."""
    same = _common_characters(old, i, new, j)
    if i + same == len(old) and j + same == len(new):
        return same
    return max(0, old.rfind("\n", i, i + same) + 1 - i)


def _common_characters(old: str, i: int, new: str, j: int) -> int:
    """By slices that double while they are equal, then halve around the first difference.

    Both are cut out, as `str.startswith` compares strings of different widths (a slice of ASCII
    in a text with one wide character) by the character and `==` by the block.
    """
    longest = min(len(old) - i, len(new) - j)
    same, step = 0, min(256, longest)
    while step and old[i + same : i + same + step] == new[j + same : j + same + step]:
        same += step
        step = min(2 * step, longest - same, _LONGEST_COMPARED_CHARACTERS)
    while step > 1:  # the first difference is within `step` characters behind `same`
        half = step // 2
        if old[i + same : i + same + half] == new[j + same : j + same + half]:
            same += half
            step -= half
        else:
            step = half
    return same


def _window_hunks(old: str, i: int, new: str, j: int, effort: Effort) -> list[Hunk]:
    """At least one hunk right behind `i` and `j`, in characters relative to them."""
    longest = max(len(old), len(new))
    size = longest if longest <= _WHOLE_CHARACTERS else _FIRST_WINDOW_CHARACTERS
    while True:
        old_end, new_end = _line_end(old, i + size), _line_end(new, j + size)
        old_lines, new_lines = split_lines(old[i:old_end]), split_lines(new[j:new_end])
        hunks = diff(old_lines, new_lines, effort)
        if old_end < len(old) or new_end < len(new):
            hunks = _believed(hunks, len(old_lines), len(new_lines))
        if hunks:
            return _in_characters(hunks, old_lines, new_lines)
        size *= _WINDOW_GROWTH


def _line_end(text: str, position: int) -> int:
    """The first line end at or behind `position`, or the text's end."""
    return text.find("\n", position - 1) + 1 or len(text)


def split_lines(text: str) -> list[str]:
    r"""`text` cut behind each `\n`; unlike `str.splitlines`, at no other character."""
    return io.StringIO(text, newline="\n").readlines()


def _believed(hunks: list[Hunk], old_count: int, new_count: int) -> list[Hunk]:
    """The hunks that stay as they are whatever follows the window; none if it is too small."""
    unpaired = sum(hunk.old_end - hunk.old_start + hunk.new_end - hunk.new_start for hunk in hunks)
    if unpaired > (1 - _BELIEVED_SHARE) * (old_count + new_count):
        return []
    run_end = old_count
    for last in range(len(hunks) - 1, -1, -1):
        if run_end - hunks[last].old_end >= _BELIEVED_RUN_LINES:
            # Less than half of a window is too little to show for aligning all of it.
            return hunks[: last + 1] if 2 * run_end >= old_count else []
        run_end = hunks[last].old_start
    return []


def _in_characters(
    hunks: list[Hunk], old_lines: Sequence[str], new_lines: Sequence[str]
) -> list[Hunk]:
    converted = []
    old_line = new_line = i = j = 0
    for hunk in hunks:
        i += _length(old_lines, old_line, hunk.old_start)
        j += _length(new_lines, new_line, hunk.new_start)
        old_end = i + _length(old_lines, hunk.old_start, hunk.old_end)
        new_end = j + _length(new_lines, hunk.new_start, hunk.new_end)
        converted.append(Hunk(i, old_end, j, new_end))
        old_line, new_line, i, j = hunk.old_end, hunk.new_end, old_end, new_end
    return converted


def _length(lines: Sequence[str], start: int, end: int) -> int:
    return sum(map(len, lines[start:end]))
