"""The lines of a text that match a pattern, literal or regular, with their place in bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from baton.agents.excerpt import Excerpt
from baton.errors import InvalidTextError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAX_LINE_CHARS: Final = 300
_BEFORE_CHARS: Final = 200
_BLOCK_BYTES: Final = 64 * 1024


class LinePattern(Protocol):
    """What is looked for in each line."""

    def find(self, text: bytes, start: int, end: int) -> tuple[int, int] | None:
        """The bytes of the first match in `text[start:end]`, or None."""


class LiteralPattern:
    """A text of one line looked for as it is written."""

    def __init__(self, literal: str) -> None:
        # A lone surrogate becomes bytes that no valid text holds.
        self._literal = literal.encode(errors="surrogatepass")

    def find(self, text: bytes, start: int, end: int) -> tuple[int, int] | None:
        """The bytes of its first occurrence in `text[start:end]`, or None."""
        found = text.find(self._literal, start, end)
        return None if found < 0 else (found, found + len(self._literal))


@dataclass(frozen=True, slots=True)
class LineMatches:
    """How many lines match, and the first of them; a long line is cut around its match."""

    total: int
    shown: list[Excerpt]


def matching_lines(
    text: str, pattern: LinePattern, *, limit: int, check: Callable[[], None]
) -> LineMatches:
    r"""Count the lines of `text` that match and quote the first `limit`.

    A line ends at `\n` or `\r\n`. `check` is called about every 64 KiB, between lines; what it
    raises ends the search.

    Raises:
        InvalidTextError: the text holds a lone surrogate.
    """
    try:
        data = text.encode()
    except UnicodeEncodeError:
        raise InvalidTextError("text", "text that UTF-8 can encode", "<a lone surrogate>") from None
    total = 0
    shown = []
    for start, end, match_end in _matches(data, pattern, check):
        total += 1
        if total <= limit:
            shown.append(_quote(data[start:end], start, match_end - start))
    return LineMatches(total, shown)


def _matches(
    data: bytes, pattern: LinePattern, check: Callable[[], None]
) -> Iterator[tuple[int, int, int]]:
    """Start and end of each line that matches, without its line end, and its match's end."""
    # `$` must hold before "\r\n" too. This moves nothing, but adds an empty line after each.
    subject = data.replace(b"\r\n", b"\n\n")
    for start, end in _blocks(data):
        check()
        at = start
        while at <= end and (found := pattern.find(subject, at, end)):
            line_start = subject.rfind(b"\n", 0, found[0]) + 1
            line_end = subject.find(b"\n", found[0], end)
            line_end = end if line_end < 0 else line_end
            if data[line_start - 1 : line_start + 1] != b"\r\n":  # else an added one
                yield line_start, line_end, found[1]
            at = line_end + 1


def _blocks(data: bytes) -> Iterator[tuple[int, int]]:
    """Whole lines, 64 KiB or a little more at a time; a longer line is a block of its own."""
    start = 0
    while start <= len(data):
        end = data.find(b"\n", start + _BLOCK_BYTES)
        end = len(data) if end < 0 else end
        yield start, end
        start = end + 1


def _quote(line: bytes, at_byte: int, match_end: int) -> Excerpt:
    text = line.decode()
    # RE2's `\C` is one byte and its `\B` may be between two: a match can end within a character.
    match_end_char = len(line[:match_end].decode(errors="ignore"))
    first = max(0, min(match_end_char - _BEFORE_CHARS, len(text) - MAX_LINE_CHARS))
    shown = text[first : first + MAX_LINE_CHARS]
    start_byte = at_byte + len(text[:first].encode())
    return Excerpt(start_byte, start_byte + len(shown.encode()), shown)
