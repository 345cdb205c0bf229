"""Quotes from a text with their exact place in its UTF-8 bytes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from baton.errors import InvalidTextError

if TYPE_CHECKING:
    from collections.abc import Iterable

_BACKTICKS: Final = re.compile(r"`+")


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A literal piece of a text: `text.encode()[start_byte:end_byte].decode()` is `.text`."""

    start_byte: int
    end_byte: int
    text: str


def excerpts(text: str, spans: Iterable[tuple[int, int]]) -> list[Excerpt]:
    """The pieces `text[start:end]` of `spans`, which must come in ascending order of `start`.

    Raises:
        InvalidTextError: a lone surrogate, which has no bytes, stands before the end of a span.
    """
    found = []
    at_character = at_byte = 0
    try:
        for start, end in spans:
            at_byte += len(text[at_character:start].encode())
            at_character = start
            quote = text[start:end]
            found.append(Excerpt(at_byte, at_byte + len(quote.encode()), quote))
    except UnicodeEncodeError:
        raise InvalidTextError("text", "text that UTF-8 can encode", "<a lone surrogate>") from None
    return found


def byte_range(excerpt: Excerpt) -> str:
    """`[bytes 1204-1890]`: offsets into the UTF-8 text, the end excluded."""
    return f"[bytes {excerpt.start_byte}-{excerpt.end_byte}]"


def fenced(text: str) -> str:
    """`text` unchanged within a Markdown code fence that nothing in it can close."""
    longest = max((len(run) for run in _BACKTICKS.findall(text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"
