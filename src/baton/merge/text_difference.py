"""What changed between two texts, as hunks of whole lines and as a unified diff."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Final

from baton.errors import InvalidInputError
from baton.merge.diff import Effort, Hunk
from baton.merge.lines import diff_lines, split_lines
from baton.merge.ranges import ranges_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from baton.merge.ranges import TextRange

_NO_LINE_END: Final = "\n\\ No newline at end of file\n"


@dataclass(frozen=True, slots=True)
class TextHunk:
    """Whole lines that became others: `removed` from the old text, `added` in the new one.

    One of the two may be empty; its range is then the place where the lines came or went.
    """

    old_range: TextRange
    new_range: TextRange
    removed: str
    added: str


@dataclass(frozen=True, slots=True)
class TextDifference:
    """The changes from one text to another, in order; none if they are equal.

    Between two hunks stands at least one line that both texts have.
    """

    hunks: tuple[TextHunk, ...]
    _old: str = field(repr=False)
    _spans: tuple[Hunk, ...] = field(repr=False)  # the hunks' places in characters

    def unified(self, old_name: str, new_name: str, context_lines: int = 3) -> str:
        r"""A unified diff that `git apply` and `patch` take; empty if nothing changed.

        Write it as UTF-8 with its line ends as they are. Names stand in it as given; git expects
        them to begin with `a/` and `b/`.

        Raises:
            InvalidInputError: a name is empty or holds a control character, or `context_lines`
                is negative.
        """
        header = f"--- {_header_name(old_name, 'old_name')}\n"
        header += f"+++ {_header_name(new_name, 'new_name')}\n"
        if context_lines < 0:
            raise InvalidInputError("context_lines", "0 or more", context_lines)
        sections = (self._section(group, context_lines) for group in self._groups(context_lines))
        return "".join(chain([header], *sections)) if self.hunks else ""

    def _groups(self, context_lines: int) -> list[range]:
        """Hunks, by index, whose lines of context meet."""
        starts = [
            index
            for index, hunk in enumerate(self.hunks)
            if index == 0
            or hunk.old_range.start_line - self.hunks[index - 1].old_range.end_line
            > 2 * context_lines
        ]
        return [
            range(start, end)
            for start, end in zip(starts, [*starts[1:], len(self.hunks)], strict=False)
        ]

    def _section(self, group: range, context_lines: int) -> Iterator[str]:
        """One `@@` header and its lines."""
        first, last = self._spans[group[0]], self._spans[group[-1]]
        start = _lines_back(self._old, first.old_start, context_lines)
        end = _lines_on(self._old, last.old_end, context_lines)
        body = []
        copied = start
        for index in group:
            span, hunk = self._spans[index], self.hunks[index]
            body += [(" ", line) for line in split_lines(self._old[copied : span.old_start])]
            body += [("-", line) for line in split_lines(hunk.removed)]
            body += [("+", line) for line in split_lines(hunk.added)]
            copied = span.old_end
        body += [(" ", line) for line in split_lines(self._old[copied:end])]
        yield self._section_header(group[0], self._old.count("\n", start, first.old_start), body)
        for mark, line in body:
            yield f"{mark}{line}" if line.endswith("\n") else f"{mark}{line}{_NO_LINE_END}"

    def _section_header(self, index: int, lead_lines: int, body: Iterable[tuple[str, str]]) -> str:
        hunk = self.hunks[index]
        marks = [mark for mark, _ in body]
        old = _extent(hunk.old_range.start_line - lead_lines, len(marks) - marks.count("+"))
        new = _extent(hunk.new_range.start_line - lead_lines, len(marks) - marks.count("-"))
        return f"@@ -{old} +{new} @@\n"


def diff_text(old: str, new: str) -> TextDifference:
    r"""The lines that changed from `old` to `new`, placed as `git diff` places them.

    A line ends behind `\n` and nowhere else; a last line without it differs from the same line
    with it. Never raises; takes time linear in the sizes plus a fixed amount of work for the
    changes, past which they are told in larger hunks.
    """
    spans = tuple(diff_lines(old, new, Effort()))
    old_pieces = [slice(span.old_start, span.old_end) for span in spans]
    new_pieces = [slice(span.new_start, span.new_end) for span in spans]
    places = zip(ranges_of(old, old_pieces), ranges_of(new, new_pieces), strict=True)
    contents = zip(old_pieces, new_pieces, strict=True)
    hunks = tuple(
        TextHunk(*ranges, old[removed], new[added])
        for ranges, (removed, added) in zip(places, contents, strict=True)
    )
    return TextDifference(hunks, old, spans)


def _extent(start_line: int, count: int) -> str:
    """Lines in the words of an `@@` header: from 1, but the line before if there are none."""
    if count == 1:
        return f"{start_line + 1}"
    return f"{start_line + 1 if count else start_line},{count}"


def _header_name(name: str, field: str) -> str:
    if not name or not name.isprintable():
        raise InvalidInputError(field, "a name without control characters", name)
    # Behind a tab readers expect a time; without one, some end the name at its first space.
    return f"{name}\t" if " " in name else name


def _lines_back(text: str, position: int, count: int) -> int:
    """The start of the line `count` lines before `position`, itself a line's start."""
    for _ in range(count):
        if position == 0:
            break
        position = text.rfind("\n", 0, position - 1) + 1
    return position


def _lines_on(text: str, position: int, count: int) -> int:
    """The end of the `count` lines that begin at `position`."""
    for _ in range(count):
        position = text.find("\n", position) + 1 or len(text)
    return position
