"""Where a text may be cut, and how well: told for each place by the characters around it alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

Codes: TypeAlias = NDArray[np.uint32]
_Flags: TypeAlias = NDArray[np.bool_]
_Places: TypeAlias = NDArray[np.int64]

# How good a cut is; `_ANYWHERE` is inside a word, and only at some places that a hash chooses.
_HEADING: Final = 6
_BLANK_LINE: Final = 5
_LINE: Final = 4
_SENTENCE: Final = 3
_CLAUSE: Final = 2
_WORD: Final = 1
_ANYWHERE: Final = 0

_ANYWHERE_MASK: Final = np.uint32(63)
_STRENGTH_BITS: Final = 32

# What is looked at around a place; a power of two before it, and after it.
_BEFORE: Final = 32
_AFTER: Final = 16
_CONTEXT: Final = 64
_SEGMENT: Final = 1 << 20
_MULTIPLIER: Final = 0x9E3779B1
_WORD_MASK: Final = 0xFFFFFFFF

_NEWLINE: Final = "\n\r\x0b\x0c\x85\u2028\u2029"
_SPACE: Final = (
    _NEWLINE + " \t\xa0\u1680\u3000\u202f\u205f" + "".join(map(chr, range(0x2000, 0x200B)))
)
_TERMINAL: Final = ".!?\u2026\u061f\u06d4\u0964\u0965"
_WIDE_TERMINAL: Final = "\u3002\uff01\uff1f\uff0e\uff61"
_CLOSING: Final = "\"')]}\xbb\u2019\u201d\u3009\u300b\u300d\u300f\u3011\uff09\uff3d\uff5d"
_CLAUSE_END: Final = ",;:\u2013\u2014"
_WIDE_CLAUSE_END: Final = ",;\u3001\uff0c\uff1a\uff1b\u060c"
_JOINER: Final = 0x200D
_MARKS: Final = (
    (0x0300, 0x036F), (0x0483, 0x0489), (0x0591, 0x05BD), (0x064B, 0x065F), (0x0900, 0x0903),
    (0x093A, 0x094F), (0x0E31, 0x0E3A), (0x0E47, 0x0E4E), (0x1AB0, 0x1AFF), (0x1DC0, 0x1DFF),
    (0x200C, 0x200D), (0x20D0, 0x20FF), (0x302A, 0x302F), (0x3099, 0x309A), (0xFE00, 0xFE0F),
    (0xFE20, 0xFE2F), (0x1F3FB, 0x1F3FF), (0xE0020, 0xE007F), (0xE0100, 0xE01EF),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Boundaries:
    """Places of a text where it may be cut, ascending, and how well each is suited."""

    places: _Places
    ranks: _Places

    def best(self, nearest: int, furthest: int) -> int | None:
        """The best place from `nearest` to `furthest`, both included; the first among equals."""
        low = int(np.searchsorted(self.places, nearest))
        high = int(np.searchsorted(self.places, furthest, side="right"))
        if low >= high:
            return None
        return int(self.places[low + int(np.argmax(self.ranks[low:high]))])


def find_boundaries(text: str) -> Boundaries:
    """All places of `text` where a passage may begin, its beginning and end left out.

    Works through a megabyte at a time, so that a large text needs little more memory.
    """
    places, ranks = [], []
    for start in range(0, len(text), _SEGMENT):
        found = _in_segment(text, start, min(len(text), start + _SEGMENT))
        places.append(found.places)
        ranks.append(found.ranks)
    none = np.zeros(0, dtype=np.int64)
    return Boundaries(np.concatenate([none, *places]), np.concatenate([none, *ranks]))


def is_joined(text: str, place: int) -> bool:
    """Whether a cut at `place` would part a CR from its LF, or a character from its marks."""
    before, after = text[place - 1], text[place]
    return (before, after) == ("\r", "\n") or ord(before) == _JOINER or _is_mark(ord(after))


def _in_segment(text: str, start: int, end: int) -> Boundaries:
    low, high = max(0, start - _CONTEXT), min(len(text), end + _CONTEXT)
    codes = np.frombuffer(text[low:high].encode("utf-32-le"), dtype=np.uint32)
    padded = np.pad(codes, (_CONTEXT - (start - low), _CONTEXT - (high - end)))
    # From here on, character 0 of the segment is at _CONTEXT.
    strengths = _strengths(padded)
    strengths[: _CONTEXT + (start == 0)] = -1
    strengths[_CONTEXT + end - start :] = -1
    places = np.flatnonzero(strengths >= 0)
    ranks = strengths[places].astype(np.int64) << _STRENGTH_BITS
    return Boundaries(places - _CONTEXT + start, ranks | _hashes(padded, places))


def _strengths(codes: Codes) -> NDArray[np.int8]:
    """For each character, how well the text is cut before it; -1: not at all."""
    kinds = _Kinds(codes)
    strengths = np.full(len(codes), -1, dtype=np.int8)
    strengths[_chosen(codes)] = _ANYWHERE
    strengths[_after_wide(kinds.wide_clause, kinds)] = _CLAUSE
    strengths[_after_wide(kinds.wide_terminal, kinds)] = _SENTENCE
    _grade_words(codes, kinds, strengths)
    strengths[_shifted(codes == ord("\r")) & (codes == ord("\n"))] = -1
    strengths[kinds.marks | _shifted(codes == _JOINER)] = -1
    return strengths


class _Kinds:
    """What each character is."""

    def __init__(self, codes: Codes) -> None:
        self.space = _among(codes, _SPACE)
        self.newline = _among(codes, _NEWLINE)
        self.terminal = _among(codes, _TERMINAL + _WIDE_TERMINAL)
        self.wide_terminal = _among(codes, _WIDE_TERMINAL)
        self.closing = _among(codes, _CLOSING)
        self.clause = _among(codes, _CLAUSE_END + _WIDE_CLAUSE_END)
        self.wide_clause = _among(codes, _WIDE_CLAUSE_END)
        self.digit = (codes >= ord("0")) & (codes <= ord("9"))
        self.marks = _marks(codes)


def _grade_words(codes: Codes, kinds: _Kinds, strengths: NDArray[np.int8]) -> None:
    """Grade the beginnings of words by what stands between each and the word before it."""
    starts = np.flatnonzero(~kinds.space & _shifted(kinds.space))
    ends = np.flatnonzero(kinds.space & _shifted(~kinds.space))
    # Where nothing precedes the first word, the text's beginning does.
    before = ends[np.maximum(np.searchsorted(ends, starts) - 1, 0)] if len(ends) else starts
    last = before - 1
    lines = _line_ends(codes, kinds)
    newlines = lines[starts] - lines[before]
    grades = np.full(len(starts), _WORD, dtype=np.int8)
    grades[kinds.clause[last]] = _CLAUSE
    ended = kinds.terminal[last] | (kinds.closing[last] & kinds.terminal[last - 1])
    grades[ended] = _SENTENCE
    grades[newlines == 1] = _LINE
    grades[newlines > 1] = _BLANK_LINE
    grades[(newlines > 0) & (codes[starts] == ord("#"))] = _HEADING
    strengths[starts] = grades


def _line_ends(codes: Codes, kinds: _Kinds) -> _Places:
    """For each character, how many lines have ended before it; CR and LF together end one."""
    pairs = _shifted(codes == ord("\r")) & (codes == ord("\n"))
    return np.concatenate([[0], np.cumsum(kinds.newline & ~pairs)])[:-1]


def _after_wide(ends: _Flags, kinds: _Kinds) -> _Flags:
    """Places after a mark that needs no space behind it, and after what closes with it."""
    directly = _shifted(ends) & ~kinds.closing & ~kinds.digit
    closed = _shifted(kinds.closing & _shifted(ends)) & ~kinds.closing & kinds.wide_terminal.any()
    return (directly | closed) & ~kinds.space


def _chosen(codes: Codes) -> _Flags:
    """One place in 64, by the four characters before it: for text without words."""
    return _shifted((_mixed(_running(codes, 4)) & _ANYWHERE_MASK) == 0)


def _hashes(codes: Codes, places: _Places) -> _Places:
    before = _running(codes, _BEFORE)[places - 1]
    after = _running(codes, _AFTER)[places + _AFTER - 1]
    return _mixed(before ^ _mixed(after)).astype(np.int64)


def _running(codes: Codes, width: int) -> Codes:
    """For each character, a hash of the `width` that end with it; `width` is a power of two."""
    hashes = codes + np.uint32(1)
    reach = 1
    while reach < width:
        factor = np.uint32(pow(_MULTIPLIER, reach, 1 << 32) & _WORD_MASK)
        doubled = hashes.copy()
        doubled[reach:] += hashes[:-reach] * factor
        hashes, reach = doubled, 2 * reach
    return hashes


def _mixed(hashes: Codes) -> Codes:
    """Every bit of the answer depends on every bit of the number."""
    mixed = hashes ^ (hashes >> np.uint32(16))
    mixed = mixed * np.uint32(0x7FEB352D)
    mixed ^= mixed >> np.uint32(15)
    mixed *= np.uint32(0x846CA68B)
    mixed ^= mixed >> np.uint32(16)
    return mixed


def _shifted(flags: _Flags) -> _Flags:
    """The flags of each character's predecessor; the first has none."""
    moved = np.zeros_like(flags)
    moved[1:] = flags[:-1]
    return moved


def _among(codes: Codes, characters: str) -> _Flags:
    table = np.zeros(1 << 16, dtype=np.bool_)
    table[[ord(character) for character in characters]] = True
    return table[np.minimum(codes, 0xFFFF)]


def _marks(codes: Codes) -> _Flags:
    found = np.zeros(len(codes), dtype=np.bool_)
    if codes.max(initial=0) >= _MARKS[0][0]:
        for first, last in _MARKS:
            found |= (codes >= first) & (codes <= last)
    return found


def _is_mark(code: int) -> bool:
    return any(first <= code <= last for first, last in _MARKS)
