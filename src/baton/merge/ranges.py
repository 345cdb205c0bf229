"""Where pieces of a text stand, in lines and in bytes of its UTF-8."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TextRange:
    """A half-open range of one text, from 0, in lines and in bytes of its UTF-8.

    An empty range (start equals end) is the place before line `start_line`.
    """

    start_line: int
    end_line: int
    start_byte: int
    end_byte: int


def ranges_of(text: str, pieces: list[slice]) -> list[TextRange]:
    """The lines and bytes of each piece, a range of characters; pieces ascend."""
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
