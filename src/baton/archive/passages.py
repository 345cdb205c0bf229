"""Cutting a text into passages: small enough for the model's window, the same where the text is.

Where a passage may end is told by the text around that place alone, and of the places within
reach the best wins: a heading or blank line before a line's end, that before a sentence's end,
that before a word; among equals a hash of the text around it. So the cuts after an edit meet the
old ones again within a few passages, wherever they began.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from baton.archive.boundaries import Boundaries, find_boundaries, is_joined
from baton.errors import InvalidTextError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from baton.archive.embedder import Tokenization

# A new number for each change that cuts some text elsewhere.
PASSAGE_FORMAT: Final = 1

_Numbers: TypeAlias = NDArray[np.int64]

# A quarter of the model's window. Of 40 planted facts (bench/planted_facts.py), all passages
# ranked, so many were among the first five: in 2 MB 39 at 64 tokens and 37 at 120; in 0.6 MB 39,
# 40 and 36 at 64, 120 and 250; in 0.5 MB of other text 39 at 64 and 40 at 32 (twice the vectors).
_MOST_TOKENS: Final = 64
# A cut inside a word can make a token or two more of it.
_SPARE_TOKENS: Final = 4
_LEAST_SHARE: Final = 0.48
# Tokens do not bound a passage everywhere: a word of over 100 letters is one token to some models.
_MOST_CHARACTERS: Final = 1_000
_BLOCK_CHARACTERS: Final = 65_536
_BLOCKS_AT_ONCE: Final = 16
_MARKS_IN_A_ROW: Final = 64


@dataclass(frozen=True, slots=True)
class Passage:
    """A range of a text. The ranges of a text's passages follow each other and leave out nothing.

    Attributes:
        start_byte: its first byte in the text's UTF-8 form.
        end_byte: the byte after its last.
        start_char: its first character.
        end_char: the character after its last.
    """

    start_byte: int
    end_byte: int
    start_char: int
    end_char: int

    def text_in(self, text: str) -> str:
        """What is to be embedded: without white space around it; empty if it holds only that."""
        return text[self.start_char : self.end_char].strip()


def split_passages(text: str, tokenization: Tokenization) -> list[Passage]:
    """The passages of `text`, in order; none of an empty text.

    Most have 30 to 64 tokens, none more than the window; the last may be short. The same text
    gives the same passages in every process, with the same model and `PASSAGE_FORMAT`.

    Raises:
        InvalidTextError: the text holds a lone surrogate.
        EmbedderUnavailableError: the tokens cannot be told.
    """
    _check_encodable(text)
    if not text:
        return []
    most = min(_MOST_TOKENS, max(1, tokenization.max_tokens - _SPARE_TOKENS))
    cutter = _Cutter(text, find_boundaries(text), _token_starts(text, tokenization), most)
    return list(_placed(text, cutter.cuts()))


class _Cutter:
    """Chooses the cuts of one text, from its beginning to its end."""

    def __init__(
        self, text: str, boundaries: Boundaries, token_starts: _Numbers, most: int
    ) -> None:
        self._text = text
        self._boundaries = boundaries
        self._starts = token_starts
        self._most = most
        self._least = max(1, int(most * _LEAST_SHARE))

    def cuts(self) -> list[int]:
        """Character indexes, 0 and the text's length included."""
        cuts = [0]
        while cuts[-1] < len(self._text):
            cuts.append(self._next(cuts[-1]))
        return cuts

    def _next(self, start: int) -> int:
        token = int(np.searchsorted(self._starts, start))
        furthest = self._reach(start, token + self._most, _MOST_CHARACTERS)
        if furthest >= len(self._text):
            return len(self._text)
        nearest = self._reach(start, token + self._least, int(_MOST_CHARACTERS * _LEAST_SHARE))
        return self._boundaries.best(nearest, furthest) or self._forced(start, furthest)

    def _reach(self, start: int, token: int, characters: int) -> int:
        """The furthest place with no token from number `token` on, and so many characters."""
        at = int(self._starts[token]) if token < len(self._starts) else len(self._text)
        return min(at, start + characters)

    def _forced(self, start: int, furthest: int) -> int:
        """A cut where no boundary is in reach, as in one letter a million times over."""
        for place in range(furthest, max(start, furthest - _MARKS_IN_A_ROW), -1):
            if not is_joined(self._text, place):
                return place
        return max(furthest, start + 1)


def _placed(text: str, cuts: list[int]) -> Iterator[Passage]:
    start_byte = 0
    for start, end in itertools.pairwise(cuts):
        end_byte = start_byte + len(text[start:end].encode())
        yield Passage(start_byte, end_byte, start, end)
        start_byte = end_byte


def _token_starts(text: str, tokenization: Tokenization) -> _Numbers:
    edges = _block_edges(text)
    found = []
    for first in range(0, len(edges) - 1, _BLOCKS_AT_ONCE):
        some = edges[first : first + _BLOCKS_AT_ONCE + 1]
        blocks = [text[start:end] for start, end in itertools.pairwise(some)]
        for edge, starts in zip(some, tokenization.token_starts(blocks), strict=False):
            found.append(starts + edge)
    return np.concatenate(found)


def _block_edges(text: str) -> list[int]:
    """Where the text is parted to be tokenized: after white space if possible."""
    edges = [0]
    while edges[-1] < len(text):
        start, end = edges[-1], edges[-1] + _BLOCK_CHARACTERS
        if end < len(text):
            behind = max(text.rfind(white, start, end) for white in "\n ") + 1
            end = behind or end
        edges.append(min(end, len(text)))
    return edges


def _check_encodable(text: str) -> None:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise InvalidTextError(
                "text", "text that UTF-8 can encode", "<a lone surrogate>"
            ) from None
