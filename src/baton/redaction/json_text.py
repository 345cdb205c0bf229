"""Fits what was found into a JSON text: values only, no half of an escape, valid afterwards."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final, NamedTuple

from baton.redaction.finding import RANK_CERTAIN, WITHHELD, Candidate, replacement_of
from baton.redaction.scanning import compile_anchor
from baton.redaction.subject import ESCAPED_BACKSLASH

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from baton.redaction.subject import Subject

_NUMBER: Final = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")
_NUMBER_END: Final = re.compile(rb"[\d.eE+-]++")
_COLON: Final = re.compile(rb"[ \t\r\n]*+:")
_QUOTE_TO_COLON: Final = compile_anchor(r'"[ \t\r\n]+:')
_MARK: Final = replacement_of(WITHHELD).encode()
# Of what is withheld, shorter strings and numbers are left: the shortest password is 4, a social
# security number 9.
_LEAST_STRING_BYTES: Final = 4
# Where more of a text is withheld, all of it is.
MOST_WITHHELD: Final = 0.5
_PIECE_BYTES: Final = 16 * 1024
_LONG_NUMBER: Final = re.compile(rb"[-0-9][0-9.eE+-]{8,}+")
_HAS_LONG_NUMBER: Final = compile_anchor(r"[-0-9][0-9.eE+-]{8}")
# A JSON text has no control characters in strings, so these may stand for escapes meanwhile.
_NUMBER_CONTROL: Final = b"\x03"
_CONTROLS: Final = ((b"\\\\", b"\x01\x01"), (b'\\"', b"\x01\x02"))
_NUMBER_BYTES: Final = b"0123456789+-.eE"
_NEAR_BYTES: Final = 256
_MAX_ESCAPE_BYTES: Final = 6
_MAX_NUMBER_BYTES: Final = 4_300


def is_json(text: str) -> bool:
    """Whether it is a JSON document that is an object, a list or a string, or lines of those."""
    start = text.lstrip()[:1]
    if start not in {"{", "[", '"'}:
        return False
    return _parses(text) or _parses_by_lines(text)


def _parses(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _parses_by_lines(text: str) -> bool:
    """All lines at once, as one list: a call for each would take a microsecond a line."""
    lines = [line for line in text.split("\n") if line.strip()]
    if len(lines) < 2 or not _parses(lines[0]):
        return False
    try:
        return len(json.loads(f"[{','.join(lines)}]")) == len(lines)
    except (ValueError, RecursionError):
        return False


def _marked_strings(parts: list[bytes], *, spaced: bool, is_key_last: bool) -> list[bytes]:
    """The strings at odd places of `parts`, with a mark for what is no key and not short.

    `spaced` says that blanks may stand between a key and its colon.
    """
    followers = parts[2::2]
    if followers and is_key_last and not followers[-1].strip():
        followers[-1] = b":"
    if spaced:
        followers = [each.lstrip() for each in followers]
    return [
        text if len(text) < _LEAST_STRING_BYTES or after.startswith(b":") else _MARK
        for text, after in zip(parts[1::2], followers, strict=True)
    ]


class Fitted(NamedTuple):
    """A part of a candidate that goes, and what stands in its place if not its kind's mark."""

    candidate: Candidate
    shown: str | None


class JsonFitter:
    """Cuts candidates, given in ascending order, to the values of a JSON text."""

    def __init__(self, subject: Subject) -> None:
        self._data = subject.data
        self._view = subject.view
        # In it, a quote begins or ends a string, and a backslash begins an escape.
        self._escapes = subject.data.replace(b"\\\\", b"__")
        self._plain = self._escapes.replace(b'\\"', b"__")
        self._start = 0  # of the part that is being cut: a string's inside, or what is between two
        self._end = self._next_quote(0)
        self._in_string = False
        self._has_escapes = b"\\" in subject.data
        self._done = 0  # up to where parts were yielded
        self._checked_end, self._checked = -1, False

    def fit(self, candidates: Sequence[Candidate]) -> Iterable[Fitted]:
        """The parts of the candidates that are values, or all of the text as one string.

        The latter where more than half of it is withheld: to keep the keys of what is withheld
        takes longer than to find it.
        """
        withheld_bytes = sum(each.end - each.start for each in candidates if each.kind == WITHHELD)
        if withheld_bytes > len(self._data) * MOST_WITHHELD:
            whole = Candidate(0, len(self._data), WITHHELD, "dense", RANK_CERTAIN)
            return [Fitted(whole, f'"{replacement_of(WITHHELD)}"')]
        return self._parts(candidates)

    def _parts(self, candidates: Iterable[Candidate]) -> Iterator[Fitted]:
        """The parts that are values.

        What is withheld becomes one part from its first value to its last, with a text of its own
        in which the keys stay: a part for each value would be tens of thousands a MB.
        """
        for candidate in candidates:
            self._seek(candidate.start)
            if candidate.kind == WITHHELD:
                yield from self._withheld(candidate)
            else:
                yield from self._values(candidate)

    def _values(self, candidate: Candidate) -> Iterator[Fitted]:
        while True:
            start, end = max(candidate.start, self._start), min(candidate.end, self._end)
            if start < end and self._in_string:
                yield from self._string_part(candidate)
            elif start < end:
                yield from self._numbers(candidate, start, end)
            if candidate.end <= self._end:
                return
            self._advance()

    def _string_part(self, candidate: Candidate) -> Iterator[Fitted]:
        """The candidate's part of the string, without half an escape; none of a key."""
        if self._is_key():
            return
        start, end = max(self._start, candidate.start), min(self._end, candidate.end)
        if self._has_escapes:
            start, end = self._whole_escapes(start, end, self._start, self._end)
        # Two that meet within an escape must not both take it.
        start = max(start, self._done)
        if start < end:
            self._done = end
            is_whole = (start, end) == candidate[:2]
            part = candidate if is_whole else candidate._replace(start=start, end=end)
            yield Fitted(part, None)

    def _numbers(self, candidate: Candidate, start: int, end: int) -> Iterator[Fitted]:
        for number in _NUMBER.finditer(self._data, self._number_start(start), self._end):
            if number.start() >= end:
                return
            if number.end() > start and number.start() >= self._done:
                self._done = number.end()
                part = candidate._replace(start=number.start(), end=number.end())
                yield Fitted(part, f'"{replacement_of(part.kind)}"')

    def _withheld(self, candidate: Candidate) -> Iterator[Fitted]:
        """A part of the string it begins in, the values between, a part of the one it ends in."""
        if self._in_string:
            yield from self._string_part(candidate)
            first = self._end + 1
        else:
            first = self._number_start(candidate.start)
        first = max(first, self._done)
        last, goes_on = self._last_whole(first, candidate.end)
        if first < last:
            self._done = last
            shown = "".join(self._without_values(*each) for each in self._pieces(first, last))
            yield Fitted(candidate._replace(start=first, end=last), shown)
        if goes_on and last + 1 < candidate.end:
            self._seek(last + 1)
            yield from self._string_part(candidate)

    def _pieces(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """The range in parts between strings: of small ones, the memory is used again."""
        while first < last:
            end, goes_on = self._last_whole(first, min(last, first + _PIECE_BYTES))
            if goes_on and end == first:
                end = self._plain.find(b'"', first + 1) + 1
            yield first, min(end, last)
            first = end

    def _last_whole(self, first: int, end: int) -> tuple[int, bool]:
        """The end of the last value that begins in the range, or the quote of one that goes on."""
        if self._plain.count(b'"', first, end) % 2:
            return self._plain.rfind(b'"', first, end), True
        if self._data[end - 1] in _NUMBER_BYTES:
            number = _NUMBER_END.match(self._data, end)
            return (number.end() if number else end), False
        return end, False

    def _without_values(self, first: int, last: int) -> str:
        """The JSON from `first` to `last`, both between strings, with marks in place of values.

        In bulk: a step for each string takes a tenth of a microsecond, a finding for each ten.
        """
        plain = self._data[first:last]
        escaped = b"\\" in plain
        if escaped:
            for pair, control in _CONTROLS:
                plain = plain.replace(pair, control)
        parts = plain.split(b'"')
        spaced = _QUOTE_TO_COLON.search(plain) is not None
        is_key_last = _COLON.match(self._data, last) is not None
        parts[1::2] = _marked_strings(parts, spaced=spaced, is_key_last=is_key_last)
        between = b'"'.join(parts[::2])
        if _HAS_LONG_NUMBER.search(between):
            parts[::2] = _LONG_NUMBER.sub(_NUMBER_CONTROL, between).split(b'"')
        shown = b'"'.join(parts).replace(_NUMBER_CONTROL, b'"%s"' % _MARK)
        if escaped:
            for pair, control in _CONTROLS:
                shown = shown.replace(control, pair)
        return shown.decode(errors="surrogatepass")

    def _number_start(self, at: int) -> int:
        first = max(self._start, at - _MAX_NUMBER_BYTES)
        before = self._data[first:at]
        return first + len(before.rstrip(_NUMBER_BYTES))

    def _whole_escapes(self, start: int, end: int, first: int, last: int) -> tuple[int, int]:
        """The range, grown within the string from `first` to `last` until it splits no escape."""
        while start > first and self._splits_escape(start, first):
            start -= 1
        while end < last and self._splits_escape(end, first):
            end += 1
        return start, end

    def _splits_escape(self, at: int, first: int) -> bool:
        """Whether an escape begins before `at`, not before `first`, and ends after it."""
        if self._view[at : at + 1] == self._view[at - 1 : at] == ESCAPED_BACKSLASH:
            return self._escaped_backslashes_before(at, first) % 2 == 1
        back = self._escapes.rfind(b"\\", max(first, at - _MAX_ESCAPE_BYTES + 1), at)
        if back < 0:
            return False
        size = _MAX_ESCAPE_BYTES if self._escapes[back + 1 : back + 2] == b"u" else 2
        return at < back + size

    def _escaped_backslashes_before(self, at: int, first: int) -> int:
        near_bytes = _NEAR_BYTES
        while True:
            near = self._view[max(first, at - near_bytes) : at]
            rest = near.rstrip(ESCAPED_BACKSLASH)
            if rest or at - near_bytes <= first:
                return len(near) - len(rest)
            near_bytes *= 2

    def _is_key(self) -> bool:
        """Whether the string is a key: looked up once, however many candidates are in it."""
        if self._checked_end != self._end:
            self._checked_end = self._end
            self._checked = _COLON.match(self._data, self._end + 1) is not None
        return self._checked

    def _advance(self) -> None:
        self._start = self._end + 1
        self._end = self._next_quote(self._start)
        self._in_string = not self._in_string

    def _seek(self, at: int) -> None:
        """Go to the part that holds `at`; quotes are counted, not stepped through."""
        if self._end >= at:
            return
        if self._plain.count(b'"', self._end, at) % 2:
            self._in_string = not self._in_string
        self._start = self._plain.rfind(b'"', self._end, at) + 1
        self._end = self._next_quote(at)

    def _next_quote(self, at: int) -> int:
        found = self._plain.find(b'"', at)
        return len(self._plain) if found < 0 else found
