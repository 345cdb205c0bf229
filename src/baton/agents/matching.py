"""The lines of a text that match a pattern, literal or regular, with their place in bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from baton.agents.excerpt import Excerpt, excerpts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAX_LINE_CHARS: Final = 300
_BEFORE_CHARS: Final = 200
_LINES_PER_CHECK: Final = 1_000


class LinePattern(Protocol):
    """What is looked for in each line."""

    @property
    def literal(self) -> str:
        """A text that every matching line holds; may be empty."""

    def search(self, line: str) -> int | None:
        """Where the first match in `line` ends, or None."""


@dataclass(frozen=True, slots=True)
class LiteralPattern:
    """A text looked for as it is written."""

    literal: str

    def search(self, line: str) -> int | None:
        """Where its first occurrence in `line` ends, or None."""
        start = line.find(self.literal)
        return None if start < 0 else start + len(self.literal)


@dataclass(frozen=True, slots=True)
class LineMatches:
    """How many lines match, and the first of them; a long line is cut around its match."""

    total: int
    shown: list[Excerpt]


def matching_lines(
    text: str, pattern: LinePattern, *, limit: int, check: Callable[[], None]
) -> LineMatches:
    """Count the lines of `text` that match and quote the first `limit`.

    `check` is called every thousand lines; what it raises ends the search.
    """
    total = 0
    spans = []
    for number, (start, end) in enumerate(_candidates(text, pattern.literal)):
        if number % _LINES_PER_CHECK == 0:
            check()
        match_end = pattern.search(text[start:end])
        if match_end is not None:
            total += 1
            if total <= limit:
                spans.append(_window(start, end, start + match_end))
    return LineMatches(total, excerpts(text, spans))


def _candidates(text: str, literal: str) -> Iterator[tuple[int, int]]:
    """The lines that hold `literal`, without their line ends."""
    start = text.find(literal)
    while 0 <= start <= len(text):
        line_start = text.rfind("\n", 0, start) + 1
        line_end = text.find("\n", start)
        line_end = len(text) if line_end < 0 else line_end
        yield line_start, line_end - text.endswith("\r", line_start, line_end)
        start = text.find(literal, line_end + 1)


def _window(start: int, end: int, match_end: int) -> tuple[int, int]:
    if end - start <= MAX_LINE_CHARS:
        return start, end
    first = max(start, min(match_end - _BEFORE_CHARS, end - MAX_LINE_CHARS))
    return first, min(end, first + MAX_LINE_CHARS)
